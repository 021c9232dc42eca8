"""Test splits are never trained or tuned on: rows that no training may see are planted, and nothing made is changed.

Each leak is checked both ways: planted as it is, it changes not a byte; as a row of the training split, it does. So a
filter that is taken out of a stage fails the first, and a leak that could not be noticed fails the second.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedspace.encoders.projections import LinearProjection
from embedspace.encoders.shipped.text_network import load_text_projection
from embedspace.space import EmbeddingSpace
from tests.support.train_corpora import (
    AUDIO_DIM,
    AUDIO_LOGITS,
    IMAGE_DIM,
    IMAGE_LOGITS,
    SPEECH_DIM,
    TEXT_DIM,
    plant,
    write_arrays,
    write_corpora,
    write_recipe,
    write_tuned,
)
from training.align.aligner import align
from training.align.measure import calibration_of, seen_rows, spoken_rows
from training.align.recipe import Recipe, load_recipe
from training.align.stages.audio import recall_without, train_audio, training_rows
from training.align.stages.image import train_image
from training.align.stages.router import train_router
from training.align.stages.speech import train_speech
from training.align.tables import fold_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

Row = dict[str, Any]
Plant = Callable[[Mapping[str, Row | list[Row]]], Recipe]
DAY = 1e9


def row(kind: str, **changes: Any) -> Row:
    """A row that training reads if nothing in it says that it may not; its features lie far from all others."""
    return {
        "id": f"leak-{kind}",
        "modality": kind,
        "captions": ["a bell"],
        "keywords": ["bell"],
        "concept": "bell",
        "split": "train",
        **changes,
    }


PICTURES = {
    "test": row("image", split="test"),
    "held-out vendor": row("image", split="test_vendor"),
    "copy of a test picture": row("image", split="drop"),
    "near a stamp": row("image", extra={"near_stamp": True}),
}
VALIDATION_PICTURE = row("image", split="val")
RECIPE = {"id": "leak-text", "modality": "text", "extra": {"title": "bell", "ingredients": "leek 0", "steps": "boil"}}
CLIPS = {
    "test voice": row("speech", split="test"),
    "fresh voice": row("speech", split="fresh"),
    "copy of a test clip": row("speech", split="drop"),
}
SOUNDS = {
    "test": row("audio", split="test"),
    "copy of a test sound": row("audio", split="drop"),
    "of an excluded source": row("audio", source="shut out"),
    "copy of an excluded recording": row("audio", group="one recording"),
}
SOUND = row("audio", id="leak-audio-20")
"""In a fold that calibrates."""
EXCLUDED = row("audio", id="excluded", source="shut out", group="one recording")


def append_features(path: Path, ids: list[str], dims: Mapping[str, int], seed: int) -> None:
    """Add features, far from the others', to a file of them."""
    stored = dict(np.load(path))
    rng = np.random.default_rng(seed)
    made = {name: (5 * rng.standard_normal((len(ids), dim))).astype(np.float16) for name, dim in dims.items()}
    joined = {name: np.concatenate([stored[name], rows]) for name, rows in made.items()}
    write_arrays(path, ids=np.concatenate([stored["ids"], ids]), **joined)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Corpora without leaks; the features of what is planted are there from the start."""
    folder = tmp_path_factory.mktemp("leaks")
    write_corpora(folder)
    write_recipe(folder, steps=2)
    features = folder / "features"
    for view in range(2):
        sizes = {"features": IMAGE_DIM, "logits": IMAGE_LOGITS}
        append_features(features / f"image/icons.{view}.npz", ["leak-image"], sizes, view)
    sizes = {"features": AUDIO_DIM, "logits": AUDIO_LOGITS}
    append_features(features / "audio/sounds.0.npz", ["leak-audio", SOUND["id"], "excluded"], sizes, 9)
    rng = np.random.default_rng(8)
    frames = (5 * rng.standard_normal((9, SPEECH_DIM))).astype(np.float16)
    leaks = {"ids": np.array(["leak-speech"]), "starts": np.array([0, 9]), "frames": frames}
    write_arrays(features / "speech/talk/leak-00000.npz", **leaks)
    return folder


@pytest.fixture(scope="module")
def planted(root: Path) -> Plant:
    """Return what writes the corpora once more with some rows added, and gives the recipe that reads them."""
    recipe = load_recipe(root / "tiny.toml")
    one = {name: dataclasses.replace(getattr(recipe, name), members=1) for name in ("image", "audio")}
    recipe = dataclasses.replace(recipe, **one)

    def written(rows: Mapping[str, Row | list[Row]]) -> Recipe:
        folder = root / "planted" / str(len(list((root / "planted").glob("*"))) if rows else "none")
        if not folder.exists():
            shutil.copytree(root / "corpora", folder)
            for source, extra in rows.items():
                plant(folder, source, extra)
        return dataclasses.replace(recipe, corpora=str(folder))

    return written


@pytest.fixture
def text() -> LinearProjection:
    return new_text()


def new_text() -> LinearProjection:
    """A text head that begins the same each time."""
    torch.manual_seed(0)
    return LinearProjection(TEXT_DIM, 16, 8)


def bytes_of(*modules: torch.nn.Module) -> bytes:
    """All weights of some modules."""
    return b"".join(value.numpy().tobytes() for module in modules for value in module.state_dict().values())


def told(progress: list[Any]) -> list[tuple[str, dict[str, float]]]:
    """What a stage measured while it trained."""
    return [(p.stage, p.scalars) for p in progress]


def seen(recipe: Recipe, text: LinearProjection, out: Path, drop: str = "near_stamp") -> tuple[bytes, Any]:
    """Train the image stage: its weights, and what it measured."""
    progress: list[Any] = []
    recipe = dataclasses.replace(recipe, image=dataclasses.replace(recipe.image, drop=drop))
    heads = train_image(recipe, text, out, DAY, False, progress.append)
    assert heads is not None
    return bytes_of(text, heads), told(progress)


@pytest.fixture(scope="module")
def clean_pictures(planted: Plant, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    return seen(planted({}), new_text(), tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("leak", PICTURES)
def test_pictures_that_may_not_be_seen_change_nothing(
    leak: str, planted: Plant, text: LinearProjection, clean_pictures: tuple[bytes, Any], tmp_path: Path
) -> None:
    assert seen(planted({"icons": PICTURES[leak]}), text, tmp_path) == clean_pictures


def test_a_picture_of_the_training_split_does_change_the_heads(
    planted: Plant, text: LinearProjection, clean_pictures: tuple[bytes, Any], tmp_path: Path
) -> None:
    assert seen(planted({"icons": row("image")}), text, tmp_path)[0] != clean_pictures[0]


def test_near_stamps_are_left_out_where_a_recipe_says_so_alone(
    planted: Plant, text: LinearProjection, clean_pictures: tuple[bytes, Any], tmp_path: Path
) -> None:
    assert seen(planted({"icons": PICTURES["near a stamp"]}), text, tmp_path, drop="")[0] != clean_pictures[0]


def test_validation_pictures_are_measured_and_not_trained_on(
    planted: Plant, text: LinearProjection, clean_pictures: tuple[bytes, Any], tmp_path: Path
) -> None:
    weights, measured = clean_pictures
    same, more = seen(planted({"icons": VALIDATION_PICTURE}), text, tmp_path)
    assert same == weights
    assert [scalars["loss"] for _, scalars in more] == [scalars["loss"] for _, scalars in measured]
    assert more != measured


def test_texts_that_may_not_be_read_teach_the_text_head_nothing(
    planted: Plant, text: LinearProjection, clean_pictures: tuple[bytes, Any], tmp_path: Path
) -> None:
    leaks = [{**RECIPE, "split": split} for split in ("test", "val", "drop")]
    assert seen(planted({"recipes": leaks}), text, tmp_path) == clean_pictures


def test_a_text_of_the_training_split_does_teach_the_text_head(
    planted: Plant, text: LinearProjection, clean_pictures: tuple[bytes, Any], tmp_path: Path
) -> None:
    assert seen(planted({"recipes": RECIPE}), text, tmp_path)[0] != clean_pictures[0]


def spoken(recipe: Recipe, text: LinearProjection, out: Path) -> tuple[bytes, Any]:
    """Train the speech stage: its weights, and what it measured."""
    progress: list[Any] = []
    heads = train_speech(recipe, text, out, DAY, False, progress.append)
    assert heads is not None
    return bytes_of(heads), told(progress)


@pytest.fixture(scope="module")
def clean_speech(planted: Plant, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    return spoken(planted({}), new_text(), tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("leak", CLIPS)
def test_clips_that_may_not_be_heard_change_nothing(
    leak: str, planted: Plant, text: LinearProjection, clean_speech: tuple[bytes, Any], tmp_path: Path
) -> None:
    assert spoken(planted({"talk": CLIPS[leak]}), text, tmp_path) == clean_speech


def test_a_clip_of_the_training_split_does_change_the_heads(
    planted: Plant, text: LinearProjection, clean_speech: tuple[bytes, Any], tmp_path: Path
) -> None:
    assert spoken(planted({"talk": row("speech")}), text, tmp_path)[0] != clean_speech[0]


def test_validation_clips_are_measured_and_not_trained_on(
    planted: Plant, text: LinearProjection, clean_speech: tuple[bytes, Any], tmp_path: Path
) -> None:
    weights, measured = spoken(planted({"talk": row("speech", split="val")}), text, tmp_path)
    assert weights == clean_speech[0]
    assert [s["loss"] for _, s in measured] == [s["loss"] for _, s in clean_speech[1]]
    assert measured != clean_speech[1]


def heard(recipe: Recipe, text: LinearProjection, out: Path, memory_dim: int) -> bytes:
    """Train the audio stage with its router: the weights."""
    audio = dataclasses.replace(recipe.audio, exclude=("shut out",), memory_dim=memory_dim)
    recipe = dataclasses.replace(recipe, audio=audio)
    heads = train_audio(recipe, text, out, DAY, False, lambda _: None)
    assert heads is not None
    train_router(recipe, heads)
    return bytes_of(heads)


@pytest.fixture(scope="module")
def clean_audio(planted: Plant, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return heard(planted({}), new_text(), tmp_path_factory.mktemp("clean"), 12)


def without_copies(leak: str) -> dict[str, Any]:
    """The planted row, and beside it the excluded recording that one of them copies."""
    return {"sounds": [SOUNDS[leak], EXCLUDED] if leak == "copy of an excluded recording" else SOUNDS[leak]}


@pytest.mark.parametrize("leak", SOUNDS)
def test_sounds_that_may_not_be_heard_change_nothing(
    leak: str, planted: Plant, text: LinearProjection, clean_audio: bytes, tmp_path: Path
) -> None:
    assert heard(planted(without_copies(leak)), text, tmp_path, 12) == clean_audio


def test_a_sound_of_the_training_split_does_change_the_heads(
    planted: Plant, text: LinearProjection, clean_audio: bytes, tmp_path: Path
) -> None:
    assert heard(planted({"sounds": row("audio")}), text, tmp_path, 12) != clean_audio


def test_a_fold_is_left_out_of_the_member_and_of_the_memory_that_it_calibrates(
    planted: Plant, text: LinearProjection, tmp_path: Path
) -> None:
    fold = fold_of("leak-audio")
    clean, leaky = planted({}), planted({"sounds": row("audio")})
    assert training_rows(leaky, "sounds", fold) == training_rows(clean, "sounds", fold)
    assert training_rows(leaky, "sounds", fold + 1) != training_rows(clean, "sounds", fold + 1)
    audio = dataclasses.replace(clean.audio, members=0, memory_dim=12)
    clean, leaky = (dataclasses.replace(recipe, audio=audio) for recipe in (clean, leaky))
    heads = train_audio(clean, text, tmp_path, DAY, False, lambda _: None)
    assert heads is not None
    given = torch.randn(4, heads.config.feature_dim), torch.randn(4, heads.config.classes)
    with torch.inference_mode():
        without, other = (recall_without(leaky, text, heads, number)(*given) for number in (fold, (fold + 1) % 3))
        torch.testing.assert_close(without, recall_without(clean, text, heads, fold)(*given), rtol=0, atol=0)
    assert not torch.equal(without, other)


@pytest.fixture(scope="module")
def space(planted: Plant, root: Path) -> EmbeddingSpace:
    """A space trained on the corpora without leaks."""
    report = align(root / "tiny.toml", out=root / "run")
    assert report.folder is not None
    return EmbeddingSpace.from_pretrained(report.folder)


def calibrated(space: EmbeddingSpace, recipe: Recipe, network: Path) -> tuple[list[str], str]:
    """Measure what the share and the calibration are chosen on: ids, and the calibration as it is written."""
    image = dataclasses.replace(recipe.image, networks=(str(network),))
    audio = dataclasses.replace(recipe.audio, exclude=("shut out",))
    recipe = dataclasses.replace(recipe, image=image, audio=audio)
    sections = space.config["sections"]
    text = load_text_projection(sections["text"]["head"], space.folder)
    pictures = seen_rows(space.folder, sections["image"], recipe)
    clips = spoken_rows(space.folder, sections["speech"], recipe, text)
    ways = {"image": pictures, "speech": clips}
    return [r["id"] for way in ways.values() for r in way.rows], calibration_of(space, recipe, ways).to_json()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned network's run that has a vector of what is planted."""
    return write_tuned(tmp_path_factory.mktemp("run") / "network", ["leak-image"], np.ones((1, 16), np.float32))


