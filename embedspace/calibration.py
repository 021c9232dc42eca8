"""Scores people can read: the modality gap taken out, and the probability that a hit is a match.

Cosines of different modality pairs differ by an offset and a scale (Liang et al. 2022, "Mind the Gap"). For each
ordered pair the space stores the background distribution of cosines between items that do not belong together, and
a logistic fit of matching against background pairs; both come from validation pairs, never from a test split.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import WeightsError

__all__ = ["Calibration", "PairCalibration"]


@dataclass(frozen=True, slots=True)
class PairCalibration:
    """Calibration of one ordered pair (query modality, target modality).

    Attributes:
        mean: Mean background cosine.
        std: Standard deviation of the background cosine.
        slope: Of the log-likelihood ratio match : background, per unit of cosine.
        intercept: Of the same, at cosine 0.
    """

    mean: float = 0.0
    std: float = 0.1
    slope: float = 20.0
    intercept: float = -8.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Per-modality means and per-pair score distributions of a space.

    Attributes:
        means: Modality -> (embed_dim,) mean of that modality's unit vectors.
        pairs: "query>target" -> `PairCalibration`.
    """

    means: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    pairs: Mapping[str, PairCalibration] = field(default_factory=dict)

    def pair(self, query: str, target: str) -> PairCalibration:
        """Return the calibration of a pair, the default where none was measured."""
        return self.pairs.get(f"{query}>{target}", PairCalibration())

    def log_likelihood_ratio(self, scores: NDArray[np.float32], query: str, target: str) -> NDArray[np.float64]:
        """Return log p(cosine | match) - log p(cosine | background), shaped as `scores`; comparable across pairs."""
        pair = self.pair(query, target)
        return pair.slope * np.asarray(scores, dtype=np.float64) + pair.intercept

    def probability(
        self, scores: NDArray[np.float32], query: str, target: str, gallery_size: int
    ) -> NDArray[np.float64]:
        """Return the probability that each item is a match, given that one match is expected in the gallery.

        Args:
            scores: Cosines of any shape.
            query: Modality of the query.
            target: Modality of the items.
            gallery_size: Items searched; the prior odds of any one are 1 : gallery_size.

        Returns:
            Probabilities in [0, 1], shaped as `scores`.
        """
        logit = self.log_likelihood_ratio(scores, query, target) - np.log(max(gallery_size, 1))
        odds: NDArray[np.float64] = np.exp(-np.clip(logit, -60, 60))
        return 1.0 / (1.0 + odds)

    def to_json(self) -> str:
        """Return the JSON text that `from_json` reads."""
        return json.dumps(
            {
                "means": {k: np.asarray(v, np.float32).round(7).tolist() for k, v in sorted(self.means.items())},
                "pairs": {
                    k: {"mean": p.mean, "std": p.std, "slope": p.slope, "intercept": p.intercept}
                    for k, p in sorted(self.pairs.items())
                },
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            WeightsError: If the text is not a calibration.
        """
        try:
            raw = json.loads(text)
            means = {k: np.asarray(v, np.float32) for k, v in raw["means"].items()}
            return cls(means, {k: PairCalibration(**v) for k, v in raw["pairs"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(f"not a calibration: {error}") from error
