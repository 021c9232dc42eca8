"""Rendered clips: things fall as they should, are heard when they land, and splits share nothing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from embedspace.media.audio import load_audio
from training.corpora import manifest
from training.corpora.manifest import Item
from training.corpora.video import rendered
from training.corpora.video.motions import FLOOR, GRAVITY, HELD_OUT, KINDS, Motion, bounce, fall
from training.corpora.video.scenes import FPS, RATE, SECONDS, SIZE, Thing, frames_of, sound_of, write_clip

TIMES = np.arange(round(SECONDS * FPS)) / FPS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_moves_and_is_heard_within_the_clip(kind: str) -> None:
    heard = 0
    for seed in range(30):
        motion = KINDS[kind](np.random.default_rng(seed), TIMES)
        again = KINDS[kind](np.random.default_rng(seed), TIMES)
        for curve in (motion.x, motion.y, motion.turn, motion.size):
            assert curve.shape == TIMES.shape and np.isfinite(curve).all()
        np.testing.assert_array_equal(motion.x, again.x)
        seconds = [at for at, _ in motion.events]
        assert seconds == sorted(seconds) and all(0 <= at < SECONDS for at in seconds)
        assert all(0 <= loud <= 1 for _, loud in motion.events)
        assert (-0.5 < motion.x).all() and (motion.x < 1.5).all()
        heard += bool(motion.events) or len(motion.hum) > 0
    assert heard >= 28


def test_a_fall_takes_as_long_as_gravity_says() -> None:
    motion = fall(np.random.default_rng(3), TIMES)
    (landing, loudness) = motion.events[0]
    height = 0.6 * loudness**2
    before = (TIMES < landing) & (TIMES > landing - np.sqrt(2 * height / GRAVITY))
    fallen = TIMES[before] - (landing - np.sqrt(2 * height / GRAVITY))
    np.testing.assert_allclose(motion.y[before], FLOOR - height + GRAVITY / 2 * fallen**2, atol=1e-9)


def test_a_ball_is_on_the_ground_where_it_is_heard() -> None:
    fine = np.arange(4000) / 1000
    motion = bounce(np.random.default_rng(1), fine)
    for at, _ in motion.events:
        assert motion.y[round(at * 1000) - 1] == pytest.approx(FLOOR, abs=5e-3)
    louds = [loud for _, loud in motion.events]
    assert louds == sorted(louds, reverse=True)


def test_sounds_lie_at_the_impacts() -> None:
    full = np.ones_like(TIMES)
    motion = Motion(full, full, full, full, [(1.0, 0.5), (3.0, 1.0)])
    wave = sound_of(motion, np.full(800, 0.5, np.float32), np.random.default_rng(0), 0.0)
    assert wave.shape == (SECONDS * RATE,) and wave.dtype == np.float32
    assert [wave[round(at * RATE)] for at in (0.99, 1.0, 1.06, 3.0)] == [0.0, 0.25, 0.0, 0.5]
    loud = Motion(full, full, full, full, [(1.0, 1.0)] * 9)
    assert np.abs(sound_of(loud, np.full(800, 0.5, np.float32), np.random.default_rng(0), 0.0)).max() <= 0.9 + 1e-6


def test_what_rolls_is_heard_by_its_speed() -> None:
    motion = KINDS["roll"](np.random.default_rng(2), TIMES)
    wave = sound_of(motion, np.ones(800, np.float32), np.random.default_rng(0), 0.0)
    loud = np.abs(wave).reshape(len(TIMES), -1).mean(axis=1)
    assert np.corrcoef(loud[:-1], motion.hum[:-1])[0, 1] > 0.95


def test_a_clip_shows_and_sounds_what_was_rendered(tmp_path: Path) -> None:
    thing = Thing(Image.new("RGBA", (30, 30), (255, 0, 0, 255)), KINDS["hop"](np.random.default_rng(0), TIMES))
    frames = frames_of([thing], np.random.default_rng(0), camera=False)
    assert len(frames) == len(TIMES) and {frame.size for frame in frames} == {SIZE}
    wave = sound_of(thing.motion, np.full(800, 0.5, np.float32), np.random.default_rng(0), 0.001)
    write_clip(tmp_path / "a.mp4", frames, wave)
    with av.open(str(tmp_path / "a.mp4")) as container:
        seen = [frame.to_image() for frame in container.decode(video=0)]
    assert len(seen) == len(frames)
    assert np.abs(np.asarray(seen[40], np.int16) - np.asarray(frames[40], np.int16)).mean() < 12
    assert load_audio(tmp_path / "a.mp4").seconds == pytest.approx(SECONDS, abs=0.15)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    moving = frames_of([], np.random.default_rng(0), camera=True)
    assert np.abs(np.asarray(moving[0], np.int16) - np.asarray(moving[30], np.int16)).mean() > 1


def test_splits_share_neither_pictures_nor_sounds_nor_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "CORPORA", tmp_path)
    for source in ("stamps", "emoji-google", "sounds"):
        rows = [
            Item(f"{source}/{k}", "image", concept=f"thing {k}", split=("train", "test", "drop")[k % 3])
            for k in range(99)
        ]
        manifest.write_manifest(tmp_path / source / "manifest.jsonl", rows)
    found = {split: rendered.material(split) for split in rendered.SPLITS}
    for one in found:
        assert found[one].pictures and found[one].sounds and found[one].own
        for picture, sound in found[one].own:
            assert found[one].pictures[picture].concept == found[one].sounds[sound].concept
        for other in set(found) - {one}:
            for of in ("pictures", "sounds"):
                ids = {item.id for item in getattr(found[one], of)}
                assert not ids & {item.id for item in getattr(found[other], of)}
            assert not set(HELD_OUT[one]) & set(HELD_OUT[other])
    assert not any(item.split == "drop" for one in found.values() for item in (*one.pictures, *one.sounds))
    assert sorted(kind for kinds in HELD_OUT.values() for kind in kinds) == sorted(KINDS)
