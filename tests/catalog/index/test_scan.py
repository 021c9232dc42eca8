"""FAISS's scanner over runs as they lie finds what numpy finds; the sample is the one that a full sort would draw."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.catalog.index.exact import Best, best_items
from embedspace.catalog.index.runs import Rows, Run
from embedspace.catalog.index.sampling.drawn import scattered
from embedspace.catalog.index.sampling.sample import sample_of
from embedspace.catalog.index.scan import scan_items
from embedspace.catalog.store.vectors import SegmentRows
from tests.support.catalog_encoder import random_units

DIM = 16


def rows_of(sizes: list[int], per_item: int, vectors: NDArray[np.float32] | None = None) -> Rows:
    """Runs of some rows each, every item of some neighbouring rows, sequence numbers with gaps."""
    rng = np.random.default_rng(0)
    total = sum(sizes)
    vectors = random_units(total, embed_dim=DIM) if vectors is None else vectors
    seq = np.cumsum(rng.integers(1, 4, total)).astype(np.int64)
    key = rng.integers(0, 1 << 60, (total, 2)).astype(np.uint64)
    item = (np.arange(total) // per_item).astype(np.int64)
    parts, first = [], 0
    for size in sizes:
        some = slice(first, first + size)
        parts.append(SegmentRows(seq[some], item[some], key[some], vectors[some].astype(np.float16)))
        first += size
    return Rows.of(*parts)


def without(rows: Rows, share: float) -> Rows:
    gone = rows.seq[np.random.default_rng(1).random(len(rows)) < share]
    return Rows([run.without(run.positions(gone)) for run in rows.runs])


def assert_same(found: list[Best], wanted: list[Best]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_allclose(one.scores, other.scores, atol=2e-6)


@pytest.mark.parametrize("per_item", [1, 6])
@pytest.mark.parametrize("dead", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("queries", [1, 7])
def test_scan_finds_what_numpy_finds(per_item: int, dead: float, queries: int) -> None:
    rows = without(rows_of([900, 3000, 60], per_item), dead)
    some = random_units(queries, seed=1, embed_dim=DIM)
    assert_same(scan_items(rows, some, 10), best_items(rows, some, 10))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.8, 1.0])
def test_scan_of_chosen_rows_finds_what_numpy_finds(share: float) -> None:
    rows = without(rows_of([900, 3000, 60], 3), 0.2)
    chosen = rows.chosen(rows.seq[np.random.default_rng(2).random(len(rows)) < share])
    some = random_units(3, seed=1, embed_dim=DIM)
    found = scan_items(rows, some, 10, chosen)
    assert_same(found, best_items(rows, some, 10, chosen.positions()))
    assert set(found[0].rows.tolist()) <= set(rows.living_among(chosen.positions()).tolist())
    assert chosen.count == len(chosen.positions()) == sum(chosen.counts)


def test_scan_breaks_ties_by_content_id_however_many_there_are() -> None:
    vectors = np.tile(random_units(1, embed_dim=DIM), (6000, 1))
    rows = rows_of([5000, 1000], 1, vectors)
    assert_same(scan_items(rows, vectors[:1], 5), best_items(rows, vectors[:1], 5))
    lowest = np.lexsort((rows.key_of(np.arange(6000))[:, 1], rows.key_of(np.arange(6000))[:, 0]))[:5]
    np.testing.assert_array_equal(scan_items(rows, vectors[:1], 5)[0].rows, lowest)


def test_scan_asks_for_more_where_one_item_fills_what_was_proposed() -> None:
    query = random_units(1, embed_dim=DIM)
    near = np.repeat(query, 3000, axis=0)
    rows = rows_of([3000 + 500], 1, np.concatenate([near, random_units(500, seed=3, embed_dim=DIM)]))
    one = SegmentRows(rows.seq, np.maximum(rows.item, 2999), rows.runs[0].rows.key, rows.runs[0].rows.vectors)
    rows = Rows.of(one)  # an item of 3000 equal segments, and 500 of one
    assert_same(scan_items(rows, query, 4), best_items(rows, query, 4))


def test_scan_does_not_copy_the_vectors() -> None:
    from embedspace.catalog.index.scan import _Scanner

    vectors = random_units(50, embed_dim=DIM).astype(np.float16)
    scanner = _Scanner(vectors)
    query = vectors[7:8].astype(np.float32)
    assert scanner.search(query, 1)[1].tolist() == [[7]]
    vectors[30] = 2 * vectors[7]
    assert scanner.search(query, 1)[1].tolist() == [[30]]


def test_rows_after_a_number_are_the_last_ones() -> None:
    rows = without(rows_of([40, 50], 2), 0.2)
    for at in (-1, 10, 39, 60, 89):
        last = rows.after(int(rows.seq[at]) if at >= 0 else 0)
        np.testing.assert_array_equal(last.seq, rows.seq[at + 1 :])
        np.testing.assert_array_equal(last.living_seq(), rows.living_seq()[rows.living_seq() > rows.seq[at]] if at >= 0
                                      else rows.living_seq())  # fmt: skip
        chosen = rows.chosen(rows.seq[::3])
        np.testing.assert_array_equal(
            last.seq_of(chosen.last(last).positions()),
            [seq for seq in rows.seq_of(chosen.positions()) if seq in last.seq],
        )


def reference_sample(rows: Rows, items: int, most: int) -> set[int]:
    """Items of the sample by a full sort."""
    living = rows.positions(rows.living_seq())
    numbers, sizes = np.unique(rows.item[living], return_counts=True)
    order = np.argsort(scattered(numbers))[:items]
    return set(numbers[order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), most, side="right")))]].tolist())


@pytest.mark.parametrize("per_item", [1, 5])
@pytest.mark.parametrize("dead", [0.0, 0.5, 0.97])
def test_sample_is_the_one_of_a_full_sort(per_item: int, dead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.catalog.index.sampling.sample.SAMPLE", 40)
    monkeypatch.setattr("embedspace.catalog.index.sampling.sample._SAMPLE_ROWS", 90)
    rows = without(rows_of([2000, 1000, 7], per_item), dead)
    sample = sample_of(rows)
    assert set(rows.item[sample.rows].tolist()) == reference_sample(rows, 40, 90)
    assert len(sample.starts) == len(np.unique(rows.item[sample.rows]))
    query = random_units(2, seed=5, embed_dim=DIM)
    wanted = {int(item): (rows.take(np.array([row])) @ query[0])[0]
              for item, row in zip(rows.item[sample.rows], sample.rows, strict=True)}  # fmt: skip
    assert len(sample.scores(query)[0]) == len(wanted)
    living = np.unique(rows.item[rows.positions(rows.living_seq())])
    np.testing.assert_array_equal(living[sample.positions(rows)], np.unique(rows.item[sample.rows]))


def test_counts_of_items_follow_deletions() -> None:
    rows = rows_of([600, 90], 4)
    for share in (0.1, 0.5, 0.9, 1.0):
        rows = without(rows, share)
        living = rows.positions(rows.living_seq())
        assert rows.items == len(np.unique(rows.item[living])) and rows.living == len(living)
    assert isinstance(rows.runs[0], Run) and rows.items == 0
