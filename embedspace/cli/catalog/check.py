"""`embedspace catalog verify` and `export`: prove a catalog, and write it out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from embedspace.cli.shared.options import CatalogPath, Json

__all__ = ["export", "verify"]


def verify(
    catalog: CatalogPath,
    files: Annotated[bool, typer.Option("--files/--no-files", help="Also read every file and compare it.")] = True,
    json: Json = False,
) -> None:
    """Prove that vectors, items and files agree; exits 1 if they do not."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import print_json

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


def export(
    catalog: CatalogPath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .parquet, .npz or .jsonl file.")],
    json: Json = False,
) -> None:
    """Write every segment with its vector and metadata to a file."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import open_for_writing, print_json

    with Catalog.open(catalog, read_only=True) as opened:
        open_for_writing(out)
        count = opened.export(out)
    if json:
        print_json({"segments": count, "path": str(out)})
    else:
        print(f"{count} segments in {out}")
