"""Points of people who sign: both layouts give the same points, How2Sign's folders become clips, a run learns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from embedspace.errors import ConfigError, InputError, MediaError, MissingExtraError
from embedspace.generate.lips import LipReader
from embedspace.generate.lips.network import letters_of
from embedspace.train.generators.lips.clips import Clip, read_clips, write_shard
from embedspace.train.generators.lips.recipe import LipRecipe
from embedspace.train.generators.lips.run import LipRun, train_lips
from embedspace.train.generators.lips.scores import TextScores, shuffled
from embedspace.train.generators.lips.signs import POINTS, mediapipe_points, openpose_points, prepare_signs
from embedspace.train.generators.run import train_generator
from embedspace.train.loop import FitProgress
from eval import signs
from tests.generate.test_lips import reader_in

BODY, MEDIAPIPE = (0, 2, 3, 4, 5, 6, 7), (0, 12, 14, 16, 11, 13, 15)


def signer(frames: int, seed: int = 0) -> np.ndarray:
    """Return (T, 49, 2) pixels: a person of fixed shoulders whose other points move."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(100, 500, (frames, POINTS, 2))
    points[:, 1], points[:, 4] = (260, 300), (380, 300)
    return points


def write_openpose(folder: Path, points: np.ndarray, *, empty: tuple[int, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(points):
        body = np.zeros((25, 3))
        body[list(BODY), :2], body[list(BODY), 2] = frame[:7], 0.9
        hands = [np.concatenate([part, np.full((21, 1), 0.8)], axis=1) for part in (frame[7:28], frame[28:])]
        person = {
            "pose_keypoints_2d": body.ravel().tolist(),
            "hand_left_keypoints_2d": hands[0].ravel().tolist(),
            "hand_right_keypoints_2d": hands[1].ravel().tolist(),
        }
        people = [] if number in empty else [person]
        (folder / f"x_{number:012}_keypoints.json").write_text(json.dumps({"people": people}))
    return folder


def write_mediapipe(path: Path, points: np.ndarray, size: int = 75) -> Path:
    found = np.zeros((len(points), size, 3))
    hands = 33 if size == 75 else 501
    found[:, list(MEDIAPIPE), :2] = points[:, :7] / 640
    found[:, hands : hands + 42, :2] = points[:, 7:] / 640
    np.save(path, found)
    return path


def test_both_layouts_give_the_same_points(tmp_path: Path) -> None:
    points = signer(6)
    own = openpose_points(write_openpose(tmp_path / "a", points))
    assert own.shape == (6, 98) and own.dtype == np.float16
    shoulders = own.reshape(6, 49, 2)[0, [1, 4]].astype(float)
    assert shoulders.tolist() == [[-0.5, 0.0], [0.5, 0.0]]
    for size in (75, 543):
        other = mediapipe_points(write_mediapipe(tmp_path / f"{size}.npy", points, size))
        assert np.abs(own.astype(float) - other.astype(float)).max() < 0.01


def test_frames_without_a_person_are_zero_and_damage_is_said(tmp_path: Path) -> None:
    found = openpose_points(write_openpose(tmp_path / "a", signer(4), empty=(2,)))
    assert not found[2].any() and found[1].any()
    with pytest.raises(MediaError, match="shoulders are seen in no frame"):
        openpose_points(write_openpose(tmp_path / "b", signer(2), empty=(0, 1)))
    next((tmp_path / "a").iterdir()).write_text("{}")
    with pytest.raises(MediaError, match="no frame of OpenPose"):
        openpose_points(tmp_path / "a")
    np.save(tmp_path / "c.npy", np.zeros((4, 33, 3)))
    with pytest.raises(MediaError, match=r"shape \(4, 33, 3\)"):
        mediapipe_points(tmp_path / "c.npy")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "how2sign"
    head = "VIDEO_ID\tSENTENCE_NAME\tSENTENCE\n"
    for split, names in (("train", ("a", "b", "gone")), ("val", ("c",)), ("test", ("d",))):
        rows = "".join(f"1\t{name}\tHi, {name}.\n" for name in names)
        folder.mkdir(exist_ok=True)
        (folder / f"how2sign_realigned_{split}.csv").write_text(head + rows)
    for number, name in enumerate("abc"):
        write_openpose(folder / "openpose_output" / "json" / name, signer(24, number))
    write_mediapipe(folder / "d.npy", signer(24, 9))
    return folder


def test_how2sign_becomes_clips_of_its_own_splits(corpus: Path, tmp_path: Path) -> None:
    skipped = prepare_signs(corpus, tmp_path / "clips")
    assert len(skipped) == 1 and "gone: no points of it" in skipped[0]
    found = read_clips(tmp_path / "clips")
    assert {split: sorted(clips.texts) for split, clips in found.items()} == {
        "train": ["Hi, a.", "Hi, b."],
        "val": ["Hi, c."],
        "test": ["Hi, d."],
    }
    assert found["train"].batch([0]).seen.shape == (1, 12, 98)
    with pytest.raises(ConfigError, match="no table"):
        prepare_signs(corpus / "openpose_output", tmp_path / "none")


def test_the_recipe_trains_on_points(corpus: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "signs.toml"
    recipe.write_text(
        'kind = "lips"\n[lips]\nlayout = "how2sign"\npoints = 49\nsteps = 3\nwidth = 16\nhidden = 8\nlayers = 1\n'
        "batch_size = 2\n"
    )
    folder = train_generator(recipe, out=tmp_path / "out", videos=corpus, minutes=1)
    assert json.loads((folder / "config.json").read_text())["network"]["points"] == 49
    reader = LipReader.from_pretrained(folder)
    assert isinstance(reader.read_points(np.zeros((9, 98), np.float32)).text, str)
    with pytest.raises(InputError, match=r"takes \(frames, 98\)"):
        reader.read_points(np.zeros((9, 10), np.float32))
    with pytest.raises(InputError, match="not films"):
        reader.read(tmp_path / "talk.mp4")


def test_scores_are_sacrebleus_and_the_control_is_of_other_sentences() -> None:
    said = ["The cat sat on the mat.", "Now we add two eggs, and stir.", "Hello, my name is Ann today!"]
    scores = TextScores()
    same = scores.beside_shuffled(said, [text.upper() for text in said])
    assert same["bleu"] == pytest.approx(100) and same["chrf"] == pytest.approx(100)
    assert same["bleu_shuffled"] < 10 and same["chrf_shuffled"] < 40
    # "the cat sat on a mat" of six words: 5, 3, 2, 1 of 6, 5, 4, 3 n-grams are right
    part = scores.of(["the cat sat on the mat"], ["the cat sat on a mat"])
    assert part["bleu"] == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert "version:" in scores.signatures["bleu"] and "nc:6" in scores.signatures["chrf"]
    assert all(a != b for a, b in zip(said, shuffled(said), strict=True)) and sorted(shuffled(said)) == sorted(said)
    with pytest.raises(ValueError, match="3 texts that are meant and 1"):
        scores.of(said, ["one"])


def test_without_sacrebleu_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedspace\[train\]'"):
        TextScores()


WORDS = ("a", "b", "c", "d", "e")


def spelled(text: str, rng: np.random.Generator) -> np.ndarray:
    """Return points (T, 98) of which a letter moves its own for a frame; in the next one all rest."""
    points = rng.normal(0, 0.03, (2 * len(text), 98))
    for number, k in enumerate(letters_of(text)):
        points[2 * number, 11 + 3 * k : 14 + 3 * k] += 2
    return points.astype(np.float16)


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 5)) for _ in range(120)]
    splits = ["val"] * 8 + ["test"] * 8 + ["train"] * 104
    made = [Clip(spelled(text, rng), text, split) for text, split in zip(texts, splits, strict=True)]
    write_shard(tmp_path / "spelled", "one", made)
    return tmp_path / "spelled"


