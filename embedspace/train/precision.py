"""Half precision where the processor has it."""

from __future__ import annotations

import torch

__all__ = ["bfloat16_autocast"]


def bfloat16_autocast(wanted: bool = True) -> torch.autocast:
    """Return a context that computes in bfloat16 on CPUs with instructions for it, else in float32.

    Without them PyTorch emulates bfloat16, ten times slower than float32.
    """
    usable = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(wanted and usable))