@pytest.fixture(scope="module")
def clean_calibration(planted: Plant, space: EmbeddingSpace, network: Path) -> tuple[list[str], str]:
    return calibrated(space, planted({}), network)


@pytest.mark.parametrize("split", ["test", "drop", "fresh", "val"])
def test_shares_and_calibration_are_chosen_on_validation_items_alone(
    split: str, planted: Plant, space: EmbeddingSpace, network: Path, clean_calibration: tuple[list[str], str]
) -> None:
    rows = {"icons": row("image"), "talk": row("speech"), "sounds": SOUND}
    leaks: dict[str, Row | list[Row]] = {source: {**leak, "split": split} for source, leak in rows.items()}
    if split == "val":  # a sound has no validation split: folds of the training split calibrate it
        leaks.pop("sounds")
    leaky = calibrated(space, planted(leaks), network)
    assert (leaky == clean_calibration) is (split != "val")
    assert ("leak-image" in leaky[0], "leak-speech" in leaky[0]) == (split == "val", split == "val")


def test_training_pictures_and_clips_do_not_calibrate(
    planted: Plant, space: EmbeddingSpace, network: Path, clean_calibration: tuple[list[str], str]
) -> None:
    assert calibrated(space, planted({"icons": row("image"), "talk": row("speech")}), network) == clean_calibration


def test_sounds_of_an_excluded_source_do_not_calibrate(
    planted: Plant, space: EmbeddingSpace, network: Path, clean_calibration: tuple[list[str], str]
) -> None:
    leaky = calibrated(space, planted({"sounds": {**SOUND, "source": "shut out"}}), network)
    honest = calibrated(space, planted({"sounds": SOUND}), network)
    assert leaky == clean_calibration != honest


def test_a_planted_row_is_read_back(planted: Plant) -> None:
    recipe = planted({"icons": PICTURES["test"]})
    lines = (Path(recipe.corpora) / "icons/manifest.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["id"] == "leak-image"
