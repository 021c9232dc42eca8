"""Half precision where the processor has it."""

from __future__ import annotations

import torch

__all__ = ["bfloat16_autocast"]


def bfloat16_autocast(wanted: bool = True, device: str = "cpu") -> torch.autocast:
    """Return a context that computes in bfloat16 on hardware with instructions for it, else in float32.

    Without them PyTorch emulates bfloat16, on a CPU ten times slower than float32.

    Args:
        wanted: False computes in float32 everywhere.
        device: Type of the device: "cpu", "cuda" or "mps".
    """
    if device == "cuda":
        usable = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        usable = device == "mps" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device, dtype=torch.bfloat16, enabled=bool(wanted and usable))
