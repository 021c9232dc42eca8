"""Making an engine agree with a catalog: what is new, changed or gone, range by range of segment numbers.

Of each range the engine's record has a digest of what was written. A push writes the ranges whose digest is another
one, and notes each when the engine has it: a killed push goes on at the range it had come to, and what is written twice
is the same.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from embedspace.catalog.engines.contract import RECORD, SAMPLE, Engine, Point, Record
from embedspace.catalog.engines.opening import read_record
from embedspace.catalog.engines.payload import INDEXED, chunk_digest, field_path, payload_of
from embedspace.catalog.index.runs import Rows, Run
from embedspace.catalog.index.sampling.sample import sample_of
from embedspace.catalog.records import Progress
from embedspace.catalog.store.bulk.points import (
    Shape,
    highest_segment,
    item_counts,
    item_numbers,
    point_rows,
    shape_of,
    some_rows,
)
from embedspace.catalog.store.filters.facets import field_names
from embedspace.catalog.store.filters.kinds import field_kind, time_format
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows, modality_counts
from embedspace.errors import EngineError

__all__ = ["CHUNK", "PushReport", "push"]

CHUNK = 4096
"""Segment numbers of a range."""
_BATCH = 256
"""Points of one request: some 1.5 MB of JSON."""
_FIELDS = 64
"""So many fields of the metadata get an index of their own."""


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did.

    Attributes:
        segments: Segments that the engine holds now.
        written: How many were written, new ones or whole ranges with a change.
        ranges: Ranges of segments there are.
        changed: Ranges that were written.
        seconds: How long it took.
    """

    segments: int
    written: int
    ranges: int
    changed: int
    seconds: float


