"""The server itself: uvicorn, with an end to every wait."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from embedspace.catalog.ingest.opening import open_or_create
from embedspace.errors import ConfigError
from embedspace.serve.app import create_app
from embedspace.serve.process import prepare_process
from embedspace.serve.service import Service
from embedspace.serve.settings import Limits, ServeSettings
from embedspace.serve.warm.beside import WarmProcess
from embedspace.space import EmbeddingSpace

__all__ = ["Server", "listen", "serve"]

_GRACE_SECONDS = 30


def timed_protocol(limits: Limits) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol with clocks: uvicorn alone waits for ever for the rest of a request."""

    class TimedProtocol(H11Protocol):
        """Closes connections whose headers or body do not arrive, or whose client does not take the answer."""

        _phase: object = None
        _deadline: asyncio.TimerHandle | None = None
        _silence: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._enter(h11.IDLE)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            phase = self.conn.their_state
            if phase is not self._phase:
                self._enter(phase)
            elif phase is h11.SEND_BODY:
                self._restart_silence()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
                self._enter(None)  # uvicorn's own clock runs until the next request begins

        def pause_writing(self) -> None:
            super().pause_writing()
            self._restart_silence()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop("_silence")

        def connection_lost(self, exc: Exception | None) -> None:
            self._enter(None)
            super().connection_lost(exc)

        def _enter(self, phase: object) -> None:
            self._phase = phase
            self._stop("_deadline")
            self._stop("_silence")
            if phase is h11.IDLE:
                self._deadline = self.loop.call_later(limits.header_seconds, self._give_up)
            elif phase is h11.SEND_BODY:
                self._deadline = self.loop.call_later(limits.body_seconds, self._end_body)
                self._restart_silence()

        def _restart_silence(self) -> None:
            self._stop("_silence")
            self._silence = self.loop.call_later(limits.idle_seconds, self._end_silence)

        def _stop(self, clock: str) -> None:
            handle = getattr(self, clock)
            if handle is not None:
                handle.cancel()
                setattr(self, clock, None)

        def _end_body(self) -> None:
            if self._is_behind():
                self._deadline = self.loop.call_later(limits.idle_seconds, self._end_body)
            else:
                self._give_up()

        def _end_silence(self) -> None:
            if self._is_behind():
                self._restart_silence()
            else:
                self._give_up()

        def _is_behind(self) -> bool:
            """Whether it is the server that does not read: a client is not cut off for what others ask of it."""
            return self.flow.read_paused and not self.flow.write_paused

        def _give_up(self) -> None:
            if self.transport is not None:
                self.transport.abort()

    return TimedProtocol


class Server(uvicorn.Server):
    """Tells the service at once that it is to end, so that endless answers do not hold it up."""

    def __init__(self, service: Service, *, announce: Callable[[str], None] | None = None) -> None:
        """Prepare a server; `announce` is told its address once it listens."""
        settings, limits = service.settings, service.limits
        super().__init__(
            uvicorn.Config(
                create_app(service),
                http=timed_protocol(limits),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,  # addresses hold what was asked
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=limits.keep_alive_seconds,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                limit_concurrency=limits.connections,
                h11_max_incomplete_event_size=32 * 1024,
            )
        )
        self.service, self.settings, self._announce = service, settings, announce
        self.address = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            if self._announce is not None:
                self._announce(self.address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is in flight."""
        self.service.stopping.set()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second time it ends at once."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # what was asked for is done when `run` returns: it is not raised again


def listen(settings: ServeSettings) -> socket.socket:
    """Return a socket that is bound to the address.

    Raises:
        ConfigError: If it cannot be.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host.strip("[]"), settings.port))
        bound.listen(512)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"cannot listen at {settings.host}:{settings.port}: {error.strerror or error}; choose another --port"
        ) from None
    bound.setblocking(False)
    return bound


def serve(
    settings: ServeSettings,
    space: EmbeddingSpace,
    announce: Callable[[str], None] | None = None,
    *,
    warm: WarmProcess | None = None,
    idle: float | None = None,
) -> None:
    """Serve a catalog until the process is told to end.

    Args:
        settings: Where and how.
        space: Whose vectors the catalog holds.
        announce: Told the address once the server listens.
        warm: Answers the warm command beside it; when that ends, so does this.
        idle: Seconds without a request or command after which it ends, where there is `warm`.

    Raises:
        CatalogError: If the catalog cannot be opened, or is of another space.
        ConfigError: If the address cannot be listened at.
    """
    bound = listen(settings)
    prepare_process()
    try:
        if settings.watch:
            open_or_create(settings.catalog, space).close()
        service = Service(settings, space)
        server = Server(service, announce=announce)
        if warm is not None:
            end = functools.partial(server.handle_exit, signal.SIGTERM, None)
            warm.watch(end, idle=idle, others=lambda: service.metrics.used)
        server.run(sockets=[bound])
    finally:
        bound.close()
    if service.jobs.is_busy:  # Python's own way out would tear torch down under the thread that computes
        sys.stderr.flush()
        os._exit(0)
