"""Progress on stderr: a bar on a terminal, elsewhere a plain line now and then. The only place that draws."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from embedspace.catalog.records import Progress as CatalogProgress

__all__ = ["ProgressReport"]

PLAIN_LINE_SECONDS = 60.0
_PACE_SECONDS = 60.0


class _Pace:
    """Items per second over the last minute, and how long the rest takes at that pace."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, float]] = deque()

    def text(self, now: float, done: float, total: int | None) -> str:
        """Return for example "3.1 per second, 2 min left"; empty while too little is known.

        Args:
            now: Seconds on any clock.
            done: Items done by now.
            total: Items in all, None while unknown.
        """
        if self._marks and done < self._marks[-1][1]:  # another job began
            self._marks.clear()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _PACE_SECONDS:
            self._marks.popleft()
        seconds, items = now - self._marks[0][0], done - self._marks[0][1]
        if seconds < 1 or items <= 0:
            return ""
        rate = items / seconds
        shown = f"{rate:.1f} per second" if rate >= 0.1 else f"{60 * rate:.1f} per minute"
        return f"{shown}, {_duration((total - done) / rate)} left" if total and total > done else shown


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
        self._pace = _Pace()

    def __enter__(self) -> ProgressReport:
        """Start drawing."""
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None, pace="")
        return self

    def update(self, doing: str, done: float, total: int | None, remark: str = "") -> None:
        """Show the state of the moment.

        Args:
            doing: What is being done, one or two words.
            done: Items done so far; a fraction where one is long.
            total: Items in all, None while unknown.
            remark: More about it, such as the number of bad files.
        """
        if self._quiet:
            return
        now = time.monotonic()
        text = f"{doing} ({remark})" if remark else doing
        pace = self._pace.text(now, done, total)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text, completed=int(done), total=total, pace=pace)
        elif now - self._told >= PLAIN_LINE_SECONDS:
            self._told = now
            of = f" of {total}" if total else ""
            pace = f", {pace}" if pace else ""
            print(f"{text}: {int(done)}{of} after {now - self._started:.0f} s{pace}", file=sys.stderr, flush=True)

    def show(self, doing: str, now: CatalogProgress) -> None:
        """Show how far an ingest or a migration is, inside a long item as well."""
        remark = f"{now.added} new, {now.failed} failed"
        if now.part:
            remark += f"; {now.part:.0%} of {Path(now.uri).name}"
        self.update(doing, now.done + now.part, now.total, remark)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away for as long as the block runs, to ask something."""
        if self._bar is not None:
            self._bar.stop()
        yield
        if self._bar is not None:
            self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
