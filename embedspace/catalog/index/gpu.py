"""Where the FAISS index of a catalog runs: on the CPU, or on a GPU with a GPU build of FAISS.

Everything that needs a GPU build is here: an index goes up, and comes down again to be written. Files hold CPU indexes,
so that a catalog can be searched anywhere.
"""

from __future__ import annotations

import functools
import importlib
import logging
import re
from typing import Any

from embedspace.errors import ConfigError

__all__ = ["MOST_CANDIDATES", "device_number", "lowered", "problem_of", "raised", "require_device"]

MOST_CANDIDATES = 2048
"""A GPU index returns no more per query."""
_LOG = logging.getLogger("embedspace.catalog")


def device_number(device: str) -> int | None:
    """Return the number of a GPU, 0 for "cuda", 1 for "cuda:1"; None for "cpu".

    Raises:
        ConfigError: If it is none of these.
    """
    if device == "cpu":
        return None
    found = re.fullmatch(r"cuda(?::(\d{1,3}))?", device)
    if found is None:
        raise ConfigError(f"device = {device!r}; allowed: cpu, cuda, cuda:1, ...")
    return int(found[1] or 0)


@functools.cache
def problem_of(device: str) -> str:
    """Return in one line why FAISS cannot run on a device; empty where it can."""
    number = device_number(device)
    if number is None:
        return ""
    faiss: Any = importlib.import_module("faiss")
    if not hasattr(faiss, "StandardGpuResources"):
        return (
            f"device {device!r}: the FAISS that is installed has no GPU support; install faiss-gpu-cu12 in place of "
            'faiss-cpu, or set device = "cpu"'
        )
    count = int(faiss.get_num_gpus())
    if number >= count:
        return f"device {device!r}: FAISS sees {count} GPU{'' if count == 1 else 's'} on this machine, numbered from 0"
    return ""


def require_device(device: str) -> None:
    """Refuse a device that FAISS cannot run on.

    Raises:
        ConfigError: If the installed FAISS has no GPU support, or there is no such GPU.
    """
    if problem := problem_of(device):
        raise ConfigError(f"index settings: {problem}")


def raised(index: Any, device: str) -> Any:  # noqa: ANN401 - a FAISS index
    """Return an index on its device; where that is impossible as it is, said once: results are the same, slower.

    Args:
        index: On the CPU.
        device: "cpu", "cuda", "cuda:1", ...
    """
    number = device_number(device)
    if number is None or _cannot(device):
        return index
    faiss: Any = importlib.import_module("faiss")
    return faiss.index_cpu_to_gpu(_resources(number), number, index)


def lowered(index: Any, device: str) -> Any:  # noqa: ANN401 - a FAISS index
    """Return an index as it can be written: on the CPU."""
    if device_number(device) is None or problem_of(device):
        return index
    faiss: Any = importlib.import_module("faiss")
    return faiss.index_gpu_to_cpu(index)


@functools.cache
def _cannot(device: str) -> bool:
    problem = problem_of(device)
    if problem:
        _LOG.warning("%s; the index is searched on the CPU", problem)
    return bool(problem)


@functools.cache
def _resources(number: int) -> Any:  # noqa: ANN401
    """Return the scratch memory of a GPU: one for all indexes, and kept, since indexes hold no reference to it."""
    faiss: Any = importlib.import_module("faiss")
    return faiss.StandardGpuResources()
