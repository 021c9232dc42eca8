"""Recordings with and without speech, and videos, through a space."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from embedspace.encoders.base import save_tensors
from embedspace.errors import MediaError, UnknownModalityError
from embedspace.media.write import write_audio
from embedspace.segment import Decoded
from embedspace.space import EmbeddingSpace, write_config
from tests.support.spaces import noise, segments_of, spans, write_space

RATE = 16_000


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingSpace:
    """The tiny space, but its router hears speech in everything."""
    folder = write_space(tmp_path_factory.mktemp("hearing"))
    space = EmbeddingSpace.from_pretrained(folder)
    heads: Any = space.encoder("audio").projections
    heads.router.bias.data.fill_(9.0)
    save_tensors(heads, folder / "audio.safetensors")
    write_config(folder, space.config["sections"], space.embed_dim)
    return EmbeddingSpace.from_pretrained(folder)


# ---- sound or speech


def test_without_speech_a_recording_has_sound_segments_only(tiny_space: EmbeddingSpace) -> None:
    found = segments_of(tiny_space, (noise(1), RATE))
    assert [s.modality for s in found] == ["audio"]
    np.testing.assert_allclose(tiny_space.encode([{"audio": (noise(1), RATE)}])[0], found[0].vector, atol=1e-5)


def test_where_the_router_hears_speech_there_are_both(hearing: EmbeddingSpace) -> None:
    found = segments_of(hearing, (noise(13), RATE))
    assert spans(found, "audio") == [(0, 6), (6, 12), (12, 13)]
    assert spans(found, "speech") == [(0, 12), (12, 13)]
    only = segments_of(hearing, (noise(1), RATE), wanted="audio")
    assert [s.modality for s in only] == ["audio"]


def test_speech_is_encoded_only_where_it_is_heard(tiny_space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_space.encoder("audio")
    route = encoder.encode_and_route

    def hear_the_third_window(prepared: Any) -> tuple[Any, Any]:
        vectors, probabilities = route(prepared)
        probabilities[:] = 0.0
        probabilities[2] = 0.9  # 0 to 6 s of the second recording
        return vectors, probabilities

    monkeypatch.setattr(encoder, "encode_and_route", hear_the_third_window)
    monkeypatch.setattr(encoder, "together", 0)  # all windows at once
    items = [tiny_space.decode((noise(7, seed=k), RATE), "audio") for k in range(2)]
    first, second = tiny_space.encode_decoded(items)
    assert spans(first, "speech") == []
    assert spans(second, "speech") == [(0, 7)]
    assert spans(second, "audio") == spans(first, "audio") == [(0, 6), (6, 7)]


def test_a_recording_with_speech_is_led_by_what_is_said(hearing: EmbeddingSpace, tmp_path: Path) -> None:
    write_audio(tmp_path / "talk.wav", noise(3), RATE)
    row = hearing.encode(tmp_path / "talk.wav")
    said = [s for s in segments_of(hearing, tmp_path / "talk.wav") if s.modality == "speech"]
    np.testing.assert_allclose(row[0], said[0].vector, atol=1e-5)
    assert np.abs(row - hearing.encode_audio(tmp_path / "talk.wav")).max() > 1e-3
    assert np.abs(row - hearing.encode(tmp_path / "talk.wav", modality="audio")).max() > 1e-3


def test_encode_decoded_keeps_recordings_and_texts_apart(hearing: EmbeddingSpace) -> None:
    items = [
        hearing.decode((noise(6.7, seed=1), RATE), "audio"),
        hearing.decode("a dog", "text"),
        hearing.decode((noise(1, seed=2), RATE), "audio", as_modality="speech"),
        hearing.decode((noise(1, seed=3), RATE), "audio", as_modality="audio"),
    ]
    together = hearing.encode_decoded(items)
    assert [[s.modality for s in own] for own in together] == [
        ["audio", "audio", "speech"], ["text"], ["speech"], ["audio"],
    ]  # fmt: skip
    for item, own in zip(items, together, strict=True):
        for segment, alone in zip(own, hearing.encode_decoded([item])[0], strict=True):
            np.testing.assert_allclose(segment.vector, alone.vector, atol=1e-5)
            assert dataclasses.replace(segment, vector=alone.vector) == alone


# ---- videos


def film(path: Path, seconds: int, *, sound: bool = True) -> Path:
    """A film that gets brighter; its sound is noise."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        for index in range(seconds * 5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * (index // 5), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 5)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            block = av.AudioFrame.from_ndarray(noise(seconds)[None], format="fltp", layout="mono")
            block.sample_rate = RATE
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def test_a_video_has_pictures_and_sound(tiny_space: EmbeddingSpace, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 11)
    decoded = tiny_space.decode(path, "video")
    found = tiny_space.encode_decoded([decoded])[0]
    assert spans(found, "image") == [(0, 10), (10, 11)]  # the last picture ends with the film
    assert [s for s, _ in spans(found, "audio")] == pytest.approx([0, 6], abs=0.1)
    assert decoded.kind == "video"
    pictures = np.stack([s.vector for s in found if s.modality == "image"])
    mean = pictures.mean(axis=0)
    np.testing.assert_allclose(tiny_space.encode({"image": path})[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_video_taken_as_one_modality(tiny_space: EmbeddingSpace, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 2)
    for wanted in ("image", "audio", "speech"):
        found = segments_of(tiny_space, path, "video", wanted)
        assert {s.modality for s in found} == {wanted}
    with pytest.raises(
        UnknownModalityError, match="a video holds video, image, audio, speech, voice, onset, motion, not 'text'"
    ):
        tiny_space.decode(path, "video", as_modality="text")
    seen = tiny_space.encode(path, modality="image")
    np.testing.assert_allclose(tiny_space.encode(path), seen, atol=1e-5)  # what is seen leads
    assert np.abs(tiny_space.encode(path, modality="audio") - seen).max() > 1e-3


def test_a_silent_video_has_pictures_only(tiny_space: EmbeddingSpace, tmp_path: Path) -> None:
    path = film(tmp_path / "mute.mp4", 2, sound=False)
    assert [s.modality for s in segments_of(tiny_space, path, "video")] == ["image"]
    with pytest.raises(MediaError):
        tiny_space.encode_audio(path)


def test_a_long_item_may_be_encoded_part_by_part(hearing: EmbeddingSpace) -> None:
    text = " ".join(f"word{number} of a long text." for number in range(300))
    for decoded, cuts in (
        (hearing.decode((noise(27), RATE), "audio"), [3, 6]),  # two sounds and their speech; of the last one sound
        (hearing.decode((noise(27), RATE), "audio", as_modality="audio"), [1, 2, 3, 4]),
        (hearing.decode(text, "text"), list(range(1, 10))),
    ):
        assert list(decoded.cuts) == cuts
        whole = hearing.encode_decoded([decoded])[0]
        parts = [segment for part in decoded.parts(2) for segment in hearing.encode_decoded([part])[0]]
        assert [(s.modality, s.start, s.end, s.text) for s in parts] == [
            (s.modality, s.start, s.end, s.text) for s in whole
        ]
        np.testing.assert_allclose([s.vector for s in parts], [s.vector for s in whole], atol=1e-4)


def test_parts_of_an_item_that_may_not_be_divided() -> None:
    assert [part.inputs for part in Decoded("text", [1, 2, 3]).parts(2)] == [[1, 2, 3]]
    assert [part.inputs for part in Decoded("text", [1, 2, 3, 4, 5], cuts=[1, 4]).parts(2)] == [[1], [2, 3, 4], [5]]
    assert [part.inputs for part in Decoded("text", [1, 2, 3, 4], cuts=[1, 2, 3]).parts(2)] == [[1, 2], [3, 4]]
