"""A `SegmentEncoder` of numpy alone for the tests of the catalog; runs in subprocesses, too."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog import Catalog, CatalogItem, IndexSettings
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.migrate import migrate
from embedspace.errors import MediaError
from embedspace.segment import Decoded, Segment

EMBED_DIM = 16
MODALITIES = ("image", "audio", "text", "speech")


def unit(content: bytes | str, embed_dim: int = EMBED_DIM) -> NDArray[np.float32]:
    """Return a unit vector that depends on the content alone."""
    raw = content.encode() if isinstance(content, str) else content
    seed = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")
    vector = np.random.default_rng(seed).normal(size=embed_dim).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


class HashEncoder:
    """Files that begin with b"bad" cannot be decoded; recordings that hold b"speech" have a speech segment, too."""

    def __init__(
        self, versions: Mapping[str, str] | None = None, *, delay: float = 0.0, embed_dim: int = EMBED_DIM
    ) -> None:
        self.embed_dim = embed_dim
        self.versions = dict.fromkeys(MODALITIES, "1") | dict(versions or {})
        self.delay = delay
        self.decoded: list[Any] = []
        self.batches: list[int] = []
        self.interrupt_after: int | None = None
        self._lock = threading.Lock()

    def fingerprints(self) -> Mapping[str, str]:
        return {name: hashlib.sha256(f"{name}{one}".encode()).hexdigest() for name, one in self.versions.items()}

    def calibration_json(self) -> str:
        return ""

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:
        with self._lock:
            self.decoded.append(source)
        if isinstance(source, Mapping):
            inputs = [("text", label, text) for label, text in source.items()]
            return Decoded(kind, inputs, {}, 100)
        raw = source.read_bytes() if isinstance(source, Path) else source
        raw = raw.encode() if isinstance(raw, str) else raw
        if raw.startswith(b"bad"):
            raise MediaError(f"{source}: not a {kind}")
        modalities = [as_modality or kind]
        if kind == "audio" and as_modality is None and b"speech" in raw:
            modalities.append("speech")
        facts = {"nbytes": len(raw), "duration": len(raw) / 10}
        return Decoded(kind, [(name, "", raw) for name in modalities], facts, len(raw))

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        time.sleep(self.delay)
        self.batches.append(len(items))
        if self.interrupt_after is not None and len(self.batches) > self.interrupt_after:
            raise KeyboardInterrupt
        return [[self._segment(*one) for one in item.inputs] for item in items]

    def _segment(self, modality: str, label: str, content: bytes | str) -> Segment:
        raw = content.encode() if isinstance(content, str) else content
        vector = unit(self.versions[modality].encode() + modality.encode() + raw, self.embed_dim)
        if raw.startswith(b"nan"):
            vector = vector * np.float32(np.nan)
        text = raw.decode(errors="replace") if modality == "text" else ""
        return Segment(modality, vector, None, None, text, label)

    def query(self, modality: str, content: bytes | str) -> NDArray[np.float32]:
        """Return the vector of a piece of content, for searching it."""
        return self._segment(modality, "", content).vector


def new_catalog(path: Path, settings: IndexSettings | None = None, encoder: HashEncoder | None = None) -> Catalog:
    """Make an empty catalog of the fake encoder's."""
    encoder = encoder or HashEncoder()
    return Catalog.create(path, embed_dim=encoder.embed_dim, fingerprints=encoder.fingerprints(), settings=settings)


def vector_items(
    vectors: NDArray[np.float32], modality: str = "image", *, first: int = 0, per_item: int = 1
) -> Iterable[CatalogItem]:
    """Yield items "item/<number>" of some rows each, with their number as metadata."""
    for number, start in enumerate(range(0, len(vectors), per_item), first):
        segments: Sequence[Segment] = [
            Segment(modality, row, float(index), float(index + 1))
            for index, row in enumerate(vectors[start : start + per_item])
        ]
        yield CatalogItem(f"item/{number}", modality, segments, {"number": number, "even": number % 2 == 0})


def random_units(count: int, seed: int = 0, embed_dim: int = EMBED_DIM) -> NDArray[np.float32]:
    """Return (count, embed_dim) unit rows."""
    vectors = np.random.default_rng(seed).normal(size=(count, embed_dim)).astype(np.float32)
    unit_rows: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit_rows


def wider_encoder(delay: float = 0.0) -> HashEncoder:
    """Return another encoder whose vectors are longer."""
    return HashEncoder(dict.fromkeys(MODALITIES, "wide"), delay=delay, embed_dim=24)


if (
    __name__ == "__main__"
):  # an ingest or a migration to be killed: ... CATALOG FOLDER DELAY, or ... CATALOG migrate DELAY
    target, wait = Path(sys.argv[1]), float(sys.argv[3])
    with Catalog.open(target) if target.exists() else new_catalog(target) as opened:
        if sys.argv[2] == "migrate":
            migrate(opened, wider_encoder(wait), batch_size=4)
        else:
            ingest(opened, [sys.argv[2]], HashEncoder(delay=wait), batch_size=4)
