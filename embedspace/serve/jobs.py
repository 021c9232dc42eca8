"""Generations: one worker, a short queue, progress for who watches, results for some minutes."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from embedspace.errors import EmbedspaceError
from embedspace.modality import Modality
from embedspace.query import ComposedQuery
from embedspace.serve.errors import busy, not_found
from embedspace.serve.events import Feed
from embedspace.serve.metrics import Metrics
from embedspace.serve.search.batching import use_threads
from embedspace.serve.settings import Limits

if TYPE_CHECKING:
    from embedspace.generate import Request, Sample
    from embedspace.generate.targets import Target
    from embedspace.space import EmbeddingSpace

__all__ = ["Job", "Jobs", "Made"]

_LOG = logging.getLogger("embedspace.serve")
_NEIGHBOURS = 4
_GRACE_SECONDS = 10.0
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Made:
    """Something that was made: its file's bytes, and their type."""

    content: bytes
    type: str


@dataclass(slots=True, eq=False)
class Job:
    """One generation.

    Attributes:
        id: Cannot be guessed.
        feed: What is told of it.
        made: Index -> result; neighbours' pictures under "neighbour-<number>".
        samples: The same as they were drawn.
        cancelled: Set when nobody wants it any more.
        finished: By the monotonic clock; 0 until then.
    """

    id: str
    feed: Feed
    made: dict[str, Made] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: float = 0.0
    error: EmbedspaceError | None = None
    future: Future[None] | None = None

    @property
    def bytes_held(self) -> int:
        """Memory of its results."""
        return sum(len(made.content) for made in self.made.values())


