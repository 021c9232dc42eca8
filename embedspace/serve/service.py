"""What a server holds open: catalog, space, the encoder's thread, the decoders, and what is kept for a while."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from embedspace.catalog import Catalog
from embedspace.generate.targets import Target, known_targets
from embedspace.modality import Modality
from embedspace.serve.errors import ApiError
from embedspace.serve.jobs import Jobs
from embedspace.serve.media import MediaFiles
from embedspace.serve.metrics import Metrics
from embedspace.serve.previews import Previews
from embedspace.serve.processes.decoding import Decoder
from embedspace.serve.processes.mapping import Maps
from embedspace.serve.processes.watching import Watcher
from embedspace.serve.search.batching import BatchedSpace, Batcher, Grouper
from embedspace.serve.search.finding import Asked, Finder, Found
from embedspace.serve.search.queries import KeptQueries, Queries
from embedspace.serve.sent.files import SentFiles
from embedspace.serve.settings import ServeSettings
from embedspace.space import EmbeddingSpace
from embedspace.space.fitting import fitted
from embedspace.vocabulary import generator_targets, generators_folder

__all__ = ["Service"]

_LOG = logging.getLogger("embedspace.serve")
_SEARCHES = min(4, os.cpu_count() or 1)
"""More threads than cores only take turns at the interpreter's lock."""
Result = TypeVar("Result")


class Service:
    """The state behind the routes.

    Attributes:
        catalog: Open for reading; what other processes add is found by the next search.
        space: The space, its encoding through the batcher.
        searches: Few threads that search the catalog.
        stopping: Set when the server is asked to end: endless answers end then.
    """

    def __init__(self, settings: ServeSettings, space: EmbeddingSpace) -> None:
        """Open everything.

        Raises:
            CatalogError: If the catalog cannot be opened, or is of another space.
        """
        self.settings, self.limits, self.metrics = settings, settings.limits, Metrics()
        self.catalog = Catalog.open(settings.catalog, read_only=True)
        try:
            space = fitted(space, self.catalog.fingerprints)
            self.catalog.check_fingerprint(space.fingerprints())
        except BaseException:
            self.catalog.close()
            raise
        self.model = space
        self.batcher = Batcher(space.encode_decoded, self.metrics, batch=self.limits.batch, queue=self.limits.queue)
        self.space = BatchedSpace(space, self.batcher)
        self.decoder = Decoder(self.limits, self.metrics)
        self.searches = ThreadPoolExecutor(_SEARCHES, "search")
        self.kept = KeptQueries(self.limits.kept_seconds)
        self.sent = SentFiles(self.limits.kept_seconds, self.limits.sent_bytes)
        self.queries = Queries(self.space, self.catalog, self.kept)
        self.finder: Grouper[Asked, Found] = Grouper(
            Finder(self.catalog, self.queries, self.limits.where_seconds).find,
            self.metrics,
            threads=_SEARCHES,
            batch=self.limits.batch,
            queue=self.limits.queue,
        )
        self.files, self.previews = MediaFiles(self.catalog), Previews(self.decoder, self.limits.kept_bytes)
        self.jobs = Jobs(space, self.limits, self.metrics)
        self.watcher, self.maps = Watcher(settings), Maps(settings.catalog, read_only=settings.read_only)
        self.stopping = asyncio.Event()
        self._warm = threading.Event()
        self._failure = ""
        self._facts: dict[str, tuple[int, Any]] = {}
        self.metrics.watch_queue("encoder", lambda: len(self.batcher))
        self.metrics.watch_queue("search", lambda: len(self.finder))
        self.metrics.watch_queue("decoder", lambda: self.decoder.waiting)
        self.metrics.watch_queue("generator", lambda: self.jobs.waiting)

    @property
    def is_ready(self) -> bool:
        """Whether the encoder of words is loaded."""
        return self._warm.is_set() and not self._failure

    async def start(self) -> None:
        """Load the encoder of words in the background, and begin to watch folders."""
        self.watcher.start()
        self._warming = asyncio.create_task(asyncio.to_thread(self._load))

    def _load(self) -> None:
        try:
            if Modality.TEXT in self.model.modalities:
                item = self.model.decode("a first text", Modality.TEXT)
                self.batcher.encode_decoded([item])
            self.catalog.sizes()
        except Exception as error:
            self._failure = str(error)
            _LOG.exception("the space cannot be used")
        self._warm.set()

    async def until_ready(self) -> None:
        """Wait until the encoder of words is loaded.

        Raises:
            ApiError: 503, if it cannot be.
        """
        if not self._warm.is_set():
            await asyncio.shield(self._warming)
        if self._failure:
            raise ApiError(503, "the space cannot be used; the server's log says why")

    async def search(self, stage: str, work: Callable[..., Result], *arguments: Any) -> Result:  # noqa: ANN401
        """Run something that reads the catalog in one of the few threads for it."""

        def measured() -> Result:
            with self.metrics.stage(stage):
                return work(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self.searches, measured)

    async def by_revision(self, name: str, work: Callable[[], Result]) -> Result:
        """Return what depends on the catalog alone, computed once per revision."""
        revision = await self.search("catalog", lambda: self.catalog.revision)
        kept = self._facts.get(name)
        if kept is None or kept[0] != revision:
            kept = (revision, await self.search("catalog", work))
            self._facts[name] = kept
        found: Result = kept[1]
        return found

    @property
    def targets(self) -> list[Target]:
        """What can be generated."""
        folder = self.generators
        return [] if folder is None else known_targets(generator_targets(folder))

    @property
    def generators(self) -> Path | None:
        """Where the generators lie, a folder for each target; None where there are none."""
        if not hasattr(self.model, "folder"):
            return None
        return generators_folder(self.model.folder, composed=self.model.is_composed)

    async def close(self) -> None:
        """Finish what is under way and let go of everything."""
        self.stopping.set()
        with contextlib.suppress(Exception):
            await self._warming
        self.maps.close()
        await asyncio.to_thread(self.watcher.close)
        await asyncio.to_thread(self.jobs.close)
        await asyncio.to_thread(self.finder.close)
        await asyncio.to_thread(self.batcher.close)
        await asyncio.to_thread(self.decoder.close)
        self.searches.shutdown(wait=True, cancel_futures=True)
        self.catalog.close()
