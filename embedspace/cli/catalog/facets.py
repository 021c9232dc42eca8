"""`embedspace catalog facets`: what the fields of metadata hold."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from embedspace.cli.shared.options import CatalogPath, Json, Where

if TYPE_CHECKING:
    from embedspace.catalog.stored import FieldFacts

__all__ = ["facets"]


def facets(
    catalog: CatalogPath,
    where: Where = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", metavar="NAME", help="Only this one; may be repeated.")
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Values of a text, the most frequent first.")] = 10,
    json: Json = False,
) -> None:
    """Count what the fields of metadata hold, of all items or of those that fulfil --where."""
    from embedspace.cli.shared.opening import opened_catalog
    from embedspace.cli.shared.output import note, print_json

    with opened_catalog(catalog) as opened:
        found = opened.facets(where, fields=field, most=most)
    if json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    if not found:
        note("no such item has metadata" if where or field else "no item has metadata")
    for one in found:
        print(f"{one.name:<20}{one.kind:<8}{one.count:>9}  {_values(one)}")


def _values(facts: FieldFacts) -> str:
    from embedspace.cli.shared.output import clip

    if facts.kind != "text":
        return f"{facts.low} to {facts.high}"
    return ", ".join(f"{clip(value, 40)} ({count})" for value, count in facts.values)
