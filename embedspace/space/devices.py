"""Where networks run; no torch unless it is another place than the processor."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedspace.errors import ArgumentError, ConfigError, WeightsError

__all__ = ["processor_known", "require_device"]

_PROCESSOR = Path("/proc/cpuinfo")
"""Where torch reads on Linux what the processor can; without it nothing is computed."""


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


@contextmanager
def processor_known() -> Iterator[None]:
    """Load weights within this: where torch could not even begin, it is not they that are blamed.

    Raises:
        ConfigError: If loading failed and /proc is not mounted.
    """
    try:
        yield
    except WeightsError as error:
        if sys.platform == "linux" and not _PROCESSOR.exists():
            raise ConfigError(
                f"torch cannot compute: {_PROCESSOR}, where it reads what the processor can, is not there; "
                "mount /proc (mount -t proc proc /proc)"
            ) from error
        raise
