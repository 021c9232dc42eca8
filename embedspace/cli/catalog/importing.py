"""`embedspace catalog import`: an encoding that was made elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedspace.cli.shared.options import Device, Download, Json, Quiet, SpaceName, modality_name
from embedspace.errors import InputError

if TYPE_CHECKING:
    from embedspace.catalog import Catalog
    from embedspace.catalog.bulk.importing import Encoding
    from embedspace.catalog.bulk.origin import Origin

__all__ = ["import_"]


def import_(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="A folder, or one file: .parquet, .jsonl with a vector per line, .npy with a .jsonl of the same name, "
            "or webdataset's .tar.",
        ),
    ],
    catalog: Annotated[Path, typer.Argument(metavar="CATALOG", help="Made where there is none.")],
    modality: Annotated[
        str | None, typer.Option("--modality", parser=modality_name, help="Of rows that do not say it.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Add items that were encoded elsewhere, with their vectors: nothing is encoded here.

    Each row is a segment: vector (unit length), modality, and where known id, uri, kind, start, end, text and label;
    all else is metadata. Neighbouring rows with the same id (or uri) are one item. Files of `catalog export` say which
    encoder made them; others do in a file embedspace.json beside them, or --space names it.

    It may be killed at any moment: the same command goes on where it stopped.
    """
    from embedspace.catalog.bulk.importing import import_encoding, read_encoding
    from embedspace.cli.shared.output import Interrupted, note, print_json
    from embedspace.cli.shared.progress import ProgressReport

    encoding = read_encoding(folder, modality=modality or "")
    if space_name is not None:
        encoding = dataclasses.replace(encoding, origin=_origin(encoding, space_name, device, download))
    with _opened(catalog, encoding) as opened:
        if encoding.origin is None and not (quiet or json):
            note(f"{folder}: nothing says which encoder made its vectors; taken for the catalog's")
        try:
            with ProgressReport(quiet=quiet or json) as bar:
                report = import_encoding(opened, encoding, callback=lambda now: bar.show("importing", now))
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; run the same command to go on: {catalog} has what was written") from None
        items = len(opened)
    if json:
        print_json({**dataclasses.asdict(report), "items": items})
    elif not quiet:
        earlier = f", {report.resumed} rows by an earlier run" if report.resumed else ""
        print(
            f"{report.files} files: {report.added} added, {report.updated} updated, {report.known} known already"
            f"{earlier}; {items} items in {catalog}, {report.seconds:.1f} s"
        )


def _origin(encoding: Encoding, name: str, device: str, download: bool) -> Origin:
    """Return the origin that a space is, refused where the files name another."""
    from embedspace.catalog.bulk.origin import Origin
    from embedspace.cli.shared.space import load_space

    space = load_space(name, device, download)
    prints = dict(space.fingerprints())
    if encoding.origin is not None and (differ := encoding.origin.differing(prints)):
        raise InputError(f"{encoding.path}: its {', '.join(differ)} vectors are of another space than --space {name}")
    return Origin(space.embed_dim, prints, space.calibration_json())


def _opened(path: Path, encoding: Encoding) -> Catalog:
    from embedspace.catalog import Catalog
    from embedspace.catalog.store.schema import is_vacant

    if not is_vacant(path):
        return Catalog.open(path)
    origin = encoding.origin
    if origin is None:
        raise InputError(
            f"{encoding.path}: nothing says which encoder made its vectors; name their space with --space, so that "
            f"{path} can be made"
        )
    return Catalog.create(
        path,
        embed_dim=encoding.embed_dim or origin.embed_dim,
        fingerprints=origin.fingerprints,
        calibration_json=origin.calibration_json,
    )
