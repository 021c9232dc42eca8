"""Training: losses, pair batches, the loop, checkpoints, and `align`, which makes the weights of a space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedspace.train.shipped.aligner import AlignReport, align

__all__ = ["AlignReport", "align"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("embedspace.train.shipped.aligner"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
