"""Figures for Prometheus: requests, queues, sizes of batches, seconds by stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one server; paths are those of routes, so nothing of what was asked is in them.

    Attributes:
        used: When, on `time.monotonic`, something was last asked that is no question about the server itself.
    """

    def __init__(self) -> None:
        self.used = time.monotonic()
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "embedspace_requests", "Requests answered", ("route", "method", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "embedspace_request_seconds", "Seconds per request", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self.stage_seconds = Histogram(
            "embedspace_stage_seconds", "Seconds per stage", ("stage",), buckets=_SECONDS, registry=self.registry
        )
        self.batch_size = Histogram(
            "embedspace_batch_size", "Entries encoded together", buckets=(1, 2, 4, 8, 16, 32), registry=self.registry
        )
        self.dropped = Counter(
            "embedspace_dropped", "Entries dropped because their client had left", registry=self.registry
        )
        self.refused = Counter(
            "embedspace_refused", "Entries refused: a queue was full", ("queue",), registry=self.registry
        )

    def watch_queue(self, name: str, length: Callable[[], int]) -> None:
        """Show how many entries wait in a queue."""
        gauge = Gauge(f"embedspace_{name}_waiting", f"Entries that wait: {name}", registry=self.registry)
        gauge.set_function(length)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the seconds of a stage: decode, encode, search, thumbnail, generate."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds.labels(name).observe(time.perf_counter() - started)

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self.registry)
