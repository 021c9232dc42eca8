"""Scores people can read: the modality gap taken out, and the probability that a hit is a match.

Cosines of different modality pairs differ by an offset and a scale (Liang et al. 2022, "Mind the Gap"). For each
ordered pair the space stores the distribution of cosines between items that do not belong together, and a logistic
model of "is this hit a match?" over what a search knows: the cosine, how far it stands out from the next best hit, and
how the query scores against the gallery as a whole (`embedspace.calibration.background`). All of it comes from
validation pairs, never from a test split.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedspace.calibration.background import Background
from embedspace.errors import WeightsError

__all__ = [
    "UNLIKELY",
    "Calibration",
    "MatchModel",
    "PairCalibration",
    "match_features",
    "mean_pair",
    "shared_log_odds",
    "to_probability",
]

UNLIKELY = 0.1
"""The cut-off of pairs whose own was not measured."""
_EDGE = 1e-9


@dataclass(frozen=True, slots=True)
class MatchModel:
    """log-odds that a hit is a match = intercept + weights . `match_features`.

    Attributes:
        score: Weight of the cosine; not negative.
        margin: Weight of the cosine less that of the best other hit; not negative.
        expected_best: Weight of `Background.expected_best`.
        mean: Weight of `Background.mean`.
        std: Weight of `Background.std`.
        log_size: Weight of the natural logarithm of the gallery's size.
        intercept: The constant.
    """

    score: float
    margin: float
    expected_best: float
    mean: float
    std: float
    log_size: float
    intercept: float

    @property
    def weights(self) -> NDArray[np.float64]:
        """(6,) weights in the order of `match_features`."""
        return np.array([self.score, self.margin, self.expected_best, self.mean, self.std, self.log_size])


def match_features(scores: ArrayLike, background: Background) -> NDArray[np.float64]:
    """Return what is known of the hits of one query in one modality.

    Args:
        scores: (n,) cosines, descending.
        background: How the query scores against all items.

    Returns:
        (n, 6): score, margin, expected best, mean, std, log size. Only the first two differ between hits, and both
        grow with the score, so that a probability does, too.
    """
    own = np.asarray(scores, np.float64)
    best = own[0] if len(own) else 0.0
    margin = own - best
    if len(own):
        margin[0] = max(own[0] - (own[1] if len(own) > 1 else background.expected_best), 0.0)
    constants = (background.expected_best, background.mean or 0.0, background.std, np.log(max(background.size, 1)))
    return np.column_stack([own, margin, *(np.full(len(own), value) for value in constants)])


@dataclass(frozen=True, slots=True)
class PairCalibration:
    """Calibration of one ordered pair (query modality, target modality).

    Attributes:
        mean: Mean background cosine.
        std: Standard deviation of the background cosine.
        slope: Slope of the log-likelihood ratio match : background, per unit of cosine.
        intercept: Intercept of the same, at cosine 0.
        model: What a hit is worth given its query's background; None where it was not fitted, as in older spaces.
            Then `slope` and `intercept` with prior odds of 1 : gallery size have to do.
        cutoffs: (gallery size, probability) measured on validation, sizes ascending; see `cutoff`. Empty where none was
            measured.
    """

    mean: float = 0.0
    std: float = 0.1
    slope: float = 20.0
    intercept: float = -8.0
    model: MatchModel | None = None
    cutoffs: tuple[tuple[float, float], ...] = ()

    def cutoff(self, size: int) -> float:
        """Return the probability below which a best hit is called no good match, in a gallery of so many items.

        Between the sizes that were measured, its log-odds are linear in the logarithm of the size. In larger galleries
        they fall on as between the last two, at most as fast as prior odds of 1 : gallery size do.
        """
        if not self.cutoffs:
            return UNLIKELY
        sizes, chances = np.array(self.cutoffs, np.float64).T
        chances = np.clip(chances, _EDGE, 1 - _EDGE)
        known, odds, at = np.log(sizes), np.log(chances / (1 - chances)), np.log(max(size, 1))
        fall = np.clip((odds[-1] - odds[-2]) / (known[-1] - known[-2]), -1.0, 0.0) if len(known) > 1 else 0.0
        beyond = fall * max(at - known[-1], 0.0)
        return float(to_probability(np.interp(at, known, odds) + beyond))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Per-modality means and per-pair score distributions of a space.

    Attributes:
        means: Modality -> (embed_dim,) mean of that modality's unit vectors.
        pairs: "query>target" -> `PairCalibration`.
    """

    means: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    pairs: Mapping[str, PairCalibration] = field(default_factory=dict)

    def known_pair(self, query: str, target: str) -> PairCalibration | None:
        """Return the calibration of a pair, None where none was measured.

        A query composed of several modalities ("mixed") takes the mean of the known pairs with the same target where it
        has none of its own.
        """
        found = self.pairs.get(f"{query}>{target}")
        if found is None and query == "mixed":
            found = mean_pair([pair for key, pair in self.pairs.items() if key.endswith(f">{target}")])
        return found

    def pair(self, query: str, target: str) -> PairCalibration:
        """Return the calibration of a pair as `known_pair` does, the default where none was measured."""
        return self.known_pair(query, target) or PairCalibration()

    def log_likelihood_ratio(self, scores: NDArray[np.float32], query: str, target: str) -> NDArray[np.float64]:
        """Return log p(cosine | match) - log p(cosine | background), shaped as `scores`; comparable across pairs."""
        pair = self.pair(query, target)
        return pair.slope * np.asarray(scores, dtype=np.float64) + pair.intercept

    def log_odds(self, scores: ArrayLike, query: str, target: str, background: Background) -> NDArray[np.float64]:
        """Return the log-odds that each of the best hits of a query in one modality is a match.

        Args:
            scores: (n,) cosines, descending.
            query: Modality of the query.
            target: Modality of the items.
            background: How the query scores against all items of that modality.

        Returns:
            (n,) log-odds, descending as the scores are, with ties where they tie: comparable across pairs.
        """
        scores = np.asarray(scores, np.float64)
        model = self.pair(query, target).model
        if model is None or background.mean is None:
            ratio = self.log_likelihood_ratio(scores.astype(np.float32), query, target)
            return ratio - float(np.log(max(background.size, 1)))
        odds: NDArray[np.float64] = match_features(scores, background) @ model.weights + model.intercept
        return odds

    def probability(self, scores: ArrayLike, query: str, target: str, background: Background) -> NDArray[np.float64]:
        """Return the probability that each of the best hits is a match, in [0, 1]; see `log_odds`.

        It is meant for a user of whom as often as not nothing in the gallery is what he looks for.
        """
        return to_probability(self.log_odds(scores, query, target, background))

    def cutoff(self, query: str, target: str, size: int) -> float:
        """Return the probability below which a best hit is called no good match; see `PairCalibration.cutoff`.

        Args:
            query: Modality of the query.
            target: Modality of the items.
            size: Items of that modality that were searched.
        """
        return self.pair(query, target).cutoff(size)

    def has_good_match(
        self, query: str, found: Iterable[tuple[str, float | None]], sizes: Mapping[str, int]
    ) -> bool | None:
        """Return whether any hit of a query is likely enough; None where there are no probabilities, or no hits.

        Args:
            query: Modality of the query.
            found: Modality and probability of each hit.
            sizes: Modality -> items that were searched.
        """
        chances = [(modality, chance) for modality, chance in found if chance is not None]
        if not chances:
            return None
        return any(chance >= self.cutoff(query, modality, sizes.get(modality, 1)) for modality, chance in chances)

    def to_json(self) -> str:
        """Return the JSON text that `from_json` reads."""
        return json.dumps(
            {
                "means": {k: np.asarray(v, np.float32).round(7).tolist() for k, v in sorted(self.means.items())},
                "pairs": {k: _pair_json(p) for k, p in sorted(self.pairs.items())},
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read what `to_json` wrote, also before there were match models, or one cut-off for every gallery.

        Raises:
            WeightsError: If the text is not a calibration.
        """
        try:
            raw = json.loads(text)
            means = {k: np.asarray(v, np.float32) for k, v in raw["means"].items()}
            return cls(means, {k: _read_pair(v) for k, v in raw["pairs"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"not a calibration: {error}") from error


def to_probability(log_odds: ArrayLike) -> NDArray[np.float64]:
    """Return the probabilities of log-odds of any shape, in [0, 1]."""
    chances: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(np.asarray(log_odds, np.float64), -60, 60)))
    return chances


def shared_log_odds(log_odds: ArrayLike, share: float) -> NDArray[np.float64]:
    """Return the log-odds of a match by way of a reading that is right with a probability.

    Args:
        log_odds: (n,) that a hit matches the reading.
        share: That the reading is the right one, in (0, 1].

    Returns:
        (n,) log-odds of share times probability, in the order of `log_odds`.
    """
    odds: NDArray[np.float64] = np.asarray(log_odds, np.float64)
    if share >= 1.0:
        return odds
    log_chance = np.log(share) - np.logaddexp(0.0, -odds)
    shared: NDArray[np.float64] = log_chance - np.log(-np.expm1(log_chance))
    return shared


def mean_pair(pairs: Sequence[PairCalibration]) -> PairCalibration | None:
    """Return the mean of some pairs' numbers, with a model if all have one; None of none.

    Probabilities of a line and of a model do not compare, so the cut-offs are those of the pairs that are like it.
    """
    if not pairs:
        return None
    mean, std, slope, intercept = np.mean([(p.mean, p.std, p.slope, p.intercept) for p in pairs], axis=0).tolist()
    models = [dataclasses.astuple(pair.model) for pair in pairs if pair.model is not None]
    model = MatchModel(*np.mean(models, axis=0).tolist()) if len(models) == len(pairs) else None
    alike = [pair for pair in pairs if pair.cutoffs and (pair.model is None) == (model is None)]
    sizes = sorted({size for pair in alike for size, _ in pair.cutoffs})
    cutoffs = tuple((size, float(np.mean([pair.cutoff(round(size)) for pair in alike]))) for size in sizes)
    return PairCalibration(mean, std, slope, intercept, model, cutoffs)


def _pair_json(pair: PairCalibration) -> dict[str, object]:
    return {key: value for key, value in dataclasses.asdict(pair).items() if value not in (None, ())}


def _read_pair(raw: Mapping[str, Any]) -> PairCalibration:
    numbers: dict[str, Any] = {key: float(value) for key, value in raw.items() if key not in ("model", "cutoffs")}
    cutoffs = tuple((float(size), float(chance)) for size, chance in raw.get("cutoffs", ()))
    if raw.get("model") is None:
        return PairCalibration(**numbers, cutoffs=cutoffs)
    weights = {key: float(value) for key, value in raw["model"].items()}
    everywhere = weights.pop("cutoff", None)  # of every gallery, as it was before sizes were told apart
    if everywhere is not None and not cutoffs:
        cutoffs = ((1.0, everywhere),)
    return PairCalibration(**numbers, model=MatchModel(**weights), cutoffs=cutoffs)
