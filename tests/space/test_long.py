"""Long recordings and videos: part by part, the same pieces as at once, true durations."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from embedspace.catalog.ingest.encoding import encode_each
from embedspace.encoders import Encoder, Encoders
from embedspace.encoders.batch import encode_items
from embedspace.errors import EmptyMediaError, MediaError
from embedspace.media.audio import load_audio
from embedspace.modality import modality_names, modality_spec
from embedspace.segment import Decoded, Segment
from tests.support.spaces import noise

RATE = 16_000


class Levels(Encoder):
    """A whole encoder whose vectors are the loudness of the windows' quarters."""

    embed_dim = 4

    def prepare(self, media: Any) -> Any:
        return torch.from_numpy(np.array(media, np.float32))

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        rows = [[float(part.abs().mean()) for part in item.flatten().tensor_split(4)] for item in prepared]
        return torch.nn.functional.normalize(torch.tensor(rows), dim=1).numpy()

    def encode_and_route(self, prepared: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.encode(prepared), np.ones(len(prepared), np.float32)

    def encode_and_transcribe(self, prepared: Sequence[Any]) -> tuple[NDArray[np.float32], list[str]]:
        return self.encode(prepared), ["words"] * len(prepared)


def _listener(modality: str) -> Encoder:
    made = Levels()
    made.window_seconds = 12.0 if modality == "speech" else 6.0
    return made


_levels = Encoders([name for name in modality_names() if name not in ("voice", "motion", "onset")], _listener)


def _decode(kind: str, source: Any, encoders: Encoders) -> Decoded:
    decoder = modality_spec(kind).decode()
    assert decoder is not None
    decoded: Decoded = decoder(source, encoders, None)
    return decoded


def _write(path: Path, seconds: float, silent: tuple[float, float] = (0, 0), rate: int = RATE) -> Path:
    waveform = noise(seconds, rate)
    waveform[int(silent[0] * rate) : int(silent[1] * rate)] = 0.0
    soundfile.write(path, waveform, rate)
    return path


def _film(path: Path, pictures: float, sound: float = 0.0, every: float = 0.5) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=Fraction(1 / every).limit_denominator())
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        for index in range(round(pictures / every)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index % 250, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(every).limit_denominator()
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            block = av.AudioFrame.from_ndarray(noise(sound)[None], format="fltp", layout="mono")
            block.sample_rate = RATE
            container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def test_all_parts_are_the_windows_of_the_whole(tmp_path: Path) -> None:
    path = _write(tmp_path / "long.flac", 260.3, silent=(59, 100), rate=8000)
    decoded = _decode("audio", path, _levels)
    assert decoded.rest is not None
    ahead = len(decoded.inputs)
    first = list(decoded.rest())
    pieces = [*decoded.inputs, *(piece for part, _ in first for piece in part)]
    assert decoded.metadata == {"duration": 260.3}
    heard = [p for p in pieces if p.modality == "audio"]
    assert [round(p.start / 6) for p in heard] == [k for k in range(44) if k not in range(10, 16)]
    whole = load_audio(path, sample_rate=RATE).waveform
    for piece in pieces:  # exactly what an encoder would be given of the whole recording
        assert np.array_equal(piece.content.numpy(), whole[round(piece.start * RATE) : round(piece.end * RATE)])
    again = [piece for part, _ in decoded.rest() for piece in part]
    assert [(p.modality, p.start, p.end) for p in again] == [(p.modality, p.start, p.end) for p in pieces[ahead:]]
    assert [reached for _, reached in first] == sorted(reached for _, reached in first)


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".m4a"])
def test_a_long_recording_never_lies_in_memory(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.encoders.recordings._AHEAD", 1)
    path = tmp_path / f"long{suffix}"
    with av.open(str(path), "w") as container:
        codec = {".flac": "flac", ".mp3": "mp3", ".m4a": "aac"}[suffix]
        track = container.add_stream(codec, rate=RATE, layout="mono")
        form = "s16" if suffix == ".flac" else "fltp"
        second = noise(60) if form == "fltp" else (noise(60) * 32767).astype(np.int16)
        for minute in range(5):
            block = av.AudioFrame.from_ndarray(second[None], format=form, layout="mono")
            block.sample_rate, block.pts = RATE, minute * 60 * RATE
            container.mux(track.encode(block))
        container.mux(track.encode(None))
    tracemalloc.start()
    decoded = _decode("audio", path, _levels)
    told: list[tuple[float, float | None]] = []
    decoded.progress = lambda reached, total: told.append((reached, total))
    (segments,) = encode_items([decoded], _levels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 28 << 20  # all windows at once are 38 MB
    assert 74 <= len(segments) <= 77
    assert decoded.metadata["duration"] == pytest.approx(300, abs=0.3)
    assert told[-1][0] == pytest.approx(300, abs=6)
    assert {round(total or 0) for _, total in told} == {300}


def test_an_interrupt_ends_a_long_recording_at_the_next_part(tmp_path: Path) -> None:
    decoded = _decode("audio", _write(tmp_path / "long.wav", 600), _levels)
    told: list[float] = []

    def press(reached: float, total: float | None) -> None:
        told.append(reached)
        raise KeyboardInterrupt

    decoded.progress = press
    with pytest.raises(KeyboardInterrupt):
        encode_items([decoded], _levels)
    assert len(told) == 1 and told[0] < 300
    decoded.progress = None
    assert len(encode_items([decoded], _levels)[0]) == 150


def test_a_long_silence_is_nothing_and_a_late_sound_is_heard(tmp_path: Path) -> None:
    with pytest.raises(EmptyMediaError, match="silent"):
        encode_items([_decode("audio", _write(tmp_path / "a.wav", 400, silent=(0, 400)), _levels)], _levels)
    late = _decode("audio", _write(tmp_path / "b.wav", 400, silent=(0, 391)), _levels)
    (segments,) = encode_items([late], _levels)
    assert [(s.modality, s.start, s.end) for s in segments if s.modality == "audio"] == [
        ("audio", 390, 396),
        ("audio", 396, 400),
    ]


def test_a_file_that_changes_on_the_way_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "long.wav", 300)
    decoded = _decode("audio", path, _levels)
    _write(path, 301)
    with pytest.raises(MediaError, match=r"long\.wav: changed while it was read; index it again"):
        encode_items([decoded], _levels)


def test_a_silent_tail_counts_in_the_duration(tmp_path: Path) -> None:
    decoded = _decode("audio", _write(tmp_path / "a.wav", 60, silent=(24, 60)), _levels)
    assert decoded.metadata == {"duration": 60.0}
    assert max(piece.end for piece in decoded.inputs) == 24
    shortest = _decode("audio", _write(tmp_path / "b.wav", 6.3), _levels)  # its last 0.3 s make no window
    assert shortest.metadata == {"duration": 6.3}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_video_lasts_as_long_as_it_lasts(suffix: str, tmp_path: Path) -> None:
    decoded = _decode("video", _film(tmp_path / f"a{suffix}", 4, sound=4), _levels)
    assert decoded.metadata["duration"] == pytest.approx(4, abs=0.15)
    (picture,) = [piece for piece in decoded.inputs if piece.modality == "image"]
    assert (picture.start, picture.end) == (0, pytest.approx(4, abs=0.15))
    longer = _decode("video", _film(tmp_path / f"b{suffix}", 23, sound=9), _levels)
    spans = [(p.start, p.end) for p in longer.inputs if p.modality == "image"]
    assert np.array(spans) == pytest.approx(np.array([(0, 10), (10, 20), (20, 23)]), abs=0.15)
    assert longer.metadata["duration"] == pytest.approx(23, abs=0.15)


def test_a_long_video_comes_in_parts(tmp_path: Path) -> None:
    path = _film(tmp_path / "long.mp4", 600, sound=300, every=2)
    decoded = _decode("video", path, _levels)
    assert decoded.rest is not None and 0 < len(decoded.inputs) < 60
    (segments,) = encode_items([decoded], _levels)
    assert [(s.start, s.end) for s in segments if s.modality == "video"] == [(6.0 * k, 6.0 * k + 6) for k in range(100)]
    assert [s.start for s in segments if s.modality == "image"] == pytest.approx([10.0 * k for k in range(60)])
    assert sum(s.modality == "audio" for s in segments) == 50
    assert decoded.metadata["duration"] == pytest.approx(600, abs=0.1)


def test_a_bad_rest_costs_only_its_own_item() -> None:
    class Space:
        embed_dim = 4
        encoded = 0

        def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
            self.encoded += len(items)
            return encode_items(items, _levels)

    def broken() -> Any:
        raise MediaError("b.flac: damaged at 3600.0 s")
        yield

    piece = _decode("text", "words", Encoders(["text"], lambda modality: _Words())).inputs[0]
    piece.modality = "image"
    items = [Decoded("audio", [piece]), Decoded("audio", [piece], rest=broken), Decoded("audio", [piece])]
    space = Space()
    first, second, third = encode_each(space, items)  # type: ignore[arg-type]
    assert second == "b.flac: damaged at 3600.0 s"
    assert len(first) == len(third) == 1
    assert space.encoded == 3  # no batch was done twice


class _Words(Levels):
    def prepare(self, media: Any) -> Any:
        return torch.tensor([float(ord(letter)) for letter in media])
