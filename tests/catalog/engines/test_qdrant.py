"""Qdrant as an engine: the hits of the catalog itself, through Edge in this process and through the client over HTTP.

The server is a stand-in (`tests/support/qdrant_server`): no registry has the binary.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import embedspace.catalog.engines.push as pushing
from embedspace.calibration.model import Calibration, MatchModel, PairCalibration
from embedspace.catalog import Catalog, CatalogItem, Hit
from embedspace.catalog.engines.address import EngineAddress
from embedspace.catalog.engines.contract import RECORD, Engine, Point
from embedspace.catalog.engines.filters import FilterTranslator
from embedspace.catalog.engines.index import EngineIndex
from embedspace.catalog.engines.opening import open_engine, read_record
from embedspace.catalog.engines.push import push
from embedspace.catalog.engines.served import ServedCatalog, open_served
from embedspace.catalog.engines.verifying import verify_engine
from embedspace.catalog.index.base import IndexState, VectorIndex
from embedspace.catalog.index.local import LocalIndex
from embedspace.errors import CatalogNotFoundError, EngineError, InputError
from embedspace.segment import Segment
from tests.support.catalog_encoder import EMBED_DIM, HashEncoder, new_catalog, random_units, vector_items
from tests.support.qdrant_server import SNAPSHOT, StandIn

MODELS = {
    "text>image": PairCalibration(model=MatchModel(30.0, 5.0, -20.0, -2.0, 1.0, -0.1, -2.0)),
    "text>audio": PairCalibration(model=MatchModel(12.0, 2.0, -8.0, 0.0, 0.0, -0.3, -1.0)),
    "text>text": PairCalibration(model=MatchModel(12.0, 2.0, -8.0, 0.0, 0.0, -0.3, -1.0)),
}
QUERIES = random_units(6, seed=3)


def items() -> Iterator[CatalogItem]:
    rows = random_units(240)
    for number in range(80):
        metadata = {
            "number": number,
            "share": number / 10, "third": number / 3, "even": number % 2 == 0,
            "camera": ("X100", "x200", "Leica Q2")[number % 3],
            "shot": f"2024-{1 + number % 12:02d}-{1 + number % 28:02d}", "a.b": number / 2,
            "exif": {"iso": number * 100},
            "mixed": number if number % 2 else f"n{number}", "tags": ["hot"],
            "at": f"2024-01-01T00:{number % 60:02d}:00",
            **({"rare": "yes"} if number < 3 else {}),
        }  # fmt: skip
        kind = "audio" if number % 4 == 0 else "image"
        segments = [Segment(kind, rows[3 * number + part], float(part), part + 1.0) for part in range(1 + number % 3)]
        yield CatalogItem(
            f"/{kind}s/{number}.bin",
            kind,
            segments,
            metadata,
            size=number,
            mtime_ns=number * 1_001_000_037 + 10**18 * (number == 9),
        )
    for number in range(20):
        label, end = ("title", 5.0) if number % 3 else ("", 400.0 if number % 2 else 20.0)
        segment = Segment("text", random_units(1, seed=500 + number)[0], 0.0, end, f"text {number}", label)
        yield CatalogItem(f"/texts/{number}.txt", "text", [segment], {"number": 100 + number})


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog.create(
        tmp_path_factory.mktemp("truth") / "c.catalog",
        embed_dim=EMBED_DIM,
        fingerprints=HashEncoder().fingerprints(),
        calibration_json=Calibration(pairs=MODELS).to_json(),
    ) as opened:
        opened.add(items())
        opened.add([CatalogItem("/elsewhere/1.bin", "image", opened.item(next(opened.items("number = 1")).id).segments,
                                content_hash=next(opened.items("number = 1")).id)])  # fmt: skip
        yield opened


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: an engine waits for its disk a dozen times."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def edge(memory: Path) -> str:
    return f"qdrant:{tempfile.mkdtemp(dir=memory)}/e"


@pytest.fixture(scope="module")
def server(memory: Path) -> Iterator[StandIn]:
    stand_in = StandIn(memory)
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="module", params=["edge", "server"])
def address(request: pytest.FixtureRequest, catalog: Catalog, server: StandIn, memory: Path) -> str:
    where = server.address() if request.param == "server" else f"qdrant:{memory / 'edge'}"
    with opened_engine(where) as engine:
        assert push(catalog.store, engine).written == 179
    return where


@pytest.fixture(scope="module")
def served(address: str) -> Iterator[ServedCatalog]:
    with open_served(address) as opened:
        yield opened


@contextlib.contextmanager
def opened_engine(address: str) -> Iterator[Engine]:
    with contextlib.closing(open_engine(EngineAddress.parse(address))) as engine:
        yield engine


def agree(wanted: list[list[Hit]], found: list[list[Hit]]) -> None:
    for one, other in zip(wanted, found, strict=True):
        assert [(hit.id, hit.uri, hit.start, hit.rank) for hit in one] == [
            (hit.id, hit.uri, hit.start, hit.rank) for hit in other
        ]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=2e-6)
        assert [hit.probability for hit in one] == pytest.approx([hit.probability for hit in other], abs=1e-5)


def test_engine_finds_what_the_catalog_finds(catalog: Catalog, served: ServedCatalog) -> None:
    documents = np.stack([QUERIES, np.roll(QUERIES, 1, axis=0) * 0.5], axis=1)
    for to in (None, "audio", ["image", "text"]):
        for k in (1, 12, 70):
            ask = {"query_modality": "text", "k": k, "to": to, "document_vectors": documents}
            wanted = catalog.search(QUERIES, **ask)
            agree(wanted, served.search(QUERIES, **ask))
            assert all(hit.probability is not None for hit in wanted[0])
    assert served.sizes() == catalog.sizes()
    assert served.remarks() == [] and verify_engine(catalog.store, served.engine.engine, None).ok
    wanted = catalog.search(QUERIES, query_modality="text", min_probability=0.02)
    agree(wanted, served.search(QUERIES, query_modality="text", min_probability=0.02))


TRANSLATED = [
    "number = 4", "number in (1, 4, 5.0, 77)", "number not in (1, 4)", "number != 3", "number between 10 and 20.5",
    "number >= 70 and not (even = true)", "even = false or exif.iso < 300", "exif.iso = 1e3", "camera = 'X100'",
    "camera != 'X100'", "camera in ('X100', 'Leica Q2')", "camera not in ('X100')", "camera like 'X%'",
    "camera not like 'leica%'", "rare is null", "rare is not null", "shot >= '2024-10'", "shot > '2024'",
    "shot < '2024-02-03'", "shot <= '2024'", "shot between '2024-03' and '2024-05-02'", "at >= '2024-01-01T00:30:00'",
    "at < '2024-01-01T00:30:00'", "kind = 'audio'", "modality != 'image'", "label = 'title'", "text = 'text 3'",
    "start >= 1 and end <= 2", "size > 50", "mtime >= 40 and mtime < 50", "share = 0.1",
    "share in (0.3, 2)", "third > 1.6666666666 and third <= 2", "uri like '/AUDIOS/1%'",
    "uri = '/elsewhere/1.bin'", "not (kind = 'audio' or number < 40)",
]  # fmt: skip
ANSWERED = [
    "camera like '%eica%'", "camera like 'X_00'", "mixed > 5", "mixed = 'n4'", "mixed is null", "number = 'abc'",
    "camera > 'a'",
    "number < 'abc'", "tags like '%hot%'", "uri != '/images/1.bin'", "uri not like '/images/%'", "text like '%3'",
    "shot >= '2024-13'", "shot > 'now'", "number like '1%'", "a.b < 3", f"number < {2**60}",
]  # fmt: skip


@pytest.mark.parametrize("where", [*TRANSLATED, *ANSWERED])
def test_filters_mean_the_same(catalog: Catalog, served: ServedCatalog, where: str) -> None:
    ask = {"query_modality": "text", "k": 100}
    wanted = catalog.search(QUERIES[:1], where=where, **ask)
    agree(wanted, served.search(QUERIES[:1], where=where, **ask))
    told = served.remarks(where)
    assert [where in line and "SQLite answers it" in line for line in told] == ([] if where in TRANSLATED else [True])
    assert served.explain(where).endswith("all of it" if where in TRANSLATED else "the rest")
    assert wanted[0] or where in (
        "shot >= '2024-13'",
        "shot > 'now'",
        "number = 'abc'",
        "shot <= '2024'",
        "mixed is null",
    )


def test_only_what_cannot_be_asked_is_answered_by_sqlite(catalog: Catalog, served: ServedCatalog) -> None:
    where = "camera like '%eica%' and number < 40"
    agree(*(one.search(QUERIES[:1], query_modality="text", where=where) for one in (catalog, served)))
    assert len(served.remarks(where)) == 1 and "number" not in served.remarks(where)[0]


def test_filter_that_leaves_too_much_is_refused(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.catalog.engines.filters.MOST_NUMBERS", 5)
    translator = FilterTranslator(catalog.store, lambda words: range(6))
    with pytest.raises(
        InputError, match=r"where: .camera > .a.. cannot be asked of the engine, and 6 segments fulfil it; at"
    ):
        translator.translate(catalog._searcher.condition("camera > 'a'").root)


def test_engine_is_a_vector_index(catalog: Catalog, served: ServedCatalog) -> None:
    local: VectorIndex = catalog._index.current()
    assert isinstance(local, LocalIndex)
    index: VectorIndex = served.engine
    assert index.state() == local.state() and index.counts() == local.counts()
    assert np.array_equal(index.segments("image"), local.segments("image"))
    for chosen in (None, local.segments("image")[::3]):
        both = zip(local.search("image", QUERIES, 9, chosen), index.search("image", QUERIES, 9, chosen), strict=True)
        for one, other in both:
            assert np.array_equal(one.seq, other.seq) and one.ids == other.ids
            assert one.background.expected_best == pytest.approx(other.background.expected_best, abs=1e-5)
    assert not len(index.search("video", QUERIES, 3)[0].seq)


def test_push_is_told_of_every_change(tmp_path: Path, edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "CHUNK", 16)
    with new_catalog(tmp_path / "c.catalog") as catalog, opened_engine(edge) as engine:
        catalog.add(vector_items(random_units(40), per_item=2))
        index = EngineIndex(catalog.store, engine)
        assert push(catalog.store, engine).changed == 3
        again = push(catalog.store, engine)
        assert (again.segments, again.written, again.changed) == (40, 0, 0)
        catalog.remove("number = 1")
        catalog.add(vector_items(random_units(6, seed=9), "audio", first=50))
        first = next(catalog.items("number = 4"))
        catalog.add([CatalogItem("moved", "image", catalog.item(first.id).segments, {"note": "x"}, first.id)])
        assert not verify_engine(catalog.store, engine).ok
        index.commit(IndexState())
        assert verify_engine(catalog.store, engine).ok
        assert index.state() == IndexState(*catalog.store.state()[1:])
        assert push(catalog.store, engine).written == 0
        catalog.remove("number >= 0")
        assert push(catalog.store, engine).segments == 0 and index.counts() == {}
        assert verify_engine(catalog.store, engine).ok and engine.count({"must_not": [{"has_id": [0, 2**62]}]}) == 0


def test_verify_finds_what_differs_and_push_all_mends_it(tmp_path: Path, edge: str) -> None:
    with new_catalog(tmp_path / "c.catalog") as catalog, opened_engine(edge) as engine:
        assert "empty" in verify_engine(catalog.store, engine).problems[0].detail
        catalog.add(vector_items(random_units(12)))
        push(catalog.store, engine)
        kept = engine.read([2, 3])
        engine.delete([5])
        engine.write(
            [
                Point(1, engine.read([1])[1].payload, "image", random_units(1, seed=77)[0]),
                Point(
                    2,
                    {**kept[2].payload, "meta": {"number": 99}},
                    "image",
                    random_units(2)[1].astype("f2").astype("f4"),
                ),
                Point(9999, kept[3].payload, "image", random_units(1)[0]),
            ]
        )
        assert push(catalog.store, engine).written == 0  # it was told of all that the catalog knows of
        found = verify_engine(catalog.store, engine, None)
        told = "\n".join(f"{one.where}: {one.detail}" for one in found.problems)
        assert found.vectors == 12 - 1
        for line in ("segment 1: its image vector differs", "segment 2: meta: not as in the catalog",
                     "segment 9999: not in the catalog", "segment 5: missing"):  # fmt: skip
            assert line in told
        assert "push" in told and "--all" in told and len(found.problems) == 5
        assert push(catalog.store, engine, anew=True).written == 12
        assert verify_engine(catalog.store, engine, None).ok


def test_killed_push_goes_on(tmp_path: Path, edge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, where = tmp_path / "c.catalog", edge
    with new_catalog(path) as catalog:
        catalog.add(vector_items(random_units(60)))
    program = (
        "import sys, time, embedspace.catalog.engines.push as pushing\n"
        "from embedspace.catalog import Catalog\n"
        "from embedspace.catalog.engines.address import EngineAddress\n"
        "from embedspace.catalog.engines.opening import open_engine\n"
        "pushing.CHUNK = 8\n"
        "def told(now):\n    print(now.seen, flush=True)\n    time.sleep(0.02)\n"
        "with Catalog.open(sys.argv[1], read_only=True) as catalog:\n"
        "    pushing.push(catalog.store, open_engine(EngineAddress.parse(sys.argv[2])), told)\n"
    )
    command = [sys.executable, "-c", program, str(path), where]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [int(child.stdout.readline()) for _ in range(3)]
        child.send_signal(signal.SIGKILL)
    monkeypatch.setattr(pushing, "CHUNK", 8)
    with pytest.raises(EngineError, match="only partly filled, no push has ended; run: embedspace catalog push"):
        open_served(where)
    with Catalog.open(path) as catalog, opened_engine(where) as engine:
        known = read_record(engine)
        assert known is not None and len(known.chunks) >= 3 and 8 <= seen[-1] < 60
        assert "only partly filled" in verify_engine(catalog.store, engine).problems[0].detail
        report = push(catalog.store, engine)
        assert report.changed == report.ranges - len(known.chunks) > 0
        assert verify_engine(catalog.store, engine, None).ok


def test_server_that_fills_up_is_gone_on_with(tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "CHUNK", 16)
    where = server.address("full")
    with new_catalog(tmp_path / "c.catalog") as catalog, opened_engine(where) as engine:
        catalog.add(vector_items(random_units(60)))
        server.fail_after = 5
        with pytest.raises(EngineError, match=r"full: the server answered 507: .*the disk is full"):
            push(catalog.store, engine)
        server.fail_after = None
        report = push(catalog.store, engine)
        assert 0 < report.changed < report.ranges and verify_engine(catalog.store, engine, None).ok


def test_snapshot_is_one_file(served: ServedCatalog, tmp_path: Path, catalog: Catalog) -> None:
    served.engine.engine.snapshot(str(tmp_path / "out"))
    if served.engine.engine.address.url:
        assert (tmp_path / "out").read_bytes() == SNAPSHOT
        return
    with tarfile.open(tmp_path / "out") as archive:
        archive.extractall(tmp_path / "again", filter="data")
    with opened_engine(f"qdrant:{tmp_path / 'again' / 'edge'}") as copy:
        assert verify_engine(catalog.store, copy).ok


def test_what_holds_something_else_is_refused(tmp_path: Path, catalog: Catalog, server: StandIn) -> None:
    where = server.address("other")
    with new_catalog(tmp_path / "other.catalog") as other, opened_engine(where) as engine:
        other.add(vector_items(random_units(3)))
        push(other.store, engine)
        with pytest.raises(EngineError, match=r"holds another catalog \(.*other\.catalog\); push to another name"):
            push(catalog.store, engine)
        with pytest.raises(EngineError, match="holds another catalog"):
            open_served(where, catalog.path)
        other.store.set_meta("embed_dim", 24)
        with pytest.raises(EngineError, match=r"takes vectors of length 16, .* holds 24; push to another name"):
            push(other.store, engine)
        with pytest.raises(EngineError, match="holds vectors of length 16, the catalog 24"):
            _ = open_served(where).engine.record
        other.store.set_meta("embed_dim", 16)
        with other.store.writing("change it") as connection:
            connection.execute("UPDATE fingerprints SET digest = 'another' WHERE modality = 'image'")
        with pytest.raises(EngineError, match="its image vectors are of another encoder; run: embedspace catalog push"):
            open_served(where)
        found = " ".join(one.detail for one in verify_engine(other.store, engine).problems)
        assert "fingerprint of image: of another encoder" in found and "has changed since it was pushed" in found
        push(other.store, engine)
        assert verify_engine(other.store, engine).ok
        engine.delete([RECORD])
        with pytest.raises(EngineError, match="holds points of something else; push to another name"):
            push(other.store, engine)
    other.path.rename(tmp_path / "moved.catalog")
    with opened_engine(server.address("moved")) as engine, Catalog.open(tmp_path / "moved.catalog") as moved:
        push(moved.store, engine)
    (tmp_path / "moved.catalog").rename(tmp_path / "again.catalog")
    with pytest.raises(CatalogNotFoundError, match=r"moved\.catalog: not there, but .*moved was filled from it; name"):
        open_served(server.address("moved"))
    with open_served(server.address("moved"), tmp_path / "again.catalog") as found_again:
        assert len(found_again.search(QUERIES, query_modality="text", k=2)[0]) == 2
        with Catalog.open(tmp_path / "again.catalog") as writer:
            writer.add(vector_items(random_units(1, seed=5), first=9))
        assert "has changed since it was pushed" in found_again.remarks()[0]


def test_engine_that_does_not_answer_is_one_line(tmp_path: Path, catalog: Catalog, server: StandIn, edge: str) -> None:
    with pytest.raises(EngineError, match=r"media: cannot be reached \(.*refused\); is the server running\?"):
        open_served("qdrant:http://127.0.0.1:9/media")
    with pytest.raises(EngineError, match="nothing is there; run: embedspace catalog push CATALOG --to qdrant:http"):
        open_served(server.address("nothing"))
    server.delay = 1.5
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"no answer within 1 s; is it overloaded\? --timeout waits longer"):
        open_served(server.address(), timeout=1)
    assert time.monotonic() - began < 5
    server.delay = 0.0
    where = edge
    with opened_engine(where) as engine, new_catalog(tmp_path / "c.catalog") as small:
        small.add(vector_items(random_units(2)))
        push(small.store, engine)
        with pytest.raises(EngineError, match="another process uses it; try again when that has ended"):
            open_served(where)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    with pytest.raises(EngineError, match="there is something else at"), opened_engine(f"qdrant:{tmp_path / 'full'}"):
        pass
    assert (tmp_path / "full" / "a.txt").read_text() == "mine"


def test_answer_that_never_ends_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
                while not ended.wait(0.1):
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        try:
            with pytest.raises(EngineError, match=r"no answer within 1 s; is it overloaded\? --timeout waits longer"):
                open_served(f"qdrant:http://127.0.0.1:{listening.getsockname()[1]}/media", timeout=1)
        finally:
            ended.set()
            thread.join()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "text", ["qdrant:", "qdrant:http://host:6333", "qdrant:http://", "milvus:x", "qdrant:http://h/a b"]
)
def test_address_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="qdrant:http://"):
        EngineAddress.parse(text)


def test_address_survives_being_a_path() -> None:
    written = "qdrant:http://127.0.0.1:6333/a/prefix/media"
    assert EngineAddress.parse(str(Path(written))) == EngineAddress.parse(written)
    found = EngineAddress.parse(written)
    assert (found.url, found.collection, found.folder) == ("http://127.0.0.1:6333/a/prefix", "media", None)
