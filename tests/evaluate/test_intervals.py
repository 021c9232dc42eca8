"""Intervals draw clusters of queries whole; every figure is checked against a calculation by hand."""

from __future__ import annotations

import numpy as np
import pytest

from embedspace.errors import InputError
from embedspace.evaluate import evaluate_pair
from embedspace.evaluate.intervals import bootstrap, cluster_codes, draw_counts, mean_of_groups

VALUES = np.array([[1.0], [1.0], [0.0], [0.0], [1.0]])
CAPTIONS = ["dog", "dog", "cat", "bell", "bell"]
VOICES = ["a", "b", "a", "a", "b"]


def test_codes_number_clusters_as_they_come() -> None:
    assert cluster_codes(CAPTIONS, VOICES).tolist() == [[0, 0, 1, 2, 2], [0, 1, 0, 0, 1]]


def test_a_cluster_is_drawn_with_all_its_queries() -> None:
    (counts,) = draw_counts(5, resamples=40, seed=3, clusters=cluster_codes(CAPTIONS))
    drawn = np.random.default_rng(3).multinomial(3, [1 / 3] * 3, size=40)
    assert counts.tolist() == drawn[:, [0, 0, 1, 2, 2]].tolist()


def test_bootstrap_of_two_clusters_has_three_samples() -> None:
    samples = bootstrap(VALUES[:3], resamples=8000, clusters=cluster_codes(CAPTIONS[:3]))[:, 0]
    shares = {round(float(value), 6): float(np.mean(samples == value)) for value in np.unique(samples)}
    # dog dog: 4 of 4 right; dog cat, in either order: 2 of 3; cat cat: none
    assert shares == pytest.approx({0.0: 0.25, round(2 / 3, 6): 0.5, 1.0: 0.25}, abs=0.02)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_bootstrap_over_captions_and_voices_repeats_by_the_product(statistic: str) -> None:
    codes = cluster_codes(CAPTIONS, VOICES)
    samples = bootstrap(VALUES, statistic=statistic, resamples=60, seed=9, clusters=codes)[:, 0]
    rng = np.random.default_rng(9)
    captions, voices = rng.multinomial(3, [1 / 3] * 3, size=60), rng.multinomial(2, [0.5] * 2, size=60)
    for sample, of_caption, of_voice in zip(samples, captions, voices, strict=True):
        repeated = np.repeat(VALUES[:, 0], of_caption[codes[0]] * of_voice[codes[1]])
        expected = {"mean": np.mean, "median": np.median}[statistic](repeated) if len(repeated) else np.nan
        np.testing.assert_allclose(sample, expected)


def test_without_clusters_each_query_is_drawn_alone() -> None:
    alone = cluster_codes([str(number) for number in range(5)])
    np.testing.assert_array_equal(bootstrap(VALUES, resamples=50), bootstrap(VALUES, resamples=50, clusters=alone))


def test_an_unknown_statistic_is_refused() -> None:
    with pytest.raises(InputError, match="'mean' or 'median', got 'mode'"):
        bootstrap(VALUES, statistic="mode")


def test_mean_of_groups_draws_a_cluster_for_all_groups_at_once() -> None:
    queries = {"recall_at_1": VALUES[:, 0], "medr": np.array([1.0, 1.0, 4.0, 6.0, 1.0])}
    groups = [np.flatnonzero(np.array(VOICES) == voice) for voice in "ab"]
    found = mean_of_groups(queries, groups, resamples=200, seed=2, clusters=cluster_codes(CAPTIONS))
    assert found["recall_at_1"].value == pytest.approx((1 / 3 + 1.0) / 2)
    assert found["medr"].value == pytest.approx((4.0 + 1.0) / 2)
    means, medians = [], []
    for counts in np.random.default_rng(2).multinomial(3, [1 / 3] * 3, size=200)[:, [0, 0, 1, 2, 2]]:
        right = [np.repeat(VALUES[rows, 0], counts[rows]) for rows in groups]
        ranks = [np.repeat(queries["medr"][rows], counts[rows]) for rows in groups]
        if all(len(part) for part in right):  # voice b never says "cat"
            means.append(np.mean([part.mean() for part in right]))
            medians.append(np.mean([np.median(part) for part in ranks]))
    for name, values in {"recall_at_1": means, "medr": medians}.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert (found[name].low, found[name].high) == pytest.approx((low, high)), name


def test_intervals_over_clusters_cover_the_truth_where_those_over_clips_do_not() -> None:
    rng = np.random.default_rng(0)
    covered = {"clusters": 0, "clips": 0}
    for trial in range(150):
        truths = rng.random(40) < 0.4  # a caption is right in all eight of its recordings, or in none
        values, codes = np.repeat(truths, 8).astype(np.float64)[:, None], np.repeat(np.arange(40), 8)[None]
        for name, clusters in {"clusters": codes, "clips": None}.items():
            low, high = np.percentile(bootstrap(values, resamples=200, seed=trial, clusters=clusters), [2.5, 97.5])
            covered[name] += low <= 0.4 <= high
    assert covered["clusters"] / 150 > 0.88 > 0.7 > covered["clips"] / 150


def test_evaluate_pair_says_what_was_drawn_and_gives_the_mean_of_groups_an_interval() -> None:
    corpus = np.eye(3, dtype=np.float32)
    queries = corpus[[0, 0, 1, 2, 0]]
    clusters = {"caption": CAPTIONS, "speaker": VOICES}
    options = {"groups": VOICES, "clusters": clusters, "primary_metric": "recall_at_1", "resamples": 300}
    result = evaluate_pair(queries, corpus, [[0], [0], [1], [1], [0]], **options)  # type: ignore[arg-type]
    assert result.clusters == {"caption": 3, "speaker": 2}
    assert result.groups["a"].clusters == {"caption": 3, "speaker": 1}
    mean = result.group_mean["recall_at_1"]
    assert mean.value == pytest.approx((2 / 3 + 1.0) / 2)
    assert mean.low < mean.value <= mean.high <= 1.0
    # every voice says every group's captions: the voice is what tells the groups apart, so captions alone are drawn
    only = evaluate_pair(queries, corpus, [[0], [0], [1], [1], [0]], **{**options, "clusters": {"caption": CAPTIONS}})  # type: ignore[arg-type]
    assert only.group_mean == result.group_mean
    assert only.metrics["recall_at_1"] != result.metrics["recall_at_1"]