def push(
    store: Store, engine: Engine, callback: Callable[[Progress], None] | None = None, *, anew: bool = False
) -> PushReport:
    """Write to an engine what it lacks of a catalog, and take away what is gone.

    Args:
        store: The catalog's rows, maybe read-only.
        engine: Empty, or filled from this catalog.
        callback: Told how far it is.
        anew: Write everything, whatever the engine says that it has, and take away what it should not have.

    Raises:
        EngineError: If it cannot be reached, does not answer, or holds another catalog or vectors of another length;
            what was written before is noted, and the next push goes on there.
    """
    began, shape = time.monotonic(), shape_of(store)
    record = _prepared(store, engine, shape, anew=anew)
    counts = modality_counts(store)
    total, seen, written, changed = sum(counts.values()), 0, 0, 0
    ranges = range(highest_segment(store) // CHUNK + 1)
    for number in ranges:
        rows, digest = _push_range(store, engine, number, shape.last_seq, record.chunks.get(str(number)))
        seen += rows
        if digest is not None:
            written, changed = written + rows, changed + 1
            record = dataclasses.replace(record, chunks={**record.chunks, str(number): digest})
            engine.write([record.to_point()])
        if callback is not None:
            callback(Progress(seen, seen, written, 0, str(engine.address), total))
    for name in record.chunks:
        if int(name) not in ranges:
            engine.delete(range(int(name) * CHUNK, (int(name) + 1) * CHUNK))
    if anew:
        _take_away(engine, ranges)
    if changed or record.revision is None:
        engine.optimize()
    if record.revision != shape.revision:
        engine.write([Point(SAMPLE, {"seq": _samples(store)})])
    kept = {name: digest for name, digest in record.chunks.items() if int(name) in ranges}
    engine.write([_ended(record, store, shape, kept, counts, engine).to_point()])
    return PushReport(total, written, len(ranges), changed, time.monotonic() - began)


def _take_away(engine: Engine, ranges: range) -> None:
    """Delete what lies beyond all ranges."""
    for page in engine.pages(payload=()):
        stray = [one.id for one in page if one.id // CHUNK not in ranges and one.id not in (RECORD, SAMPLE)]
        if stray:
            engine.delete(stray)


def _prepared(store: Store, engine: Engine, shape: Shape, *, anew: bool) -> Record:
    """Return the record to go on with; the engine takes all vectors and fields of the catalog by then."""
    fresh = Record(shape.catalog_id, str(store.path.absolute()), shape.embed_dim, shape.fingerprints)
    wanted = dict.fromkeys([*shape.fingerprints, *modality_counts(store)], shape.embed_dim)
    widths = engine.widths()
    if widths is None:
        engine.create(wanted)
        widths = wanted
    record = read_record(engine)
    if record is not None and record.catalog_id != shape.catalog_id:
        raise EngineError(f"{engine.address}: holds another catalog ({record.catalog}); push to another name")
    other = {width for width in widths.values() if width != shape.embed_dim}
    if other:
        raise EngineError(
            f"{engine.address}: takes vectors of length {other.pop()}, {store.path} holds {shape.embed_dim}; push to "
            "another name, or delete that one"
        )
    for modality in wanted:
        if modality not in widths:
            engine.extend(modality, shape.embed_dim)
    engine.index_fields({**INDEXED, **_fields(store)})
    if record is None or anew:
        record = fresh
        engine.write([record.to_point()])
    elif record.fingerprints != fresh.fingerprints or record.catalog != fresh.catalog:
        record = dataclasses.replace(record, fingerprints=fresh.fingerprints, catalog=fresh.catalog)
        engine.write([record.to_point()])
    return record


def _fields(store: Store) -> dict[str, str]:
    """Return how the fields of the metadata are asked."""
    found: dict[str, str] = {}
    for name in sorted(field_names(store))[:_FIELDS]:
        kind = field_kind(store, name)
        if kind == "number":
            found[field_path(name)] = "float"
        elif kind == "text":
            found[field_path(name)] = "datetime" if time_format(store, name) else "keyword"
            found[field_path(name, fold=True)] = "prefix"
    return found


def _push_range(store: Store, engine: Engine, number: int, last_seq: int, known: str | None) -> tuple[int, str | None]:
    """Make one range agree; returns its segments, and its digest where it was written."""
    first, end = number * CHUNK, (number + 1) * CHUNK
    rows = point_rows(store, first, end)
    payloads = {row.seq: payload_of(row) for row in rows}
    digest = chunk_digest(list(payloads.items()))
    if digest == known:
        return len(rows), None
    modalities = {row.seq: row.modality for row in rows}
    for begin in range(0, len(rows), _BATCH):
        some = some_rows(store, [row.seq for row in rows[begin : begin + _BATCH]])
        vectors = some.vectors.astype(np.float32)
        engine.write(
            [
                Point(seq, payloads[seq], modalities[seq], vector)
                for seq, vector in zip(some.seq.tolist(), vectors, strict=True)
            ]
        )
    gone = [seq for seq in range(max(first, 1), min(end, last_seq + 1)) if seq not in payloads]
    if gone:
        engine.delete(gone)
    return len(rows), digest


def _samples(store: Store) -> dict[str, list[int]]:
    """Return modality -> numbers of the segments that queries are measured against, as the local index draws them."""
    found = {}
    for modality in modality_counts(store):
        seq, item = item_numbers(store, modality)
        nothing = np.zeros((len(seq), 2), np.uint64), np.zeros((len(seq), 0), np.float16)
        found[modality] = sample_of(Rows([Run(SegmentRows(seq, item, *nothing))])).seq.tolist()
    return found


def _ended(
    record: Record,
    store: Store,
    shape: Shape,
    chunks: Mapping[str, str],
    counts: Mapping[str, int],
    engine: Engine,
) -> Record:
    return dataclasses.replace(
        record,
        revision=shape.revision,
        last_seq=shape.last_seq,
        deletions=shape.deletions,
        items=item_counts(store),
        segments=dict(counts),
        documents=engine.count({"must": [{"key": "document", "match": {"any": ["yes"]}}]}),
        chunks=dict(chunks),
    )
