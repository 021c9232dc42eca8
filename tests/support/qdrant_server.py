"""A stand-in for a Qdrant server, whose binary no registry has: HTTP as the client speaks it, over the Edge engine.

What the client sends is read with the models of its own contract, unknown fields refused; what it is answered is made
by the real engine. It does not check what a server does beyond that contract: sharding, replicas, strict mode, the
content of snapshots.
"""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import models

from embedspace.catalog.engines.address import EngineAddress
from embedspace.catalog.engines.contract import Point
from embedspace.catalog.engines.qdrant.edge import EdgeEngine

SNAPSHOT = b"a snapshot of Qdrant"


class StandIn(ThreadingHTTPServer):
    """One collection per folder below a folder.

    Attributes:
        heard: "METHOD path" of every request.
        fail_after: Requests that write points and are answered; later ones get a 503. None: all are answered.
        delay: Seconds before each answer.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.lock = folder, threading.Lock()
        self.engines: dict[str, EdgeEngine] = {}
        self.heard: list[str] = []
        self.fail_after: int | None = None
        self.delay = 0.0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def address(self, collection: str = "media") -> str:
        return f"qdrant:http://127.0.0.1:{self.server_port}/{collection}"

    def engine(self, collection: str) -> EdgeEngine:
        if collection not in self.engines:
            self.engines[collection] = EdgeEngine(EngineAddress("stand-in", folder=self.folder / collection))
        return self.engines[collection]

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for engine in self.engines.values():
            engine.close()


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.split("?")[0]
        with self.server.lock:
            self.server.heard.append(f"{self.command} {path}")
            time.sleep(self.server.delay)
            try:
                result, status = self.answer(path, json.loads(body or b"null")), 200
            except LookupError as error:
                result, status = str(error), 404
            except OverflowError:
                result, status = "the disk is full", 507
        if isinstance(result, bytes):
            raw = result
        else:
            told = {"result": result, "status": "ok", "time": 0} if status == 200 else {"status": {"error": result}}
            raw = json.dumps(told).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        except OSError:
            pass  # whoever asked did not wait

    do_GET = do_PUT = do_POST = do_DELETE = do  # noqa: N815

    def answer(self, path: str, body: Any) -> Any:
        found = re.fullmatch(r"/collections/([^/]+)(.*)", path)
        if found is None:
            raise LookupError(path)
        engine, rest = self.server.engine(found[1]), found[2]
        ask = f"{self.command} {rest}".strip()
        done = {"operation_id": 1, "status": "completed"}
        if ask == "GET /exists":
            return {"exists": engine.widths() is not None}
        if ask == "PUT":
            made = models.CreateCollection.model_validate(body)
            assert isinstance(made.vectors, dict)
            assert all(one.distance == "Dot" and one.datatype == "float16" for one in made.vectors.values())
            engine.create({name: one.size for name, one in made.vectors.items()})
            return True
        if engine.widths() is None:
            raise LookupError(f"Collection `{found[1]}` doesn't exist!")
        if ask == "GET":
            return _info(engine)
        if ask == "PUT /index":
            field = models.CreateFieldIndex.model_validate(body)
            kind = field.field_schema if isinstance(field.field_schema, str) else "prefix"
            engine.index_fields({field.field_name: str(getattr(kind, "value", kind))})
            return done
        if ask == "PUT /points":
            if self.server.fail_after is not None:
                self.server.fail_after -= 1
                if self.server.fail_after < 0:
                    raise OverflowError
            engine.write([_point(one) for one in models.PointsList.model_validate(body).points])
            return done
        if ask == "POST /points/delete":
            engine.delete(models.PointIdsList.model_validate(body).points)  # type: ignore[arg-type]
            return done
        return self.read(engine, ask, body)

    def read(self, engine: EdgeEngine, ask: str, body: Any) -> Any:
        if ask == "POST /points":
            return [{"id": one.id, "payload": one.payload} for one in engine.read(body["ids"]).values()]
        if ask == "POST /points/scroll":
            wanted = models.ScrollRequest.model_validate(body)
            after = -1 if wanted.offset is None else int(wanted.offset)
            asked, vectors = wanted.with_payload, bool(wanted.with_vector)
            every = [
                {"id": one.id, "payload": one.payload, "vector": one.vectors}
                for page in engine.pages(payload=asked if isinstance(asked, list) else (), vectors=vectors)
                for one in page
                if one.id >= after
            ]
            limit = wanted.limit or 10
            return {"points": every[:limit], "next_page_offset": every[limit]["id"] if len(every) > limit else None}
        if ask == "POST /points/count":
            counted = models.CountRequest.model_validate(body)
            assert counted.exact
            return {"count": engine.count(_plain(counted.filter))}
        if ask == "POST /points/query/batch":
            answers = []
            for one in models.QueryRequestBatch.model_validate(body).searches:
                query = np.asarray([one.query.nearest], np.float32)
                chosen = None if one.filter is None else _plain(one.filter)
                found = engine.nearest(str(one.using), query, int(one.limit or 10), chosen)[0]
                answers.append({"points": [{"id": number, "version": 1, "score": score} for number, score in found]})
            return answers
        if ask == "POST /snapshots":
            return {"name": "one.snapshot", "size": len(SNAPSHOT)}
        if ask == "GET /snapshots/one.snapshot":
            return SNAPSHOT
        if ask == "DELETE /snapshots/one.snapshot":
            return True
        raise LookupError(ask)


def _point(one: Any) -> Point:
    named = {name: np.asarray(row, np.float32) for name, row in one.vector.items()}
    ((modality, vector),) = named.items() if named else (("", None),)
    return Point(one.id, one.payload, modality, vector)


def _plain(chosen: Any) -> Any:
    return json.loads(chosen.model_dump_json(exclude_none=True))


def _info(engine: EdgeEngine) -> dict[str, Any]:
    vectors = {name: {"size": size, "distance": "Dot"} for name, size in (engine.widths() or {}).items()}
    schema = engine._open.info().payload_schema
    return {
        "status": "green",
        "optimizer_status": "ok",
        "segments_count": 1,
        "config": {
            "params": {"vectors": vectors},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            },
        },
        "payload_schema": {path: {"data_type": "keyword", "points": one.points} for path, one in schema.items()},
    }
