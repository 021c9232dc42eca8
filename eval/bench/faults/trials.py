"""What the parts share: how many trials, what went wrong in which, and a child process that may die."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Plan", "Tally", "forked", "outcome_of"]

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What a part is to do.

    Attributes:
        folder: An empty folder of its own.
        seed: Of everything that is drawn.
        scale: Share of the full number of trials.
        fake: Decode only; no network sees anything.
    """

    folder: Path
    seed: int
    scale: float = 1.0
    fake: bool = False

    def count(self, full: int) -> int:
        """Return how many trials of a full number are made, at least one."""
        return max(round(full * self.scale), 1)

    def draws(self, *key: int) -> np.random.Generator:
        """Return a generator for one trial, whatever happened in the others."""
        return np.random.default_rng([self.seed, *key])


@dataclass(slots=True)
class Tally:
    """Trials of one part.

    Attributes:
        trials: How many were made.
        outcomes: What happened -> how often.
        wrong: What must not happen, one line each.
        more: Other figures.
    """

    trials: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def add(self, outcome: str, wrong: str = "") -> None:
        """Count a trial."""
        self.trials += 1
        self.outcomes[outcome] += 1
        if wrong:
            self.wrong.append(wrong)

    def figures(self) -> dict[str, Any]:
        """Return the counts as JSON has them."""
        return {
            "trials": self.trials, "wrong": len(self.wrong), "what_was_wrong": self.wrong[:_SHOWN],
            "outcomes": dict(sorted(self.outcomes.items())), **self.more,
        }  # fmt: skip


def forked(work: Callable[[], int]) -> int:
    """Run a function in a child process without waiting for it; returns the process id."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        code = work()
    except BaseException:  # a child must never go on as the parent
        traceback.print_exc()
    finally:
        os._exit(code)


def outcome_of(child: int, seconds: float) -> tuple[int | None, bool]:
    """Wait for a child process, and kill it when its time is over.

    Args:
        child: Its id.
        seconds: How long it may take.

    Returns:
        Its exit status as `os.waitstatus_to_exitcode` has it, negative for a signal, and whether it ran out of time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), True
