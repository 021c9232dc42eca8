"""A Qdrant server by its client. Source: qdrant-client 1.20, REST."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.engines.address import EngineAddress
from embedspace.catalog.engines.contract import Filter, Point, Stored
from embedspace.errors import EngineError, MissingExtraError
from embedspace.files import replacing

try:
    import httpx
    from qdrant_client import QdrantClient, models
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as error:
    raise MissingExtraError(
        f"a Qdrant server needs qdrant-client ({error}): pip install 'embedspace[qdrant]'"
    ) from error

__all__ = ["API_KEY", "ServerEngine"]

API_KEY = "QDRANT_API_KEY"
"""Environment variable that holds the server's key, where it wants one."""
_PAGE = 1000
_TIMEOUT = 60.0


class ServerEngine:
    """A collection of a server, see `Engine`."""

    def __init__(self, address: EngineAddress, timeout: float | None = None) -> None:
        """Reach a server.

        Args:
            address: Where it is.
            timeout: Seconds that one answer may take; None: a minute.
        """
        self.address, self._timeout = address, _TIMEOUT if timeout is None else timeout
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a key that is sent without encryption: the address says http
            self._client = QdrantClient(
                url=address.url,
                port=443 if address.url.startswith("https") else 80,  # where the address has none
                api_key=os.environ.get(API_KEY),
                timeout=max(1, round(self._timeout)),
                check_compatibility=False,
                event_hooks={"response": [self._limited]},
            )
        self._name = address.collection

    def _limited(self, answer: httpx.Response) -> None:
        """Let an answer that comes byte by byte take no longer than one that does not come."""
        answer.stream = _Limited(answer.stream, time.monotonic() + self._timeout)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[QdrantClient]:
        """Turn whatever goes wrong between here and the server into one line."""
        try:
            yield self._client
        except ResponseHandlingException as error:
            cause = error.source if isinstance(error.source, Exception) else error
            if isinstance(cause, httpx.TimeoutException):
                raise EngineError(
                    f"{self.address}: no answer within {self._timeout:g} s; is it overloaded? --timeout waits longer"
                ) from error
            raise EngineError(f"{self.address}: cannot be reached ({_line(cause)}); is the server running?") from error
        except UnexpectedResponse as error:
            what = _line(error.content.decode("utf-8", "replace") if error.content else error.reason_phrase)
            hint = f"; put its key in {API_KEY}" if error.status_code in (401, 403) else ""
            raise EngineError(f"{self.address}: the server answered {error.status_code}: {what}{hint}") from error
        except (httpx.HTTPError, ValueError) as error:
            raise EngineError(f"{self.address}: not an answer of Qdrant ({_line(error)})") from error

    def widths(self) -> dict[str, int] | None:
        """Return modality -> length of its vectors; see `Engine`."""
        with self._asking() as client:
            if not client.collection_exists(self._name):
                return None
            vectors: Any = client.get_collection(self._name).config.params.vectors
        if not isinstance(vectors, dict):
            raise EngineError(f"{self.address}: a collection of something else; push to another name")
        return {name: int(one.size) for name, one in vectors.items()}

    def create(self, widths: Mapping[str, int]) -> None:
        """Make the collection; see `Engine`."""
        vectors = {
            name: models.VectorParams(
                size=size, distance=models.Distance.DOT, datatype=models.Datatype.FLOAT16, on_disk=True
            )
            for name, size in widths.items()
        }
        with self._asking() as client:
            client.create_collection(self._name, vectors_config=vectors, on_disk_payload=True)

    def extend(self, modality: str, embed_dim: int) -> None:
        """Take vectors of another modality; see `Engine`."""
        half = models.VectorStorageDatatype.FLOAT16
        dense = models.DenseVectorConfig(size=embed_dim, distance=models.Distance.DOT, datatype=half)
        with self._asking() as client:
            client.create_vector_name(self._name, modality, models.DenseVectorNameConfig(dense=dense))

    def index_fields(self, fields: Mapping[str, str]) -> None:
        """Make filters on fields fast; see `Engine`."""
        kinds: dict[str, Any] = {
            "keyword": models.PayloadSchemaType.KEYWORD,
            "prefix": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True),
            "float": models.PayloadSchemaType.FLOAT,
            "datetime": models.PayloadSchemaType.DATETIME,
        }
        with self._asking() as client:
            there = {path.replace('"', "") for path in client.get_collection(self._name).payload_schema}
            for path, kind in fields.items():
                if path.replace('"', "") not in there:
                    client.create_payload_index(self._name, path, kinds[kind], wait=True)

    def write(self, points: Sequence[Point]) -> None:
        """Write points, and wait until they are applied; see `Engine`."""
        found = [
            models.PointStruct(
                id=one.id,
                vector={} if one.vector is None else {one.modality: one.vector.tolist()},
                payload=dict(one.payload),
            )
            for one in points
        ]
        with self._asking() as client:
            client.upsert(self._name, found, wait=True)

    def delete(self, numbers: Sequence[int]) -> None:
        """Forget points; see `Engine`."""
        with self._asking() as client:
            client.delete(self._name, models.PointIdsList(points=[int(one) for one in numbers]), wait=True)

    def read(self, numbers: Sequence[int]) -> dict[int, Stored]:
        """Return points by number; see `Engine`."""
        with self._asking() as client:
            found = client.retrieve(self._name, [int(one) for one in numbers], with_payload=True, with_vectors=False)
        return {int(one.id): Stored(int(one.id), one.payload or {}, {}) for one in found}

    def pages(self, *, payload: Sequence[str], vectors: bool = False) -> Iterator[list[Stored]]:
        """Yield all points by number; see `Engine`."""
        offset: Any = None
        while True:
            with self._asking() as client:
                found, offset = client.scroll(
                    self._name, limit=_PAGE, offset=offset, with_payload=list(payload) or False, with_vectors=vectors
                )
            rows: Any = [(int(one.id), one.payload or {}, one.vector or {}) for one in found]
            yield [Stored(*row) for row in rows]
            if offset is None:
                return

    def count(self, chosen: Filter) -> int:
        """Return how many points fulfil a filter; see `Engine`."""
        with self._asking() as client:
            return int(client.count(self._name, _filter(chosen), exact=True).count)

    def nearest(
        self, modality: str, queries: NDArray[np.float32], limit: int, chosen: Filter | None
    ) -> list[list[tuple[int, float]]]:
        """Return the nearest points; see `Engine`."""
        wanted = None if chosen is None else _filter(chosen)
        requests = [
            models.QueryRequest(query=query.tolist(), using=modality, filter=wanted, limit=limit) for query in queries
        ]
        with self._asking() as client:
            found = client.query_batch_points(self._name, requests)
        return [[(int(point.id), point.score) for point in one.points] for one in found]

    def optimize(self) -> None:
        """Nothing: a server builds its graphs by itself; see `Engine`."""

    def snapshot(self, path: str) -> None:
        """Have the server write a snapshot of the collection, and fetch it; see `Engine`."""
        with self._asking() as client:
            made = client.create_snapshot(self._name, wait=True)
            if made is None:
                raise EngineError(f"{self.address}: the server made no snapshot")
            key = os.environ.get(API_KEY)
            url = f"{self.address.url}/collections/{self._name}/snapshots/{made.name}"
            with (
                replacing(Path(path)) as partial,
                partial.open("wb") as file,
                httpx.stream("GET", url, headers={"api-key": key} if key else {}, timeout=self._timeout) as answer,
            ):
                answer.raise_for_status()
                for part in answer.iter_bytes():
                    file.write(part)
            client.delete_snapshot(self._name, made.name, wait=True)

    def close(self) -> None:
        """Close its connections; see `Engine`."""
        self._client.close()


class _Limited(httpx.SyncByteStream):
    """An answer that ends at a moment of the monotonic clock; the client's own limit is for each piece of it."""

    def __init__(self, stream: Any, end: float) -> None:  # noqa: ANN401
        self._stream, self._end = stream, end

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if time.monotonic() > self._end:
                raise httpx.ReadTimeout("the answer takes too long")
            yield part

    def close(self) -> None:
        self._stream.close()


def _filter(given: Filter) -> models.Filter:
    return models.Filter.model_validate(given)


def _line(what: object) -> str:
    return " ".join(str(what).split())[:200] or type(what).__name__
