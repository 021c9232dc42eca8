"""What strikes, cut out of its frame with what is around it.

Alone on white, with the median of other frames taken for what stands behind it, it was named less often: an outline of
small and coded pixels is ragged (training/LOG.md).
"""

from __future__ import annotations

from PIL import Image

from embedspace.generate.soundtrack.impacts import Impact

__all__ = ["crop_of"]

_AROUND = 0.15
"""Share of its size by which a thing is cut out wider."""
_LEAST_SIDE = 24


def crop_of(impact: Impact) -> Image.Image:
    """Return what strikes with what is around it: a square of its frame."""
    width, height = impact.image.size
    left, top, right, bottom = impact.box
    across, down = (left + right) / 2 * width, (top + bottom) / 2 * height
    side = max((right - left) * width, (bottom - top) * height) * (1 + 2 * _AROUND)
    half = max(min(side, width, height), _LEAST_SIDE) / 2
    across = min(max(across, half), max(width - half, half))
    down = min(max(down, half), max(height - half, half))
    return impact.image.crop((round(across - half), round(down - half), round(across + half), round(down + half)))
