"""Small matrices on disk, made float again when they are read: 8-bit rows, or 4-bit groups of a row.

Eight bits halve the weights of a wheel and cost nothing measurable: an entry's error is at most 1/254 of its row's
largest one. Four bits, with a scale for every 32 entries, quarter them; for networks that can bear it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["from_rows", "is_scale", "to_groups4", "to_rows8", "unpacked_numel"]

_ROW, _GROUP = ".row_scale", ".group_scale"
_SMALLEST = 1 << 14
"""Tensors with fewer entries are not worth it."""
_ENTRIES = 32
"""Entries that share one scale at four bits: half a bit an entry."""
_PRECISE = "memory.values"
"""Stays in half precision: a kernel regression's sums of a thousand such rows nearly cancel, and 8 bits would show."""
_SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.875)
"""Scales tried for a group: clipping its largest entry often lessens the error of all. The first and the last find the
scale again of what was packed before, whose largest entry is 7 or -8 steps: packing twice changes nothing."""


def to_rows8(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn large floating matrices and 2-d kernels into int8 rows and their scales; the rest into half precision.

    A matrix (rows, width) becomes int8 of that shape and a scale (rows,); a kernel (out, in, h, w), whose row is all of
    one output channel, likewise. A name that ends in ".scale" is a scale already and stays as it is.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or name.endswith(".scale"):
            out[name] = tensor
        elif tensor.ndim not in (2, 4) or tensor.numel() < _SMALLEST or name.endswith(_PRECISE):
            out[name] = tensor.half()
        else:
            rows = tensor.float().flatten(1)
            scale = (rows.abs().amax(dim=1) / 127).clamp(min=1e-12)
            out[name] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
            out[name + _ROW] = scale
    return {name: tensor.contiguous() for name, tensor in out.items()}


def to_groups4(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn every large floating matrix into 4-bit entries, two a byte, with a half-precision scale for each group.

    A matrix (rows, width) becomes uint8 (rows, width / 2) and scales (rows, width / 32). The rest as
    `to_rows8`, and so what is not a multiple of 32 wide.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        matrix = tensor.is_floating_point() and tensor.ndim == 2 and tensor.numel() >= _SMALLEST
        if not matrix or tensor.shape[1] % _ENTRIES:
            out |= to_rows8({name: tensor})
            continue
        groups = tensor.float().reshape(-1, _ENTRIES)
        largest = groups.abs().amax(dim=1, keepdim=True) / 7
        scales = torch.stack([(largest * f).half().float().clamp(min=1e-7) for f in _SHRINK])  # (tries, groups, 1)
        codes = (groups / scales).round().clamp(-8, 7)
        best = (codes * scales - groups).square().sum(dim=2).argmin(dim=0)
        rows = torch.arange(len(groups))
        chosen = (codes[best, rows] + 8).to(torch.uint8).view(len(tensor), -1)
        out[name] = chosen[:, ::2] | chosen[:, 1::2] << 4
        out[name + _GROUP] = scales[best, rows].half().view(len(tensor), -1)
    return {name: tensor.contiguous() for name, tensor in out.items()}


def from_rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo `to_rows8` and `to_groups4`: matrices in float32; other tensors stay as they are."""
    out = {name: tensor for name, tensor in tensors.items() if not name.endswith((_ROW, _GROUP))}
    for name, scale in tensors.items():
        if name.endswith(_ROW):
            key = name.removesuffix(_ROW)
            out[key] = tensors[key].float().mul_(scale.view(-1, *[1] * (tensors[key].ndim - 1)))
        elif name.endswith(_GROUP):
            key = name.removesuffix(_GROUP)
            packed = tensors[key]
            codes = torch.stack([packed & 15, packed >> 4], dim=2).flatten(1).float().sub_(8)  # (rows, width)
            out[key] = codes.view(*scale.shape, -1).mul_(scale.float()[..., None]).flatten(1)
    return out


def is_scale(name: str) -> bool:
    """Return whether a tensor in a file belongs to another, which it scales."""
    return name.endswith((_ROW, _GROUP))


def unpacked_numel(name: str, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return how many numbers `from_rows` makes of a tensor in a file with these shapes."""
    return math.prod(shapes[name]) * (2 if name + _GROUP in shapes else 1)
