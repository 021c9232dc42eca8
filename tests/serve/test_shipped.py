"""The shipped space behind the server: OpenAI's own client, uploads, and making things."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
from PIL import Image

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.generate.speech import voices
from embedspace.serve.settings import Limits
from embedspace.space import EmbeddingSpace
from tests.support.serving import Running, running

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["a red bicycle", "a barking dog", "rain on a tin roof", ""]


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped") / "media"
    folder.mkdir()
    for number, name in enumerate(("a red bicycle", "a barking dog", "tall grass in the wind")):
        (folder / f"{number}.txt").write_text(name)
    pixels = np.zeros((700, 500, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, 500)[None]
    pixels[200:400, 100:300, 1] = 255
    Image.fromarray(pixels).save(folder / "shape.jpg", quality=95)
    rng = np.random.default_rng(0)
    rain = rng.normal(0, 0.05, 32_000) * (1 + np.sin(np.arange(32_000) / 4000))
    soundfile.write(folder / "rain.wav", rain, 16_000)
    return folder


@pytest.fixture(scope="module")
def served(space: EmbeddingSpace, media: Path) -> Iterator[Running]:
    path = media.parent / "media.catalog"
    with Catalog.create(
        path, embed_dim=space.embed_dim, fingerprints=space.fingerprints(), calibration_json=space.calibration_json()
    ) as catalog:
        assert not ingest(catalog, [media], space, workers=1).failed
    with running(path, space, limits=Limits(jobs=2)) as found:
        yield found


@pytest.fixture(scope="module")
def client(served: Running) -> Iterator[openai.OpenAI]:
    with httpx.Client(trust_env=False, timeout=120) as plain:
        with openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", http_client=plain, max_retries=0) as found:
            yield found


def _uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


# -- embeddings --------------------------------------------------------------------------------------------------------


def test_the_client_gets_the_vectors_of_the_space(client: openai.OpenAI, space: EmbeddingSpace) -> None:
    answer = client.embeddings.create(model="embedspace", input=TEXTS[:3])  # asks for base64 unasked
    rows = np.array([one.embedding for one in answer.data], np.float32)
    assert rows.shape == (3, space.embed_dim) and [one.index for one in answer.data] == [0, 1, 2]
    np.testing.assert_allclose(rows, space.encode_text(TEXTS[:3]), atol=1e-5)
    assert answer.model == "embedspace" and answer.usage.prompt_tokens == answer.usage.total_tokens
    plain = client.embeddings.create(model="embedspace", input=TEXTS[0], encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, rows[0], atol=1e-6)


def test_tokens_are_counted_by_the_tokenizer(client: openai.OpenAI) -> None:
    def tokens(text: str) -> int:
        return client.embeddings.create(model="embedspace", input=text).usage.prompt_tokens

    assert tokens("dog") == 3  # with the marks of beginning and end
    assert tokens("dog dog dog") == 5 < tokens("unbelievably disproportionate")


def test_more_texts_than_a_batch_come_in_order(client: openai.OpenAI, space: EmbeddingSpace) -> None:
    texts = [f"picture number {number}" for number in range(70)]
    rows = np.array([one.embedding for one in client.embeddings.create(model="embedspace", input=texts).data])
    np.testing.assert_allclose(rows, space.encode_text(texts), atol=1e-5)


def test_media_are_data_uris(served: Running, space: EmbeddingSpace, media: Path) -> None:
    picture, sound = media / "shape.jpg", media / "rain.wav"
    asked = [
        {"image": _uri(picture, "image/jpeg")},
        {"audio": _uri(sound, "audio/wav")},
        {"speech": _uri(sound, "audio/wav")},
        {"text": "a red bicycle"},
    ]
    answer = served.client.post("/v1/embeddings", json={"input": asked}, timeout=120).json()
    rows = np.array([one["embedding"] for one in answer["data"]])
    expected = [
        space.encode_image([picture])[0],
        space.encode_audio([sound])[0],
        space.encode_speech([sound])[0],
        space.encode_text(["a red bicycle"])[0],
    ]
    np.testing.assert_allclose(rows, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": "x", "dimensions": 64}, "dimensions"),
        ({"input": []}, "input"),
        ({"input": [1, 2, 3]}, "input.0"),
        ({"input": [[1, 2, 3]]}, "input.0"),
        ({"input": ""}, "input.0"),
        ({"input": ["x"] * 257}, "input"),
        ({"input": [{"image": "data:image/png;base64,AAAA"}] * 33}, "input"),
        ({"input": [{"image": "http://localhost/x.png"}]}, "input.0"),
        ({"input": [{"image": "/etc/passwd"}]}, "input.0"),
        ({"input": [{"image": "data:image/png;base64,?"}]}, "input.0"),
        ({"input": [{"image": "x", "text": "y"}]}, "input.0"),
        ({"input": [{"video": "data:video/mp4;base64,AAAA"}]}, "input.0"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({}, "input"),
    ],
)
def test_what_cannot_be_embedded_is_refused(served: Running, asked: dict[str, Any], param: str) -> None:
    response = served.client.post("/v1/embeddings", json=asked)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)


def test_the_client_knows_the_errors(client: openai.OpenAI, space: EmbeddingSpace) -> None:
    with pytest.raises(openai.NotFoundError, match="only 'embedspace'"):
        client.embeddings.create(model="text-embedding-3-small", input="x")
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="embedspace", input="x", dimensions=5)
    assert refused.value.param == "dimensions"
    whole = client.embeddings.create(model="embedspace", input="x", dimensions=space.embed_dim)
    assert len(whole.data[0].embedding) == space.embed_dim
    assert [model.id for model in client.models.list()] == ["embedspace"]


# -- searching ---------------------------------------------------------------------------------------------------------


def test_an_uploaded_picture_has_the_vector_of_its_file(served: Running, media: Path) -> None:
    sent = served.client.post(
        "/api/queries", content=(media / "shape.jpg").read_bytes(), headers={"Content-Type": "image/jpeg"}
    ).json()
    assert len(sent["names"]) == 5 and abs(sum(name["probability"] for name in sent["names"]) - 1) < 0.01
    best = served.search({"ref": sent["ref"]}, to="image")["hits"][0]
    assert best["name"] == "shape.jpg" and best["score"] > 0.9999


def test_words_and_media_are_read_together(served: Running, media: Path) -> None:
    sent = served.client.post(
        "/api/queries", content=(media / "shape.jpg").read_bytes(), headers={"Content-Type": "image/jpeg"}
    ).json()
    found = served.search({"ref": sent["ref"]}, {"text": "with spokes"})
    assert any("the words say more of the same thing" in note for note in found["notes"])


def test_nothing_that_fits_is_said(served: Running) -> None:
    assert served.search({"text": "a red bicycle"})["good_match"] is True
    nothing = served.search({"text": "quarterly tax return of a limited company"}, to="text")
    assert nothing["good_match"] is False and nothing["hits"][0]["probability"] < 0.5
    only = served.search({"text": "quarterly tax return of a limited company"}, to="text", min_probability=0.9)
    assert (only["hits"], only["good_match"]) == ([], False)
    assert "does not know" in " ".join(served.search({"text": "自転車"})["notes"])


# -- making ------------------------------------------------------------------------------------------------------------


def _events(served: Running, path: str) -> list[tuple[str, dict[str, Any]]]:
    with served.client.stream("GET", path, timeout=120) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found, name = [], ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((name, json.loads(line.removeprefix("data: "))))
    return found


def test_pictures_are_made_with_progress_neighbours_and_labels(served: Running) -> None:
    asked = {"terms": [{"text": "a red heart"}], "to": "image", "count": 2, "seed": 5, "steps": 2, "candidates": 1}
    begun = served.client.post("/api/generate", json=asked)
    assert begun.status_code == 202
    events = _events(served, begun.json()["events"])
    assert [name for name, _ in events if name != "progress"] == ["result", "result", "done"]
    assert [one["done"] for name, one in events if name == "progress"][-1] == 2
    results = [one for name, one in events if name == "result"]
    assert [one["seed"] for one in results] == [5, 6] and [one["index"] for one in results] == [0, 1]
    for one in results:
        assert isinstance(one["copy"], bool) and one["outside"] is False
        assert one["neighbours"][0]["label"] == "red heart"
        shown = [near["thumbnail"] for near in one["neighbours"] if near["thumbnail"]]
        assert served.client.get(shown[0]).headers["content-type"] == "image/webp"
        made = served.client.get(one["url"])
        picture = Image.open(io.BytesIO(made.content))
        assert json.loads(picture.text["embedspace"])["seed"] == one["seed"]  # type: ignore[attr-defined]
    assert _events(served, begun.json()["events"]) == events  # who comes late is told everything


def test_a_caption_of_an_item_is_made(served: Running) -> None:
    hit = served.search({"text": "a barking dog"}, to="text", k=1)["hits"][0]
    begun = served.client.post("/api/generate", json={"terms": [{"id": hit["id"]}], "to": "text"}).json()
    result = next(one for name, one in _events(served, begun["events"]) if name == "result")
    assert "dog" in result["text"] and result["url"] is None


def test_what_is_far_from_everything_is_made_and_says_so(served: Running) -> None:
    asked = {"terms": [{"text": "xqzt vvkp jjw"}], "to": "image", "steps": 1, "candidates": 1}
    begun = served.client.post("/api/generate", json=asked).json()
    result = next(one for name, one in _events(served, begun["events"]) if name == "result")
    assert result["outside"] is True


def test_a_generation_is_cancelled(served: Running) -> None:
    asked = {"terms": [{"text": "a red heart"}], "to": "image", "count": 16, "steps": 8, "candidates": 1}
    job = served.client.post("/api/generate", json=asked).json()
    assert served.client.delete(f"/api/jobs/{job['job']}").status_code == 204
    for path in (job["events"], f"/api/jobs/{job['job']}/results/0"):
        assert served.client.get(path).status_code == 404
    after = served.client.post("/api/generate", json={"terms": [{"text": "a heart"}], "to": "text"}).json()
    assert _events(served, after["events"])[-1][0] == "done"


def test_a_queue_of_generations_is_bounded(served: Running) -> None:
    asked = {"terms": [{"text": "a red heart"}], "to": "image", "count": 16, "steps": 8, "candidates": 1}
    answers = [served.client.post("/api/generate", json=asked) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[2].headers["retry-after"]) >= 1
    for answer in answers[:2]:
        served.client.delete(f"/api/jobs/{answer.json()['job']}")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"to": "video"}, "to"),
        ({"to": "../x"}, "to"),
        ({"count": 99}, "count"),
        ({"terms": []}, "terms"),
        ({"seconds": 2}, "seconds"),
    ],
)
def test_what_cannot_be_made_is_refused(served: Running, change: dict[str, Any], param: str) -> None:
    response = served.client.post("/api/generate", json={"terms": [{"text": "x"}], "to": "image", **change})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_the_client_makes_pictures(client: openai.OpenAI, served: Running) -> None:
    made = client.images.generate(model="embedspace", prompt="a red heart", size="256x256", response_format="b64_json")
    assert made.data is not None and made.data[0].b64_json is not None
    assert Image.open(io.BytesIO(base64.b64decode(made.data[0].b64_json))).size == (256, 256)
    linked = client.images.generate(model="embedspace", prompt="a red heart", response_format="url")
    assert linked.data is not None and linked.data[0].url is not None
    assert linked.data[0].url.startswith(served.address)
    assert served.client.get(linked.data[0].url).headers["content-type"] == "image/png"
    with pytest.raises(openai.BadRequestError, match="square"):
        client.images.generate(model="embedspace", prompt="x", size="1536x1024")


def test_the_client_makes_speech(client: openai.OpenAI) -> None:
    assert voices.available()
    spoken = client.audio.speech.create(model="embedspace", voice="alloy", input="Hello there.", response_format="wav")
    with wave.open(io.BytesIO(spoken.content)) as file:
        assert 0.3 < file.getnframes() / file.getframerate() < 5
    for form, mark in (("mp3", b""), ("flac", b"fLaC"), ("opus", b"OggS"), ("aac", b"\xff")):
        content = client.audio.speech.create(
            model="embedspace", voice="alloy", input="Hello.", response_format=form
        ).content  # type: ignore[call-overload]
        assert len(content) > 1000 and content.startswith(mark)
    for change in ({"voice": "flite:/etc/passwd"}, {"voice": "nobody"}, {"speed": 2.0}, {"response_format": "midi"}):
        with pytest.raises(openai.BadRequestError):
            client.audio.speech.create(**{"model": "embedspace", "voice": "alloy", "input": "Hello.", **change})  # type: ignore[arg-type]
