"""Edits over HTTP: what is sent to be edited, what comes of it, and what is refused."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from embedspace.catalog import Catalog
from embedspace.generate.targets import FAMILY, SIZE, STYLE, Option, choices_of
from embedspace.serve.errors import ApiError
from embedspace.serve.sent.files import SentFile, SentFiles
from embedspace.serve.settings import Limits
from embedspace.space import EmbeddingSpace
from tests.support.serving import Running, running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path, space = tmp_path_factory.mktemp("edits") / "empty.catalog", EmbeddingSpace.from_pretrained()
    Catalog.create(
        path, embed_dim=space.embed_dim, fingerprints=space.fingerprints(), calibration_json=space.calibration_json()
    ).close()
    with running(path, space, limits=Limits(edit_pixels=40_000, query_seconds=3.0)) as found:
        yield found


def _png(pixels: np.ndarray) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def _house() -> np.ndarray:
    pixels = np.full((90, 120, 3), 255, np.uint8)
    pixels[30:, 30:90] = (180, 40, 40)
    return pixels


def _send(served: Running, content: bytes, name: str = "house.png", kind: str = "image/png") -> Any:
    return served.client.post(f"/api/files?name={name}", content=content, headers={"Content-Type": kind})


def _ref(served: Running, content: bytes, **options: str) -> str:
    answer = _send(served, content, **options)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["ref"]
    return found


def _made(served: Running, **options: Any) -> tuple[bytes, dict[str, Any]]:
    asked = {"terms": [{"text": "a castle"}], "to": "image", "steps": 1, "candidates": 1, **options}
    begun = served.client.post("/api/generate", json={k: v for k, v in asked.items() if v is not None})
    assert begun.status_code == 202, begun.text
    with served.client.stream("GET", begun.json()["events"]) as answer:
        lines = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    (result,) = [line for line in lines if "url" in line]
    return served.client.get(result["url"]).content, result


def test_what_a_mask_keeps_is_kept_pixel_for_pixel(served: Running) -> None:
    house, mask = _house(), np.zeros((90, 120), np.uint8)
    mask[:45] = 255
    answer = _send(served, _png(house)).json()
    assert (answer["kind"], answer["width"], answer["height"], answer["expires_in"]) == ("image", 120, 90, 900)
    ref = _ref(served, _png(mask), name="sky.png")
    content, _ = _made(served, init=answer["ref"], mask=ref, strength=1)
    picture = Image.open(io.BytesIO(content))
    pixels = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(pixels[45:], house[45:])
    assert (pixels[:40] != house[:40]).any()
    about = json.loads(picture.text["embedspace"])  # type: ignore[attr-defined]
    assert (about["init"], about["mask"]) == ("house.png", "sky.png") and len(about["init_sha256"]) == 64
    boxed, _ = _made(served, init=answer["ref"], mask="0,0,120,45", strength=1)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(boxed)).convert("RGB")), pixels)  # the same mask


def test_strength_says_how_far_an_edit_goes(served: Running) -> None:
    ref = _ref(served, _png(_house()))
    kept, _ = _made(served, init=ref, strength=0)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(kept)).convert("RGB")), _house())
    near, far = (
        np.asarray(Image.open(io.BytesIO(_made(served, init=ref, strength=much)[0])).convert("RGB").resize((120, 90)))
        for much in (0.2, 1.0)
    )
    apart = [float(np.abs(made.astype(int) - _house()).mean()) for made in (near, far)]
    assert apart[0] < apart[1]


def test_a_map_and_a_style_are_taken(served: Running) -> None:
    drawn = np.full((96, 96), 255, np.uint8)
    drawn[20:76, 20:76] = 0
    ref = _ref(served, _png(drawn), name="square.png")
    plain, _ = _made(served)
    mapped, _ = _made(served, map=ref)
    styled, _ = _made(served, style="openmoji")
    assert len({plain, mapped, styled}) == 3
    assert json.loads(Image.open(io.BytesIO(mapped)).text["embedspace"])["map"] == "square.png"  # type: ignore[attr-defined]


def test_a_gap_in_a_sound_is_filled(served: Running) -> None:
    written = io.BytesIO()
    tone = 0.3 * np.sin(np.arange(32_000) / 8)
    soundfile.write(written, tone, 16_000, format="WAV", subtype="FLOAT")
    answer = _send(served, written.getvalue(), name="tone.wav", kind="audio/wav").json()
    assert answer["duration"] == 2.0
    content, _ = _made(served, to="audio", candidates=None, init=answer["ref"], mask="0.5-1")
    waveform, rate = soundfile.read(io.BytesIO(content))
    assert rate == 16_000
    np.testing.assert_allclose(waveform[17_000:31_000], tone[17_000:31_000], atol=1e-3)
    assert np.abs(waveform[9_000:15_000] - tone[9_000:15_000]).max() > 0.05


@pytest.mark.parametrize(
    ("change", "status", "param", "message"),
    [
        ({"init": "/etc/hostname"}, 404, "init", "unknown"),
        ({"init": "house", "mask": "/etc/hostname"}, 404, "mask", "unknown"),
        ({"map": "/etc/hostname"}, 404, "map", "unknown"),
        ({"strength": 0.5}, 400, "strength", "give the ref as init"),
        ({"mask": "auto"}, 400, "mask", "give the ref as init"),
        ({"init": "house", "strength": 1.5}, 400, "strength", "less than or equal to 1"),
        ({"init": "house", "mask": "0,0,10"}, 404, "mask", "unknown"),
        ({"init": "house", "mask": "0,0,9999,9999"}, 400, "mask", "keeps nothing"),
        (
            {"init": "house", "mask": "small"},
            400,
            "mask",
            "mask small.png: 96 x 96 pixels, but the picture has 120 x 90",
        ),
        ({"init": "sound"}, 400, "init", "audio, where image is needed"),
        ({"init": "house", "to": "audio", "candidates": None}, 400, "init", "image, where audio is needed"),
        ({"init": "house", "to": "text", "candidates": None}, 400, "init", "does not take it"),
        ({"start": 1.0}, 400, "start", "less than or equal to 0.95"),
        ({"init": "house", "start": 0.3}, 400, "start", "an edit begins at what is edited"),
        ({"style": "rococo"}, 202, None, ""),  # the generator says so when it is loaded
    ],
)
def test_what_cannot_be_edited_is_refused(
    served: Running, change: dict[str, Any], status: int, param: str | None, message: str
) -> None:
    written = io.BytesIO()
    soundfile.write(written, np.sin(np.arange(16_000) / 9), 16_000, format="WAV")
    refs = {
        "house": _ref(served, _png(_house())),
        "small": _ref(served, _png(np.eye(96, dtype=np.uint8) * 255), name="small.png"),
        "sound": _ref(served, written.getvalue(), name="tone.wav", kind="audio/wav"),
    }
    asked = {"terms": [{"text": "x"}], "to": "image", "steps": 1, "candidates": 1, **change}
    given = {key: refs.get(value, value) if key in ("init", "mask", "map") else value for key, value in asked.items()}
    answer = served.client.post("/api/generate", json={key: one for key, one in given.items() if one is not None})
    assert answer.status_code == status, answer.text
    if status == 202:
        served.client.delete(f"/api/jobs/{answer.json()['job']}")
        return
    assert answer.json()["error"]["param"] == param
    assert message in answer.json()["error"]["message"]


def test_a_picture_may_begin_at_noise(served: Running) -> None:
    own, again, redrawn = (_made(served, start=start)[0] for start in (0.0, 0.0, None))
    assert own == again
    assert own != redrawn


def test_only_pictures_and_sounds_within_limits_are_taken(served: Running) -> None:
    assert _send(served, b"some words", name="a.txt", kind="application/octet-stream").status_code == 400
    assert "what is edited is a picture or a sound" in _send(served, b"%PDF", name="a.pdf", kind="application/pdf").text
    assert _send(served, b"").status_code == 400
    assert _send(served, b"no picture").status_code == 400
    large = _send(served, _png(np.zeros((300, 300, 3), np.uint8)))
    assert large.status_code == 413
    assert "/tmp" not in large.text
    written = io.BytesIO()
    soundfile.write(written, np.sin(np.arange(64_000) / 9), 16_000, format="WAV")
    assert _send(served, written.getvalue(), name="long.wav", kind="audio/wav").json()["duration"] == 3.0


def test_options_of_files_are_told_apart(served: Running) -> None:
    targets = {one["name"]: one for one in served.client.get("/api/catalog").json()["targets"]}
    files = {option["key"] for option in targets["image"]["options"] if option["file"]}
    assert files == {"init", "mask", "map"}
    assert "strength" in {option["key"] for option in targets["image"]["options"]}
    assert not any(option["file"] for option in targets["text"]["options"])


def test_choices_are_what_the_generator_has(served: Running, tmp_path: Path) -> None:
    targets = {one["name"]: one for one in served.client.get("/api/catalog").json()["targets"]}
    known = {option["key"]: option["choices"] for option in targets["image"]["options"]}
    assert known["family"][0] == "flow" and "openmoji" in known["style"] and known["size"] == []
    (tmp_path / "styles").mkdir()
    for name in ("recipe", "ink"):
        (tmp_path / "styles" / f"{name}.json").write_text("{}")
    families = {"gan": {"styles": ["b", "a"]}, "flow": {"styles": ["a", "c"]}, "vae": {}}
    (tmp_path / "config.json").write_text(json.dumps({"families": families}))
    assert choices_of(FAMILY, tmp_path) == ["gan", "flow", "vae"]
    assert choices_of(STYLE, tmp_path) == ["b", "a", "c", "ink"]
    assert choices_of(SIZE, tmp_path) == []
    assert choices_of(Option("metal", str, "what it is made of", choices=lambda: ["brass"]), tmp_path) == ["brass"]
    (tmp_path / "config.json").write_text("{")
    assert choices_of(STYLE, tmp_path) == choices_of(FAMILY, tmp_path / "none") == []


def test_the_oldest_files_go_where_memory_is_short() -> None:
    sent = SentFiles(60.0, 100)
    refs = [sent.put(SentFile("image", str(n), b"", 40, {})) for n in range(3)]
    assert sent.held == 80
    with pytest.raises(ApiError, match="unknown, or was forgotten"):
        sent.get(refs[0], "init")
    assert sent.get(refs[2], "init").name == "2"
    brief = SentFiles(-1.0, 100)
    with pytest.raises(ApiError):
        brief.get(brief.put(SentFile("image", "", b"", 1, {})), "init")
    brief.put(SentFile("image", "", b"", 2, {}))
    assert brief.held == 2  # what was forgotten takes no memory


def test_a_ref_is_of_this_server_and_no_path(served: Running, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(_png(_house()))
    started = time.monotonic()
    for name in (str(tmp_path / "secret.png"), f"file://{tmp_path}/secret.png", "../secret.png"):
        answer = served.client.post("/api/generate", json={"terms": [{"text": "x"}], "to": "image", "init": name[:80]})
        assert answer.status_code == 404
    assert time.monotonic() - started < 30
