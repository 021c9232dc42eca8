"""Where the time of a long run goes: seconds by stage, for whoever asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["stage", "timed_stages"]


@dataclass(slots=True)
class _Clock:
    seconds: dict[str, float]
    within: float = 0.0
    """Seconds of the stages inside the one that runs."""


_CLOCK: ContextVar[_Clock | None] = ContextVar("_CLOCK", default=None)


@contextmanager
def timed_stages(seconds: dict[str, float]) -> Iterator[None]:
    """Within this context add the wall time of each `stage` of the calling thread.

    Args:
        seconds: Name of a stage -> seconds so far.
    """
    token = _CLOCK.set(_Clock(seconds))
    try:
        yield
    finally:
        _CLOCK.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the time of this block as a stage's, where somebody asked; that of a stage inside it is the inner one's."""
    clock = _CLOCK.get()
    if clock is None:
        yield
        return
    before, clock.within = clock.within, 0.0
    started = time.perf_counter()
    try:
        yield
    finally:
        elapsed = time.perf_counter() - started
        clock.seconds[name] = clock.seconds.get(name, 0.0) + elapsed - clock.within
        clock.within = before + elapsed
