"""`embedspace catalog verify` and `export`: prove a catalog, and write it out."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from embedspace.cli.shared.options import CatalogPath, Json, Timeout

__all__ = ["export", "verify"]


def verify(
    catalog: CatalogPath,
    files: Annotated[bool, typer.Option("--files/--no-files", help="Also read every file and compare it.")] = True,
    remote: Annotated[
        str | None,
        typer.Option("--remote", metavar="ENGINE", help="Compare this engine with the catalog, nothing else."),
    ] = None,
    vectors: Annotated[
        int, typer.Option("--vectors", min=0, help="With --remote: so many vectors are compared; 0: all.")
    ] = 1000,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Prove that vectors, items and files agree; exits 1 if they do not.

    With --remote it proves that an engine holds what was pushed to it: what made the vectors, counts, the number of
    every segment and what filters ask of it, and vectors bit by bit.
    """
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import print_json

    if remote is not None:
        _verify_remote(catalog, remote, vectors or None, timeout, as_json=json)
        return

    with Catalog.open(catalog, read_only=True) as opened:
        report = opened.verify(files=files)
    if json:
        print_json({**dataclasses.asdict(report), "ok": report.ok})
    else:
        checked = f"{report.items} items, {report.segments} segments, {report.files} files checked"
        print(f"{checked}: {'all agree' if report.ok else f'{len(report.problems)} problems'}")
        for problem in report.problems:
            print(f"{problem.what}: {problem.where}: {problem.detail}")
    if not report.ok:
        raise typer.Exit(1)


def _verify_remote(catalog: Path, remote: str, vectors: int | None, timeout: float | None, *, as_json: bool) -> None:
    from embedspace.catalog.catalog import Catalog
    from embedspace.catalog.engines.address import EngineAddress
    from embedspace.catalog.engines.opening import open_engine
    from embedspace.catalog.engines.verifying import verify_engine
    from embedspace.cli.shared.output import print_json

    address = EngineAddress.parse(remote)
    with Catalog.open(catalog, read_only=True) as opened, contextlib.closing(open_engine(address, timeout)) as engine:
        report = verify_engine(opened.store, engine, vectors)
    if as_json:
        print_json({**dataclasses.asdict(report), "ok": report.ok})
    else:
        checked = f"{address}: {report.segments} segments, {report.vectors} vectors compared with {catalog}"
        print(f"{checked}: {'all agree' if report.ok else 'they do not agree'}")
        for problem in report.problems:
            print(f"{problem.what}: {problem.where}: {problem.detail}")
    if not report.ok:
        raise typer.Exit(1)


def export(
    catalog: CatalogPath,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="A .parquet, .npz or .jsonl file; NAME.lance, or s3://BUCKET/NAME.lance, for a table of LanceDB.",
        ),
    ],
    json: Json = False,
) -> None:
    """Write every segment with its vector and metadata to a file, or to a table of LanceDB."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.catalog.lance import is_lance
    from embedspace.cli.shared.output import open_for_writing, print_json

    with Catalog.open(catalog, read_only=True) as opened:
        if not is_lance(out):
            open_for_writing(out)
        count = opened.export(out)
    if json:
        print_json({"segments": count, "path": str(out)})
    else:
        print(f"{count} segments in {out}")
