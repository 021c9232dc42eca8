"""Connected regions of a mask, found by cells of a few pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "largest_regions"]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

_CELL = 8
_ACTIVE = 0.1
"""Share of a cell's pixels from which the cell belongs to a region."""


def largest_regions(mask: NDArray[np.bool_], most: int, least: int) -> list[tuple[NDArray[np.bool_], Box]]:
    """Return the largest connected regions of a mask (H, W), the largest first.

    Args:
        mask: (H, W).
        most: So many of them.
        least: Pixels of the mask that a region has at least.

    Returns:
        Of each, a mask (H, W) of whole cells, and its box.
    """
    rows, columns = -(-mask.shape[0] // _CELL), -(-mask.shape[1] // _CELL)
    padded = np.zeros((rows * _CELL, columns * _CELL), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    counts = padded.reshape(rows, _CELL, columns, _CELL).sum(axis=(1, 3))
    found = []
    left = {(int(r), int(c)) for r, c in zip(*np.nonzero(counts >= _ACTIVE * _CELL * _CELL), strict=True)}
    while left:
        cells = _connected(left)
        pixels = int(sum(counts[cell] for cell in cells))
        if pixels >= least:
            found.append((pixels, cells))
    found.sort(key=lambda one: -one[0])
    return [_mask(cells, mask.shape) for _, cells in found[:most]]


def _connected(left: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Take a connected group of cells out of a set and return it."""
    waiting, cells = [left.pop()], []
    while waiting:
        row, column = waiting.pop()
        cells.append((row, column))
        beside = {(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)} & left
        left -= beside
        waiting += beside
    return cells


def _mask(cells: list[tuple[int, int]], shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], Box]:
    mask = np.zeros(shape, bool)
    for row, column in cells:
        mask[row * _CELL : (row + 1) * _CELL, column * _CELL : (column + 1) * _CELL] = True
    rows, columns = [row for row, _ in cells], [column for _, column in cells]
    box = (
        min(columns) * _CELL,
        min(rows) * _CELL,
        min((max(columns) + 1) * _CELL, shape[1]),
        min((max(rows) + 1) * _CELL, shape[0]),
    )
    return mask, box
