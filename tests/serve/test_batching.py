"""One encoder for all: batches, the bounded queue, and clients that leave."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest
from PIL import Image

from embedspace.segment import Decoded, Segment
from embedspace.serve.errors import ApiError
from embedspace.serve.metrics import Metrics
from embedspace.serve.search.batching import Batcher, Grouper
from embedspace.serve.search.finding import Asked, Found
from embedspace.serve.settings import Limits
from tests.support.cli_media import media_folder
from tests.support.serving import Running, filled_catalog, running


class _Encoder:
    """Says what it was given, once it may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may, self.busy = threading.Event(), threading.Event()

    def __call__(self, items: list[Decoded]) -> list[list[Segment]]:
        self.busy.set()
        assert self.may.wait(10)
        self.batches.append([item.inputs[0] for item in items])
        if "bad" in self.batches[-1]:
            raise ValueError("bad")
        return [[Segment(item.kind, np.ones(2, np.float32), text=item.inputs[0])] for item in items]


def _items(*names: str, kind: str = "text") -> list[Decoded]:
    return [Decoded(kind, [name]) for name in names]


@pytest.fixture
def encoder() -> _Encoder:
    return _Encoder()


@pytest.fixture
def batcher(encoder: _Encoder) -> Iterator[Batcher]:
    made = Batcher(encoder, Metrics(), batch=4, queue=8)
    made.submit(_items("first"))
    assert encoder.busy.wait(10)
    yield made
    encoder.may.set()
    made.close()


def test_what_waits_is_encoded_together(batcher: Batcher, encoder: _Encoder) -> None:
    futures = batcher.submit(_items(*"abcdef"))
    encoder.may.set()
    assert [future.result(10)[0].text for future in futures] == list("abcdef")
    assert encoder.batches == [["first"], ["a", "b", "c", "d"], ["e", "f"]]


def test_words_go_before_media_and_media_are_not_starved(batcher: Batcher, encoder: _Encoder) -> None:
    media = batcher.submit(_items("x", kind="image"))
    words = batcher.submit(_items(*"abcde"))
    encoder.may.set()
    for future in (*media, *words):
        future.result(10)
    assert encoder.batches[1:] == [["x"], ["a", "b", "c", "d"], ["e"]]  # the first batch was words: media are due


def test_a_full_queue_refuses_all_of_a_request_or_nothing(batcher: Batcher) -> None:
    batcher.submit(_items(*"abcdef"))
    with pytest.raises(ApiError) as refused:
        batcher.submit(_items(*"ghi"))
    assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
    assert len(batcher) == 6
    batcher.submit(_items(*"gh"))


def test_a_full_queue_of_searches_refuses_the_next_and_drops_what_nobody_waits_for() -> None:
    may, busy, done = threading.Event(), threading.Event(), list[int]()

    def work(tasks: Sequence[int]) -> Sequence[int]:
        busy.set()
        assert may.wait(10)
        done.extend(tasks)
        return tasks

    grouper = Grouper(work, Metrics(), threads=1, queue=2)
    grouper.submit("key", 1)
    assert busy.wait(10)
    left, kept = grouper.submit("key", 2), grouper.submit("key", 3)
    with pytest.raises(ApiError) as refused:
        grouper.submit("key", 4)
    assert refused.value.status == 429 and len(grouper) == 2
    left.cancel()
    may.set()
    assert kept.result(10) == 3
    grouper.close()
    assert done == [1, 3]


def test_what_nobody_waits_for_is_dropped(batcher: Batcher, encoder: _Encoder) -> None:
    a, b, c = batcher.submit(_items(*"abc"))
    assert b.cancel()
    encoder.may.set()
    assert a.result(10) and c.result(10)
    assert encoder.batches[1:] == [["a", "c"]]


def test_a_bad_one_does_not_take_the_others_with_it(batcher: Batcher, encoder: _Encoder) -> None:
    a, bad, c = batcher.submit(_items("a", "bad", "c"))
    encoder.may.set()
    assert a.result(10) and c.result(10)
    with pytest.raises(ValueError, match="bad"):
        bad.result(10)


