"""What the probabilities of the shipped space are fitted on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import training.align.calibrate as fitting
from embedspace.calibration.model import Calibration, PairCalibration
from embedspace.evaluate.encode import SuiteEncoder
from embedspace.modality import Modality
from embedspace.train.calibrate import Anchored, Searches, fit_pairs
from embedspace.train.episodes import SIZES
from tests.support.cli_space import CliSpace, vector_of
from training.align.calibrate import Encoded, composed, joined, long_texts, searches_of, validation


class Space(CliSpace):
    """Vectors follow from words, those of media from their files' names; remembers what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def _rows(self, contents: Sequence[Any]) -> NDArray[np.float32]:
        self.read += [str(content) for content in contents]
        return np.stack([vector_of(Path(str(content)).stem) for content in contents])

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._rows(texts)

    def encode_image(self, images: Sequence[Any]) -> NDArray[np.float32]:
        return self._rows(images)

    def encode_audio(self, waveforms: Sequence[Any], sample_rate: int | None = None) -> NDArray[np.float32]:
        return self._rows(waveforms)

    encode_speech = encode_audio


def picture(source: str, name: str, split: str, modality: str = "image") -> dict[str, Any]:
    row = {"id": f"{source}/{name}", "modality": modality, "path": f"{source}/{name}.png", "captions": [f"a {name}"]}
    return {**row, "concept": name, "keywords": [f"{name}ish", "thing"], "split": split}


def recipe(title: str, split: str) -> dict[str, Any]:
    extra = {"title": title, "ingredients": f"some {title}", "steps": f"cook the {title}", "usable": True}
    row = {"id": f"recipes/{title}", "modality": "text", "captions": [title], "concept": title.casefold()}
    return {**row, "split": split, "extra": extra}


