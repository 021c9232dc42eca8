"""`embedspace catalog push` and `embedspace catalog snapshot`: serve a catalog from an engine beyond the process."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from embedspace.cli.shared.options import CatalogPath, Json, Quiet, Timeout

__all__ = ["push", "snapshot"]


def push(
    catalog: CatalogPath,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="ENGINE",
            help="qdrant:http://HOST:6333/COLLECTION for a server, qdrant:FOLDER for the same engine in this process.",
        ),
    ],
    everything: Annotated[
        bool, typer.Option("--all", help="Write everything again, whatever the engine says that it has.")
    ] = False,
    timeout: Timeout = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make an engine agree with a catalog: write what is new or changed, take away what is gone.

    Afterwards `embedspace search ENGINE QUERY` finds what a search of the catalog does. The catalog stays the truth;
    the engine is told of later changes by the next push. It may be killed at any moment: run it again to go on. The
    key of a server that wants one is read from QDRANT_API_KEY.
    """
    from embedspace.catalog.catalog import Catalog
    from embedspace.catalog.engines.address import EngineAddress
    from embedspace.catalog.engines.opening import open_engine
    from embedspace.catalog.engines.push import push as run
    from embedspace.cli.shared.output import Interrupted, print_json
    from embedspace.cli.shared.progress import ProgressReport

    address = EngineAddress.parse(to)
    with Catalog.open(catalog, read_only=True) as opened, contextlib.closing(open_engine(address, timeout)) as engine:
        try:
            with ProgressReport(quiet=quiet or json) as bar:
                report = run(opened.store, engine, lambda now: bar.show("pushing", now), anew=everything)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; run the same command to go on: {address} has what was written") from None
    if json:
        print_json({**dataclasses.asdict(report), "engine": str(address)})
    elif not quiet:
        print(f"{report.segments} segments in {address}, {report.written} of them written now, {report.seconds:.1f} s")


def snapshot(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help="What a catalog was pushed to.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file.")],
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Write all that an engine holds to one file.

    Of a server it is Qdrant's snapshot of the collection, which any Qdrant server recovers; of a folder it is a
    .tar.gz of it, to be unpacked where it is wanted.
    """
    from embedspace.catalog.engines.address import EngineAddress
    from embedspace.catalog.engines.opening import open_engine
    from embedspace.cli.shared.output import open_for_writing, print_json, size_text

    address = EngineAddress.parse(engine)
    open_for_writing(out)
    with contextlib.closing(open_engine(address, timeout)) as opened:
        opened.snapshot(str(out))
    if json:
        print_json({"engine": str(address), "path": str(out), "bytes": out.stat().st_size})
    else:
        print(f"{address}: {size_text(out.stat().st_size)} in {out}")
