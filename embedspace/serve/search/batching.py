"""One thread encodes for all requests: what waits is taken together, up to a batch.

A batch is never waited for: it is what came while the last one was encoded. Words go before media, which take longer,
but media are not starved: after each batch of words one of media is due.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration
from embedspace.modality import Modality
from embedspace.query.reading import Names
from embedspace.segment import Decoded, Segment
from embedspace.serve.errors import busy
from embedspace.serve.metrics import Metrics
from embedspace.space import EmbeddingSpace

__all__ = ["BatchedSpace", "Batcher", "Grouper", "use_threads"]

Task = TypeVar("Task")
Result = TypeVar("Result")
_MEDIA = 4
"""Media that are encoded together: words should not wait longer."""


@dataclass(slots=True, eq=False)
class _Entry:
    item: Decoded
    future: Future[list[Segment]] = field(default_factory=Future)


class Batcher:
    """The queue before the encoder, and the thread behind it."""

    def __init__(
        self,
        encode: Callable[[list[Decoded]], list[list[Segment]]],
        metrics: Metrics,
        *,
        batch: int = 32,
        queue: int = 256,
    ) -> None:
        """Start the thread.

        Args:
            encode: Encodes decoded items together; it is only ever called by this thread.
            metrics: Told the sizes of batches and their seconds.
            batch: Most words that are encoded together.
            queue: Most entries that wait.
        """
        self._encode, self._metrics, self._batch, self._most = encode, metrics, batch, queue
        self._words: deque[_Entry] = deque()
        self._media: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._media_due = False
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Return how many entries wait."""
        return len(self._words) + len(self._media)

    def submit(self, items: Sequence[Decoded]) -> list[Future[list[Segment]]]:
        """Queue items, all or none; a future that is cancelled before its turn is dropped.

        Raises:
            ApiError: 429, if the queue is full.
        """
        entries = [_Entry(item) for item in items]
        with self._changed:
            if len(self) + len(entries) > self._most or self._closing:
                self._metrics.refused.labels("encoder").inc()
                raise busy("the encoder")
            for entry in entries:
                (self._words if entry.item.kind == Modality.TEXT else self._media).append(entry)
            self._changed.notify()
        return [entry.future for entry in entries]

    async def encode(self, items: Sequence[Decoded]) -> list[list[Segment]]:
        """Encode items; where the caller is cancelled, what has not begun is dropped."""
        futures = self.submit(items)
        try:
            return list(await asyncio.gather(*(asyncio.wrap_future(future) for future in futures)))
        finally:
            for future in futures:
                future.cancel()  # one that is done stays as it is

    def encode_decoded(self, items: Sequence[Decoded]) -> list[list[Segment]]:
        """Encode items, waiting in the calling thread."""
        return [future.result() for future in self.submit(items)]

    def close(self) -> None:
        """End the thread when what waits is done."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or len(self))
                if not len(self):
                    return
                entries = self._take()
            if entries:
                self._metrics.batch_size.observe(len(entries))
                with self._metrics.stage("encode"):
                    self._answer(entries)

    def _take(self) -> list[_Entry]:
        """Take what is encoded next out of the queue, without what nobody waits for any more."""
        source, most = (self._words, self._batch)
        if not self._words or (self._media_due and self._media):
            source, most = self._media, _MEDIA
        self._media_due = source is self._words
        entries: list[_Entry] = []
        while source and len(entries) < most:
            entry = source.popleft()
            if entry.future.set_running_or_notify_cancel():
                entries.append(entry)
            else:
                self._metrics.dropped.inc()
        return entries

    def _answer(self, entries: list[_Entry]) -> None:
        """Encode entries; where that fails, each alone, so that one bad one does not take the others with it."""
        is_text = entries[0].item.kind == Modality.TEXT
        try:
            use_threads(1 if is_text else max(1, min(4, (os.cpu_count() or 1) // 2)))
            pairs = list(zip(entries, self._encode([entry.item for entry in entries]), strict=True))
        except Exception as error:
            if len(entries) == 1:
                entries[0].future.set_exception(error)
                return
            for entry in entries:
                self._answer([entry])
            return
        for entry, segments in pairs:
            entry.future.set_result(segments)


def use_threads(count: int) -> None:
    """Set how many threads torch computes with when this thread calls it, if it is loaded.

    The setting is per thread. Two threads on busy cores wait for each other at each of a text's many small steps: that
    was seen to take 110 to 190 ms of processor time per text, where one takes 10.
    """
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads") and torch.get_num_threads() != count:  # it may be half imported by a thread
        torch.set_num_threads(count)


class Grouper(Generic[Task, Result]):
    """A few threads that do like tasks together: those that wait when one is free and have the same key.

    Searching a catalog with ten vectors at once takes little longer than with one.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Task]], Sequence[Result]],
        metrics: Metrics,
        *,
        threads: int,
        batch: int = 32,
        queue: int = 256,
    ) -> None:
        """Start the threads; arguments as `Batcher`'s, `work` does tasks of one key."""
        self._work, self._metrics, self._batch, self._most = work, metrics, batch, queue
        self._waiting: deque[tuple[Hashable, Task, Future[Result]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, name=f"search-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Return how many tasks wait."""
        return len(self._waiting)

    async def run(self, key: Hashable, task: Task) -> Result:
        """Do a task; one whose caller is cancelled before its turn is dropped.

        Raises:
            ApiError: 429, if the queue is full.
        """
        return await asyncio.wrap_future(self.submit(key, task))

    def submit(self, key: Hashable, task: Task) -> Future[Result]:
        """Queue a task; a future that is cancelled before its turn is dropped.

        Raises:
            ApiError: 429, if the queue is full.
        """
        future: Future[Result] = Future()
        with self._changed:
            if len(self._waiting) >= self._most or self._closing:
                self._metrics.refused.labels("search").inc()
                raise busy("the search")
            self._waiting.append((key, task, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """End the threads when what waits is done."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting)
                if not self._waiting:
                    return
                group = self._take()
            if group:
                with self._metrics.stage("search"):
                    self._answer(group)

    def _take(self) -> list[tuple[Task, Future[Result]]]:
        """Take the first task that waits, and others of its key."""
        first = self._waiting[0][0]
        group: list[tuple[Task, Future[Result]]] = []
        left: deque[tuple[Hashable, Task, Future[Result]]] = deque()
        for key, task, future in self._waiting:
            if key != first or len(group) >= self._batch:
                left.append((key, task, future))
            elif future.set_running_or_notify_cancel():
                group.append((task, future))
            else:
                self._metrics.dropped.inc()
        self._waiting = left
        return group

    def _answer(self, group: list[tuple[Task, Future[Result]]]) -> None:
        try:
            pairs = list(zip(group, self._work([task for task, _ in group]), strict=True))
        except Exception as error:
            if len(group) == 1:
                group[0][1].set_exception(error)
                return
            for one in group:
                self._answer([one])
            return
        for (_, future), result in pairs:
            future.set_result(result)


class BatchedSpace:
    """A space for queries (`QueryEncoder`) whose encoding goes through a batcher; all else is the space's own."""

    def __init__(self, space: EmbeddingSpace, batcher: Batcher) -> None:
        self.space, self.batcher, self.embed_dim = space, batcher, space.embed_dim

    @property
    def calibration(self) -> Calibration:
        """The space's means and probabilities."""
        return self.space.calibration

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:  # noqa: ANN401
        """Decode words, or what a decoder's process decoded before; a file is none of them.

        Raises:
            TypeError: If the source is a path: nothing from outside may name a file.
        """
        if isinstance(source, os.PathLike):
            raise TypeError("a server decodes files in a process of their own")
        return self.space.decode(source, kind, as_modality=as_modality)

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        """Encode items among those of other requests."""
        return self.batcher.encode_decoded(items)

    def names(self, vectors: NDArray[np.float32], modality: str) -> Sequence[Names]:
        """Say what rows may be called."""
        return self.space.names(vectors, modality)

    def for_documents(self, vectors: NDArray[np.float32], modality: str) -> NDArray[np.float32]:
        """Return what rows may be read as."""
        return self.space.for_documents(vectors, modality)

    def unknown_words(self, text: str) -> list[str]:
        """Return what of a text the encoder does not know."""
        known = getattr(self.space, "unknown_words", None)
        return [] if known is None else list(known(text))
