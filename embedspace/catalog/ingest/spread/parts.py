"""Parts: the encoded items of one shard in a parquet file, and an encoder that looks them up."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog.bulk.origin import KEY, Origin
from embedspace.catalog.content_ids import content_hash, file_hash
from embedspace.catalog.ingest.encoding import PART, encode_each, encode_long, groups, reason_of
from embedspace.catalog.ingest.reading import read_file
from embedspace.catalog.ingest.scan import Candidate
from embedspace.catalog.ingest.spread.shards import Shard, part_path
from embedspace.errors import MediaError, MissingExtraError
from embedspace.files import replacing
from embedspace.segment import Decoded, Segment, SegmentEncoder

__all__ = ["PartsEncoder", "encode_shard", "parts_in"]

_ITEMS = b"embedspace.items"
"""Key of a part's metadata: content id -> what was found while decoding it, or why it could not be encoded."""
_TEXTS = ("id", "uri", "kind", "modality", "text", "label", "metadata")


def _arrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError(f"parts need pyarrow ({error}); run: pip install 'embedspace[parquet]'") from error


def encode_shard(shard: Shard, encoder: SegmentEncoder, folder: Path) -> int:
    """Encode a shard as one process would, and write its part whole or not at all; returns how many items it holds.

    Raises:
        EmbedspaceError: If it is about the installation, not about a file.
        OSError: If the part cannot be written.
    """
    found: dict[str, dict[str, Any]] = {}
    rows: list[tuple[Candidate, str, Segment]] = []
    good: list[tuple[Candidate, str, Decoded]] = []
    for one in shard.candidates:
        try:
            digest, decoded = _decoded(one, encoder)
            good.append((one, digest, decoded))
        except Exception as error:  # the ingest tries it itself, and lists it with its reason
            found[one.uri] = {"failed": reason_of(error)}
    for group in groups([len(decoded.inputs) for _, _, decoded in good]):
        some = [good[at] for at in group]
        if len(some) == 1 and len(some[0][2].inputs) > PART:
            encoded = [encode_long(encoder, some[0][2], lambda share: None)]
        else:
            encoded = encode_each(encoder, [decoded for _, _, decoded in some])
        for (one, digest, decoded), segments in zip(some, encoded, strict=True):
            if isinstance(segments, str):
                found[one.uri] = {"failed": segments}
            else:
                found[digest] = {"facts": _plain(decoded.metadata), "as": one.as_modality}
                rows += [(one, digest, segment) for segment in segments]
    _write(part_path(folder, shard.name), rows, found, encoder)
    return sum("facts" in one for one in found.values())


def _decoded(one: Candidate, encoder: SegmentEncoder) -> tuple[str, Decoded]:
    imposed = one.as_modality or None
    if one.content_hash:
        source: Any = Path(one.uri) if one.content is None else one.content
        return one.content_hash, encoder.decode(
            source if one.embedded is None else one.embedded, one.kind, as_modality=imposed
        )
    reading = read_file(one.uri, one.kind, lambda _: encoder.decode(Path(one.uri), one.kind, as_modality=imposed))
    if reading.error is not None:
        raise reading.error
    assert reading.decoded is not None
    return reading.digest, reading.decoded


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in facts.items()}


