"""Codes of an IVF cell as FAISS lays them out, and some of them taken out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["kept_codes"]

_BLOCK = 32
_ORDER = np.array([0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15])


def kept_codes(codes: NDArray[np.uint8], keep: NDArray[np.bool_], block: int) -> NDArray[np.uint8]:
    """Return the codes of some vectors of a cell.

    Args:
        codes: (n, width) bytes; with blocks of 32, n is rounded up and each block is laid out for fast scan.
        keep: (size,) which of the first vectors stay.
        block: 1 or 32.

    Returns:
        (kept, width) bytes, kept rounded up to whole blocks.

    Source: FAISS, `pq4_pack_codes`: of two neighbouring 4-bit codes of 32 vectors, 16 bytes hold the first, 16 the
    second; byte j holds vector `_ORDER[j]` in its low half, the one 16 further in its high half. (FAISS 1.15's own
    `remove_ids` mixes such codes up.)
    """
    if block == 1:
        return codes[: len(keep)][keep]
    plain = _unpacked(codes)[: len(keep)][keep]
    padded = np.zeros((-(-len(plain) // _BLOCK) * _BLOCK, *plain.shape[1:]), np.uint8)
    padded[: len(plain)] = plain
    return _packed(padded)


def _unpacked(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, width) laid out -> (n, width, 2) one code a byte."""
    blocks = codes.reshape(-1, codes.shape[1], 2, 16)  # block, pair, which of the pair, byte
    plain = np.empty((len(blocks), _BLOCK, codes.shape[1], 2), np.uint8)
    plain[:, _ORDER] = (blocks & 15).transpose(0, 3, 1, 2)
    plain[:, _ORDER + 16] = (blocks >> 4).transpose(0, 3, 1, 2)
    return plain.reshape(-1, codes.shape[1], 2)


def _packed(plain: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo `_unpacked`."""
    blocks = plain.reshape(-1, _BLOCK, *plain.shape[1:])
    laid = (blocks[:, _ORDER] | (blocks[:, _ORDER + 16] << 4)).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(laid).reshape(len(plain), plain.shape[1])
