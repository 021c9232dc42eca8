"""A small collection, an encoder without networks, and all that a catalog holds as one value that can be compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog import Catalog, CatalogItem, IndexSettings
from embedspace.errors import MediaError
from embedspace.segment import Decoded, Segment

__all__ = [
    "CODED",
    "EMBED_DIM",
    "Digests",
    "content_of",
    "new_catalog",
    "vector_of",
    "write_collection",
    "write_parts",
    "written_items",
]

EMBED_DIM = 16
SETTINGS = IndexSettings(name="small", index="hnsw", min_vectors=32, hnsw_m=8)
"""An index from a few vectors on, so that its files are written and damaged as well."""
CODED = IndexSettings(name="coded", index="ivf", quantizer="pq4", min_vectors=32, nlist=4)
"""4-bit product codes from a few vectors on, as a catalog of many has them."""


def vector_of(version: str, content: bytes) -> np.ndarray:
    """Return the (EMBED_DIM,) float32 unit vector of some content."""
    seed = int.from_bytes(hashlib.blake2b(version.encode() + content, digest_size=8).digest(), "little")
    vector = np.random.default_rng(seed).normal(size=EMBED_DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class Digests:
    """Makes a vector of a digest of the content; what begins with "bad" cannot be decoded."""

    embed_dim = EMBED_DIM

    def __init__(self, version: str = "1") -> None:
        """Take a version: another one makes other vectors."""
        self.version = version

    def fingerprints(self) -> Mapping[str, str]:
        """Return digests that depend on the version."""
        return {name: hashlib.sha256(self.version.encode()).hexdigest() for name in ("image", "audio", "text")}

    def calibration_json(self) -> str:
        """Return no calibration."""
        return ""

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:  # noqa: ANN401
        """Read a file or text."""
        raw = source.read_bytes() if isinstance(source, Path) else json.dumps(source).encode()
        if raw.startswith(b"bad"):
            raise MediaError(f"{source}: not a {kind}")
        return Decoded(kind, [(as_modality or kind, raw)], {"nbytes": len(raw)}, len(raw))

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        """Make the vectors."""
        return [[Segment(name, vector_of(self.version, raw)) for name, raw in item.inputs] for item in items]


def write_collection(folder: Path, *, files: int = 90, later: bool = False) -> Path:
    """Write pictures, sounds, texts and a table that an encoder of digests reads; returns the folder.

    Args:
        folder: Made new.
        files: How many, a tenth of them bad.
        later: As it is some time later: a third changed, a third gone, some new.
    """
    folder.mkdir()
    for number in range(files):
        content = f"{'bad' if number % 10 == 0 else 'good'} {number}"
        if later and number % 3 == 0:
            content = f"good, and changed {number}"
        if not (later and number % 3 == 1):
            (folder / f"{number:03}{('.png', '.wav', '.txt')[number % 3]}").write_text(content, "utf-8")
    for number in range(10 if later else 0):
        (folder / f"new{number}.png").write_text(f"good and new {number}", "utf-8")
    rows = [{"id": str(number), "text": f"row {number} {later}", "year": number} for number in range(files // 3)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def written_items(count: int, first: int = 0) -> list[CatalogItem]:
    """Return items of a caller's own."""
    return [
        CatalogItem(f"item/{number}", "image", [Segment("image", vector_of("1", b"item %d" % number))], {"at": number})
        for number in range(first, first + count)
    ]


def write_parts(folder: Path, *, files: int = 12, rows: int = 40) -> Path:
    """Write arrays of vectors with their records, as `catalog import` reads them; returns the folder, made new."""
    folder.mkdir()
    for part in range(files):
        numbers = range(1000 + part * rows, 1000 + (part + 1) * rows)
        np.save(folder / f"{part:02}.npy", np.stack([vector_of("1", b"item %d" % number) for number in numbers]))
        records = [{"uri": f"item/{number}", "modality": "image", "at": number} for number in numbers]
        (folder / f"{part:02}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")
    return folder


def new_catalog(path: Path, settings: IndexSettings = SETTINGS) -> Catalog:
    """Make an empty catalog."""
    return Catalog.create(path, embed_dim=EMBED_DIM, fingerprints=Digests().fingerprints(), settings=settings)


def content_of(catalog: Catalog) -> dict[str, Any]:
    """Return all that a catalog holds, whatever the order it came in."""
    vectors: dict[str, list[bytes]] = {}
    ids, rows = catalog.vectors()
    for content_id, row in zip(ids, rows, strict=True):
        vectors.setdefault(content_id, []).append(row.tobytes())
    items = {
        item.id: (sorted(item.uris), item.kind, item.metadata, item.segments, sorted(vectors.get(item.id, [])))
        for item in catalog.items()
    }
    failures = sorted((failure.uri, failure.reason) for failure in catalog.info().failures)
    return {"items": items, "failures": failures, "fingerprints": catalog.fingerprints}
