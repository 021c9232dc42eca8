"""Proof that an engine and a catalog agree: what made the vectors, counts, numbers, what filters ask, vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from embedspace.catalog.engines.contract import RECORD, SAMPLE, Engine, Record, Stored
from embedspace.catalog.engines.opening import read_record
from embedspace.catalog.engines.payload import payload_of
from embedspace.catalog.index.sampling.drawn import scattered
from embedspace.catalog.records import Problem
from embedspace.catalog.store.bulk.points import highest_segment, item_counts, numbers_between, point_rows, some_rows
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import modality_counts

__all__ = ["RemoteReport", "verify_engine"]

_RANGE = 4096
_SHOWN = 20
"""Problems of one sort that are listed."""


@dataclass(frozen=True, slots=True)
class RemoteReport:
    """What was compared.

    Attributes:
        segments: The engine's segments, all of which were looked at.
        vectors: How many of their vectors were compared.
        problems: Where engine and catalog do not agree.
    """

    segments: int
    vectors: int
    problems: tuple[Problem, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether all agree."""
        return not self.problems


def verify_engine(store: Store, engine: Engine, vectors: int | None = 1000) -> RemoteReport:
    """Compare an engine with a catalog.

    Args:
        store: The catalog's rows: the truth.
        engine: What was filled from it.
        vectors: How many vectors to compare, drawn evenly; all where `None`. Numbers and what filters ask are compared
            of every segment.

    Raises:
        EngineError: If it cannot be reached or holds something else.
    """
    record = read_record(engine)
    if record is None:
        return RemoteReport(0, 0, (Problem("engine", str(engine.address), f"empty; {_advice(store, engine)}"),))
    problems = [Problem("engine", str(engine.address), what) for what in _facts(store, record, engine)]
    total = sum(modality_counts(store).values())
    share = 1.0 if vectors is None or not total else min(1.0, vectors / total)
    asked = frozenset(_numbers(store, share))
    seen, compared, found = 0, 0, dict.fromkeys(("gone", "differs", "vector"), 0)
    kept: set[int] = set()
    fields = ("id", "kind", "modality", "label", "text", "uri", "uri_folded", "size", "mtime", "meta", "folded")
    for page in engine.pages(payload=(*fields, "start", "end", "document"), vectors=True):
        points = [one for one in page if one.id not in (RECORD, SAMPLE)]
        seen += len(points)
        kept.update(one.id for one in points)
        compared += sum(one.id in asked for one in points)
        for sort, problem in _compared(store, points, asked):
            found[sort] += 1
            if found[sort] <= _SHOWN:
                problems.append(problem)
    missing = [seq for seq in _numbers(store, 1.0) if seq not in kept]
    problems += [Problem("engine", f"segment {seq}", "missing") for seq in missing[:_SHOWN]]
    more = sum(max(0, count - _SHOWN) for count in (*found.values(), len(missing)))
    if problems:
        mend = f"{f'{more} more; ' if more else ''}mend it with: {_advice(store, engine)}"
        problems.append(Problem("engine", str(engine.address), mend))
    return RemoteReport(seen, compared, tuple(problems))


def _advice(store: Store, engine: Engine) -> str:
    return f"embedspace catalog push {store.path} --to {engine.address} --all"


def _facts(store: Store, record: Record, engine: Engine) -> Iterator[str]:
    """Yield what the engine says otherwise than the catalog."""
    if record.catalog_id != store.catalog_id:
        yield f"of another catalog ({record.catalog})"
    if record.revision is None:
        yield "only partly filled: no push has ended"
    elif record.revision != store.state()[0]:
        yield "the catalog has changed since it was pushed"
    if record.embed_dim != store.embed_dim:
        yield f"vectors of length {record.embed_dim}; the catalog's are {store.embed_dim}"
    ours = store.fingerprints()
    for name in sorted({*ours, *record.fingerprints}):
        if ours.get(name) != record.fingerprints.get(name):
            yield f"fingerprint of {name}: of another encoder"
    for what, theirs, here in (
        ("segments", record.segments, modality_counts(store)),
        ("items", record.items, item_counts(store)),
    ):
        if record.revision is not None and dict(theirs) != here:
            yield f"{what}: {dict(theirs)}; the catalog has {here}"
    for name, count in modality_counts(store).items():
        held = engine.count({"must": [{"key": "modality", "match": {"any": [name]}}]})
        if held != count:
            yield f"{held} {name} segments; the catalog has {count}"


def _numbers(store: Store, share: float) -> Iterator[int]:
    """Yield the numbers of segments, all or evenly drawn."""
    bound = np.uint64(int(min(share, 0.999) * 2**53) << 11)
    for first in range(0, highest_segment(store) + 1, _RANGE):
        numbers = numbers_between(store, first, first + _RANGE)
        yield from numbers[scattered(numbers) <= bound].tolist() if share < 1.0 else numbers.tolist()


def _compared(store: Store, points: list[Stored], asked: frozenset[int]) -> Iterator[tuple[str, Problem]]:
    """Yield what is wrong with a page of the engine's points."""
    if not points:
        return
    end = min(points[-1].id, highest_segment(store)) + 1
    truth = {row.seq: row for row in point_rows(store, points[0].id, end)}
    wanted = some_rows(store, [one.id for one in points if one.id in asked])
    vectors = dict(zip(wanted.seq.tolist(), wanted.vectors.astype(np.float32), strict=True))
    for one in points:
        place, row = f"segment {one.id}", truth.get(one.id)
        if row is None:
            yield "gone", Problem("engine", place, "not in the catalog")
            continue
        expected = payload_of(row)
        if differ := sorted(name for name in {*expected, *one.payload} if expected.get(name) != one.payload.get(name)):
            yield "differs", Problem("engine", place, f"{', '.join(differ)}: not as in the catalog")
        if one.id in vectors:
            held = one.vectors.get(row.modality)
            if held is None or not np.array_equal(np.asarray(held, np.float32), vectors[one.id]):
                yield "vector", Problem("engine", place, f"its {row.modality} vector differs")
