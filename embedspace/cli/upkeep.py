"""`embedspace catalog optimize` and `embedspace catalog tune`: make searches fast, and show what they cost."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from embedspace.cli.shared.options import CatalogPath, Json

__all__ = ["optimize", "tune"]


def optimize(catalog: CatalogPath, json: Json = False) -> None:
    """Build indexes and pack vectors now; searches go on meanwhile.

    Writing does most of it as it goes. This clears away what was deleted, makes one file of many, builds an index that
    is missing, and one that an earlier version made anew. It may be killed at any moment: what there was goes on being
    used.
    """
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import print_json, size_text

    with Catalog.open(catalog) as opened:
        before = opened.info().size_bytes
        opened.optimize()
        found = opened.info()
    if json:
        print_json({"indexes": found.indexes, "size_bytes": found.size_bytes, "size_bytes_before": before})
        return
    for modality, how in found.indexes.items():
        print(f"{modality:<10}{how}")
    print(f"{'size':<10}{size_text(before)} before, {size_text(found.size_bytes)} now")


def tune(
    catalog: CatalogPath,
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            metavar="SHARE",
            help="Share of the exact ten best to find, from 0.5 to 1; as the settings have it where left out.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure ways of searching; keep the fastest that finds enough.

    Queries are vectors of every modality of the catalog. Milliseconds are of processor time, bytes those of a vector
    and its share of the index. What is kept is marked with a star.
    """
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import print_json

    with Catalog.open(catalog) as opened:
        tried = opened.tune(recall)
    if json:
        print_json([dataclasses.asdict(one) for one in tried])
        return
    print(f"  {'modality':<10}{'search':<12}{'nprobe':>7}{'overfetch':>11}{'recall':>8}{'ms':>9}{'bytes':>8}")
    for one in tried:
        star = "*" if one.chosen else " "
        print(
            f"{star} {one.modality:<10}{one.way:<12}{one.nprobe or '-':>7}{one.overfetch or '-':>11}"
            f"{one.recall:>8.3f}{one.milliseconds:>9.2f}{one.bytes_per_vector:>8.0f}"
        )
