"""What is shown of items: thumbnails, waveforms and previews, made once and kept for the next who asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from embedspace.serve.media import KeptBytes
from embedspace.serve.processes.decoding import Decoder

__all__ = ["Previews", "preview_key"]

Made = tuple[dict[str, Any], bytes]
Key = tuple[object, ...]


def preview_key(content_id: str, task: str, options: dict[str, Any]) -> Key:
    """Return what a preview is kept under: the item by its content, what is made of it, and how."""
    return (content_id, task, *options.values())


class Previews:
    """Previews in memory. Who asks for one that is being made waits for that one. For the event loop's thread."""

    def __init__(self, decoder: Decoder, most: int) -> None:
        """Keep so many bytes of what the decoder makes."""
        self._decoder, self._kept = decoder, KeptBytes(most)
        self._running: dict[Key, asyncio.Future[Made]] = {}

    def holds(self, key: Key) -> bool:
        """Return whether it is there, or on its way."""
        return key in self._running or self._kept.get(key) is not None

    async def made(self, key: Key, path: Path, task: str, options: dict[str, Any]) -> Made:
        """Return what is known of a preview, and its bytes.

        Args:
            key: What it is kept under.
            path: The item's file.
            task: "thumbnail", "waveform" or "preview".
            options: Options of the task.

        Raises:
            MediaError: If it cannot be made.
            ApiError: 429, if too many files wait.
        """
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.ensure_future(self._make(key, path, task, options))
            running.add_done_callback(lambda done: self._end(key, done))
        return await asyncio.shield(running)  # a client that leaves takes nothing from the others

    async def _make(self, key: Key, path: Path, task: str, options: dict[str, Any]) -> Made:
        found = await self._decoder.run(task, str(path), **options)
        self._kept.put(key, *found)
        return found

    def _end(self, key: Key, done: asyncio.Future[Made]) -> None:
        self._running.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waits for it has it
