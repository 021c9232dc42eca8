"""A text from outside is words, whatever it looks like: nothing is opened, nothing is connected to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedspace.query import Query, Source, Term, compose
from embedspace.serve.search.batching import BatchedSpace
from tests.support.cli_media import media_folder
from tests.support.serving import Running, ServeSpace, filled_catalog, running

_seen: list[tuple[str, Any]] | None = None
_hooked = False
_WATCHED = ("open", "socket.connect", "socket.getaddrinfo", "os.listdir", "subprocess.Popen")


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in (
        "open",
        "socket.connect",
        "socket.getaddrinfo",
        "os.listdir",
        "subprocess.Popen",
    ):
        _seen.append((event, arguments[1] if event == "socket.connect" else arguments[0]))


@pytest.fixture
def seen() -> Iterator[list[tuple[str, Any]]]:
    """What this process opens and connects to during a test."""
    global _seen, _hooked
    if not _hooked:  # such a hook cannot be taken away
        sys.addaudithook(_note)
        _hooked = True
    _seen = []
    yield _seen
    _seen = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media_folder(tmp_path_factory.mktemp("words") / "media")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Running]:
    with running(filled_catalog(folder.parent / "media.catalog", folder)) as found:
        yield found


def _texts(folder: Path) -> list[str]:
    picture = str(folder / "dog.png")
    return [
        picture,
        "dog.png + b",
        f"{picture} + rain.wav - grass",
        f'"{picture}"',
        "./dog.png",
        "~/.ssh/id_rsa",
        "/etc/passwd",
        "file:///etc/passwd",
        "../../../../etc/passwd",
        "http://localhost:9/x.png",
        "//localhost/share/x.png",
        "2:dog.png",
        "-",
        "+ +",
        "x\0y.png",
        "data:image/png;base64,AAAA",
        "\\\\host\\x",
    ]


def test_a_text_that_names_a_file_is_searched_for_as_words(
    served: Running, folder: Path, seen: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    texts = _texts(folder)
    seen.clear()
    for text in texts:
        found = served.search({"text": text}, k=1)
        assert found["terms"] == [{"label": text, "kind": "text", "weight": 1.0, "as": "text"}]
        served.search({"text": text}, {"text": "tall grass", "weight": -0.5}, k=1)
        for shape in ({"input": text}, {"input": [{"text": text}]}):
            assert served.client.post("/v1/embeddings", json=shape).status_code == 200
    opened = [str(what) for event, what in seen if event != "socket.connect"]
    assert [what for what in opened if "dog.png" in what or "passwd" in what or "ssh" in what or ":9" in what] == []
    assert {what[1] for event, what in seen if event == "socket.connect"} <= {served.port}


def test_the_hook_sees_what_it_is_for(
    folder: Path, seen: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    seen.clear()
    compose("dog.png", ServeSpace())  # the command line's way
    assert any("dog.png" in str(what) for event, what in seen if event == "open")


def test_compose_asks_the_resolver_for_every_term(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    space, asked = ServeSpace(), list[Term]()

    def words(term: Term) -> Source:
        asked.append(term)
        return Source(term.value, "text")

    query = compose(Query((Term(1.0, "dog.png"), Term(-0.5, "/etc/passwd"))), space, resolver=words)
    assert [term.value for term in asked] == ["dog.png", "/etc/passwd"]
    assert [term.modality for term in query.terms] == ["text", "text"]
    assert compose("dog.png", space).terms[0].modality == "image"


def test_a_vector_that_is_known_is_not_encoded_again() -> None:
    space = ServeSpace()
    row = space.encode_decoded([space.decode("tall grass", "text")])[0][0].vector
    space.batches.clear()
    query = compose(Query((Term(2.0, "x"),)), space, resolver=lambda _: Source("x", "image", None, (row, "image")))
    assert space.batches == [] and query.modality == "image"
    assert query.vector == pytest.approx(row, abs=1e-6)
    assert query.unknown == ()


def test_the_server_s_space_decodes_no_path(folder: Path, served: Running) -> None:
    space = served.service.space
    assert isinstance(space, BatchedSpace)
    with pytest.raises(TypeError, match="process of their own"):
        space.decode(folder / "dog.png", "image")
