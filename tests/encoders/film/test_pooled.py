"""A video's windows: what they are made of, that each frame is encoded once, and what their fingerprint depends on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.batch import encode_items
from embedspace.encoders.contract import Encoders, MediaEncoder
from embedspace.encoders.film import decode as films
from embedspace.encoders.film.decode import decode_video
from embedspace.encoders.film.pooled import PooledConfig, PooledEncoder
from embedspace.errors import ConfigError, EmptyMediaError, UnknownModalityError
from embedspace.media.film import Film, Moment
from embedspace.modality import modality_spec
from embedspace.segment import Segment, modality_rows
from embedspace.space.config import DEFAULT_WEIGHTS, fingerprint, read_config
from tests.support.videos import write_video


class Colours(MediaEncoder):
    """A whole encoder of pictures: the direction of the mean colour."""

    embed_dim = 3

    def __init__(self) -> None:
        self.encoded: list[Any] = []

    def prepare(self, media: Image.Image) -> NDArray[np.float32]:
        return np.asarray(media, np.float32).mean(axis=(0, 1)) + 1

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        self.encoded += prepared
        rows = np.stack(prepared)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _encoders(*modalities: str, **config: Any) -> tuple[Encoders, Colours]:
    image, video = Colours(), PooledEncoder(PooledConfig(**config))
    made: dict[str, MediaEncoder] = {"image": image, "video": video}
    encoders = Encoders(modalities or ("image", "video"), made.__getitem__)
    video.join(encoders)
    return encoders, image


def _colour(red: int, blue: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (red, 0, blue))


def _film(levels: Sequence[int | None], every: float = 0.25, picture: float = 10.0) -> Film:
    """Return moments of so much red and the rest blue; None: nothing has changed."""
    moments = [
        Moment(k * every, None if level is None else _colour(level, 255 - level), (k * every) % picture < 1e-6)
        for k, level in enumerate(levels)
    ]
    return Film(moments, len(levels) * every)


def _segments(film: Any, encoders: Encoders, wanted: str | None = None) -> list[Segment]:
    return encode_items([decode_video(film, encoders, wanted)], encoders)[0]


def test_a_window_is_the_mean_of_what_is_seen_for_as_long_as_it_is_seen() -> None:
    encoders, _ = _encoders(window_seconds=1.0)
    (picture, first, second) = _segments(_film([255, None, None, 0, 0, None, None, None]), encoders)
    red, blue = Colours().encode([Colours().prepare(_colour(*pair)) for pair in ((255, 0), (0, 255))])
    mean = (3 * red + blue) / 4
    np.testing.assert_allclose(first.vector, mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(second.vector, blue, atol=1e-6)
    np.testing.assert_allclose(picture.vector, red, atol=1e-6)
    assert [(s.modality, s.start, s.end) for s in (picture, first, second)] == [
        ("image", 0.0, 2.0), ("video", 0.0, 1.0), ("video", 1.0, 2.0),
    ]  # fmt: skip


def test_a_frame_is_encoded_once_for_its_window_and_as_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "PICTURE_SECONDS", 1.0)
    encoders, image = _encoders(window_seconds=1.0)
    film = _film([*range(0, 80, 10)], picture=1.0)
    found = _segments(film, encoders)
    assert len(image.encoded) == 8 and len(found) == 4
    once = [s.vector for s in found]
    encoders, image = _encoders(window_seconds=1.0)
    for part in decode_video(film, encoders, None).parts(1):  # divided, pictures and windows meet the encoder apart
        part.metadata = {}
        once.extend(s.vector for s in encode_items([part], encoders)[0])
    np.testing.assert_allclose(once[4:], once[:4], atol=1e-6)


def test_a_long_film_comes_in_parts_of_few_frames_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    film = _film([k % 251 for k in range(240)])
    encoders, image = _encoders()
    whole = _segments(film, encoders)
    assert len(image.encoded) == 240  # a picture's window and the picture were in one part
    assert [(s.start, s.end) for s in whole if s.modality == "video"] == [(4.0 * k, 4.0 * k + 4) for k in range(15)]
    assert [(s.start, s.end) for s in whole if s.modality == "image"] == [(10.0 * k, 10.0 * k + 10) for k in range(6)]
    monkeypatch.setattr(films, "_PART_FRAMES", 16)
    monkeypatch.setattr("embedspace.encoders.recordings._AHEAD", 1)
    decoded = decode_video(film, encoders, None)
    assert decoded.rest is not None and decoded.metadata["duration"] == 4.0
    (parted,) = encode_items([decoded], encoders)
    assert decoded.metadata["duration"] == 60.0
    order = {(s.modality, s.start): s.vector for s in parted}
    for segment in whole:
        np.testing.assert_allclose(order[segment.modality, segment.start], segment.vector, atol=1e-6)


@pytest.mark.parametrize(
    ("moments", "spans"),
    [
        (17, [(0.0, 4.0)]),  # a quarter of a second is no window
        (20, [(0.0, 4.0), (4.0, 5.0)]),
        (1, [(0.0, 0.25)]),
    ],
)
def test_what_is_left_at_the_end(moments: int, spans: list[tuple[float, float]]) -> None:
    encoders, _ = _encoders()
    found = _segments(_film(moments * [9]), encoders, "video")
    assert [(s.start, s.end) for s in found] == spans and {s.modality for s in found} == {"video"}


def test_a_still_lasts_until_the_next_frame() -> None:
    encoders, _ = _encoders()
    slides = Film([Moment(0.0, _colour(9, 9), True), Moment(62.0, _colour(200, 9), True)], 90.0)
    assert [(s.start, s.end) for s in _segments(slides, encoders, "video")] == [(0.0, 62.0), (62.0, 90.0)]


def test_a_film_stands_for_itself_before_its_frames(tmp_path: Path) -> None:
    encoders, _ = _encoders()
    rows = modality_rows(_segments(write_video(tmp_path / "a.mp4"), encoders))
    assert list(rows) == ["video", "image"]
    assert rows["video"][2] > 0.3 > rows["image"][2]  # the second half is blue, the first frame is not
    only = _segments(write_video(tmp_path / "b.mp4"), _encoders("image")[0])
    assert [s.modality for s in only] == ["image"]
    np.testing.assert_allclose(only[0].vector, rows["image"], atol=1e-6)


def test_an_encoder_of_its_own_is_given_images(tmp_path: Path) -> None:
    class Own(Colours):
        frames_per_second, window_seconds = 2.0, 2.0

        def prepare(self, media: Any) -> Any:
            assert all(isinstance(image, Image.Image) for image in media) and len(media) == 4
            return super().prepare(media[-1])

    own = Own()
    encoders = Encoders(["video"], lambda name: own)
    found = _segments(write_video(tmp_path / "a.mp4"), encoders)
    assert [(s.start, s.end) for s in found] == [(0.0, 2.0), (2.0, pytest.approx(4.0, abs=0.15))]
    assert found[0].vector[0] > 0.9 and found[1].vector[2] > 0.9


def test_nothing_to_see_or_hear_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownModalityError, match="audio, speech, voice, onset, motion, not 'text'"):
        decode_video(tmp_path / "a.mp4", _encoders()[0], "text")
    with pytest.raises(UnknownModalityError, match=r"a\.mp4: this space has no audio encoder"):
        decode_video(tmp_path / "a.mp4", _encoders()[0], "audio")
    empty = tmp_path / "a.mp4"
    empty.touch()
    with pytest.raises(EmptyMediaError, match=r"a\.mp4: the file is empty"):
        _segments(empty, _encoders()[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames_per_second": 0}, "frames_per_second 0: must be 0.05 to 60"),
        ({"window_seconds": -1}, "window_seconds -1: must be 0.1 to 3600"),
        ({"still": 2}, "still 2: must be 0 to 1"),
    ],
)
def test_a_setting_that_cuts_nothing_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PooledConfig(**change)


def test_its_fingerprint_depends_on_the_pictures_and_no_other_on_it(tmp_path: Path) -> None:
    config = read_config(DEFAULT_WEIGHTS)
    known = {name: fingerprint(config, name, DEFAULT_WEIGHTS) for name in config["sections"]}
    without = {**config, "sections": {k: v for k, v in config["sections"].items() if k != "video"}}
    assert {name: fingerprint(without, name, DEFAULT_WEIGHTS) for name in without["sections"]} == {
        name: digest for name, digest in known.items() if name != "video"
    }
    for section, change in (("image", {"temperature": 3.0}), ("video", {"still": 0.5})):
        sections = {**config["sections"], section: {**config["sections"][section], **change}}
        changed = fingerprint({**config, "sections": sections}, "video", DEFAULT_WEIGHTS)
        assert changed != known["video"]
    assert fingerprint({**config, "sections": sections}, "image", DEFAULT_WEIGHTS) == known["image"]
    lost = {**config, "sections": {"text": config["sections"]["text"], "video": config["sections"]["video"]}}
    (tmp_path / "config.json").write_text(json.dumps(lost))
    with pytest.raises(ConfigError, match="section 'video' pools 'image', which is no other section"):
        read_config(tmp_path)


def test_a_video_comes_before_its_frames_and_beside_them() -> None:
    spec = modality_spec("video")
    assert spec.held == ("video", "image", "audio", "speech", "voice", "motion", "onset") and spec.beside == "image"
