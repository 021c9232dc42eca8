"""Reading, hashing and decoding in threads, ahead of the encoder, bounded by the memory that decoded items hold."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.catalog.ingest.reading import UNSETTLED, read_file
from embedspace.catalog.ingest.scan import Candidate
from embedspace.modality import modality_spec
from embedspace.segment import Decoded, SegmentEncoder
from embedspace.stages import stage

__all__ = ["Pipeline", "Prepared"]

_BUDGET = 256 << 20


@dataclass(slots=True)
class Prepared:
    """What the threads made of one candidate.

    Attributes:
        candidate: The file or row.
        digest: Its content id.
        decoded: Ready for the encoder; `None` where that is not needed or not possible.
        twin: The uri that has the same content and is being encoded in this run.
        error: Why it could not be read or decoded.
        readable: Every byte could be read, and `digest` is that of all of them.
    """

    candidate: Candidate
    digest: str = ""
    decoded: Decoded | None = None
    twin: str = ""
    error: Exception | None = None
    readable: bool = True


class Pipeline:
    """A bounded queue of candidates that threads prepare; results come out in the order of submission."""

    def __init__(
        self,
        encoder: SegmentEncoder,
        number_of: Callable[[str, str], int | None],
        workers: int,
        *,
        depth: int,
        budget: int = _BUDGET,
    ) -> None:
        """Start the threads.

        Args:
            encoder: Its `decode` runs in the threads.
            number_of: (content id, imposed modality) -> item that has it already, from any thread.
            workers: Number of threads.
            depth: Candidates under way at most.
            budget: Bytes that decoded items under way, and not yet released, may hold.
        """
        self.encoder, self.number_of, self.depth, self.budget = encoder, number_of, depth, budget
        self.held = 0
        self.seconds = 0.0
        """What reading and decoding took in all threads together."""
        self._queue: deque[tuple[Future[Prepared], int]] = deque()
        self._reserved = 0
        self._claims: dict[str, Prepared] = {}  # by content id, for as long as it is under way
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def submit(self, candidate: Candidate) -> Iterator[Prepared]:
        """Queue a candidate; yield results for as long as there is no room for it."""
        need = modality_spec(candidate.kind).memory.of(candidate.size)
        while self._queue and (len(self._queue) >= self.depth or self._reserved + self.held + need > self.budget):
            yield self._next()
        self._reserved += need
        self._queue.append((self._threads.submit(self._prepare, candidate), need))

    def drain(self) -> Iterator[Prepared]:
        """Yield what is still under way."""
        while self._queue:
            yield self._next()

    def release(self, batch: Iterable[Prepared]) -> None:
        """Say that items are settled: their memory is counted no longer, and copies of them are found in the store."""
        for prepared in batch:
            with self._lock:
                self._unclaim(prepared)
            if prepared.decoded is not None:
                self.held -= max(prepared.decoded.nbytes, 0)
                prepared.decoded = None

    def close(self) -> None:
        """Drop what is queued and end the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._queue.clear()

    def _next(self) -> Prepared:
        future, need = self._queue.popleft()
        with stage("wait for decoding"):
            prepared = future.result()
        self._reserved -= need
        if prepared.decoded is not None:
            self.held += max(prepared.decoded.nbytes, 0)
        return prepared

    def _prepare(self, candidate: Candidate) -> Prepared:
        prepared, started = Prepared(candidate), time.perf_counter()
        try:
            if candidate.content_hash:
                prepared.decoded = self._wanted(prepared, candidate.content_hash)
                return prepared
            reading = read_file(candidate.uri, candidate.kind, lambda digest: self._wanted(prepared, digest))
            prepared.decoded, prepared.error = reading.decoded, reading.error
        except Exception as error:  # listed with its reason; the ingest goes on
            prepared.error, prepared.readable = error, bool(candidate.content_hash)
            if not prepared.readable:  # it may be another time, though its size and time stay what they are
                prepared.candidate = dataclasses.replace(candidate, mtime_ns=UNSETTLED)
        finally:
            with self._lock:
                self.seconds += time.perf_counter() - started
        return prepared

    def _wanted(self, prepared: Prepared, digest: str) -> Decoded | None:
        """Decode what is neither in the catalog nor on its way into it."""
        candidate = prepared.candidate
        with self._lock:
            self._unclaim(prepared)  # in a second attempt, of the bytes that were there a moment ago
            prepared.digest, prepared.twin = digest, ""
        if self.number_of(digest, candidate.as_modality) is not None:
            return None
        with self._lock:
            first = self._claims.setdefault(digest, prepared)
        if first is not prepared:
            prepared.twin = first.candidate.uri
            return None
        return self._decode(candidate)

    def _unclaim(self, prepared: Prepared) -> None:
        if self._claims.get(prepared.digest) is prepared:
            del self._claims[prepared.digest]

    def _decode(self, candidate: Candidate) -> Decoded:
        source: Any = Path(candidate.uri)  # a `str` would be a text
        for held in (candidate.content, candidate.embedded):
            source = source if held is None else held
        return self.encoder.decode(source, candidate.kind, as_modality=candidate.as_modality or None)
