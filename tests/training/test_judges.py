"""The judges of generated pictures and sounds: independence, and what they are made of; no weights are needed."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from embedspace.encoders.towers.backbone import backbone_names
from embedspace.errors import ConfigError
from training.convert.backbones import CONVERTERS, JUDGES
from training.corpora import fetch, manifest
from training.corpora.manifest import Item, write_manifest
from training.corpora.sources import SOURCES, load_source
from training.judges import naming
from training.judges import pictures as judge_pictures
from training.judges import sounds as judge_sounds

ROOT = Path(__file__).resolve().parents[2]


def test_judges_are_not_shipped_and_see_with_eyes_of_their_own() -> None:
    assert not set(JUDGES) & set(CONVERTERS)
    assert not set(JUDGES) & set(backbone_names())


def test_the_judge_of_pictures_learns_from_nothing_that_a_gallery_holds() -> None:
    recipe = tomllib.loads((ROOT / "training/recipes/generators/image.toml").read_text("utf-8"))
    assert not set(naming.SOURCES) & set(recipe["image"]["may_ship"])
    assert naming.SOURCES["stamps"] == ("train",)
    assert "emoji-twitter" not in recipe["image"]["sources"]


def test_the_judge_of_sounds_knows_fifty_concepts() -> None:
    assert len(judge_sounds.CONCEPTS) == len(set(judge_sounds.CONCEPTS)) == 50


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus whose gallery holds one clip, which another file repeats later and quieter, and a note of its font."""
    dice = np.random.default_rng(3)
    shape = np.repeat(dice.random(16), 1000) * np.sin(np.arange(16_000) * np.repeat(dice.uniform(0.05, 0.5, 16), 1000))
    other = np.repeat(dice.random(16), 1000) * np.sin(np.arange(16_000) * np.repeat(dice.uniform(0.05, 0.5, 16), 1000))
    waves = {"sounds/kept": shape, "sounds/copy": np.concatenate([np.zeros(4000), 0.4 * shape]), "sounds/new": other}
    waves["instruments/note"] = other[::-1]
    rows: dict[str, list[Item]] = {"sounds": [], "instruments": []}
    for name, wave in waves.items():
        source = name.partition("/")[0]
        path = tmp_path / f"{name}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, wave, 16_000)
        extra = {"sample_rate": 16_000}
        item = Item(id=name, modality="audio", path=f"{name}.flac", captions=("a dog",), concept="dog", source=source)
        rows[source].append(replace(item, split="train", extra=extra))
    for source, items in rows.items():
        write_manifest(tmp_path / source / "manifest.jsonl", items)
    (tmp_path / "gallery.json").write_text(json.dumps({"items": ["sounds/kept", "instruments/note"]}))
    monkeypatch.setattr(judge_sounds, "CORPORA", tmp_path)
    monkeypatch.setattr(manifest, "CORPORA", tmp_path)
    monkeypatch.setattr(judge_sounds, "_GALLERY", tmp_path / "gallery.json")
    return tmp_path


def test_the_judge_of_sounds_hears_no_clip_of_the_gallery_nor_its_copies(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_sounds, "own_notes", list)  # its sound font is a package to be fetched
    assert [item.id for item in judge_sounds.lessons()] == ["sounds/new"]


def test_the_judge_of_sounds_has_a_sound_font_that_no_corpus_uses() -> None:
    used = {name for source in SOURCES for name in load_source(source).PACKAGES}
    assert fetch.package(judge_sounds._FONT).kind == "deb" and judge_sounds._FONT not in used


def test_a_judge_that_is_not_trained_says_how_to_train_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((judge_pictures, "_HEAD"), (judge_sounds, "_WEIGHTS")):
        monkeypatch.setattr(module, name, tmp_path / "none")
        module.load.cache_clear()
        with pytest.raises(ConfigError, match=r"train it: python -m training\.judge"):
            module.load()


def test_class_names_weigh_as_much_as_they_are_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_pictures, "_class_rows", lambda: np.eye(1000, dtype=np.float32))
    scores = np.full((1, 1000), -50.0, np.float32)
    scores[0, [3, 7]] = np.log([3.0, 4.0])
    features, classes = judge_pictures._inputs(np.concatenate([np.ones((1, 5), np.float32), scores], axis=1))
    assert features.shape == (1, 5)
    assert classes[0, [3, 7]].tolist() == pytest.approx([0.6, 0.8], abs=1e-5)


def test_a_head_gives_unit_rows() -> None:
    torch.manual_seed(0)
    head = judge_pictures.JudgeHead(6, 4, 8).eval()
    rows = head(torch.randn(3, 6), torch.nn.functional.normalize(torch.randn(3, 4), dim=1))
    assert rows.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_accuracy_is_measured_with_ties_against_it() -> None:
    class Judge:
        def scores(self, features: np.ndarray, names: list[str]) -> np.ndarray:
            return features[:, : len(names)]

    features = np.array([[1.0, 0.0, 0.5], [1.0, 1.0, 0.0]], np.float32)
    found = naming.measured(Judge(), features, ["a", "b"], ["b", "c"])
    assert found["top_1_of_classes"] == 0.5 and found["recall_at_10"] == 1.0
    assert (found["classes"], found["gallery"]) == (2, 3)


def test_silence_at_the_ends_of_a_clip_is_cut() -> None:
    clip = np.zeros(32_000, np.float32)
    clip[8000:12_000] = 0.25
    cut = judge_sounds._trimmed(clip)
    assert len(cut) == 4000 and cut.max() == 1.0
    assert len(judge_sounds._trimmed(np.zeros(10, np.float32))) == 1600
    assert len(judge_sounds._trimmed(np.ones(160_000, np.float32))) == 64_000


def test_a_linear_classifier_learns_what_is_separable(rng: np.random.Generator) -> None:
    labels = np.repeat([0, 1, 2], 20)
    features = (np.eye(3)[labels] * 4 + rng.standard_normal((60, 3))).astype(np.float32)
    fitted = judge_sounds.fit(features, labels, 1e-4)
    assert judge_sounds.right(fitted, features, labels).mean() > 0.9
    told = judge_sounds._told(np.array([True, False, True]), np.array([0, 0, 1]))
    assert told == {"clips": 3, "concepts": 2, "top_1_of_50": 0.6667, "mean_over_concepts": 0.75}
