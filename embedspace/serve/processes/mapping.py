"""The map of a catalog: drawn by a process of its own, kept beside the catalog until that changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from embedspace.files import write_text
from embedspace.serve.processes.program import start_program

__all__ = ["Maps"]

_LOG = logging.getLogger("embedspace.serve")
_FILE = "map.json"
_FORMAT = 1
_REST_SECONDS = 60.0
"""A catalog that changes all the time is drawn anew no more often."""


class Maps:
    """The latest map, and the process that draws the next one."""

    def __init__(self, catalog: Path, *, read_only: bool) -> None:
        """Read the map that was kept beside a catalog, if there is one."""
        self._catalog, self._read_only = catalog, read_only
        self._drawing: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock, self._closed = threading.Lock(), False
        self._ended, self._failed = -_REST_SECONDS, False
        self._map: dict[str, Any] | None = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads((catalog / _FILE).read_text("utf-8"))
            self._map = kept["map"] if kept["format"] == _FORMAT else None

    def get(self, revision: int) -> dict[str, Any]:
        """Return the map, perhaps of an earlier revision; begin to draw where that is due.

        Args:
            revision: The catalog's revision now.
        """
        current = self._map is not None and self._map["revision"] == revision
        resting = time.monotonic() - self._ended < _REST_SECONDS
        if not current and self._drawing is None and not (resting and (self._map is not None or self._failed)):
            self._drawing = asyncio.create_task(self._draw())
        if self._map is not None:
            return self._map
        state = "failed" if self._drawing is None else "computing"
        return {"state": state, "points": [], "method": "t-SNE", "revision": revision, "of": 0}

    async def _draw(self) -> None:
        try:
            drawn = await asyncio.to_thread(self._run)
            self._failed = drawn is None
            self._map = drawn or self._map
        finally:
            self._ended, self._drawing = time.monotonic(), None

    def _run(self) -> dict[str, Any] | None:
        with self._lock:
            self._process = start_program("map", str(self._catalog.resolve()))
        out, _ = self._process.communicate()
        if self._closed:
            return None
        if self._process.returncode:
            _LOG.warning("drawing the map failed with %s", self._process.returncode)
            return None
        drawn: dict[str, Any] = json.loads(out)
        if not self._read_only and os.access(self._catalog, os.W_OK):
            with contextlib.suppress(OSError):
                write_text(self._catalog / _FILE, json.dumps({"format": _FORMAT, "map": drawn}))
        return drawn

    def close(self) -> None:
        """Leave off drawing."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
