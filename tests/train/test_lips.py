"""Training what reads lips: films and their labels, folders of corpora, a run that goes on, what is refused."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from embedspace.errors import ConfigError, WeightsError
from embedspace.generate.lips import LipReader
from embedspace.generate.lips.network import LETTERS, LipConfig, LipNetwork, letters_of
from embedspace.train.generators.lips.clips import Clip, read_clips, write_shard
from embedspace.train.generators.lips.films import RATE, prepare_films, utterances
from embedspace.train.generators.lips.recipe import LipRecipe
from embedspace.train.generators.lips.run import LipRun, greedy_texts, start_from, train_lips
from embedspace.train.generators.run import train_generator
from embedspace.train.loop import FitProgress
from tests.generate.test_landmarks import marks
from tests.generate.test_lips import face, reader_in
from tests.support.ball_film import write_film


def spelled(text: str, rng: np.random.Generator) -> np.ndarray:
    """Return crops in which every letter opens a mouth as far as its number, two pictures in three."""
    crops = np.full((3 * len(text), 32, 32), 30, np.uint8)
    for number, k in enumerate(letters_of(text)):
        crops[3 * number : 3 * number + 2, 16 - 3 * (k - 1) : 16 + 3 * (k - 1), 4:28] = 220
    return np.clip(crops.astype(int) + rng.integers(-5, 5, crops.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    texts = ["".join(LETTERS[k] for k in rng.integers(1, 5, 3)) for _ in range(40)]
    made = [Clip(spelled(text, rng), text, "val" if k < 6 else "train") for k, text in enumerate(texts)]
    write_shard(tmp_path / "clips", "one", made)
    return tmp_path / "clips"


def small(clips: Path, **changes: object) -> LipRecipe:
    sizes = {"channels": 4, "width": 32, "hidden": 24, "layers": 1, "batch_size": 8, "dropout": 0.0}
    return LipRecipe(clips=str(clips), **{**sizes, "steps": 4, **changes})  # type: ignore[arg-type]


def run_in(out: Path, recipe: LipRecipe, told: list[FitProgress] | None = None, **changes: object) -> LipRun:
    tell: Callable[[FitProgress], None] = (told if told is not None else []).append
    settings = {"seed": 0, "out": out, "minutes": 10.0, "resume": False, "tell": tell, **changes}
    return LipRun(recipe, **settings)  # type: ignore[arg-type]


def test_letters_that_can_be_seen_are_learnt(clips: Path, tmp_path: Path) -> None:
    told: list[FitProgress] = []
    folder = train_lips(run_in(tmp_path / "run", small(clips, steps=250, learning_rate=1e-2), told))
    losses = [one.scalars["val_loss"] for one in told if "val_loss" in one.scalars]
    assert losses[-1] < 0.7 * np.log(4)  # who sees nothing guesses among four letters
    reader = LipReader.from_pretrained(folder)
    assert reader.words is not None and sum(reader.words.words.values()) == 34  # of the training clips alone


def test_a_run_goes_on_as_if_it_had_not_stopped(clips: Path, tmp_path: Path) -> None:
    whole = train_lips(run_in(tmp_path / "whole", small(clips)))
    train_lips(run_in(tmp_path / "parts", small(clips), minutes=0.0))
    parts = train_lips(run_in(tmp_path / "parts", small(clips), resume=True))
    assert (whole / "network.safetensors").read_bytes() == (parts / "network.safetensors").read_bytes()
    with pytest.raises(WeightsError, match="another recipe"):
        train_lips(run_in(tmp_path / "parts", small(clips, batch_size=4), resume=True))


def test_shapes_are_learnt_where_clips_know_them_and_do_not_ship(clips: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    known = [Clip(spelled("abba", rng), "abba", shapes=np.arange(12, dtype=np.uint8) % 3) for _ in range(8)]
    write_shard(tmp_path / "known", "one", known)
    found = read_clips(tmp_path / "known", clips)["train"]
    batch = found.batch([found.texts.index("abba"), next(k for k, text in enumerate(found.texts) if text != "abba")])
    assert found.shape_kinds == 3 and sorted(set(batch.shapes.flatten().tolist())) == [-1, 0, 1, 2]
    folder = train_lips(run_in(tmp_path / "run", small(clips)), read_clips(tmp_path / "known", clips))
    assert json.loads((folder / "config.json").read_text())["network"]["shapes"] == 0


def test_changed_clips_are_drawn_by_seed_and_keep_their_text(clips: Path) -> None:
    found = read_clips(clips)["train"]
    one, again = (found.batch([3, 4], torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one.seen, again.seen) and not torch.equal(one.seen, found.batch([3, 4]).seen)
    assert one.texts == found.texts[3:5] and one.counts.tolist() == [3, 3]


def test_weights_to_begin_with_must_fit(tmp_path: Path) -> None:
    folder = reader_in(tmp_path / "reader")
    network = LipNetwork(LipConfig(channels=4, width=16, hidden=8, layers=1, shapes=5))
    start_from(network, str(folder))
    assert torch.equal(network.letters.weight, LipReader.from_pretrained(folder).network.letters.weight)
    with pytest.raises(WeightsError, match="another size"):
        start_from(LipNetwork(LipConfig(channels=8)), str(folder))


def test_films_are_cut_at_pauses_and_labelled_by_who_hears(tmp_path: Path) -> None:
    write_film(tmp_path / "talks" / "a.mp4" if (tmp_path / "talks").mkdir() is None else tmp_path, face, sound=0.3)
    write_film(tmp_path / "talks" / "still.mp4", lambda t: face(0.0, moves=False), sound=0.3)
    heard: list[int] = []

    def transcribe(waveform: np.ndarray) -> str:
        heard.append(len(waveform))
        return "a ball"

    skipped = prepare_films(tmp_path / "talks", "folder", tmp_path / "clips", transcribe, val_share=0.0)
    assert len(skipped) == 1 and "still.mp4: nothing moves" in skipped[0]
    found = read_clips(tmp_path / "clips")["train"]
    assert found.texts == ["a ball"] and abs(found.rows[0].frames / 25 - heard[0] / RATE) < 0.1
    prepare_films(tmp_path / "talks", "folder", tmp_path / "clips", transcribe, val_share=0.0)
    assert len(heard) == 1  # what is there is kept


def test_what_is_told_of_a_clip_does_not_move_it(tmp_path: Path) -> None:
    crops = np.arange(5 * 32 * 32, dtype=np.int64).astype(np.uint8).reshape(5, 32, 32)
    told = {"start": 7.5, "frames": 100, "speaker": "s1"}
    write_shard(tmp_path / "clips", "one", [Clip(crops[:2], "a", about=told), Clip(crops[2:], "b", about=told)])
    rows = read_clips(tmp_path / "clips")["train"].rows
    assert [(row.text, row.start, row.frames) for row in rows] == [("a", 0, 2), ("b", 2, 3)]


def test_the_recipe_for_ones_own_videos_begins_with_what_ships() -> None:
    table = tomllib.loads((Path(__file__).parents[2] / "training/recipes/lips.toml").read_text("utf-8"))["lips"]
    recipe = LipRecipe(**table)
    network = LipNetwork(LipConfig(recipe.channels, recipe.width, recipe.hidden, recipe.layers, recipe.points))
    assert recipe.start == "shipped"
    start_from(network, recipe.start)


def test_utterances_stand_between_pauses() -> None:
    tone = 0.3 * np.sin(np.arange(2 * RATE) * 0.1).astype(np.float32)
    quiet = np.zeros(RATE, np.float32)
    found = utterances(np.concatenate([quiet, tone, quiet, tone[:RATE], quiet]))
    assert found == [pytest.approx((0.9, 3.1), abs=0.06), pytest.approx((3.9, 5.1), abs=0.06)]
    assert utterances(quiet) == []
    assert max(b - a for a, b in utterances(np.tile(tone, 12))) <= 8.3


def test_grid_and_lrs_have_their_own_texts(tmp_path: Path) -> None:
    grid, lrs = tmp_path / "grid", tmp_path / "lrs"
    for folder in (grid / "s1" / "align", lrs / "5535"):
        folder.mkdir(parents=True)
    write_film(grid / "s1" / "bbaf2n.avi", face, seconds=2.0)
    (grid / "s1" / "align" / "bbaf2n.align").write_text(
        "0 9000 sil\n9000 12000 bin\n12000 15000 blue\n15000 50000 sil\n"
    )
    write_film(lrs / "5535" / "00001.mp4", face, seconds=2.0)
    (lrs / "5535" / "00001.txt").write_text("Text:  IT'S NOW\nConf:  4\n")

    def nobody(waveform: np.ndarray) -> str:
        raise AssertionError("a corpus has its own texts")

    for layout, folder, said in (("grid", grid, "bin blue"), ("lrs", lrs, "IT'S NOW")):
        assert prepare_films(folder, layout, tmp_path / layout / "clips", nobody, val_share=0.0) == []
        assert read_clips(tmp_path / layout / "clips")["train"].texts == [said]
    with pytest.raises(ConfigError, match="must begin with 'Text:'"):
        prepare_films(grid, "lrs", tmp_path / "x", nobody)
    with pytest.raises(ConfigError, match="no videos there"):
        prepare_films(
            lrs / "5535" / "none" if (lrs / "5535" / "none").mkdir() is None else lrs, "folder", tmp_path, nobody
        )


def test_speakers_of_validation_are_not_trained_on(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / "lrs" / f"s{number}").mkdir(parents=True)
        write_film(tmp_path / "lrs" / f"s{number}" / "1.mp4", face, seconds=1.0)
        (tmp_path / "lrs" / f"s{number}" / "1.txt").write_text("Text: NOW\n")
    prepare_films(tmp_path / "lrs", "lrs", tmp_path / "clips", lambda wave: "", val_share=0.4)
    rows = [json.loads(line) for path in (tmp_path / "clips").glob("*.jsonl") for line in path.read_text().splitlines()]
    splits = {row["speaker"]: row["split"] for row in rows}
    assert len(rows) == 6 and set(splits.values()) == {"train", "val"}


def test_the_recipe_trains_by_the_command_and_refuses_what_does_not_fit(clips: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "lips.toml"
    recipe.write_text(
        f'kind = "lips"\n[lips]\nclips = "{clips}"\nsteps = 2\nchannels = 4\nwidth = 16\nhidden = 8\nlayers = 1\n'
    )
    folder = train_generator(recipe, out=tmp_path / "out", minutes=1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "network.safetensors", "recipe.json", "words.json",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no such folder of videos"):
        train_generator(recipe, out=tmp_path / "out2", videos=tmp_path / "nowhere")
    other = tmp_path / "text.toml"
    other.write_text('kind = "text"\n')
    with pytest.raises(ConfigError, match="learns from no videos"):
        train_generator(other, out=tmp_path / "out3", videos=tmp_path)
    recipe.write_text('kind = "lips"\n[lips]\nclips = "nowhere"\n')
    with pytest.raises(ConfigError, match="no clips to learn from"):
        train_generator(recipe, out=tmp_path / "out4")


def test_greedy_letters_stop_at_a_clips_end(clips: Path) -> None:
    torch.manual_seed(0)
    network = LipNetwork(LipConfig(channels=4, width=16, hidden=8, layers=1)).eval()
    found = read_clips(clips)["train"]
    pair = greedy_texts(network, found.batch([0, len(found) - 1]))
    assert pair[0] == greedy_texts(network, found.batch([0]))[0]


def test_films_are_learnt_from_by_landmarks(tmp_path: Path) -> None:
    films, points = tmp_path / "lrs", tmp_path / "marks"
    for speaker in ("anna", "ben"):  # both their films are called 1.mp4
        for folder in (films, points):
            (folder / speaker).mkdir(parents=True)
        write_film(films / speaker / "1.mp4", lambda t: face(t, at=(40, 120)), seconds=1.0)
        (films / speaker / "1.txt").write_text("Text: NOW\n")
    np.save(points / "anna" / "1.npy", marks(np.arange(25) / 25))
    recipe = tmp_path / "lips.toml"
    recipe.write_text(
        'kind = "lips"\n[lips]\nlayout = "lrs"\nsteps = 2\nchannels = 4\nwidth = 16\nhidden = 8\nlayers = 1\n'
        "val_share = 0.0\nbatch_size = 1\n"
    )
    told: list[FitProgress] = []
    folder = train_generator(
        recipe, out=tmp_path / "out", videos=films, landmarks=points, minutes=1, callback=told.append
    )
    assert (folder / "network.safetensors").is_file()
    assert len(read_clips(tmp_path / "out" / "clips")["train"]) == 1
    assert ["no landmarks of 1.mp4" in one.stage for one in told if one.stage.startswith("left out")] == [True]
    before = {path.name for path in (tmp_path / "out" / "clips").glob("*.jsonl")}
    np.save(points / "anna" / "1.npy", marks(np.arange(25) / 25) + 1)
    os.utime(points / "anna" / "1.npy", (1, 1))
    assert len(prepare_films(films, "lrs", tmp_path / "out" / "clips", lambda wave: "", locate=points)) == 1
    after = {path.name for path in (tmp_path / "out" / "clips").glob("*.jsonl")}
    assert len(before) == 1 and len(after) == 2  # other landmarks, another shard
    with pytest.raises(ConfigError, match="no such folder of landmarks"):
        prepare_films(films, "lrs", tmp_path / "x", lambda wave: "", locate=points / "none")
    with pytest.raises(ConfigError, match="landmarks go with films"):
        train_generator(recipe, out=tmp_path / "out", landmarks=points)
