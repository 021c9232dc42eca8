"""Who may ask: hosts, origins, content types, tokens, sizes. Against a real server."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedspace.errors import ConfigError, InputError
from embedspace.serve.settings import Limits, ServeSettings, read_token
from tests.support.cli_media import picture
from tests.support.serving import Running, filled_catalog, raw_request, running

TOKEN = "correct-horse-battery-staple"
QUERY = {"terms": [{"text": "tall grass"}]}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secure")
    (folder / "media").mkdir()
    picture(folder / "media" / "dog.png")
    return filled_catalog(folder / "media.catalog", folder / "media")


@pytest.fixture(scope="module")
def served(catalog: Path) -> Iterator[Running]:
    with running(catalog, limits=Limits(body_bytes=20_000, upload_bytes=50_000)) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(catalog: Path) -> Iterator[Running]:
    with running(catalog, token=TOKEN, allow_hosts=("media.example",)) as found:
        yield found


def _code(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"]


# -- who is served -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "media.example"])
def test_other_machines_need_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a token"):
        ServeSettings(tmp_path, host=host)
    ServeSettings(tmp_path, host=host, token=TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_needs_none(host: str, tmp_path: Path) -> None:
    ServeSettings(tmp_path, host=host)


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 16"):
        ServeSettings(tmp_path, token="secret")


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDSPACE_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    file = tmp_path / "token"
    file.write_text(f"  {TOKEN}2\n")
    assert read_token(file) == f"{TOKEN}2"
    file.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_token(file)
    monkeypatch.delenv("EMBEDSPACE_TOKEN")
    assert read_token(None) is None


def test_without_the_token_nothing_private_is_told(guarded: Running) -> None:
    for path in ("/api/catalog", "/v1/models", "/metrics", "/openapi.json", "/api/map", "/api/nothing"):
        response = guarded.client.get(path)
        assert _code(response) == (401, "unauthorized"), path
        assert response.headers["www-authenticate"] == "Bearer"
    assert _code(guarded.client.post("/api/search", json=QUERY)) == (401, "unauthorized")
    for path in ("/health", "/"):
        assert guarded.client.get(path).status_code == 200


def test_the_bearer_is_compared_in_constant_time(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []
    real = hmac.compare_digest

    def seen(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", seen)
    right = guarded.client.get("/api/catalog", headers={"Authorization": f"Bearer {TOKEN}"})
    assert right.status_code == 200 and right.json()["token_required"] is True
    for wrong in (f"{TOKEN}x", TOKEN[:-1], "x", "\u00e9"):
        header = {"Authorization": f"Bearer {wrong}".encode()}
        assert guarded.client.get("/api/catalog", headers=header).status_code == 401  # type: ignore[arg-type]
    assert len(compared) == 5


def test_a_browser_trades_the_token_for_a_cookie(guarded: Running) -> None:
    wrong = guarded.client.post("/session", json={"token": "x" * 20})
    assert _code(wrong) == (401, "unauthorized") and "set-cookie" not in wrong.headers
    with httpx.Client(base_url=guarded.address, trust_env=False) as browser:
        traded = browser.post("/session", json={"token": TOKEN})
        assert traded.status_code == 204
        cookie = traded.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
        assert TOKEN not in cookie
        assert browser.get("/api/catalog").status_code == 200
        name, value = next(iter(browser.cookies.items()))
    for forged in (value[:-1] + ("0" if value[-1] != "0" else "1"), "", "\u00e9"):
        header = {"Cookie": f"{name}={forged}".encode()}
        assert guarded.client.get("/api/catalog", headers=header).status_code == 401  # type: ignore[arg-type]


# -- what it is called -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "", " ", ":80", "[::2]", "10.0.0.1"]
)
def test_a_name_that_is_not_its_own_is_refused(served: Running, host: str) -> None:
    answer = raw_request(served.port, f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 400"), answer
    assert '"error"' in answer


def test_its_own_names_are_answered(served: Running, guarded: Running) -> None:
    for host in (f"localhost:{served.port}", f"127.0.0.1:{served.port}", "LocalHost", "[::1]:80"):
        answer = raw_request(served.port, f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        assert answer.startswith("HTTP/1.1 200"), answer
    allowed = "GET /health HTTP/1.1\r\nHost: media.example\r\nConnection: close\r\n\r\n"
    assert raw_request(guarded.port, allowed).startswith("HTTP/1.1 200")


def test_two_names_or_none_are_refused(served: Running) -> None:
    for lines in ("Host: localhost\r\nHost: evil.example\r\n", ""):
        answer = raw_request(served.port, f"GET /health HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")
        assert answer.startswith("HTTP/1.1 400")
    assert raw_request(served.port, "GET /health HTTP/1.0\r\n\r\n").startswith("HTTP/1.1 400")


# -- where it comes from -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ],
)
def test_what_pages_of_others_send_is_refused(served: Running, headers: dict[str, str]) -> None:
    assert _code(served.client.post("/api/search", json=QUERY, headers=headers)) == (403, "foreign_origin")
    assert _code(served.client.get("/api/catalog", headers=headers)) == (403, "foreign_origin")


def test_a_page_at_another_port_of_this_machine_is_foreign(served: Running) -> None:
    for origin in (f"http://127.0.0.1:{served.port - 1}", "http://127.0.0.1", f"ftp://127.0.0.1:{served.port}"):
        response = served.client.post("/api/search", json=QUERY, headers={"Origin": origin})
        assert _code(response) == (403, "foreign_origin"), origin


def test_its_own_page_is_answered(served: Running) -> None:
    own = {"Origin": served.address, "Sec-Fetch-Site": "same-origin"}
    assert served.client.post("/api/search", json=QUERY, headers=own).status_code == 200
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert served.client.get("/", headers=visit).status_code == 200
    framed = {**visit, "Sec-Fetch-Dest": "iframe"}
    assert served.client.get("/", headers=framed).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8", "application/x-www-form-urlencoded",
                                  "multipart/form-data; boundary=x", "TEXT/PLAIN", ""])  # fmt: skip
@pytest.mark.parametrize("path", ["/api/search", "/api/queries", "/v1/embeddings", "/api/generate", "/session"])
def test_a_body_that_any_page_could_send_is_refused(served: Running, path: str, kind: str) -> None:
    response = served.client.post(path, content=b'{"terms": [{"text": "x"}]}', headers={"Content-Type": kind})
    assert _code(response) == (403, "content_type")


def test_no_other_origin_is_ever_allowed(served: Running) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for response in (
        served.client.options("/api/search", headers=asked),
        served.client.get("/health"),
        served.client.post("/api/search", json=QUERY),
    ):
        assert not [name for name in response.headers if name.lower().startswith("access-control")]


# -- how much ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "limit"), [("/api/search", 20_000), ("/api/queries?name=a.png", 50_000)])
def test_a_body_that_is_too_large_is_refused(served: Running, path: str, limit: int) -> None:
    headers = {"Content-Type": "application/json" if "search" in path else "image/png"}
    declared = served.client.post(path, content=b" " * (limit + 1), headers=headers)
    assert _code(declared) == (413, "too_large")
    chunked = served.client.post(path, content=(b" " * 1000 for _ in range(limit // 1000 + 1)), headers=headers)
    assert "content-length" not in chunked.request.headers
    assert _code(chunked) == (413, "too_large")
    fits = served.client.post(path, content=b" " * limit, headers=headers)
    assert fits.status_code == 400


def test_a_declared_length_is_refused_before_the_body_is_sent(served: Running) -> None:
    head = "POST /api/queries HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    assert raw_request(served.port, f"{head}Content-Length: 99999999\r\n\r\n").startswith("HTTP/1.1 413")


def test_headers_that_are_too_long_are_refused(served: Running) -> None:
    answer = raw_request(served.port, f"GET /health HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 100_000}\r\n\r\n")
    assert answer.startswith("HTTP/1.1 431")


# -- what a browser may do with it -------------------------------------------------------------------------------------


def test_every_answer_says_what_a_browser_may_do(served: Running) -> None:
    for path in ("/", "/health", "/api/catalog", "/api/items/nothing", "/nothing"):
        headers = served.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none';")
        for unwanted in ("unsafe-inline", "unsafe-eval", "*", "http:"):
            assert unwanted not in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert served.client.get("/api/catalog").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    ["/../settings.py", "/..%2fsettings.py", "/%2e%2e/settings.py", "/....//settings.py", "/index.html%00.js", "/%00",
     "//etc/passwd", "/api/items/..%2f..%2fetc%2fpasswd/media", "/api/items/%00/media", "/api/jobs/../../x/events",
     "/\\..\\settings.py"],
)  # fmt: skip
def test_paths_lead_nowhere_else(served: Running, path: str) -> None:
    answer = raw_request(served.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(("HTTP/1.1 404", "HTTP/1.1 400")), answer
    assert "root:" not in answer and "import" not in answer


def test_a_link_in_the_page_s_folder_is_not_followed(
    served: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = next(route.app for route in served.service_app.routes if getattr(route, "name", "") == "page")
    page = mounted.app  # what compression is wrapped around
    (tmp_path / "secret.txt").write_text("secret")
    shown = tmp_path / "page"
    shown.mkdir()
    (shown / "link.txt").symlink_to(tmp_path / "secret.txt")
    (shown / "here.txt").write_text("here")
    monkeypatch.setattr(page, "all_directories", [str(shown)])
    assert served.client.get("/here.txt").text == "here"
    assert served.client.get("/link.txt").status_code == 404


def test_what_a_client_invents_takes_no_memory(served: Running) -> None:
    for number in range(3):
        assert served.client.request(f"MADE{number}", f"/made/{number}").status_code in (404, 405)
    told = served.client.get("/metrics").text
    assert 'method="other"' in told and "MADE" not in told and "/made/" not in told


def test_a_websocket_is_not_opened(served: Running) -> None:
    asked = (
        "GET /api/catalog HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert not raw_request(served.port, asked, wait=1.0).startswith("HTTP/1.1 101")


def test_only_the_address_that_was_asked_for_is_listened_at(served: Running) -> None:
    address = socket.getaddrinfo(socket.gethostname(), served.port, type=socket.SOCK_STREAM)[0][4][0]
    if address.startswith("127."):
        address = "127.0.0.2"  # another address of this machine
    with pytest.raises(OSError):
        socket.create_connection((address, served.port), timeout=2).close()
