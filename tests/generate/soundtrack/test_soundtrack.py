"""A film gets sounds where something strikes, its pictures stay as they are, and bad films are said in a line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from embedspace.errors import ArgumentError, EmptyMediaError, InputError, MediaError, MediaTooLargeError
from embedspace.generate.soundtrack import CatalogSounds, FoundSound, scored, watch
from embedspace.generate.soundtrack.impacts import iter_impacts
from embedspace.generate.soundtrack.mixing import PEAK, RATE, RMS, Mix, Placed, event_sound, ground_of, loudness
from embedspace.generate.soundtrack.movement import iter_movement
from embedspace.generate.soundtrack.sounds import bank_of
from embedspace.generate.soundtrack.soundtrack import soundtrack_of
from embedspace.media.film import Film, iter_moments
from embedspace.media.write import write_audio
from tests.support.ball_film import HITS, ball, write_film


class _Space:
    """Encodes a picture as its mean colour."""

    class _None:
        targets: tuple[str, ...] = ()

    generators = _None()

    def encode_image(self, images: list[Image.Image]) -> NDArray[np.float32]:
        rows = np.array([np.asarray(image.convert("RGB"), np.float32).mean(axis=(0, 1)) for image in images])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class _Clicks:
    """Gives a click that begins after 0.1 s of silence."""

    name = "clicks"

    def find(self, vector: NDArray[np.float32], modality: str, seed: int) -> FoundSound:
        wave = np.zeros(16_000, np.float32)
        wave[1600:4800] = np.random.default_rng(seed).standard_normal(3200) * np.exp(-np.arange(3200) / 400) * 0.3
        return FoundSound("a click", "click", 0.5, wave, 16_000)


def _times(path: Path) -> list[float]:
    moments = iter_moments(path, Film(), per_second=30)
    return [impact.time for _, impact in iter_impacts(iter_movement(moments)) if impact]


@pytest.mark.parametrize("fps", [20, 25, 60, 1000])
def test_impacts_are_found_where_theball_hits(fps: float, tmp_path: Path) -> None:
    seconds = 3.0 if fps < 1000 else 1.2
    found = _times(write_film(tmp_path / "ball.mkv", ball, fps=fps, seconds=seconds))
    assert found == pytest.approx([hit for hit in HITS if hit < seconds], abs=0.07)


def test_a_camera_that_pans_adds_no_impact(tmp_path: Path) -> None:
    film = write_film(tmp_path / "pan.mkv", lambda t: ball(t, pan=round(25 * np.sin(2 * t))))
    assert _times(film) == pytest.approx(HITS, abs=0.07)
    alone = write_film(tmp_path / "only.mkv", lambda t: ball(3.0, pan=round(25 * np.sin(2 * t)), x=-60))
    assert _times(alone) == []


def test_what_sets_out_or_goes_on_evenly_is_not_heard(tmp_path: Path) -> None:
    """A ball that rolls through at one speed, and one that sets out from rest."""
    assert _times(write_film(tmp_path / "through.mkv", lambda t: ball(3.0, x=round(-20 + 70 * t)))) == []
    sets_out = write_film(tmp_path / "out.mkv", lambda t: ball(3.0, x=round(40 + 60 * max(0.0, t - 1))), seconds=2.5)
    assert _times(sets_out) == []


def test_onsets_of_the_sound_fall_on_the_impacts_and_it_is_bounded(tmp_path: Path) -> None:
    film = write_film(tmp_path / "ball.mp4", ball)
    track = scored(watch(film, _Space()), _Space(), _Clicks())  # type: ignore[arg-type]
    assert [event.time for event in track.events] == pytest.approx(HITS, abs=0.07)
    wave = track.waveform()
    assert wave.shape == (round(track.watched.seconds * RATE), 2)
    peak, rms = loudness(iter([wave]))
    assert peak <= PEAK + 1e-4 and rms <= RMS + 1e-4 and max(peak / PEAK, rms / RMS) > 0.99
    for event in track.events:
        at = round(event.time * RATE)
        before, after = (np.abs(wave[a:b]).max() for a, b in ((at - 4800, at - 600), (at - 100, at + 1000)))
        assert after > 3 * before
    assert all(event.pan < 0 for event in track.events)  # the ball is on the left
    left, right = np.square(wave).sum(axis=0)
    assert left > 1.5 * right


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi"])
def test_pictures_are_copied_bit_for_bit_and_the_length_kept(suffix: str, tmp_path: Path) -> None:
    film = write_film(tmp_path / f"ball{suffix}", ball, codec="mpeg4")
    track = scored(watch(film, _Space()), _Space(), _Clicks())  # type: ignore[arg-type]
    out = track.write(tmp_path / f"scored{suffix}")

    def packets(path: Path) -> list[tuple[bytes, float]]:
        with av.open(str(path)) as opened:
            seen = opened.streams.video[0]
            return [(bytes(p), float(p.pts * p.time_base)) for p in opened.demux(seen) if p.pts is not None]

    before, after = packets(film), packets(out)
    assert [data for data, _ in after] == [data for data, _ in before] and len(before) == 75
    assert [at for _, at in after] == pytest.approx([at for _, at in before], abs=0.002)
    with av.open(str(out)) as opened:
        assert len(opened.streams.audio) == 1
        heard = sum(frame.samples for frame in opened.decode(audio=0)) / RATE
    assert heard == pytest.approx(3.0, abs=0.06)
    if suffix in (".mp4", ".mkv"):
        with av.open(str(out)) as opened:
            about = {key.lower(): value for key, value in opened.metadata.items()}["comment"]
        record = json.loads(about.removeprefix("embedspace: "))
        assert [event["time"] for event in record["events"]] == pytest.approx(HITS, abs=0.07)
        assert record["sounds"] == "clicks" and record["seed"] == 0


def test_a_film_with_sound_keeps_it_or_not(tmp_path: Path) -> None:
    film = write_film(tmp_path / "loud.mp4", ball, sound=0.3)
    watched = watch(film, _Space())
    kept = scored(watched, _Space(), _Clicks())  # type: ignore[arg-type]
    alone = scored(watched, _Space(), _Clicks(), film_sound="replace")  # type: ignore[arg-type]
    assert kept.record()["film_sound"] == "mix" and alone.record()["film_sound"] == "replace"
    quiet = slice(round(0.2 * RATE), round(0.6 * RATE))
    tone = [float(np.abs(np.fft.rfft(track.waveform()[quiet, 0]))[120]) for track in (kept, alone)]
    assert tone[0] > 20 * tone[1]
    assert loudness(kept.mix.blocks())[0] <= PEAK + 1e-4


def test_bad_films_are_one_clear_line(tmp_path: Path) -> None:
    space = _Space()
    with pytest.raises(EmptyMediaError, match="one picture only"):
        watch(write_film(tmp_path / "one.mkv", ball, seconds=0.04), space)
    with pytest.raises(EmptyMediaError, match="nothing moves"):
        watch(write_film(tmp_path / "still.mkv", lambda t: ball(3.0)), space)
    sound = write_audio(tmp_path / "only.wav", np.full(16_000, 0.1, np.float32), 16_000).rename(tmp_path / "only.mp4")
    with pytest.raises(EmptyMediaError, match="no pictures"):
        watch(sound, space)
    with pytest.raises(MediaError, match="no such file"):
        watch(tmp_path / "none.mp4", space)
    film = write_film(tmp_path / "ball.mp4", ball)
    with pytest.raises(ArgumentError, match="mix or replace"):
        soundtrack_of(film, space, film_sound="louder")
    with pytest.raises(InputError, match="gallery"):
        bank_of(space, "nothing")  # type: ignore[arg-type]
    track = scored(watch(film, space), space, _Clicks())  # type: ignore[arg-type]
    with pytest.raises(MediaError, match=r"use \.mkv"):
        track.write(tmp_path / "scored.webm")  # MPEG-4 does not go into WebM
    assert not list(tmp_path.glob("*.webm")) and not list(tmp_path.glob(".*partial*"))
    huge = write_film(tmp_path / "huge.mkv", lambda t: Image.new("RGB", (7000, 5200)), seconds=0.08)
    with pytest.raises(MediaTooLargeError, match="scale it down"):
        watch(huge, space)


def test_what_is_damaged_within_a_film_is_passed_over(tmp_path: Path) -> None:
    whole = write_film(tmp_path / "ball.mkv", ball)
    data = bytearray(whole.read_bytes())
    middle = len(data) * 6 // 10
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(data)
    found = watch(damaged, _Space())
    assert any(abs(strike.time - HITS[0]) < 0.1 for strike in found.strikes)
    scored(found, _Space(), _Clicks()).write(tmp_path / "scored.wav")  # type: ignore[arg-type]


def test_a_mix_is_the_same_however_long_its_blocks_are() -> None:
    wave, onset = event_sound(np.sin(np.arange(8000) / 5).astype(np.float32), 16_000)
    mix = Mix(9.0, [Placed(3.99, 0, 1.0, 0.0), Placed(8.9, 0, 0.5, 1.0)], [(wave, onset)])
    whole = np.concatenate(list(mix.blocks()))
    assert whole.shape == (9 * RATE, 2)
    start = round(3.99 * RATE) - onset
    assert whole[start : start + len(wave), 0] == pytest.approx(wave, abs=1e-6)  # across the border of two blocks
    assert np.abs(whole[round(8.9 * RATE) :, 0]).max() < 1e-6 < np.abs(whole[round(8.9 * RATE) :, 1]).max()


def test_the_ground_has_no_onset_and_no_seam() -> None:
    click = np.zeros(64_000, np.float32)
    click[20_000:20_050] = 1.0
    ground = ground_of(click, 16_000, 0)
    sizes = np.sqrt(np.square(ground[: len(ground) // 4800 * 4800, 0].reshape(-1, 4800)).mean(axis=1))
    assert sizes.max() < 3 * sizes.min()
    assert np.array_equal(ground, ground_of(click, 16_000, 0))
    assert not np.array_equal(ground, ground_of(click, 16_000, 1))
    assert abs(float(ground[0, 0] - ground[-1, 0])) < 6 * float(np.abs(np.diff(ground[:, 0])).mean())


@dataclasses.dataclass
class _Hit:
    uri: str
    score: float = 0.4
    start: float | None = None
    text: str = ""


def test_sounds_come_from_a_catalog_that_may_hold_unreadable_ones(tmp_path: Path) -> None:
    good = write_audio(tmp_path / "bell.wav", 0.3 * np.ones(8000, np.float32), 16_000)

    class Catalog:
        hits: ClassVar[list[_Hit]] = [_Hit(str(tmp_path / "gone.wav")), _Hit(str(good))]

        def search(self, vectors: object, *, query_modality: str, k: int, to: str) -> list[list[_Hit]]:
            assert query_modality == "image" and to == "audio"
            return [self.hits]

    bank = CatalogSounds(Catalog(), "mine")
    found = bank.find(np.zeros(3, np.float32), "image", 0)
    assert found.name == "bell" and found.item == str(good) and len(found.waveform) == 8000
    assert {bank.find(np.zeros(3, np.float32), "image", seed).item for seed in range(1, 9)} == {str(good)}
    steps = np.repeat(np.arange(1, 11) / 20, 16_000).astype(np.float32)
    long = write_audio(tmp_path / "long.wav", steps, 16_000)
    Catalog.hits = [_Hit(str(long), start=2.0, text="a siren"), Catalog.hits[0]]
    part = bank.find(np.zeros(3, np.float32), "image", 0)
    assert part.name == "a siren" and len(part.waveform) == 4 * 16_000
    assert float(part.waveform[0]) == pytest.approx(0.15, abs=1e-3)
    Catalog.hits = Catalog.hits[1:]
    with pytest.raises(InputError, match="mine: no sound of it can be read"):
        bank.find(np.zeros(3, np.float32), "image", 0)
