"""Thresholds of the generators' memory: measured with both errors, and written without touching anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.train.generators.texts import OwnVectors
from embedspace.train.generators.vocabulary import Validation, refused_share, threshold_of
from embedspace.vocabulary import Vocabulary
from tests.support.generators import (
    WORDS,
    write_latent_generator,
    write_speech_generator,
    write_text_generator,
    write_vocabulary,
)
from training.generators import thresholds

CAPTIONS = np.eye(8, dtype=np.float32)


def held(rng: np.random.Generator, size: float = 0.3) -> Validation:
    """Forty items near each of the first four captions."""
    rows = np.repeat(CAPTIONS[:4], 40, axis=0) + size * rng.standard_normal((160, 8)) / 8**0.5
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return Validation(unit, [name for name in "abcd" for _ in range(40)])


def test_a_threshold_refuses_about_as_many_known_things_as_it_says(rng: np.random.Generator) -> None:
    memory, items = Vocabulary(CAPTIONS, list("abcdefgh"), list("abcdefgh")), held(rng)
    nearest = memory.cosines(items.vectors).max(axis=1)
    assert (nearest < threshold_of(memory, items.vectors, 10.0)).mean() == pytest.approx(0.1, abs=0.02)
    assert refused_share(memory, items, 10.0) == pytest.approx(0.1, abs=0.06)


def test_what_is_refused_is_measured_on_concepts_that_set_no_threshold(rng: np.random.Generator) -> None:
    memory, items = Vocabulary(CAPTIONS, list("abcdefgh"), list("abcdefgh")), held(rng, 0.05)
    far = Validation(items.vectors.copy(), items.concepts)
    far.vectors[40:80] = np.full(8, 8**-0.5)  # all of concept b is far from everything
    assert threshold_of(memory, far.vectors, 1.0) == pytest.approx(8**-0.5, abs=1e-3)
    assert refused_share(memory, far, 1.0) > 0.2


def test_a_concept_that_is_left_out_is_found_outside(rng: np.random.Generator) -> None:
    memory, items = Vocabulary(CAPTIONS, list("abcdefgh"), list("abcdefgh")), held(rng, 0.1)
    texts = dict(zip("abcd", CAPTIONS, strict=False))
    assert thresholds.left_out_share(memory, items, texts, 0.5) == 0.0
    assert thresholds.left_out_share(memory, items, texts, -0.5) == 1.0
    assert np.isnan(thresholds.left_out_share(memory, items, {}, 0.5))


def test_a_head_is_told_no_more_noise_than_it_learnt(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    families = {"families": {"flow": {"config": {"max_sigma": 1.2}}, "vae": {"config": {"max_sigma": 1.3}}}}
    for name, own in (("text", {"max_sigma": 2.0}), ("image", {"flow": {"max_sigma": 1.5}}), ("audio", families)):
        (write_text_generator(tmp_path) if name == "text" else write_latent_generator(tmp_path, name)).joinpath(
            "recipe.json"
        ).write_text(json.dumps({"kind": name, name: own}))
    thresholds.write(tmp_path, {"speech": {"sigma": 6.5, "threshold": 0.3}})
    for name, most in (("text", 2.0), ("image", 1.5), ("audio", 1.2)):
        assert json.loads((tmp_path / name / "config.json").read_text())["sigma"]["speech"] == most


class Run:
    """What `has_captions` reads of a run: validation rows of speech, and the captions that have vectors."""

    def __init__(self, known: int) -> None:
        self.vectors = {f"caption {number}": CAPTIONS[0] for number in range(known)}

    def own(self, modality: str) -> OwnVectors | None:
        rows: list[dict[str, Any]] = [{"split": "val", "captions": [f"caption {number}"]} for number in range(30)]
        return None if modality == "audio" else OwnVectors(modality, np.ones((30, 8), np.float32), rows, 1.0)


def test_noise_is_not_measured_where_captions_have_no_vectors() -> None:
    assert thresholds.has_captions(Run(20), "speech")  # type: ignore[arg-type]
    assert not thresholds.has_captions(Run(19), "speech")  # type: ignore[arg-type]
    assert not thresholds.has_captions(Run(30), "audio")  # type: ignore[arg-type]


def test_known_and_outside_are_told_apart_by_rank() -> None:
    assert thresholds.told_apart(np.float32([0.5, 0.9]), np.float32([0.1, 0.5])) == 0.875


def test_figures_are_written_and_nothing_else_changes(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    for modality in ("image", "audio"):
        write_latent_generator(tmp_path, modality)
    write_text_generator(tmp_path)
    write_speech_generator(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found = {"audio": {"sigma": 1.5, "threshold": 0.25}, "speech": {"sigma": 0.75, "threshold": 0.375}}
    changed = thresholds.write(tmp_path, found)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in after if before[path] != after[path]} == set(changed)
    names = {str(path.relative_to(tmp_path)) for path in changed}
    assert names == {"image/config.json", "audio/config.json", "text/config.json", "memory.json"}
    for name in ("image", "audio", "text"):
        old, new = (json.loads(files[tmp_path / name / "config.json"]) for files in (before, after))
        assert new["sigma"] == {**old["sigma"], "audio": 1.5, "speech": 0.75, "mixed": old["sigma"]["image"] / 2}
        assert {k: v for k, v in new.items() if k != "sigma"} == {k: v for k, v in old.items() if k != "sigma"}
    memory = json.loads(after[tmp_path / "memory.json"])
    assert memory["nearest"] == {"text": 0.5, "image": 0.5, "audio": 0.25, "speech": 0.375, "mixed": 0.25}
    assert memory["captions"] == list(WORDS)
    assert thresholds.write(tmp_path, found) == []


def test_probes_are_the_same_every_time_and_unlike_each_other() -> None:
    words = thresholds.random_words(20)
    assert words == thresholds.random_words(20) and len(set(words)) == 20
    pictures, sounds = thresholds.random_pictures(8), thresholds.random_sounds(4)
    assert all(picture.shape == (96, 96, 3) for picture in pictures)
    assert np.ptp(pictures[3].reshape(-1, 3), axis=0).max() == 0 and np.ptp(pictures[0]) > 200
    assert all(np.abs(sound).max() == pytest.approx(0.5) for sound in sounds)
    assert np.array_equal(sounds[1], thresholds.random_sounds(4)[1])