def _write(
    path: Path, rows: list[tuple[Candidate, str, Segment]], found: Mapping[str, Any], encoder: SegmentEncoder
) -> None:
    pa, pq = _arrow()
    origin = Origin(encoder.embed_dim, dict(encoder.fingerprints()), encoder.calibration_json())
    fields = [(name, pa.string()) for name in _TEXTS] + [("start", pa.float64()), ("end", pa.float64())]
    vectors = pa.list_(pa.float32(), encoder.embed_dim)
    schema = pa.schema([*fields, ("vector", vectors)], {KEY: origin.to_json(), _ITEMS: json.dumps(found)})
    columns: list[list[Any]] = [[] for _ in fields]
    for one, digest, segment in rows:
        metadata = json.dumps({**found[digest]["facts"], **one.metadata}, ensure_ascii=False, default=str)
        values = (digest, one.uri, one.kind, str(segment.modality), segment.text, segment.label, metadata)
        for column, value in zip(columns, (*values, segment.start, segment.end), strict=True):
            column.append(value.encode("utf-8", "replace").decode() if isinstance(value, str) else value)
    flat = np.concatenate(
        [np.asarray(segment.vector, np.float32).reshape(-1) for _, _, segment in rows] or [np.zeros(0, np.float32)]
    )
    arrays = [pa.array(column, field[1]) for column, field in zip(columns, fields, strict=True)]
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), encoder.embed_dim))
    with replacing(path) as partial:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), partial, compression="zstd")


class PartsEncoder:
    """A `SegmentEncoder` that knows what parts hold; what they lack the encoder itself does."""

    def __init__(self, parts: Mapping[str, Path], encoder: SegmentEncoder) -> None:
        """Look up vectors in parts.

        Args:
            parts: Content id -> the file that it is in.
            encoder: Encodes what no part has.
        """
        self._parts, self._encoder = parts, encoder
        self.embed_dim = encoder.embed_dim
        self.encoded_here = 0

    def fingerprints(self) -> Mapping[str, str]:
        """Return modality -> digest; see `SegmentEncoder`."""
        return self._encoder.fingerprints()

    def calibration_json(self) -> str:
        """Return the calibration of the space; see `SegmentEncoder`."""
        return self._encoder.calibration_json()

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:  # noqa: ANN401
        """Return what was encoded of a source, as if it were decoded; see `SegmentEncoder`."""
        digest = file_hash(source, kind) if isinstance(source, Path) else content_hash(source, kind)
        path = self._parts.get(digest)
        if path is not None:
            segments, items = _read(path)
            if items[digest]["as"] == (as_modality or ""):
                return Decoded(kind, [segments[digest]], items[digest]["facts"], nbytes=1)
        decoded = self._encoder.decode(source, kind, as_modality=as_modality)
        self.encoded_here += 1
        return decoded

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        """Return the segments of each item; see `SegmentEncoder`."""
        there = [len(one.inputs) == 1 and isinstance(one.inputs[0], list) and _segments(one.inputs[0]) for one in items]
        left = [one for one, known in zip(items, there, strict=True) if not known]
        encoded = iter(self._encoder.encode_decoded(left) if left else [])
        return [one.inputs[0] if known else next(encoded) for one, known in zip(items, there, strict=True)]


def _segments(found: list[Any]) -> bool:
    return bool(found) and all(isinstance(one, Segment) for one in found)


@functools.lru_cache(maxsize=8)
def _read(path: Path) -> tuple[dict[str, list[Segment]], dict[str, Any]]:
    """Return content id -> segments, and what was found while decoding."""
    _, pq = _arrow()
    table = pq.read_table(path)
    vectors = table.column("vector").combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    columns = [table.column(name).to_pylist() for name in ("id", "modality", "start", "end", "text", "label")]
    found: dict[str, list[Segment]] = {}
    for digest, modality, start, end, text, label, vector in zip(*columns, vectors, strict=True):
        found.setdefault(digest, []).append(Segment(modality, vector, start, end, text, label))
    return found, json.loads(table.schema.metadata[_ITEMS])


def parts_in(paths: list[Path]) -> dict[str, Path]:
    """Return content id -> the part that it is in.

    Raises:
        MediaError: If a part cannot be read: delete it, and it is encoded anew.
    """
    _, pq = _arrow()
    known: dict[str, Path] = {}
    for path in paths:
        try:
            items = json.loads(pq.read_schema(path).metadata[_ITEMS])
        except Exception as error:
            raise MediaError(f"{path}: not a part ({type(error).__name__}); delete it, it is encoded anew") from error
        known.update({name: path for name, one in items.items() if "facts" in one})
    return known