def test_words_are_encoded_while_another_thread_imports_torch(
    batcher: Batcher, encoder: _Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # nothing is in it yet
    futures = batcher.submit(_items(*"ab"))
    encoder.may.set()
    assert [future.result(10)[0].text for future in futures] == list("ab")


def test_too_few_answers_end_no_thread() -> None:
    may = threading.Event()

    def encode(items: list[Decoded]) -> list[list[Segment]]:
        assert may.wait(10)
        return [[]]

    def work(tasks: Sequence[int]) -> Sequence[int]:
        assert may.wait(10)
        return tasks[:1]

    batcher, grouper = Batcher(encode, Metrics()), Grouper(work, Metrics(), threads=1)
    encoded = batcher.submit(_items(*"abc"))
    found = [grouper.submit("key", number) for number in range(3)]
    may.set()
    assert [future.result(10) for future in encoded] == [[]] * 3
    assert [future.result(10) for future in found] == [0, 1, 2]
    batcher.close()
    grouper.close()


# -- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    folder = media_folder(tmp_path / "media")
    with running(filled_catalog(tmp_path / "media.catalog", folder), limits=Limits(queue=3)) as found:
        assert found.search({"text": "warm"})
        found.service.finder._most = 256  # only the encoder's queue is short
        found.space.batches.clear()
        yield found


def _search(address: str, text: str) -> httpx.Response:
    return httpx.post(f"{address}/api/search", json={"terms": [{"text": text}]}, timeout=30, trust_env=False)


def _until(true: object) -> None:
    for _ in range(500):
        if true():  # type: ignore[operator]
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_many_clients_share_batches_and_the_rest_is_told_to_wait(served: Running) -> None:
    served.space.may_encode.clear()
    with ThreadPoolExecutor(8) as clients:
        first = clients.submit(_search, served.address, "tall grass")
        _until(lambda: served.space.waiting)
        others = [clients.submit(_search, served.address, f"text {number}") for number in range(7)]
        _until(lambda: sum(other.done() for other in others) == 4)
        served.space.may_encode.set()
        answers = [other.result() for other in others]
    assert first.result().json()["hits"][0]["name"] == "b.txt"
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 4
    for answer in answers:
        if answer.status_code == 429:
            assert answer.headers["retry-after"] == "1" and answer.json()["error"]["code"] == "busy"
    assert [len(batch) for batch in served.space.batches] == [1, 3]
    assert 'embedspace_refused_total{queue="encoder"} 4.0' in served.client.get("/metrics").text


def test_the_place_of_a_client_that_left_is_free(served: Running) -> None:
    served.space.may_encode.clear()
    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(_search, served.address, "tall grass")
        _until(lambda: served.space.waiting)
        picture = BytesIO()
        Image.new("RGB", (8, 8), "red").save(picture, "PNG")
        with (
            _asked(served, "/api/search", b'{"terms": [{"text": "leaving"}]}'),
            _asked(served, "/v1/embeddings", b'{"input": "leaving"}'),
            _asked(served, "/api/queries", picture.getvalue(), "image/png"),
        ):
            _until(lambda: len(served.service.batcher) == 3)
        _until(lambda: _left(served) == 3)
        served.space.may_encode.set()
        assert first.result().status_code == 200
        assert _search(served.address, "after").status_code == 200
    assert served.space.batches == [["tall grass"], ["after"]]
    assert "embedspace_dropped_total 3.0" in served.client.get("/metrics").text


def test_a_search_whose_client_left_is_not_begun(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    may, begun, work = threading.Event(), list[str](), served.service.finder._work

    def held(asked: Sequence[Asked]) -> Sequence[Found]:
        begun.extend(request.terms[0].text or "" for request, _ in asked)
        assert may.wait(10)
        return work(asked)

    monkeypatch.setattr(served.service.finder, "_work", held)
    busy = [f"busy {number}" for number in range(len(served.service.finder._threads))]
    with ThreadPoolExecutor(len(busy)) as clients:
        asked = []
        for text in busy:  # one by one: each has a thread of its own
            asked.append(clients.submit(_search, served.address, text))
            _until(lambda text=text: text in begun)
        with _asked(served, "/api/search", b'{"terms": [{"text": "leaving"}]}'):
            _until(lambda: len(served.service.finder) == 1)
        _until(lambda: _left(served) == 1)
        may.set()
        assert [answer.result().status_code for answer in asked] == [200] * len(busy)
        assert _search(served.address, "after").status_code == 200
    assert begun == [*busy, "after"]


def test_a_generation_whose_client_left_is_not_begun(served: Running) -> None:
    may = threading.Event()
    first = served.service.jobs.run(lambda: may.wait(10))
    with _asked(served, "/v1/audio/speech", b'{"input": "leaving"}'):
        _until(lambda: served.service.jobs.waiting == 2)
    _until(lambda: served.service.jobs.waiting == 1)
    may.set()
    assert first.result(10)


@contextlib.contextmanager
def _asked(served: Running, path: str, body: bytes, kind: str = "application/json") -> Iterator[None]:
    """Ask, and leave without the answer."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(head.encode() + body)
        yield


def _left(served: Running) -> int:
    """How many clients did not wait for their answer."""
    told = served.client.get("/metrics").text.splitlines()
    return sum(int(float(line.split()[-1])) for line in told if "requests_total" in line and 'status="499"' in line)
