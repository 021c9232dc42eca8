"""A server that runs for a test: the real one, on a free port, in a thread of this process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.segment import Decoded, Segment
from embedspace.serve.server import Server, listen, serve
from embedspace.serve.service import Service
from embedspace.serve.settings import Limits, ServeSettings
from tests.support.cli_space import CliSpace

__all__ = ["Running", "ServeSpace", "filled_catalog", "raw_request", "running", "serve_slowly"]


class ServeSpace(CliSpace):
    """`CliSpace` for a server: pictures and sounds come decoded, and encoding can be held up."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.may_encode = threading.Event()
        self.may_encode.set()
        self.batches: list[list[str]] = []
        self.waiting, self.delay = False, 0.0

    def names(self, vectors: np.ndarray, modality: str, k: int = 5) -> list[list[tuple[str, float]]]:
        return [[("a thing", 0.75), ("a stuff", 0.25)][:k] for _ in vectors]

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:
        if isinstance(source, tuple):
            waveform, rate = source
            inputs = [(name, waveform.tobytes(), "") for name in ("audio", "speech") if as_modality in (None, name)]
            return Decoded(kind, inputs, {"duration": round(len(waveform) / rate, 3)})
        if isinstance(source, Image.Image):
            return Decoded(kind, [("image", np.asarray(source.convert("RGB")).tobytes(), "")], {"width": 1})
        return super().decode(source, kind, as_modality=as_modality)

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        self.waiting = True
        assert self.may_encode.wait(30)
        time.sleep(self.delay)
        self.waiting = False
        self.batches.append([str(item.inputs[0][1])[:40] for item in items])
        return super().encode_decoded(items)


class Running:
    """A server that listens, and a client of it."""

    def __init__(self, server: Server, service: Service, space: Any) -> None:
        self.server, self.service, self.space = server, service, space
        self.address = server.address
        self.port = int(self.address.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.address, timeout=30, trust_env=False)

    @property
    def service_app(self) -> Any:
        """The application behind the guard."""
        app = self.server.config.app
        return app

    def search(self, *terms: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Search; the answer must be one."""
        response = self.client.post("/api/search", json={"terms": list(terms), **options})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


def raw_request(port: int, text: str | bytes, *, wait: float = 10.0) -> str:
    """Send bytes as they are, and return everything that comes until the server closes or the time is over."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        with contextlib.suppress(OSError):  # a server may answer before all of it is sent
            connection.sendall(text.encode("latin-1") if isinstance(text, str) else text)
        found = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                found += part
                if b"Connection: close" not in found and _is_whole(found):
                    break
        return found.decode("latin-1")


def _is_whole(answer: bytes) -> bool:
    """Whether an answer with a declared length is complete."""
    head, end, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return bool(end) and len(body) >= int(line.partition(b":")[2])
    return False


@contextlib.contextmanager
def running(catalog: Path, space: Any = None, limits: Limits | None = None, **settings: Any) -> Iterator[Running]:
    """Serve a catalog until the block ends."""
    space = space or ServeSpace()
    chosen = ServeSettings(catalog, port=0, limits=limits or Limits(), **settings)
    bound = listen(chosen)
    service = Service(chosen, space)
    listening = threading.Event()
    server = Server(service, announce=lambda _: listening.set())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    assert listening.wait(30)
    found = Running(server, service, space)
    try:
        yield found
    finally:
        found.client.close()
        if isinstance(space, ServeSpace):
            space.may_encode.set()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
        bound.close()


def serve_slowly(catalog: str, delay: float) -> None:
    """Serve until told to end, in a process of its own; each batch takes some seconds."""
    space = ServeSpace()
    space.delay = delay
    serve(ServeSettings(Path(catalog), port=0), space, lambda address: print(address, flush=True))  # type: ignore[arg-type]


def filled_catalog(path: Path, folder: Path, space: Any = None) -> Path:
    """Index a folder with a space that needs no model."""
    space = space or ServeSpace()
    with Catalog.create(
        path,
        embed_dim=space.embed_dim,
        fingerprints=space.fingerprints(),
        calibration_json=space.calibration_json(),
    ) as catalog:
        ingest(catalog, [folder], space, workers=1)
    return path
