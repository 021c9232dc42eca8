"""Progress on stderr: a bar on a terminal, elsewhere a plain line now and then. The only place that draws."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressReport"]

PLAIN_LINE_SECONDS = 60.0


class ProgressReport:
    """Shows how far a long job is.

    Example:
        with ProgressReport(quiet=False) as report:
            report.update("encode", done=3, total=10)
    """

    def __init__(self, *, quiet: bool = False) -> None:
        """Draw nothing if `quiet`."""
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = self._told = time.monotonic()

    def __enter__(self) -> ProgressReport:
        """Start drawing."""
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)
        return self

    def update(self, doing: str, done: int, total: int | None, remark: str = "") -> None:
        """Show the state of the moment.

        Args:
            doing: What is being done, one or two words.
            done: Items done so far.
            total: Items in all, None while unknown.
            remark: More about it, such as the number of bad files.
        """
        if self._quiet:
            return
        text = f"{doing} ({remark})" if remark else doing
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text, completed=done, total=total)
            return
        now = time.monotonic()
        if now - self._told >= PLAIN_LINE_SECONDS:
            self._told = now
            of = f" of {total}" if total else ""
            print(f"{text}: {done}{of} after {now - self._started:.0f} s", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
