"""Answers that go on: server-sent events, which end when the server is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

__all__ = ["Feed", "event_stream"]

_HEARTBEAT_SECONDS = 15.0


class Feed:
    """Events in order, for any number of readers; a thread may add to it.

    Attributes:
        events: All of them, (name, content); of a feed that keeps only the latest, that one.
        ended: No more will come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, keeps_all: bool = True) -> None:
        self._loop, self._keeps_all = loop, keeps_all
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.count = 0
        self.ended = False
        self._changed = asyncio.Event()

    def add(self, name: str, content: dict[str, Any], *, last: bool = False) -> None:
        """Add an event, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads
            self._loop.call_soon_threadsafe(self._add, name, content, last)

    def _add(self, name: str, content: dict[str, Any], last: bool) -> None:
        if not self._keeps_all:
            self.events.clear()
        self.events.append((name, content))
        self.count += 1
        self.ended = self.ended or last
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def read(self, stopping: asyncio.Event) -> AsyncIterator[tuple[str, dict[str, Any]] | None]:
        """Yield every event, from the first on; None now and then, where nothing happens."""
        seen = 0
        while not stopping.is_set():
            changed = self._changed
            new = self.events[-(self.count - seen) :] if self.count > seen else []
            seen = self.count
            for event in new:
                yield event
            if self.ended:
                return
            waiting = [asyncio.ensure_future(one.wait()) for one in (changed, stopping)]
            done, _ = await asyncio.wait(waiting, timeout=_HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if not done:
                yield None


def event_stream(feed: Feed, stopping: asyncio.Event) -> StreamingResponse:
    """Return a feed as an answer that goes on until it ends, or the server does."""

    async def lines() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(feed.read(stopping)) as events:  # type: ignore[type-var]
            async for event in events:
                if event is None:
                    yield b": nothing new\n\n"
                else:
                    name, content = event
                    yield f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()

    return StreamingResponse(
        lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