@pytest.fixture
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    manifests = {
        "openmoji": [picture("openmoji", f"thing{n}", "train" if n < 3 else "val") for n in range(9)]
        + [picture("openmoji", "planted-test", "test"), picture("openmoji", "planted-drop", "drop")],
        "emoji-twitter": [picture("emoji-twitter", "planted-vendor", "test_vendor")],
        "stamps": [picture("stamps", "known stamp", "train"), picture("stamps", "planted-stamp", "test")],
        "sounds": [picture("sounds", "planted-tux", "test", "audio"), picture("sounds", "thing5", "train", "audio")],
        "instruments": [picture("instruments", "flute", "val", "audio")],
        "recipes": [recipe("Apple Pie", "val"), recipe("Meat Pie", "val"), recipe("Planted Soup", "test")],
    }
    for source, rows in manifests.items():
        (tmp_path / source).mkdir()
        (tmp_path / source / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(fitting, "CORPORA", tmp_path)
    return tmp_path


def test_probabilities_are_fitted_without_a_test_item(corpora: Path) -> None:
    space = Space()
    found = validation(Encoded(SuiteEncoder(space, corpora)))
    assert not [read for read in space.read if "lanted" in read]
    assert sorted(found["image"].concepts) == [f"thing{n}" for n in range(3, 9)]
    assert found["audio"].concepts.tolist() == ["flute"]
    assert "a picture of thing5" in space.read and "thing5ish thing" in space.read
    assert {"a picture of pie", "how do I make apple pie?"} <= set(space.read)
    assert "known stamp" in found["fillers"].concepts and "thing5" not in found["fillers"].concepts


def test_recipe_is_found_by_its_title_and_by_the_name_of_its_dish(corpora: Path) -> None:
    rows = [recipe("Apple Pie", "val"), recipe("Meat Pie", "val"), recipe("Bread", "val")]
    found = long_texts(Encoded(SuiteEncoder(Space(), corpora)), rows, {"pie", "soup"})
    named = {concept: set(found.items[found.concepts == concept].tolist()) for concept in found.concepts}
    assert named == {"apple pie": {0}, "meat pie": {1}, "pie": {0, 1}, "bread": {2}}
    assert len(found.vectors) == 3 * 3 + 2


def test_searches_name_every_pair_that_there_are_items_for(corpora: Path) -> None:
    found = searches_of(validation(Encoded(SuiteEncoder(Space(), corpora))), {})
    pairs = {some.pair for some in found}
    assert {"image>text", "text>image", "audio>text", "text>text", "mixed>image", "mixed>text", "image>audio"} <= pairs
    assert not any("speech" in pair for pair in pairs)
    for some in found:
        numbers = some.gallery.numbers
        assert (np.diff(numbers) >= 0).all() and len(numbers) == len(some.gallery.vectors)


def test_joined_galleries_keep_items_apart() -> None:
    parts = Anchored(np.eye(3, 8, dtype=np.float32), np.array(["a", "a", "b"]), np.array([0, 0, 1]))
    both = joined(parts, parts)
    assert both.numbers.tolist() == [0, 0, 1, 2, 2, 3]
    mixed = composed(parts, parts, "image", {})
    assert mixed.concepts.tolist() == ["a", "a", "b"]
    np.testing.assert_allclose(mixed.vectors[0], parts.vectors[0])


def test_fit_pairs_takes_all_searches_of_a_pair() -> None:
    random = np.random.default_rng(0)

    def near(count: int, noise: float) -> Anchored:
        which = np.arange(count) % 30
        rows = np.eye(30, 40)[which] + noise * random.normal(size=(count, 40))
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return Anchored(unit, np.array([str(number) for number in which]))

    gallery, queries = near(60, 0.1), near(60, 0.15)
    pairs = fit_pairs([Searches("text>text", queries, gallery), Searches("text>text", near(60, 0.3), gallery)])
    alone = fit_pairs([Searches("text>text", queries, gallery)])
    assert pairs["text>text"].slope == pytest.approx(alone["text>text"].slope)  # the line is that of the first
    assert pairs["text>text"].model != alone["text>text"].model
    assert Calibration(pairs=pairs).cutoff("text", "text", 30) <= 0.5


def test_pairs_that_keep_their_line_have_cutoffs_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)

    def near(count: int, noise: float) -> Anchored:
        rows = np.eye(30, 40)[np.arange(count) % 30] + noise * random.normal(size=(count, 40))
        unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return Anchored(unit, np.array([str(number % 30) for number in range(count)]))

    texts, sounds, many = near(150, 0.1), near(90, 0.15), near(400, 0.15)
    searches = [Searches("text>audio", texts, sounds), Searches("text>image", texts, many)]
    given = {"text>audio": PairCalibration(slope=9.0, intercept=-3.0, cutoffs=((1.0, 0.49),))}
    monkeypatch.setattr(fitting, "validation", lambda _: {})
    monkeypatch.setattr(fitting, "searches_of", lambda *_: searches)
    space = SimpleNamespace(calibration=Calibration(pairs=given), modalities=(Modality.TEXT, Modality.AUDIO))
    made = fitting.refit(space, None)  # type: ignore[arg-type]
    assert made.pairs["text>image"].model is not None  # enough items for a model
    line = made.pairs["text>audio"]
    assert (line.model, line.slope, line.intercept) == (None, 9.0, -3.0)
    assert [size for size, _ in line.cutoffs] == [float(size) for size in SIZES]
    lowest = [(odds + 3.0 + np.log(size)) / 9.0 for size, odds in _odds(line.cutoffs)]
    assert np.ptp(lowest) < 1e-9  # one cosine, whatever the size
    scores = (texts.vectors @ sounds.vectors.T)[texts.concepts[:, None] == sounds.concepts[None]]
    assert scores.min() <= lowest[0] <= np.quantile(scores, 0.5)


def _odds(cutoffs: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    return [(size, float(np.log(chance / (1 - chance)))) for size, chance in cutoffs]
