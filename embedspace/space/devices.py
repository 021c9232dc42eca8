"""Where networks run; no torch unless it is another place than the processor."""

from __future__ import annotations

import re

from embedspace.errors import ArgumentError

__all__ = ["require_device"]


def require_device(device: str) -> None:
    """Refuse a device that is not there; torch is asked only about one that is not the processor.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ArgumentError: If it is none of these, or this machine lacks it.
    """
    if device == "cpu":
        return
    match = re.fullmatch(r"(cuda|mps)(?::(\d+))?", device)
    if match is None:
        raise ArgumentError("device", f"{device!r}: unknown; known: cpu, cuda, cuda:1, mps")
    import torch

    present = torch.cuda.device_count() if match[1] == "cuda" else int(torch.backends.mps.is_available())
    if int(match[2] or 0) >= present:
        raise ArgumentError("device", f"{device}: torch can use {present} {match[1]} devices on this machine; try cpu")
