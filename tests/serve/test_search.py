"""Searching over HTTP: words, media, items; what becomes of them, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from embedspace.catalog import Catalog, CatalogItem
from embedspace.segment import Segment
from embedspace.serve.settings import Limits
from tests.support.cli_media import media_folder
from tests.support.cli_space import vector_of
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


def test_a_recording_is_heard_as_what_is_said(served: Running, folder: Path) -> None:
    def send(query: str, kind: str = "audio/wav") -> dict[str, Any]:
        content = (folder / "speech.wav").read_bytes()
        return served.client.post(f"/api/queries?{query}", content=content, headers={"Content-Type": kind}).json()

    for heard in ("audio", "speech"):
        assert send(f"name=speech.wav&as={heard}")["modalities"] == [heard]
    assert send("name=speech.wav")["modalities"] == ["speech", "audio"]
    for query, kind in (("as=image", "audio/wav"), ("as=speech", "image/png"), ("as=smell", "audio/wav")):
        error = send(query, kind)["error"]
        assert error["param"] == "as" and "audio or speech" in error["message"]


def test_hits_come_by_modality_too(served: Running) -> None:
    found = served.search({"text": "a barking dog"}, k=2, grouped=True)
    assert set(found["groups"]) == {"audio", "image", "speech", "text"}
    assert found["groups"]["speech"][0]["name"] == "speech.wav" and found["groups"]["text"][0]["name"] == "a.txt"
    for modality, hits in found["groups"].items():
        assert 1 <= len(hits) <= 2 and {hit["modality"] for hit in hits} == {modality}
        assert [hit["rank"] for hit in hits] == list(range(1, len(hits) + 1))


def test_what_is_taken_away_is_not_found(served: Running) -> None:
    added = served.search({"text": "tall grass"}, {"text": "a barking dog"}, to="text", k=2)["hits"]
    assert {hit["name"] for hit in added} == {"a.txt", "b.txt"}
    taken = served.search({"text": "tall grass"}, {"text": "a barking dog", "weight": -1}, to="text", k=2)["hits"]
    assert taken[0]["name"] == "b.txt" and taken[1]["score"] < 0
    cancelled = served.client.post("/api/search", json={"terms": [{"text": "grass"}, {"text": "grass", "weight": -1}]})
    assert cancelled.status_code == 400 and "cancel" in cancelled.json()["error"]["message"]


def test_an_item_finds_what_is_like_it(served: Running) -> None:
    talk = served.search({"text": "a barking dog"}, to="speech", k=1)["hits"][0]
    as_speech = served.search({"id": talk["id"], "as": "speech"}, to="text", k=1)
    assert as_speech["hits"][0]["name"] == "a.txt" and as_speech["terms"][0] == {
        "label": "speech.wav", "kind": "id", "weight": 1.0, "as": "speech"
    }  # fmt: skip
    as_sound = served.search({"id": talk["id"], "as": "audio"}, to="audio", k=1)["hits"][0]
    assert as_sound["id"] == talk["id"]


def test_an_item_that_is_not_there_or_is_something_else_is_refused(served: Running) -> None:
    talk = served.search({"text": "a barking dog"}, to="speech", k=1)["hits"][0]
    for term, status, param, message in (
        ({"id": "nowhere"}, 404, "id", "id 'nowhere': no such item in the catalog"),
        ({"id": talk["id"], "as": "image"}, 400, "as", "speech.wav: holds speech, audio, not image"),
    ):
        response = served.client.post("/api/search", json={"terms": [term]})
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (status, param)
        assert error["message"].startswith(message), error


def test_filters_and_probabilities_leave_out(served: Running) -> None:
    kinds = {hit["kind"] for hit in served.search({"text": "x"}, where="kind = 'audio'", k=9)["hits"]}
    assert kinds == {"audio"}
    sure = served.search({"text": "tall grass"}, min_probability=0.9)
    assert [hit["name"] for hit in sure["hits"]] == ["b.txt"] and sure["good_match"] is True
    nothing = served.search({"text": "nothing like it"}, min_probability=0.9999)
    assert nothing["hits"] == [] and nothing["good_match"] is False
    weak = served.search({"text": "nothing like it"})
    assert weak["hits"] and weak["good_match"] is False


def test_two_filters_at_once_are_not_mixed_up(served: Running) -> None:
    served.space.may_encode.clear()
    with ThreadPoolExecutor(6) as clients:
        kinds = ["image", "audio", "text"] * 2
        found = [clients.submit(served.search, {"text": f"x {n}"}, to=kind, k=9) for n, kind in enumerate(kinds)]
        time.sleep(0.3)
        served.space.may_encode.set()
        for kind, answer in zip(kinds, found, strict=True):
            assert {hit["modality"] for hit in answer.result()["hits"]} == {kind}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"terms": []}, "terms"),
        ({"terms": [{"text": "x"}] * 17}, "terms"),
        ({"terms": [{}]}, "terms.0"),
        ({"terms": [{"text": "x", "ref": "y"}]}, "terms.0"),
        ({"terms": [{"text": " "}]}, "terms.0"),
        ({"terms": [{"text": "x" * 20_001}]}, "terms.0.text"),
        ({"terms": [{"text": "x", "weight": 0}]}, "terms.0"),
        ({"terms": [{"text": "x", "weight": "NaN"}]}, "terms.0.weight"),
        ({"terms": [{"text": "x", "path": "y"}]}, "terms.0.path"),
        ({"terms": [{"text": "x"}], "k": 0}, "k"),
        ({"terms": [{"text": "x"}], "k": 201}, "k"),
        ({"terms": [{"text": "x"}], "min_probability": 2}, "min_probability"),
        ({"terms": [{"text": "x"}], "unknown": 1}, "unknown"),
        ({"terms": [{"text": "x"}], "to": "smell"}, None),
        ({"terms": [{"text": "x"}], "where": "kind = "}, None),
        ({"terms": [{"text": "x"}], "where": "nothing = 1"}, None),
        ({"terms": [{"text": "x"}], "where": f"uri like '{'%a' * 600}'"}, None),
        ({"terms": [{"text": "\ud800"}]}, "terms.0.text"),
    ],
)
def test_what_cannot_be_searched_is_one_error(served: Running, asked: dict[str, Any], param: str | None) -> None:
    response = served.client.post(
        "/api/search", content=json.dumps(asked).encode(), headers={"Content-Type": "application/json"}
    )
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert "Traceback" not in error["message"] and error["message"]


def test_a_filter_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    folder = media_folder(tmp_path / "media")
    path = filled_catalog(tmp_path / "media.catalog", folder)
    with Catalog.open(path) as catalog:
        facts = {f"field{number}": "x" * 50 for number in range(40)}
        segments = [Segment("text", vector_of("x"))]
        catalog.add(CatalogItem(f"item/{n}", "text", segments, facts, content_hash=f"{n:032x}") for n in range(2000))
    where = " or ".join(f"field{number % 40} like '%y%{number}'" for number in range(120))
    with running(path, limits=Limits(where_seconds=0.02)) as served:
        started = time.monotonic()
        response = served.client.post("/api/search", json={"terms": [{"text": "x"}], "where": where})
        assert response.status_code == 400 and "takes longer than 0.02 s" in response.json()["error"]["message"]
        assert time.monotonic() - started < 1.5
        response = served.client.get("/api/catalog", params={"where": where})
        assert response.status_code == 400 and "takes longer than 0.02 s" in response.json()["error"]["message"]
        assert served.client.get("/api/catalog").status_code == 200  # other statements are not stopped
        assert served.search({"text": "tall grass"})["hits"]
    with running(path) as served:  # given its time it ends
        assert served.search({"text": "x"}, where=f"not ({where})", to="text", k=1)["hits"]


def test_the_interface_describes_itself(served: Running) -> None:
    told = served.client.get("/openapi.json").json()
    for path in ("/api/search", "/api/queries", "/api/items/{content_id}/media", "/api/map", "/v1/embeddings",
                 "/api/jobs/{job_id}/events", "/api/index/events", "/health", "/ready", "/metrics"):  # fmt: skip
        assert path in told["paths"], path
    assert "as" in told["components"]["schemas"]["TermRequest"]["properties"]
    for path in ("/docs", "/redoc"):  # they load scripts from elsewhere
        assert served.client.get(path).status_code == 404


def test_what_is_got_has_a_head_and_another_method_is_told_which_is_taken(served: Running) -> None:
    best = served.search({"text": "tall grass"}, k=1)["hits"][0]
    for path in ("/health", "/", "/api/catalog", "/api/nothing", best["media"]):
        got, head = served.client.get(path), served.client.head(path)
        names = ("content-length", "content-type", "x-content-type-options")
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert [head.headers.get(name) for name in names] == [got.headers.get(name) for name in names], path
    assert served.client.head("/api/index/events").status_code == 405  # it would never end
    other = served.client.get("/api/search")
    assert (other.status_code, other.headers["allow"]) == (405, "POST")
    assert other.json()["error"]["message"] == "/api/search does not take GET, only POST"


def test_metrics_count_and_hold_no_words(served: Running) -> None:
    served.search({"text": "unmistakable"})
    text = served.client.get("/metrics").text
    for name in ("embedspace_requests_total", "embedspace_batch_size_bucket", "embedspace_encoder_waiting",
                 'embedspace_stage_seconds_count{stage="encode"}', 'embedspace_stage_seconds_count{stage="search"}',
                 "embedspace_request_seconds_sum", "embedspace_search_waiting"):  # fmt: skip
        assert name in text, name
    assert "unmistakable" not in text and "dog.png" not in text


def test_nothing_that_was_asked_is_logged(served: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0):
        served.search({"text": "unmistakable"})
        served.client.post("/api/search", json={"terms": [{"text": "unmistakable", "weight": 0}]})
        served.client.get("/api/items/unmistakable")
    assert "unmistakable" not in "".join(
        record.getMessage() for record in caplog.records if record.name in ("embedspace.serve", "uvicorn.error")
    )
