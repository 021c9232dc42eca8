"""What a query's scores against a gallery say about its best hit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from embedspace.calibration.background import Background, background_of
from embedspace.calibration.fit import cutoff_of, fit_model
from embedspace.calibration.model import Calibration, MatchModel, PairCalibration, mean_pair
from embedspace.errors import InputError, WeightsError
from embedspace.train.episodes import SIZES, draw_episodes, fit_episodes

MODEL = MatchModel(20.0, 10.0, -15.0, -3.0, 2.0, -0.2, -1.0, cutoff=0.3)


def test_background_expects_the_best_of_a_normal_gallery() -> None:
    draws = np.random.default_rng(0).normal(0.1, 0.05, (200, 1000))
    found = background_of(draws, 1000)
    assert np.mean([one.mean for one in found]) == pytest.approx(0.1, abs=0.002)
    assert np.mean([one.std for one in found]) == pytest.approx(0.05, abs=0.001)
    best = draws.max(axis=1)
    expected = np.array([one.expected_best for one in found])
    # the exponential tail lies a little above the normal one
    assert best.mean() - 0.01 < expected.mean() < best.mean() + 0.03


def test_background_of_a_sample_stands_for_the_whole_gallery() -> None:
    draws = np.random.default_rng(1).exponential(0.05, (50, 20_000))
    whole = np.mean([one.expected_best for one in background_of(draws, 20_000)])
    sample = np.mean([one.expected_best for one in background_of(draws[:, :4096], 20_000)])
    assert sample == pytest.approx(whole, abs=0.01)
    assert whole == pytest.approx(draws.max(axis=1).mean(), abs=0.05)
    smaller = np.mean([one.expected_best for one in background_of(draws[:, :4096], 4096)])
    assert smaller < sample  # more items, a better best


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_background_of_few_scores_is_finite(count: int) -> None:
    (found,) = background_of(np.full((1, count), 0.3), count)
    assert found.size == count
    assert (found.mean is None) is (count == 0)
    assert np.isfinite([found.std, found.expected_best]).all()


def test_probability_grows_with_the_score_whatever_the_background() -> None:
    calibration = Calibration(pairs={"text>image": PairCalibration(model=MODEL)})
    random = np.random.default_rng(2)
    for size in (1, 2, 5, 300):
        scores = np.sort(random.normal(0.2, 0.2, size))[::-1]
        chances = calibration.probability(scores, "text", "image", background_of(scores, size)[0])
        assert chances.shape == (size,) and (np.diff(chances) <= 0).all()
    tied = calibration.probability([0.4, 0.4, 0.1], "text", "image", background_of([0.4, 0.4, 0.1], 3)[0])
    assert tied[0] == tied[1] > tied[2]


def test_probability_knows_what_stands_out() -> None:
    calibration = Calibration(pairs={"text>image": PairCalibration(model=MODEL)})
    crowd = np.random.default_rng(3).normal(0.1, 0.05, 500)

    def first(scores: list[float], others: np.ndarray) -> float:
        gallery = np.concatenate([scores, others])
        return float(calibration.probability(scores, "text", "image", background_of(gallery, len(gallery))[0])[0])

    assert first([0.5, 0.2], crowd) > first([0.5, 0.2], crowd + 0.2)  # the same score, in a gallery that is closer
    assert first([0.5, 0.2], crowd) > first([0.5, 0.49], crowd)  # the same score, before a rival


def test_a_calibration_without_models_is_what_it_was() -> None:
    pair = {"mean": 0.0, "std": 0.1, "slope": 20.0, "intercept": -2.0}
    text = json.dumps({"means": {"text": [0.5]}, "pairs": {"text>image": pair}})
    old = Calibration.from_json(text)
    expected = 1 / (1 + np.exp(-(20 * 0.3 - 2 - np.log(50))))
    assert old.probability([0.3], "text", "image", Background(50, 0.0, 0.1, 0.2))[0] == pytest.approx(expected)
    assert old.cutoff("text", "image") == 0.1
    assert Calibration.from_json(old.to_json()).to_json() == old.to_json()


def test_a_calibration_with_models_is_written_and_read() -> None:
    calibration = Calibration(pairs={"text>image": PairCalibration(0.1, 0.2, 3.0, 4.0, MODEL)})
    again = Calibration.from_json(calibration.to_json())
    assert again.pairs == calibration.pairs
    assert again.cutoff("text", "image") == 0.3
    with pytest.raises(WeightsError, match="not a calibration"):
        Calibration.from_json(calibration.to_json().replace('"margin"', '"gap"'))


def test_a_composed_query_takes_the_mean_of_the_pairs_with_its_target() -> None:
    other = PairCalibration(model=MatchModel(40.0, 0.0, -5.0, 1.0, 0.0, 0.0, -3.0, cutoff=0.1))
    calibration = Calibration(pairs={"text>image": PairCalibration(model=MODEL), "audio>image": other})
    mixed = calibration.pair("mixed", "image").model
    assert mixed is not None and (mixed.score, mixed.cutoff) == (30.0, 0.2)
    assert calibration.pair("mixed", "audio") == PairCalibration()
    assert mean_pair([other, PairCalibration()]).model is None  # type: ignore[union-attr]
    own = Calibration(pairs={**calibration.pairs, "mixed>image": other})
    assert own.pair("mixed", "image") == other


def test_fit_model_finds_known_weights() -> None:
    random = np.random.default_rng(4)
    features = random.normal(size=(40_000, 6))
    log_odds = features @ [2.0, 1.0, -1.5, 0.5, 0.0, -0.5] - 0.7
    model = fit_model(features, random.random(len(features)) < 1 / (1 + np.exp(-log_odds)), ridge=0.0)
    np.testing.assert_allclose(model.weights, [2.0, 1.0, -1.5, 0.5, 0.0, -0.5], atol=0.08)
    assert model.intercept == pytest.approx(-0.7, abs=0.05)


def test_fit_model_never_lets_a_better_score_be_less_probable() -> None:
    random = np.random.default_rng(5)
    features = random.normal(size=(5_000, 6))
    log_odds = features @ [-2.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    model = fit_model(features, random.random(len(features)) < 1 / (1 + np.exp(-log_odds)))
    assert model.score == 0.0 and model.margin > 0.5 and model.expected_best > 0.5
    with pytest.raises(InputError, match="0 matches among 5000 hits"):
        fit_model(features, np.zeros(len(features), bool))


def test_cutoff_hides_few_right_hits_of_every_gallery() -> None:
    random = np.random.default_rng(6)
    chances = np.concatenate([random.uniform(0.2, 1.0, 400), random.uniform(0.0, 0.4, 400)])
    right = np.ones(800, bool)
    sizes = np.repeat([100, 1000], 400)
    cutoff = cutoff_of(chances, right, sizes)
    assert all((chances[sizes == size] < cutoff).mean() <= 0.05 + 1e-9 for size in (100, 1000))
    assert cutoff_of(np.full(50, 0.9), np.ones(50, bool), np.zeros(50, int)) == 0.5


def test_episodes_teach_honest_probabilities_at_sizes_and_queries_of_all_kinds() -> None:
    """Queries differ in how close everything is to them: only who knows the background can tell."""
    random = np.random.default_rng(7)

    def drawn(queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        own = np.random.default_rng(seed)
        level = own.normal(0.2, 0.15, (queries, 1))
        scores = (level + own.normal(0, 0.08, (queries, 1200))).astype(np.float32)
        matches = np.zeros((queries, 1200), bool)
        matches[:, :6] = True
        scores[:, :6] += own.normal(0.32, 0.08, (queries, 6)).astype(np.float32)
        return scores, matches

    model = fit_episodes([draw_episodes(*drawn(120, 8), SIZES, random)])
    assert model is not None
    test = draw_episodes(*drawn(120, 9), SIZES, random)
    first = test.rank == 0
    log_odds = test.features[first] @ model.weights + model.intercept
    right = test.is_match[first]
    order = np.argsort(log_odds)
    chances = 1 / (1 + np.exp(-log_odds))
    error = np.mean([abs(chances[part].mean() - right[part].mean()) for part in np.array_split(order, 10)])
    assert error < 0.06

    def told_apart(values: np.ndarray) -> float:
        return float((values[right][:, None] > values[~right][None]).mean())

    assert told_apart(log_odds) > 0.9
    assert told_apart(test.features[first, 0]) < 0.85  # the best score alone
    assert (chances[right] < model.cutoff).mean() <= 0.1


def test_cutoff_hides_few_right_hits_of_every_kind_of_search() -> None:
    random = np.random.default_rng(11)
    kinds = []
    for lead, count in ((0.6, 100), (0.25, 30)):  # the second kind is harder, and rarer
        scores = random.normal(0.1, 0.08, (count, 200)).astype(np.float32)
        matches = np.zeros((count, 200), bool)
        matches[:, 0] = True
        scores[:, 0] += lead
        kinds.append(draw_episodes(scores, matches, (100,), random))
    model = fit_episodes(kinds)
    assert model is not None
    for found in kinds:
        right = (found.rank == 0) & found.is_match
        chances = 1 / (1 + np.exp(-(found.features[right] @ model.weights + model.intercept)))
        assert (chances < model.cutoff).mean() <= 0.051


def test_episodes_half_of_which_hold_no_match() -> None:
    scores = np.random.default_rng(10).normal(size=(5, 60)).astype(np.float32)
    matches = np.zeros((5, 60), bool)
    matches[:, 3] = True
    scores[:, 3] = 9.0
    found = draw_episodes(scores, matches, (30,), np.random.default_rng(0))
    first = found.rank == 0
    assert found.weight[first & found.is_match].sum() == found.weight[first & ~found.is_match].sum()
    barred = draw_episodes(scores, matches, (30,), np.random.default_rng(0), barred=matches)
    assert len(barred.rank) == 0 and fit_episodes([barred]) is None
