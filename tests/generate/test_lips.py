"""Reading lips: where the mouth is, words from letters, what a film must be."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from embedspace.errors import EmptyMediaError, InputError, MediaTooLargeError, WeightsError
from embedspace.generate.lips import LipReader
from embedspace.generate.lips.decoding import BeamSettings, fits_of, read_words
from embedspace.generate.lips.mouths import _patch, iter_mouths, mouths_by_motion
from embedspace.generate.lips.network import LETTERS, LipConfig, LipNetwork, letters_of, text_of
from embedspace.generate.lips.reader import _pieces
from embedspace.generate.lips.words import WordModel, word_errors
from embedspace.media.film import Film
from embedspace.train.generators.lips.run import write_reader
from tests.support.ball_film import write_film

SKIN, LIPS = (214, 160, 130), (150, 60, 60)


def face(
    t: float, *, at: tuple[int, ...] = (80,), moves: bool = True, size: tuple[int, int] = (160, 160)
) -> Image.Image:
    """Return a picture of faces whose mouths open and close three times a second."""
    picture = Image.new("RGB", size, (60, 110, 120))
    pen = ImageDraw.Draw(picture)
    for x in at:
        pen.ellipse((x - 30, 40, x + 30, 125), fill=SKIN)
        pen.ellipse((x - 16, 65, x - 8, 70), fill=(20, 20, 20))
        pen.ellipse((x + 8, 65, x + 16, 70), fill=(20, 20, 20))
        half = 2 + 6 * abs(np.sin(3 * np.pi * t)) if moves else 3
        pen.ellipse((x - 12, 102 - half, x + 12, 102 + half), fill=LIPS)
    return picture


def letters_like(text: str, pictures: int = 2) -> np.ndarray:
    """Return (T, 29) logarithms of probabilities of which a text is nearly certain."""
    rows = []
    for k in letters_of(text):
        for name in [k] * (pictures - 1) + [0]:
            row = np.full(len(LETTERS) + 1, -9.0, np.float32)
            row[name] = -0.01
            rows.append(row)
    return np.stack(rows)


def reader_in(folder: Path) -> Path:
    torch.manual_seed(0)
    network = LipNetwork(LipConfig(channels=4, width=16, hidden=8, layers=1))
    return write_reader(network, WordModel.of(["bin blue", "now"]), folder, "a test")


def test_the_mouth_is_found_where_it_moves() -> None:
    frames = np.stack([np.asarray(face(k / 25)) for k in range(40)])
    found = mouths_by_motion(frames)
    assert found.shape == (40, 3)
    assert np.abs(found[:, 0] - 80).max() < 4 and np.abs(found[:, 1] - 102).max() < 6
    assert 10 < found[0, 2] < 22


def test_a_face_that_moves_aside_is_followed() -> None:
    frames = np.stack([np.asarray(face(k / 25, at=(60 + k // 2,))) for k in range(60)])
    assert np.abs(mouths_by_motion(frames)[:, 0] - (60 + np.arange(60) / 2)).max() < 4


def test_what_shows_no_face_that_speaks_is_refused() -> None:
    def seen(**options: object) -> np.ndarray:
        return np.stack([np.asarray(face(k / 25, **options)) for k in range(30)])  # type: ignore[arg-type]

    with pytest.raises(InputError, match="no face"):
        mouths_by_motion(seen(at=()))
    with pytest.raises(InputError, match="two faces"):
        mouths_by_motion(seen(at=(40, 120)))
    with pytest.raises(InputError, match="nothing moves"):
        mouths_by_motion(seen(moves=False))


def patch(t: float, *, size: tuple[int, int], grows: float = 0.0) -> Image.Image:
    """Return a picture of a box of the colour of skin, in which something flickers."""
    picture = Image.new("RGB", (160, 160), (60, 110, 120))
    pen = ImageDraw.Draw(picture)
    width, height = size[0] * (1 + grows * t), size[1] * (1 + grows * t)
    pen.rectangle((80 - width / 2, 80 - height / 2, 80 + width / 2, 80 + height / 2), fill=SKIN)
    half = 2 + 6 * abs(np.sin(3 * np.pi * t))
    pen.ellipse((74, 92 - half, 86, 92 + half), fill=LIPS)
    return picture


def test_what_has_the_colour_of_skin_but_no_shape_of_a_head_is_no_face() -> None:
    def seen(**options: object) -> np.ndarray:
        return np.stack([np.asarray(patch(k / 25, **options)) for k in range(40)])  # type: ignore[arg-type]

    assert mouths_by_motion(seen(size=(50, 70))).shape == (40, 3)
    with pytest.raises(InputError, match="no face is found by the colour of skin and the shape of a head"):
        mouths_by_motion(seen(size=(110, 60)))  # lies
    with pytest.raises(InputError, match="no face"):
        mouths_by_motion(seen(size=(25, 90)))  # a post
    with pytest.raises(InputError, match=r"no face.*of no steady width"):
        mouths_by_motion(seen(size=(40, 56), grows=0.5))


def test_a_hand_beside_a_face_is_no_second_face() -> None:
    def both(t: float) -> Image.Image:
        picture = face(t, at=(50,))
        ImageDraw.Draw(picture).rectangle((90, 120, 155, 150), fill=SKIN)
        return picture

    found = mouths_by_motion(np.stack([np.asarray(both(k / 25)) for k in range(40)]))
    assert np.abs(found[:, 0] - 50).max() < 5


def head(mask: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
    mask[top : top + height, left : left + width] = True
    return mask


def test_a_second_head_counts_by_its_size_and_an_outline_is_none() -> None:
    one = head(np.zeros((80, 80), bool), 5, 10, 25, 35)
    assert _patch(head(one.copy(), 50, 10, 13, 18)) == (5, 10, 29, 44)  # somebody far behind
    with pytest.raises(InputError, match="two faces"):
        _patch(head(one.copy(), 50, 10, 18, 25))
    one[12:43, 7:28] = False
    assert _patch(one) is None
    assert _patch(head(np.zeros((80, 80), bool), 5, 10, 5, 7)) is None  # a speck


def test_a_face_that_is_there_for_a_moment_is_none() -> None:
    frames = np.stack([np.asarray(face(k / 25, at=(80,) if k < 10 else ())) for k in range(40)])
    with pytest.raises(InputError, match="the shape of a head; show one face"):
        mouths_by_motion(frames)


def test_eyes_that_blink_are_no_mouth() -> None:
    def blinking(k: int) -> np.ndarray:
        picture = face(k / 25)
        if k % 2:
            ImageDraw.Draw(picture).ellipse((62, 58, 98, 74), fill=(20, 20, 20))
        return np.asarray(picture)

    found = mouths_by_motion(np.stack([blinking(k) for k in range(40)]))
    assert np.abs(found[:, 1] - 102).max() < 8


def test_films_of_other_rates_give_25_crops_a_second(tmp_path: Path) -> None:
    for fps in (10, 25, 60):
        film = write_film(tmp_path / f"{fps}.mp4", face, fps=fps, seconds=2.0)
        crops = np.concatenate(list(iter_mouths(film, Film())))
        assert crops.shape[1:] == (32, 32) and crops.dtype == np.uint8 and abs(len(crops) - 50) <= 3


def test_the_last_frames_of_a_film_are_not_looked_at_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.generate.lips.mouths._CHUNK", 40)
    monkeypatch.setattr("embedspace.generate.lips.mouths._REST", 10)
    for count in (42, 56):
        film = write_film(tmp_path / f"{count}.mp4", face, seconds=count / 25)
        found = [len(crops) for crops in iter_mouths(film, Film())]
        assert sum(found) == pytest.approx(count, abs=2) and found[-1] >= 10
        assert found[:-1] == [40] * (count // 56)


def test_landmarks_of_the_users_are_taken(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", face, seconds=1.0)
    (crops,) = iter_mouths(film, Film(), lambda frames: np.tile(np.array([[80, 102, 8]], np.float32), (len(frames), 1)))
    (own,) = iter_mouths(film, Film())
    assert crops[:, 12:20, 12:20].mean() < own.mean()  # eight pixels about the middle are lips


def test_bad_films_are_one_clear_line(tmp_path: Path) -> None:
    one = write_film(tmp_path / "one.mp4", face, seconds=0.04)
    with pytest.raises(InputError, match="one picture only"):
        list(iter_mouths(one, Film()))
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as made:
        heard = made.add_stream("aac", rate=16_000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        block.sample_rate = 16_000
        made.mux(heard.encode(block))
        made.mux(heard.encode(None))
    with pytest.raises(EmptyMediaError, match="no pictures"):
        list(iter_mouths(tmp_path / "sound.mp4", Film()))
    large = write_film(tmp_path / "large.avi", lambda t: Image.new("RGB", (8192, 4800)), seconds=0.08, codec="ffv1")
    with pytest.raises(MediaTooLargeError, match="8192 x 4800"):
        list(iter_mouths(large, Film()))


def test_the_language_model_mends_a_letter() -> None:
    letters = letters_like("bin blue")
    letters[2] = -9.0
    letters[2, letters_of("a")[0]], letters[2, letters_of("i")[0]] = -0.3, -1.4
    words = WordModel.of(["bin blue", "bin red", "lay blue"])
    assert read_words(letters, None)[0] == "ban blue"
    assert read_words(letters, words)[0] == "bin blue"


def test_a_beam_of_one_reads_doubled_letters() -> None:
    assert read_words(letters_like("see green"), None, BeamSettings(width=1))[0] == "see green"


def test_a_letter_that_is_shown_long_is_one() -> None:
    assert read_words(letters_like("see", pictures=6), None)[0] == "see"


def test_fits_tell_texts_apart() -> None:
    fits = fits_of(
        letters_like("red fox"), ["red fox", "red box", "a very long text that cannot have been said at all"]
    )
    assert fits.argmax() == 0 and fits[2] == -np.inf
    assert fits[0] == pytest.approx(-0.01 * 14, abs=5e-3)  # and a little for other ways to say it


def test_letters_and_word_errors() -> None:
    assert text_of(letters_of("It's a T-shirt, 7!")) == "it's a t shirt"
    assert word_errors(["bin blue at", "now"], ["bin green at a", "now"]) == (2, 4)


def test_a_pair_that_was_said_is_likelier_and_all_words_sum_to_one() -> None:
    words = WordModel.of(["bin blue", "bin blue", "lay red"])
    assert words.log_probability("blue", "bin") > words.log_probability("red", "bin")
    assert sum(np.exp(words.log_probability(word, "bin")) for word in words.words) == pytest.approx(1.0)
    assert words.log_probability("xylophone", "bin") < words.log_probability("red", "bin")


def test_a_clip_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    network = LipNetwork(LipConfig(channels=4, width=16, hidden=8, layers=1)).eval()
    clips = [torch.rand(12, 32, 32), torch.rand(20, 32, 32)]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    together = network(batch, torch.tensor([12, 20]))
    alone = network(clips[0][None], torch.tensor([12]))
    assert torch.allclose(together[0, :12], alone[0], atol=1e-5)


def test_long_films_are_cut_where_the_mouth_rests() -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 255, (700, 32, 32), dtype=np.uint8)
    crops[200:220] = 90
    pieces = list(_pieces(crops))
    assert pieces[0][0] == 0 and pieces[-1][1] == 700
    assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
    assert 200 <= pieces[0][1] <= 220 and all(last - first <= 300 for first, last in pieces)


def test_a_reader_is_written_and_opened_and_damage_is_said(tmp_path: Path) -> None:
    folder = reader_in(tmp_path / "reader")
    reader = LipReader.from_pretrained(folder)
    assert reader.about == "a test" and reader.letters(np.zeros((9, 32, 32), np.uint8)).shape == (9, 29)
    line = reader._line(np.zeros((50, 32, 32), np.uint8), 25)
    assert (line.start, line.end) == (1.0, 3.0)
    (folder / "network.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"network\.safetensors: damaged"):
        LipReader.from_pretrained(folder)