class Jobs:
    """The queue before the generators, and the one thread behind it."""

    def __init__(self, space: EmbeddingSpace, limits: Limits, metrics: Metrics) -> None:
        self._space, self._limits, self._metrics = space, limits, metrics
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="generator", daemon=True)
        self._thread.start()
        self._jobs: dict[str, Job] = {}
        self._pending: set[Future[Any]] = set()

    @property
    def waiting(self) -> int:
        """How many tasks wait, the one that is worked on included."""
        return len(self._pending)

    @property
    def is_busy(self) -> bool:
        """Whether the thread is still at work after `close`."""
        return self._thread.is_alive()

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            ApiError: 404, if it is unknown or forgotten.
        """
        self._forget()
        found = self._jobs.get(job_id)
        if found is None:
            raise not_found("this job is unknown, or was forgotten", "job")
        return found

    def submit(self, query: ComposedQuery, target: Target, request: Request) -> Job:
        """Queue a generation.

        Raises:
            ApiError: 429, if the queue is full.
            ArgumentError: If the generator does not take an option.
        """
        job = Job(secrets.token_urlsafe(12), Feed(asyncio.get_running_loop()))
        job.future = self.run(lambda: self._make(job, query, target, request))
        self._jobs[job.id] = job
        return job

    def run(self, work: Callable[[], Result]) -> Future[Result]:
        """Have the one thread do something.

        Raises:
            ApiError: 429, if the queue is full.
        """
        self._forget()
        if self.waiting >= self._limits.jobs:
            self._metrics.refused.labels("generator").inc()
            raise busy("the generator", 5)
        future: Future[Result] = Future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._tasks.put((future, work))
        return future

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, work = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)

    def cancel(self, job: Job) -> None:
        """Stop a generation after the thing that is being made, and forget it."""
        job.cancelled.set()
        if job.future is not None:
            job.future.cancel()
        self._jobs.pop(job.id, None)
        job.feed.add("error", {"message": "cancelled"}, last=True)

    def close(self) -> None:
        """Stop everything; what is being made is given some seconds, and left then."""
        for job in list(self._jobs.values()):
            job.cancelled.set()
            if job.future is not None:
                job.future.cancel()
        self._tasks.put(None)
        self._thread.join(_GRACE_SECONDS)

    def _forget(self) -> None:
        """Let go of results that are old, and of the oldest where all together take too much memory."""
        now, held = time.monotonic(), 0
        for job in sorted(self._jobs.values(), key=lambda one: -(one.finished or now)):
            held += job.bytes_held
            if job.finished and (now - job.finished > self._limits.kept_seconds or held > self._limits.kept_bytes):
                del self._jobs[job.id]

    def _make(self, job: Job, query: ComposedQuery, target: Target, request: Request) -> None:
        """Make everything of a job, in the thread."""
        to, total = target.name, request.num_samples
        try:
            if not job.cancelled.is_set():
                job.feed.add("progress", {"done": 0, "total": total, "stage": "loading"})
                self._space.generators[to].check(request)
                job.feed.add("progress", {"done": 0, "total": total, "stage": "making"})
                for part in _parts(request, ranked=target.ranked):
                    if job.cancelled.is_set():
                        return
                    with self._metrics.stage("generate"):
                        samples = _generate(self._space, query, to, part)
                    for sample in samples:
                        self._deliver(job, query, to, sample)
                    job.feed.add("progress", {"done": len(job.samples), "total": total, "stage": "making"})
                job.feed.add("done", {}, last=True)
        except EmbedspaceError as error:
            job.error = error
            job.feed.add("error", {"message": str(error)}, last=True)
        except Exception as error:
            _LOG.exception("a generation failed")
            job.error = EmbedspaceError(f"unexpected {type(error).__name__}")
            job.feed.add("error", {"message": f"unexpected {type(error).__name__}; the log says more"}, last=True)
        finally:
            job.finished = time.monotonic()

    def _deliver(self, job: Job, query: ComposedQuery, to: str, sample: Sample) -> None:
        """Keep a result, and tell of it."""
        index = len(job.samples)
        if index == 0 and to == Modality.IMAGE:
            _keep_neighbours(job, self._space, query, to)
        job.samples.append(sample)
        if not isinstance(sample.content, str):
            job.made[str(index)] = _file_of(sample, query)
        about = sample.provenance
        job.feed.add(
            "result",
            {
                "index": index,
                "url": f"/api/jobs/{job.id}/results/{index}" if str(index) in job.made else None,
                "text": sample.text or (sample.content if isinstance(sample.content, str) else None),
                "seed": sample.seed,
                "score": None if sample.score != sample.score else round(sample.score, 4),
                "neighbours": [
                    {
                        "label": near.caption,
                        "uri": near.item,
                        "similarity": round(near.similarity, 4),
                        "of": near.of,
                        "thumbnail": _thumbnail(job, near.item),
                    }
                    for near in sample.neighbours
                ],
                "copy": bool(about.get("near_copy") or about.get("retrieved")),
                "outside": bool(about.get("outside")),
            },
        )


def _parts(request: Request, *, ranked: bool) -> list[Request]:
    """Split a request so that each thing can be shown at once; what is ranked together stays together."""
    if ranked:
        return [request]
    return [
        dataclasses.replace(request, num_samples=1, seed=request.seed + number) for number in range(request.num_samples)
    ]


def _generate(space: EmbeddingSpace, query: ComposedQuery, to: str, request: Request) -> list[Sample]:
    from embedspace.generate import generate

    use_threads(max(1, min(4, (os.cpu_count() or 1) // 2)))  # the other cores answer searches meanwhile
    return generate(
        space,
        query.vector,
        to=to,
        modality=query.source_modality,
        request=request,
        neighbours=_NEIGHBOURS,
        force=True,
        texts=[query.words],
    )[0]


def _file_of(sample: Sample, query: ComposedQuery) -> Made:
    """Return a sample as a file, with where it comes from inside."""
    from embedspace.generate.files import record_of, sample_bytes

    return Made(*sample_bytes(sample, record_of(sample, "", [dataclasses.asdict(term) for term in query.terms])))


def _keep_neighbours(job: Job, space: EmbeddingSpace, query: ComposedQuery, to: str) -> None:
    """Keep pictures of the training items next to what is asked for, as the generator itself remembers them."""
    import io

    from PIL import Image

    generator: Any = space.generators[to]
    shown = getattr(generator, "neighbour_pictures", None)
    if shown is None:
        return
    for near, pixels in shown(query.vector, query.source_modality, space, 4 * _NEIGHBOURS):
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, "WEBP", quality=80)
        job.made[f"neighbour-{near.item}"] = Made(written.getvalue(), "image/webp")


def _thumbnail(job: Job, name: str) -> str | None:
    """Return the address of a neighbour's picture; None where the generator keeps none."""
    names = [key for key in job.made if key.startswith("neighbour-")]
    key = f"neighbour-{name}"
    return f"/api/jobs/{job.id}/neighbours/{names.index(key)}" if key in names else None
