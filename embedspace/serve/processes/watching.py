"""Keeping folders indexed: the process that does it, and what it tells."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import threading
import time
from typing import Any

from embedspace.serve.events import Feed
from embedspace.serve.processes.program import start_program
from embedspace.serve.settings import ServeSettings

__all__ = ["Watcher"]

_LOG = logging.getLogger("embedspace.serve")
_AGAIN_SECONDS, _LONGEST_SECONDS = 5.0, 300.0
"""Until it is begun again: doubled each time that it ends soon after, up to the second."""
_IDLE = {"watching": False, "running": False, "done": 0, "total": None, "failed": 0, "last_error": None}


class Watcher:
    """The process that indexes; begun again where it dies.

    Attributes:
        feed: Its latest state: `{"watching", "running", "done", "total", "failed", "last_error"}`.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._ending, self._starting = threading.Event(), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the running event loop; without folders there is nothing to do."""
        self.feed = Feed(asyncio.get_running_loop(), keeps_all=False)
        self.feed.add("state", {**_IDLE, "watching": bool(self._settings.watch)})
        if self._settings.watch:
            self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        settings = self._settings
        asked = {
            "catalog": str(settings.catalog.resolve()),
            "folders": [str(folder) for folder in settings.watch],
            "space": settings.space,
            "device": settings.device,
        }
        wait = _AGAIN_SECONDS
        while not self._ending.is_set():
            begun = time.monotonic()
            last: dict[str, Any] = dict(_IDLE)
            with self._starting:
                if self._ending.is_set():
                    return
                process = self._process = start_program("watch", json.dumps(asked))
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    last = json.loads(line)
                except ValueError:
                    continue
                self.feed.add("state", last)
            code = process.wait()
            _close(process)
            if not self._ending.is_set():
                reason = last.get("last_error") or f"it ended unexpectedly ({code})"
                wait = _AGAIN_SECONDS if time.monotonic() - begun > _LONGEST_SECONDS else wait
                _LOG.warning("indexing: %s; it is begun again in %.0f s", reason, wait)
                self.feed.add("state", {**last, "running": False, "watching": False, "last_error": reason})
                self._ending.wait(wait)
                wait = min(2 * wait, _LONGEST_SECONDS)

    def close(self) -> None:
        """End the process: it commits what it has encoded."""
        with self._starting:
            self._ending.set()
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread is not None:
            self._thread.join(10)
        if process is not None:
            _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # it ended before it had read everything
                pipe.close()
