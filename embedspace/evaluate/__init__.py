"""Measure a space: retrieval suites, their metrics and reports, and the calibration of scores.

Importing this package loads nothing; each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedspace.calibration.fit import calibration_error, fit_pair
    from embedspace.evaluate.metrics import Estimate, recall_at_k, retrieval_metrics
    from embedspace.evaluate.report import evaluate_retrieval
    from embedspace.evaluate.retrieval.direction import RetrievalResult, evaluate_pair
    from embedspace.evaluate.retrieval.run import SuiteResult, evaluate_suite
    from embedspace.evaluate.search import PositiveRanks, positive_ranks, top_k
    from embedspace.evaluate.suite import Suite, load_suite

__all__ = [
    "Estimate",
    "PositiveRanks",
    "RetrievalResult",
    "Suite",
    "SuiteResult",
    "calibration_error",
    "evaluate_pair",
    "evaluate_retrieval",
    "evaluate_suite",
    "fit_pair",
    "load_suite",
    "positive_ranks",
    "recall_at_k",
    "retrieval_metrics",
    "top_k",
]

_HOMES = {
    "embedspace.calibration.fit": ("calibration_error", "fit_pair"),
    "embedspace.evaluate.metrics": ("Estimate", "recall_at_k", "retrieval_metrics"),
    "embedspace.evaluate.report": ("evaluate_retrieval",),
    "embedspace.evaluate.retrieval.direction": ("RetrievalResult", "evaluate_pair"),
    "embedspace.evaluate.retrieval.run": ("SuiteResult", "evaluate_suite"),
    "embedspace.evaluate.search": ("PositiveRanks", "positive_ranks", "top_k"),
    "embedspace.evaluate.suite": ("Suite", "load_suite"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
