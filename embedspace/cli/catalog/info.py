"""`embedspace catalog info`: what a catalog holds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from embedspace.cli.shared.options import CatalogPath, Json

if TYPE_CHECKING:
    from embedspace.catalog.records import CatalogInfo

__all__ = ["info"]


def info(catalog: CatalogPath, json: Json = False) -> None:
    """Show what a catalog holds and how it was made."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import list_failures, print_json

    with Catalog.open(catalog, read_only=True) as opened:
        found = opened.info()
    if json:
        print_json(dataclasses.asdict(found))
        return
    for name, value in _facts(found):
        print(f"{name:<14}{value}")
    list_failures([(failure.uri, failure.reason) for failure in found.failures])


def _facts(found: CatalogInfo) -> list[tuple[str, str]]:
    from embedspace.cli.shared.output import size_text

    def listed(counts: dict[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in counts.items()) or "none"

    places = f" at {found.uris} places" if found.uris != found.items else ""
    return [
        ("path", found.path),
        ("items", f"{found.items}{places}: {listed(found.kinds)}"),
        ("segments", listed(found.segments)),
        ("failed", str(len(found.failures))),
        ("size", size_text(found.size_bytes)),
        ("embed_dim", str(found.embed_dim)),
        ("settings", found.settings),
        ("search", listed(found.indexes)),
        ("calibrated", "yes" if found.calibrated else "no: hits have no probabilities"),
        ("encoders", listed({name: digest[:12] for name, digest in found.fingerprints.items()})),
        ("fields", ", ".join(found.fields) or "none"),
        ("format", str(found.format_version)),
    ]
