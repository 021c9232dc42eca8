"""Retrieval metrics against hand calculations, brute force and ir-measures."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest

from embedspace.errors import InputError
from embedspace.evaluate.metrics import bootstrap, chance_recall, per_query_metrics, recall_at_k, retrieval_metrics
from embedspace.evaluate.search import UNRANKED, PositiveRanks, positive_ranks, top_k


def unit(rng: np.random.Generator, rows: int, dim: int = 8) -> np.ndarray:
    vectors = rng.standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ranks_of(*lists: list[int], size: int = 100) -> PositiveRanks:
    offsets = np.cumsum([0, *[len(ranks) for ranks in lists]])
    return PositiveRanks(np.array([r for ranks in lists for r in ranks], np.int64), offsets.astype(np.int64), size)


def test_metrics_match_hand_calculation() -> None:
    ranks = ranks_of([1], [2, 4], [11])
    values = {name: estimate.value for name, estimate in retrieval_metrics(ranks).items()}
    assert values["recall_at_1"] == pytest.approx(1 / 3)
    assert values["recall_at_5"] == pytest.approx(2 / 3)
    assert values["ir_recall_at_1"] == pytest.approx(1 / 3)
    assert values["ir_recall_at_5"] == pytest.approx(2 / 3)
    assert values["medr"] == 2
    assert values["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 11) / 3)
    assert values["map"] == pytest.approx((1 + (1 / 2 + 2 / 4) / 2 + 1 / 11) / 3)
    ideal = 1 + 1 / np.log2(3)
    assert values["ndcg_at_10"] == pytest.approx((1 + (1 / np.log2(3) + 1 / np.log2(5)) / ideal) / 3)


def test_two_recalls_differ_with_several_positives() -> None:
    values = per_query_metrics(ranks_of([1, 50, 60, 70]))
    assert values["recall_at_10"][0] == 1.0
    assert values["ir_recall_at_10"][0] == 0.25


def test_metrics_equal_ir_measures_on_full_rankings() -> None:
    rng = np.random.default_rng(3)
    queries, corpus = unit(rng, 20), unit(rng, 37)
    positives = [rng.choice(37, size=rng.integers(1, 5), replace=False) for _ in queries]
    ours = per_query_metrics(positive_ranks(queries, corpus, positives))
    scores = queries @ corpus.T
    qrels = [ir_measures.Qrel(str(q), str(d), 1) for q, docs in enumerate(positives) for d in docs]
    run = [ir_measures.ScoredDoc(str(q), str(d), float(scores[q, d])) for q in range(20) for d in range(37)]
    names = {
        ir_measures.RR: "mrr",
        ir_measures.AP: "map",
        ir_measures.nDCG @ 10: "ndcg_at_10",
        ir_measures.R @ 5: "ir_recall_at_5",
        ir_measures.Success @ 5: "recall_at_5",
    }
    for metric in ir_measures.iter_calc(list(names), qrels, run):
        assert ours[names[metric.measure]][int(metric.query_id)] == pytest.approx(metric.value)


def test_missing_query_counts_zero_and_worst_rank() -> None:
    corpus = np.eye(4, dtype=np.float32)
    queries = np.stack([corpus[0], np.full(4, np.nan, np.float32), np.zeros(4, np.float32)])
    values = per_query_metrics(positive_ranks(queries, corpus, [[0], [1], [2]]))
    for name, column in values.items():
        assert column.tolist() == ([1.0, 5.0, 5.0] if name == "medr" else [1.0, 0.0, 0.0]), name


def test_item_without_vector_is_never_found_and_stays_in_the_gallery() -> None:
    corpus = np.eye(3, dtype=np.float32)
    corpus[1] = np.nan
    ranks = positive_ranks(np.eye(3, dtype=np.float32), corpus, [[0], [1], [2, 1]])
    assert ranks.ranks.tolist() == [1, UNRANKED, 1, UNRANKED]
    assert ranks.gallery_size == 3


def test_ties_are_counted_against_the_positive() -> None:
    collapsed = np.ones((5, 4), np.float32) / 2
    ranks = positive_ranks(collapsed, collapsed, [[q] for q in range(5)])
    assert ranks.ranks.tolist() == [5] * 5
    assert recall_at_k(ranks, 4) == 0.0


def test_tied_positives_share_the_places_behind_tied_negatives() -> None:
    collapsed = np.ones((5, 4), np.float32) / 2
    assert positive_ranks(collapsed[:1], collapsed, [[0, 3]]).ranks.tolist() == [4, 5]


@pytest.mark.parametrize("blocks", [(1, 1), (7, 5), (1000, 1000)])
def test_positive_ranks_equal_brute_force_in_any_blocks(blocks: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    queries, corpus = unit(rng, 15), unit(rng, 23)
    positives = [rng.choice(23, size=rng.integers(1, 4), replace=False) for _ in queries]
    exclude = [[int(c) for c in rng.choice(23, 3) if c not in p] for p in positives]
    got = positive_ranks(queries, corpus, positives, exclude=exclude, query_block=blocks[0], corpus_block=blocks[1])
    expected = []
    for query, mine, hidden in zip(queries, positives, exclude, strict=True):
        scores = corpus @ query
        scores[hidden] = -np.inf
        order = np.argsort(-scores).tolist()
        expected += sorted(order.index(p) + 1 for p in mine)
    assert got.ranks.tolist() == expected


@pytest.mark.parametrize("blocks", [(1, 2), (4, 6), (1000, 1000)])
def test_top_k_equals_brute_force_with_ties_by_index(blocks: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    queries, corpus = unit(rng, 9), unit(rng, 13)
    corpus[7] = corpus[2]
    ids, scores = top_k(queries, corpus, 5, query_block=blocks[0], corpus_block=blocks[1])
    exact = np.round(queries @ corpus.T, 5)
    assert np.array_equal(np.round(scores, 5), -np.sort(-exact, axis=1)[:, :5])
    for row in ids.tolist():
        if 7 in row and 2 in row:
            assert row.index(2) < row.index(7)


def test_top_k_pads_short_corpora_and_hides_excluded() -> None:
    corpus = np.eye(3, dtype=np.float32)
    ids, scores = top_k(corpus[:1], corpus, 4, exclude=[[0]])
    assert ids.tolist() == [[1, 2, -1, -1]]
    assert scores[0, 2] == -np.inf


@pytest.mark.parametrize(
    ("positives", "exclude", "message"),
    [
        ([[0], []], None, "no positive"),
        ([[0]], None, "1 lists"),
        ([[0], [9]], None, "outside"),
        ([[0], [1]], [[0], []], "excluded"),
    ],
)
def test_positive_ranks_refuses_wrong_lists(
    positives: list[list[int]], exclude: list[list[int]] | None, message: str
) -> None:
    corpus = np.eye(3, dtype=np.float32)
    with pytest.raises(InputError, match=message):
        positive_ranks(corpus[:2], corpus, positives, exclude=exclude)


def test_chance_recall_matches_simulation() -> None:
    ranks = ranks_of([1], [1, 2, 3], size=40)
    rng = np.random.default_rng(0)
    hits = [[rng.choice(40, count, replace=False).min() < 10 for count in (1, 3)] for _ in range(4000)]
    assert chance_recall(ranks, 10) == pytest.approx(np.mean(hits), abs=0.02)


def test_bootstrap_interval_covers_the_truth_about_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        samples = bootstrap((rng.random((200, 1)) < 0.3).astype(np.float64), resamples=300, seed=trial)
        low, high = np.percentile(samples, [2.5, 97.5])
        covered += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_bootstrap_median_equals_resampled_medians() -> None:
    values = np.array([[3.0], [1.0], [8.0], [4.0]])
    counts = np.random.default_rng(5).multinomial(4, [0.25] * 4, size=50)
    expected = [np.median(np.repeat(values[:, 0], row)) for row in counts]
    assert bootstrap(values, statistic="median", resamples=50, seed=5)[:, 0].tolist() == expected


def test_bootstrap_is_deterministic_by_seed() -> None:
    ranks = ranks_of([1], [2], [30], [4], [1])
    assert retrieval_metrics(ranks, seed=1) == retrieval_metrics(ranks, seed=1)


def test_metrics_without_queries_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        retrieval_metrics(PositiveRanks(np.empty(0, np.int64), np.zeros(1, np.int64), 5))
