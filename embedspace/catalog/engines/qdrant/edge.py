"""Qdrant Edge: the engine of the server in this process, its data in a folder; one process at a time.

Source: qdrant-edge-py 0.9 (beta).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
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
    import qdrant_edge as qe
except ImportError as error:
    raise MissingExtraError(
        f"an engine in this process needs qdrant-edge-py ({error}): pip install 'embedspace[qdrant]'"
    ) from error

__all__ = ["EdgeEngine"]

_PAGE = 1000


class EdgeEngine:
    """An engine in this process, see `Engine`."""

    def __init__(self, address: EngineAddress) -> None:
        """Open what is in a folder; nothing is made before `create`.

        Raises:
            EngineError: If another process uses it, or it is damaged.
        """
        assert address.folder is not None
        self.address, self._path = address, address.folder
        self._shard: Any = None
        if (self._path / "edge_config.json").is_file():
            with self._translated("opened"):
                self._shard = qe.EdgeShard.load(str(self._path))
        elif self._path.exists() and (not self._path.is_dir() or any(self._path.iterdir())):
            raise EngineError(f"{address}: there is something else at {self._path}; name another folder")

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except EngineError:
            raise
        except Exception as error:  # the library raises nothing narrower
            what = " ".join(str(error).split())
            if "WouldBlock" in what:
                raise EngineError(f"{self.address}: another process uses it; try again when that has ended") from error
            raise EngineError(f"{self.address}: cannot be {doing} ({what[:200]})") from error

    @property
    def _open(self) -> Any:  # noqa: ANN401
        if self._shard is None:
            raise EngineError(
                f"{self.address}: nothing is there; run: embedspace catalog push CATALOG --to {self.address}"
            )
        return self._shard

    def widths(self) -> dict[str, int] | None:
        """Return modality -> length of its vectors; see `Engine`."""
        if self._shard is None:
            return None
        config = json.loads((self._path / "edge_config.json").read_text())
        return {name: int(one["size"]) for name, one in config["vectors"].items()}

    def create(self, widths: Mapping[str, int]) -> None:
        """Make it in a folder beside, which then gets its name; see `Engine`."""
        partial = self._path.with_name(f"{self._path.name}.partial")
        with self._translated("made"):
            shutil.rmtree(partial, ignore_errors=True)
            partial.parent.mkdir(parents=True, exist_ok=True)
            vectors = {name: _vectors(size) for name, size in widths.items()}
            qe.EdgeShard.create(str(partial), qe.EdgeConfig(vectors=vectors)).close()
            if self._path.is_dir():
                self._path.rmdir()
            os.rename(partial, self._path)
            self._shard = qe.EdgeShard.load(str(self._path))

    def extend(self, modality: str, embed_dim: int) -> None:
        """Take vectors of another modality; see `Engine`."""
        half = qe.VectorStorageDatatype.Float16
        self._update(qe.UpdateOperation.create_dense_vector(modality, embed_dim, qe.Distance.Dot, datatype=half))

    def index_fields(self, fields: Mapping[str, str]) -> None:
        """Make filters on fields fast; see `Engine`."""
        kinds: dict[str, Any] = {
            "keyword": qe.PayloadSchemaType.Keyword,
            "prefix": qe.KeywordIndexParams(prefix=True),
            "float": qe.PayloadSchemaType.Float,
            "datetime": qe.PayloadSchemaType.Datetime,
        }
        there = {path.replace('"', "") for path in self._open.info().payload_schema}
        for path, kind in fields.items():
            if path.replace('"', "") not in there:
                self._update(qe.UpdateOperation.create_field_index(path, kinds[kind]))

    def _update(self, operation: Any) -> None:  # noqa: ANN401
        with self._translated("written to"):
            self._open.update(operation)

    def write(self, points: Sequence[Point]) -> None:
        """Write points to the engine's log; see `Engine`."""
        found = [
            qe.Point(one.id, {} if one.vector is None else {one.modality: one.vector.tolist()}, dict(one.payload))
            for one in points
        ]
        self._update(qe.UpdateOperation.upsert_points(found))

    def delete(self, numbers: Sequence[int]) -> None:
        """Forget points; see `Engine`."""
        self._update(qe.UpdateOperation.delete_points([int(number) for number in numbers]))

    def read(self, numbers: Sequence[int]) -> dict[int, Stored]:
        """Return points by number; see `Engine`."""
        with self._translated("read"):
            found = self._open.retrieve([int(number) for number in numbers], with_payload=True, with_vector=False)
        return {one.id: Stored(one.id, one.payload or {}, {}) for one in found}

    def pages(self, *, payload: Sequence[str], vectors: bool = False) -> Iterator[list[Stored]]:
        """Yield all points by number; see `Engine`."""
        offset: Any = None
        while True:
            wanted: Any = list(payload) if payload else False
            request = qe.ScrollRequest(offset=offset, limit=_PAGE, with_payload=wanted, with_vector=vectors)
            with self._translated("read"):
                found, offset = self._open.scroll(request)
            yield [Stored(one.id, one.payload or {}, one.vector or {}) for one in found]
            if offset is None:
                return

    def count(self, chosen: Filter) -> int:
        """Return how many points fulfil a filter; see `Engine`."""
        with self._translated("read"):
            return int(self._open.count(qe.CountRequest(filter=_filter(chosen), exact=True)))

    def nearest(
        self, modality: str, queries: NDArray[np.float32], limit: int, chosen: Filter | None
    ) -> list[list[tuple[int, float]]]:
        """Return the nearest points; see `Engine`."""
        wanted = None if chosen is None else _filter(chosen)
        requests = [
            qe.QueryRequest(query=qe.Query.Nearest(query.tolist(), using=modality), filter=wanted, limit=limit)
            for query in queries
        ]
        with self._translated("searched"):
            found = self._open.query_batch(qe.QueryBatchRequest(requests))
        return [[(point.id, point.score) for point in points] for points in found]

    def optimize(self) -> None:
        """Build its graphs; see `Engine`."""
        with self._translated("optimized"):
            self._open.optimize()
            self._open.flush()

    def snapshot(self, path: str) -> None:
        """Write the folder to a .tar.gz file, atomically; unpacked, it is the engine again. See `Engine`."""
        with self._translated("copied"):
            self._open.flush()
            with replacing(Path(path)) as partial, tarfile.open(partial, "w:gz", compresslevel=1) as archive:
                archive.add(self._path, arcname=self._path.name)

    def close(self) -> None:
        """Flush and let go of it; see `Engine`."""
        if self._shard is not None:
            shard, self._shard = self._shard, None
            with self._translated("closed"):
                shard.close()


def _vectors(size: int) -> Any:  # noqa: ANN401
    """Return what vectors are like: dot products of the halves as they are, for the catalog's rows have unit length."""
    return qe.EdgeVectorParams(size=size, distance=qe.Distance.Dot, datatype=qe.VectorStorageDatatype.Float16)


def _filter(given: Filter) -> Any:  # noqa: ANN401
    """Return a filter as the library has it."""
    parts: dict[str, Any] = {name: [_condition(part) for part in its] for name, its in given.items()}
    return qe.Filter(**parts)


def _condition(given: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if "has_id" in given:
        return qe.HasIdCondition(set(given["has_id"]))
    if "is_empty" in given:
        return qe.IsEmptyCondition(given["is_empty"]["key"])
    if "match" in given:
        (how, value), matches = next(iter(given["match"].items())), {"any": qe.MatchAny, "prefix": qe.MatchPrefix}
        return qe.FieldCondition(key=given["key"], match=matches[how](value))
    if "range" in given:
        of_times = any(isinstance(bound, str) for bound in given["range"].values())
        bounds = (qe.RangeDateTime if of_times else qe.RangeFloat)(**given["range"])
        return qe.FieldCondition(key=given["key"], range=bounds)
    return _filter(given)
