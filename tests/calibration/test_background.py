"""What a query's scores against a gallery say about its best hit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from embedspace.calibration.background import Background, background_of
from embedspace.calibration.fit import cutoff_of, cutoffs_of, cutoffs_of_line, fit_model
from embedspace.calibration.model import UNLIKELY, Calibration, MatchModel, PairCalibration, mean_pair
from embedspace.errors import InputError, WeightsError
from embedspace.train.episodes import SIZES, draw_episodes, fit_episodes, measure_cutoffs

MODEL = MatchModel(20.0, 10.0, -15.0, -3.0, 2.0, -0.2, -1.0)
CUTOFFS = ((100.0, 0.3), (10_000.0, 0.1))


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
    assert old.cutoff("text", "image", 50) == old.cutoff("text", "image", 50_000) == 0.1
    assert Calibration.from_json(old.to_json()).to_json() == old.to_json()


def test_a_calibration_with_models_is_written_and_read() -> None:
    calibration = Calibration(pairs={"text>image": PairCalibration(0.1, 0.2, 3.0, 4.0, MODEL, CUTOFFS)})
    again = Calibration.from_json(calibration.to_json())
    assert again.pairs == calibration.pairs
    assert again.cutoff("text", "image", 100) == pytest.approx(0.3)
    with pytest.raises(WeightsError, match="not a calibration"):
        Calibration.from_json(calibration.to_json().replace('"margin"', '"gap"'))
    with pytest.raises(WeightsError, match="not a calibration"):
        Calibration.from_json(calibration.to_json().replace("[100.0, 0.3]", "[100.0]"))


def test_a_calibration_with_one_cutoff_for_all_galleries_is_read_as_it_was() -> None:
    raw = json.loads(Calibration(pairs={"text>image": PairCalibration(model=MODEL)}).to_json())
    raw["pairs"]["text>image"]["model"]["cutoff"] = 0.3
    old = Calibration.from_json(json.dumps(raw))
    assert old.pair("text", "image").model == MODEL
    assert [old.cutoff("text", "image", size) for size in (0, 1, 50, 10**7)] == pytest.approx([0.3] * 4)
    assert Calibration.from_json(old.to_json()).pairs == old.pairs


def test_a_cutoff_follows_the_size_of_the_gallery() -> None:
    def odds(chance: float) -> float:
        return float(np.log(chance / (1 - chance)))

    pair = PairCalibration(model=MODEL, cutoffs=CUTOFFS)
    assert [pair.cutoff(size) for size in (1, 100, 10_000)] == pytest.approx([0.3, 0.3, 0.1])
    assert odds(pair.cutoff(1_000)) == pytest.approx((odds(0.3) + odds(0.1)) / 2)
    per_decade = (odds(0.3) - odds(0.1)) / 2
    assert odds(pair.cutoff(100_000)) == pytest.approx(odds(0.1) - per_decade)  # on as between the last two
    steep = PairCalibration(cutoffs=((10.0, 0.5), (20.0, 0.01)))
    assert odds(steep.cutoff(200)) == pytest.approx(odds(0.01) - np.log(10))  # no faster than prior odds fall
    rising = PairCalibration(cutoffs=((10.0, 0.1), (20.0, 0.2)))
    assert rising.cutoff(10**6) == pytest.approx(0.2)
    assert PairCalibration().cutoff(7) == UNLIKELY


def test_a_composed_query_takes_the_mean_of_the_pairs_with_its_target() -> None:
    other = PairCalibration(model=MatchModel(40.0, 0.0, -5.0, 1.0, 0.0, 0.0, -3.0), cutoffs=((1.0, 0.1),))
    line = PairCalibration(cutoffs=((100.0, 0.001),))
    calibration = Calibration(
        pairs={"text>image": PairCalibration(model=MODEL, cutoffs=CUTOFFS), "audio>image": other, "text>audio": line}
    )
    mixed = calibration.pair("mixed", "image")
    assert mixed.model is not None and mixed.model.score == 30.0
    assert [calibration.cutoff("mixed", "image", size) for size in (1, 100, 10_000)] == pytest.approx([0.2, 0.2, 0.1])
    assert calibration.cutoff("mixed", "audio", 100) == pytest.approx(0.001)
    assert calibration.pair("mixed", "text") == PairCalibration()
    assert mean_pair([other, PairCalibration()]).model is None  # type: ignore[union-attr]
    assert mean_pair([other, line]).cutoffs[0][1] < 0.0011  # type: ignore[union-attr]  # a model's do not fit a line
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


def test_cutoff_hides_few_of_all_right_hits_not_only_of_those_seen() -> None:
    """Of hits uniform in [0, 1] the cut-off is itself the share that is hidden."""
    random = np.random.default_rng(6)
    for count in (40, 200, 2_000):
        hidden = np.array([cutoff_of(random.random(count), hidden=0.08) for _ in range(400)])
        assert (hidden > 0.08).mean() <= 0.08  # 5% by the bound, and what 400 trials add
        assert hidden.mean() > (0.01 if count == 40 else 0.04 if count == 200 else 0.06)
    assert cutoff_of(np.array([0.7, 0.2, 0.9])) == 0.2  # too few to hide any


def test_cutoffs_hide_few_right_hits_of_every_kind_and_size() -> None:
    random = np.random.default_rng(6)
    sizes, kinds = np.repeat([100, 1_000, 10_000], 800), np.tile(np.repeat([0, 1], 400), 3)
    lows = np.array([[0.4, 0.3], [0.1, 0.2], [0.2, 0.2]])
    low = np.repeat(lows.ravel(), 400)
    chances = low + random.random(2_400) * 0.4
    right = random.random(2_400) < 0.7
    chances[~right] = 0.0
    found = cutoffs_of(chances, right, kinds, sizes)
    assert [size for size, _ in found] == [100, 1_000, 10_000]
    values = [value for _, value in found]
    assert 0.3 < values[0] < 0.35 and 0.1 < values[1] < 0.15 and values[2] == values[1]  # never more than for fewer
    assert all((chances[right & (sizes == size)] < value).mean() <= 0.08 for size, value in found)
    assert cutoffs_of(np.full(50, 0.9), np.ones(50, bool), np.zeros(50, int), np.full(50, 30)) == ((30.0, 0.5),)
    assert cutoffs_of(np.full(9, 0.9), np.ones(9, bool), np.zeros(9, int), np.full(9, 30)) == ()


def test_cutoffs_of_a_line_are_one_cosine_at_every_size() -> None:
    pair = PairCalibration(slope=8.0, intercept=-2.0)
    random = np.random.default_rng(3)
    easy, hard = random.uniform(0.5, 0.9, 200), random.uniform(0.3, 0.9, 200)
    found = PairCalibration(slope=8.0, intercept=-2.0, cutoffs=cutoffs_of_line(pair, [easy, hard], (100, 10_000)))
    for size in (100, 1_500, 10_000, 10**6):
        chances = 1 / (1 + np.exp(-(8.0 * hard - 2.0 - np.log(size))))
        assert 0 < (chances < found.cutoff(size)).mean() <= 0.08
    assert cutoffs_of_line(pair, [easy[:9]], (100,)) == ()


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

    learnt = [draw_episodes(*drawn(120, 8), SIZES, random)]
    model = fit_episodes(learnt)
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
    cutoffs = measure_cutoffs(PairCalibration(model=model), learnt)
    pair = PairCalibration(model=model, cutoffs=cutoffs)
    sizes = test.size[first]
    assert [size for size, _ in cutoffs] == sorted(set(sizes.tolist()))
    for size in set(sizes.tolist()):
        assert (chances[right & (sizes == size)] < pair.cutoff(size)).mean() <= 0.1


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
    ((_, cutoff),) = measure_cutoffs(PairCalibration(model=model), kinds)
    for found in kinds:
        right = (found.rank == 0) & found.is_match
        chances = 1 / (1 + np.exp(-(found.features[right] @ model.weights + model.intercept)))
        assert (chances < cutoff).mean() <= 0.08


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
