"""Talking faces: phonemes in time, mouths that close where they must, people at their place, splits apart."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest

from embedspace.errors import InputError
from training.corpora.video.faces import draw_look, draw_pose, mouth_places
from training.corpora.video.mouths import NUMBERS, SHAPES, mouth_track, shape_labels
from training.corpora.video.people import timed_by_recording
from training.corpora.video.phonemes import RATE, Timed, shapes_of_ipa, speak_timed
from training.corpora.video.talking import VOICES, crops_of, grid_sentence, picture_of, split_of, talk

VOICED = shutil.which("espeak-ng") is not None and shutil.which("flite") is not None
needs_voices = pytest.mark.skipif(not VOICED, reason="needs voices: apt-get install espeak-ng flite")


@needs_voices
@pytest.mark.parametrize("voice", ["espeak:en-us", "espeak:en-gb-scotland", "flite:slt"])
def test_a_voice_tells_when_its_phonemes_are_said(voice: str) -> None:
    said = speak_timed("bin blue", voice)
    assert [one.shape for one in said.shapes] == ["pbm", "ih", "tdn", "pbm", "l", "oo"]
    assert all(a.end <= b.start + 1e-6 for a, b in itertools.pairwise(said.shapes))
    slow = speak_timed("bin blue", voice, 0.6)
    assert slow.shapes[-1].end > 1.2 * said.shapes[-1].end
    loud = np.abs(said.waveform) > 0.1 * np.abs(said.waveform).max()
    assert said.shapes[-1].end <= len(said.waveform) / RATE and loud[: round(said.shapes[-1].end * RATE)].any()


@needs_voices
def test_voices_that_tell_no_times_are_refused() -> None:
    with pytest.raises(InputError, match="only espeak and flite"):
        speak_timed("bin", "piper:joe")
    with pytest.raises(InputError, match="no such voice"):
        speak_timed("bin", "espeak:xx-nowhere")
    assert shapes_of_ipa("aɪ") == ["ae", "ih"] and shapes_of_ipa("tʃ") == ["sh"] and shapes_of_ipa("ː") == []


def test_mouths_close_where_they_must_and_flow() -> None:
    assert len(SHAPES) >= 21
    shapes = [Timed("ah", 0.2, 0.5), Timed("pbm", 0.5, 0.6), Timed("oo", 0.6, 0.9)]
    track = mouth_track(shapes, 30)
    opened, rounded = track[:, NUMBERS.index("open")], track[:, NUMBERS.index("round")]
    assert opened[8] > 0.6 and opened[13] < 0.1 and opened[29] < 0.05
    before = mouth_track([Timed("ah", 0.2, 0.5), Timed("pbm", 0.5, 0.6), Timed("ee", 0.6, 0.9)], 30)
    assert rounded[13] > before[13, NUMBERS.index("round")] + 0.1  # "p" is rounded before "oo", not before "ee"
    assert np.abs(np.diff(track, axis=0)).max() < 0.8
    assert shape_labels(shapes, 30)[[0, 8, 13, 20]].tolist() == [
        0,
        *(list(SHAPES).index(n) for n in ("ah", "pbm", "oo")),
    ]


@needs_voices
def test_the_same_seed_draws_the_same_clip_and_another_face_another() -> None:
    one, again, other = (talk("bin blue", "espeak:en-us", face, [3]) for face in (5, 5, 6))
    assert np.array_equal(crops_of(one), crops_of(again))
    assert not np.array_equal(one.look.skin, other.look.skin)
    assert crops_of(talk("bin blue", "espeak:en-us", 5, [3])).shape == (one.frames, 32, 32)


@needs_voices
def test_the_mouth_is_drawn_where_it_is_said_to_be() -> None:
    one = talk("bin blue at f two now", "espeak:en-us", 11, [1])
    pictures = picture_of(one).astype(float).mean(axis=3)
    moves = np.abs(np.diff(pictures, n=2, axis=0)).mean(axis=0)
    moves[: round(160 * (one.pose.y.mean() + 0.2 * one.pose.scale.mean()))] = 0
    y, x = np.unravel_index(moves.argmax(), moves.shape)
    at = 160 * mouth_places(one.pose).mean(axis=0)
    assert abs(x - at[0]) < 14 and abs(y - at[1]) < 9


def test_people_differ_and_stay_in_the_picture() -> None:
    looks = [draw_look(np.random.default_rng(k)) for k in range(40)]
    assert np.std([look.skin.mean() for look in looks]) > 0.1 and 0 < sum(look.beard > 0 for look in looks) < 40
    for k in range(40):
        pose = draw_pose(np.random.default_rng(k), 75)
        places = mouth_places(pose)
        assert places.min() > 0.1 and places.max() < 0.95


def test_sentences_and_voices_of_the_test_are_said_nowhere_else() -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        assert all(split_of(grid_sentence(rng, split)) == split for _ in range(20))
    for one, other in itertools.combinations(VOICES.values(), 2):
        assert not set(one) & set(other)


@needs_voices
def test_a_recording_gives_its_own_times() -> None:
    quick, slow = speak_timed("a baseball cap", "espeak:en-us"), speak_timed("a baseball cap", "espeak:en-us", 0.7)
    found = timed_by_recording("a baseball cap", slow.waveform, "espeak:en-us")
    assert [one.shape for one in found.shapes] == [one.shape for one in quick.shapes]
    off = [abs(a.start - b.start) for a, b in zip(found.shapes, slow.shapes, strict=True)]
    naive = [abs(a.start - b.start) for a, b in zip(quick.shapes, slow.shapes, strict=True)]
    assert np.mean(off) < 0.06 and np.mean(off) < 0.5 * np.mean(naive)
