"""Searching over HTTP: words, media, items; what becomes of them, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli_media import media_folder
from tests.support.serving import Running, filled_catalog, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media_folder(tmp_path_factory.mktemp("serve") / "media")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Running]:
    with running(filled_catalog(folder.parent / "media.catalog", folder)) as found:
        yield found


def test_words_find_what_says_the_same(served: Running) -> None:
    found = served.search({"text": "tall grass"}, k=2)
    best = found["hits"][0]
    assert (best["name"], best["rank"], best["kind"]) == ("b.txt", 1, "text")
    assert best["score"] == pytest.approx(1.0, abs=1e-3) and best["probability"] > 0.9
    assert best["marks"] == [[0, 4], [5, 10]]
    assert found["good_match"] is True and found["groups"] is None
    assert found["terms"] == [{"label": "tall grass", "kind": "text", "weight": 1.0, "as": "text"}]


def test_a_picture_that_is_sent_finds_itself(served: Running, folder: Path) -> None:
    sent = served.client.post(
        "/api/queries?name=dog.png", content=(folder / "dog.png").read_bytes(), headers={"Content-Type": "image/png"}
    )
    assert sent.status_code == 201
    query = sent.json()
    assert (query["kind"], query["modalities"], query["names"][0]) == (
        "image", ["image"], {"name": "a thing", "probability": 0.75}
    )  # fmt: skip
    best = served.search({"ref": query["ref"]}, to="image")["hits"][0]
    assert best["name"] == "dog.png" and best["score"] == pytest.approx(1.0, abs=1e-3)
    assert served.client.get(best["thumbnail"]).headers["content-type"] == "image/webp"
    assert served.client.get(best["media"]).content == (folder / "dog.png").read_bytes()
