"""Train projections, and if wanted towers, on pairs of media and captions: any towers, any pairs."""

from __future__ import annotations

from embedspace.train.align.run import AlignReport, align

__all__ = ["AlignReport", "align"]
