"""From cosines to probabilities: calibration of modality pairs, the background of a query, and the fit of both."""

from embedspace.calibration.model import (
    UNLIKELY,
    Calibration,
    MatchModel,
    PairCalibration,
    match_features,
    mean_pair,
    to_probability,
)

__all__ = ["UNLIKELY", "Calibration", "MatchModel", "PairCalibration", "match_features", "mean_pair", "to_probability"]
