"""From a segment to a point: what filters ask of it, and the digest that tells whether it has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from embedspace.catalog.store.bulk.points import PointRow
from embedspace.catalog.store.filters.values import pairs_of

__all__ = ["FOLDED", "INDEXED", "META", "URI_FOLDED", "chunk_digest", "field_path", "folded", "payload_of", "rounded"]

META, FOLDED, URI_FOLDED = "meta", "folded", "uri_folded"
INDEXED = {
    "kind": "keyword", "label": "keyword", "document": "keyword", "uri": "keyword", URI_FOLDED: "prefix",
    "mtime": "float",
}  # fmt: skip
"""What is often asked of every catalog -> how; all other columns are compared without an index."""
_UPPER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def folded(text: str) -> str:
    """Return a text as `like` compares it: without the case of ASCII letters."""
    return text.translate(_UPPER)


def field_path(field: str, *, fold: bool = False) -> str:
    """Return where a field of the metadata is in a point."""
    return f'{FOLDED if fold else META}."{field}"'


def rounded(number: float) -> float:
    """Return a number to 15 digits: the engine's reader of JSON may miss the last bit of longer floats."""
    return float(f"{number:.15g}") if isinstance(number, float) else float(number)


def payload_of(row: PointRow) -> dict[str, Any]:
    """Return what filters ask of a segment; values of metadata as SQLite compares them, see `filters.values`."""
    meta = dict(pairs_of(json.loads(row.metadata)))
    found: dict[str, Any] = {
        "id": row.content_id,
        "kind": row.kind,
        "modality": row.modality,
        "label": row.label,
        "text": row.text,
        "uri": [uri for uri, _, _ in row.places],
        URI_FOLDED: [folded(uri) for uri, _, _ in row.places],
        "size": [size for _, size, _ in row.places],
        "mtime": [rounded(mtime_ns / 1e9) for _, _, mtime_ns in row.places],
        META: {
            name: rounded(value) if isinstance(value, float) else value
            for name, value in meta.items()
            if not isinstance(value, bytes)
        },
        FOLDED: {name: folded(value) for name, value in meta.items() if isinstance(value, str)},
    }
    bounds = (("start", row.start), ("end", row.end))
    found.update({name: rounded(bound) for name, bound in bounds if bound is not None})
    if row.document:
        found["document"] = "yes"
    return found


def chunk_digest(points: Sequence[tuple[int, Mapping[str, Any]]]) -> str:
    """Return the digest of points by ascending number; their vectors never change."""
    digest = hashlib.blake2b(digest_size=8)
    for number, payload in points:
        digest.update(json.dumps([number, payload], sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()
