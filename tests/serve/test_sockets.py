"""Clients that leave things half done: clocks close their connections; and what the server does as it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from embedspace.serve.settings import Limits
from tests.support.cli_media import media_folder
from tests.support.serving import Running, ServeSpace, filled_catalog, running

ROOT = Path(__file__).resolve().parents[2]
HEAD = "POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
QUICK = Limits(header_seconds=0.6, body_seconds=2.5, idle_seconds=0.6, keep_alive_seconds=1)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = media_folder(tmp_path_factory.mktemp("sockets") / "media")
    return filled_catalog(folder.parent / "media.catalog", folder)


@pytest.fixture(scope="module")
def served(catalog: Path) -> Iterator[Running]:
    with running(catalog, limits=QUICK) as found:
        yield found


def _seconds_open(port: int, *parts: str, pause: float = 0.0, patience: float = 6.0) -> float:
    """Send parts with pauses between them; return how long the server then keeps the connection open."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        started = time.monotonic()
        try:
            for part in parts:
                connection.sendall(part.encode())
                time.sleep(pause)
            while connection.recv(4096):
                pass
        except TimeoutError:
            return float("inf")
        except OSError:  # reset
            pass
        return time.monotonic() - started


def test_a_silent_connection_is_closed(served: Running) -> None:
    assert 0.4 < _seconds_open(served.port) < 2.0


def test_half_sent_headers_are_not_waited_for(served: Running) -> None:
    assert 0.4 < _seconds_open(served.port, HEAD) < 2.0


def test_headers_that_drip_are_not_waited_for(served: Running) -> None:
    assert _seconds_open(served.port, *(f"X-{n}: y\r\n" if n else HEAD for n in range(40)), pause=0.1) < 3.0


def test_a_half_sent_body_is_not_waited_for(served: Running) -> None:  # not even until the whole body is due
    declared = f"{HEAD}Content-Length: 100\r\n\r\n{{"
    assert 0.4 < _seconds_open(served.port, declared) < 2.0
    chunked = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n"
    assert 0.4 < _seconds_open(served.port, chunked) < 2.0


def test_a_body_that_drips_is_not_waited_for(served: Running) -> None:
    dripping = [f"{HEAD}Content-Length: 1000\r\n\r\n", *("{" * 50)]
    assert 2.0 < _seconds_open(served.port, *dripping, pause=0.1) < 5.0


def test_the_rest_of_a_refused_body_is_not_waited_for(served: Running) -> None:
    refused = HEAD.replace("application/json", "text/plain") + "Content-Length: 1000\r\n\r\n"
    assert _seconds_open(served.port, refused, *("x" * 40), pause=0.1) < 4.0


def test_a_connection_that_was_used_is_closed_when_idle(served: Running) -> None:
    request = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert 0.8 < _seconds_open(served.port, request) < 3.0
    assert _seconds_open(served.port, request, "GET /hea", pause=0.3) < 3.0


def test_a_slow_but_steady_body_is_taken(served: Running) -> None:
    body = b'{"terms": [{"text": "tall grass"}]}'

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(body), 8):
            time.sleep(0.15)
            yield body[start : start + 8]

    response = served.client.post("/api/search", content=slowly(), headers={"Content-Type": "application/json"})
    assert response.status_code == 200


def test_a_long_answer_is_not_cut_off_by_the_clocks(served: Running) -> None:
    served.space.may_encode.clear()
    threading.Timer(2.0, served.space.may_encode.set).start()
    assert served.search({"text": "tall grass slowly"})["hits"]


def test_a_client_is_not_cut_off_while_the_server_does_not_read(catalog: Path) -> None:  # but afterwards, if it drips
    space = ServeSpace()
    space.may_encode.clear()  # the encoder loads: nobody reads the body until then
    head = HEAD.replace("/api/search", "/api/queries").replace("application/json", "image/png")
    dripping = [f"{head}Content-Length: {8 << 20}\r\n\r\n{'x' * (1 << 20)}", *("x" * 60)]
    with running(catalog, space, limits=QUICK) as served, ThreadPoolExecutor(1) as other:
        threading.Timer(3.0, space.may_encode.set).start()
        open_for = other.submit(_seconds_open, served.port, *dripping, pause=0.1)
        headers = {"Content-Type": "image/png"}
        answer = served.client.post("/api/queries", content=b"x" * (8 << 20), headers=headers)
        assert answer.status_code == 400 and "error" in answer.json()
        assert 2.9 < open_for.result() < 5.5


def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_news(
    served: Running, caplog: pytest.LogCaptureFixture
) -> None:
    before = served.client.get("/metrics").text.count('status="499"')
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        head = HEAD.replace("/api/search", "/api/queries").replace("application/json", "image/png")
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
        time.sleep(0.2)
    last = time.monotonic() + 10
    while served.client.get("/metrics").text.count('status="499"') == before:
        assert time.monotonic() < last
        time.sleep(0.1)
    assert not [record for record in caplog.records if record.name == "embedspace.serve"]


def test_several_requests_share_a_connection(served: Running) -> None:
    for number in range(5):
        assert served.search({"text": f"grass {number}"})["hits"]
        time.sleep(0.2)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_events_end_with_the_server_and_searches_are_finished(catalog: Path) -> None:
    answers: list[httpx.Response] = []
    with running(catalog) as served:
        lines: list[str] = []

        def watch() -> None:
            with httpx.Client(base_url=served.address, trust_env=False) as client:
                with client.stream("GET", "/api/index/events") as events:
                    lines.extend(events.iter_lines())

        def search() -> None:
            with httpx.Client(base_url=served.address, trust_env=False, timeout=20) as client:
                answers.append(client.post("/api/search", json={"terms": [{"text": "tall grass"}]}))

        assert served.search({"text": "first"})
        served.space.may_encode.clear()
        threads = [threading.Thread(target=work) for work in (watch, search)]
        for thread in threads:
            thread.start()
        while not (len(served.service.batcher) or served.space.waiting):
            time.sleep(0.02)
        served.server.should_exit = True
        time.sleep(0.5)
        assert not answers
        served.space.may_encode.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    assert answers[0].status_code == 200
    assert lines[0] == "event: state"


def test_sigterm_finishes_what_is_in_flight(catalog: Path) -> None:
    code = f"from tests.support.serving import serve_slowly; serve_slowly({str(catalog)!r}, 1.5)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    found: list[httpx.Response] = []
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        assert client.post("/api/search", json={"terms": [{"text": "warm"}]}).status_code == 200
        asking = threading.Thread(
            target=lambda: found.append(client.post("/api/search", json={"terms": [{"text": "tall grass"}]}))
        )
        asking.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health", trust_env=False)
        asking.join(20)
    assert found[0].status_code == 200 and found[0].json()["hits"]
    assert process.wait(20) == 0
    process.stdout.close()