def test_what_can_be_read_scores_above_its_control(
    sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[FitProgress] = []
    sizes = {"width": 32, "hidden": 32, "layers": 1, "batch_size": 16, "dropout": 0.0}
    recipe = LipRecipe(clips=str(sentences), points=POINTS, steps=100, learning_rate=1e-2, **sizes)  # type: ignore[arg-type]
    folder = train_lips(LipRun(recipe, 0, tmp_path / "run", 10.0, False, told.append))
    last = next(one.scalars for one in reversed(told) if "val_bleu" in one.scalars)
    assert last["val_chrf"] > 60 > last["val_chrf_shuffled"] + 10 and last["val_bleu"] > last["val_bleu_shuffled"]
    out = tmp_path / "signs.json"
    assert signs.main([str(folder), str(sentences), "--split", "test", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    rows = found["scores"]
    assert found["sentences"] == 8 and len(found["split_hash"]) == 64
    assert rows["read"]["bleu"]["score"] > 80 and rows["read"]["wer"] < 20
    for control in ("shuffled", "chance"):
        assert rows[control]["bleu"]["score"] < rows["read"]["bleu"]["interval"][0]
    assert "| words, shuffled |" in capsys.readouterr().out


def test_clips_that_do_not_fit_are_one_line(
    sentences: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = str(reader_in(tmp_path / "reader"))
    assert signs.main([reader, str(sentences)]) == 1
    assert "the reader takes (frames, 0)" in capsys.readouterr().err
    prepare_signs(corpus, tmp_path / "few")
    assert signs.main([reader, str(tmp_path / "few")]) == 1
    said = capsys.readouterr().err
    assert "a control wants two" in said and said.count("\n") == 1
