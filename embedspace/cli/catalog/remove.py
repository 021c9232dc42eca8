"""`embedspace catalog remove`: items and places to forget."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from embedspace.cli.shared.options import CatalogPath, Json, Where, utf8
from embedspace.errors import InputError

if TYPE_CHECKING:
    from embedspace.catalog.records import RemoveReport

__all__ = ["remove"]


def remove(
    catalog: CatalogPath,
    uris: Annotated[
        list[str] | None, typer.Argument(metavar="URIS", help="Files, uris, or the words of texts, to forget.")
    ] = None,
    where: Where = None,
    json: Json = False,
) -> None:
    """Forget items; the files themselves stay. An item that lies at several places goes with the last of them."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import note, print_json

    if bool(uris) == (where is not None):
        raise InputError("say what to remove: URIS, or --where, but not both")
    missing: list[str] = []
    with Catalog.open(catalog) as opened:
        if where is not None:
            report = opened.remove(where=where)
        else:
            places: list[str] = []
            for name in uris or []:
                found = opened.places_of(utf8(name))
                if not found:
                    missing.append(name)
                places.extend(found)
            report = opened.remove(uris=places)
    if json:
        print_json({**dataclasses.asdict(report), "missing": missing})
    else:
        for name in missing:
            note(f"{name}: not in the catalog")
        print(_removed(report))
    if not (report.places or report.failures):
        raise typer.Exit(1)


def _removed(report: RemoveReport) -> str:
    said = []
    if report.items or not (report.places or report.failures):
        said.append(f"{report.items} removed")
    if report.places != report.items:
        places = f"{report.places} place{'s' if report.places > 1 else ''} forgotten"
        said.append(places if report.items else f"{places}; what lay there is at other places, too")
    if report.failures:
        said.append(f"{report.failures} no longer listed as failed")
    return ", ".join(said)
