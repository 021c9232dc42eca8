"""Eight-bit rows on disk: a matrix as int8 with one scale a row, made float again when it is read.

Halves the weights of a wheel. The error of an entry is at most 1/254 of its row's largest one.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["from_rows", "to_rows8"]

_SUFFIX = ".row_scale"
_SMALLEST = 1 << 14
"""Matrices with fewer entries are not worth it."""


def to_rows8(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn every large floating matrix into int8 rows and their scales; the rest into half precision."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            out[name] = tensor
        elif tensor.ndim != 2 or tensor.numel() < _SMALLEST:
            out[name] = tensor.half()
        else:
            scale = (tensor.float().abs().amax(dim=1) / 127).clamp(min=1e-12)
            out[name] = (tensor.float() / scale[:, None]).round().to(torch.int8)
            out[name + _SUFFIX] = scale
    return {name: tensor.contiguous() for name, tensor in out.items()}


def from_rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo `to_rows8`: int8 rows times their scales, float32; other tensors stay as they are."""
    out = {name: tensor for name, tensor in tensors.items() if not name.endswith(_SUFFIX)}
    for name, scale in tensors.items():
        if name.endswith(_SUFFIX):
            key = name.removesuffix(_SUFFIX)
            out[key] = tensors[key].float().mul_(scale[:, None])
    return out
