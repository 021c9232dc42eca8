from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedspace.errors import WeightsError
from embedspace.vocabulary import Vocabulary, load_vocabulary
from tests.support.cli_space import vector_of
from tests.support.generators import WORDS, write_vocabulary


def test_the_vocabulary_finds_what_lies_nearest(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    vocabulary = load_vocabulary(tmp_path)
    first, second = vocabulary.neighbours(vector_of("a violin"), 2)
    assert (first.caption, first.item) == ("a violin", f"tiny/{WORDS.index('a violin')}")
    assert first.similarity > 0.99 > second.similarity


def test_the_vocabulary_tells_the_unknown(tmp_path: Path) -> None:
    vocabulary = write_vocabulary(tmp_path, threshold=0.6)
    assert vocabulary.is_known(vector_of("a dog")[None], "text").tolist() == [True]
    assert vocabulary.is_known(vector_of("zzz")[None], "text").tolist() == [False]
    assert vocabulary.is_known(vector_of("zzz")[None], "speech").tolist() == [False]  # never measured: the most lenient


def test_the_vocabulary_projects_onto_texts() -> None:
    vocabulary = Vocabulary(np.eye(3, dtype=np.float32), ["a", "b", "c"], ["1", "2", "3"])
    near = np.array([[0.8, 0.6, 0.0]], np.float32)
    cold = vocabulary.project(near, 0.01)
    np.testing.assert_allclose(cold, [[1, 0, 0]], atol=1e-6)
    weights = np.exp(np.array([0.8, 0.6, 0.0]) / 0.5)
    np.testing.assert_allclose(vocabulary.project(near, 0.5)[0], weights / np.linalg.norm(weights), atol=1e-6)


def test_only_noisy_vectors_are_projected() -> None:
    vocabulary = Vocabulary(np.eye(3, dtype=np.float32), ["a", "b", "c"], ["1", "2", "3"])
    rows = np.array([[0.8, 0.6, 0.0], [0.8, 0.6, 0.0]], np.float32)
    noise = np.array([0.2, 2.0], np.float32)
    settled, sigma = vocabulary.project_noisy(rows, noise, 0.01, 0.5)
    np.testing.assert_array_equal(settled[0], rows[0])
    np.testing.assert_allclose(settled[1], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(sigma, [0.2, 0.5])
    np.testing.assert_allclose(rows[1], [0.8, 0.6, 0.0])  # what was given stays
    assert vocabulary.project_noisy(rows, noise, 0.0, 0.5)[0] is rows


def test_the_vocabulary_refuses_a_damaged_file(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    (tmp_path / "memory.safetensors").write_bytes(b"no")
    load_vocabulary.cache_clear()
    with pytest.raises(WeightsError, match="not the vectors of a vocabulary"):
        load_vocabulary(tmp_path)
    (tmp_path / "memory.json").write_text('{"format": 99}')
    with pytest.raises(WeightsError, match="format 99"):
        load_vocabulary(tmp_path)
    with pytest.raises(WeightsError, match="do not match"):
        Vocabulary(np.eye(2, dtype=np.float32), ["a"], ["1", "2"])


def test_readings_are_the_names_that_pictures_bear_as_long_as_they_are_likely(tmp_path: Path) -> None:
    vocabulary = Vocabulary(np.eye(3, dtype=np.float32), ["a", "b", "c"], ["1", "2", "3"], pictured=[0, 2])
    near = np.array([[0.1, 0.9, 0.3]], np.float32) / np.sqrt(0.91)
    read = vocabulary.readings(near, 5, 0.5)
    shares = np.exp(np.array([0.3, 0.1]) / np.sqrt(0.91) / 0.5)
    shares /= shares.sum()
    np.testing.assert_allclose(read, [[[0, 0, shares[0]], [shares[1], 0, 0]]], atol=1e-6)
    assert vocabulary.readings(near, 1, 0.5).shape == (1, 1, 3)
    vocabulary.save(tmp_path, "")
    np.testing.assert_array_equal(load_vocabulary(tmp_path).readings(near, 5, 0.5).argmax(axis=2), read.argmax(axis=2))
    everything = Vocabulary(np.eye(3, dtype=np.float32), ["a", "b", "c"], ["1", "2", "3"])
    assert everything.readings(near, 5, 0.5)[0].argmax(axis=1).tolist() == [1, 2, 0]
    with pytest.raises(WeightsError, match="places outside 0 to 2"):
        Vocabulary(np.eye(3, dtype=np.float32), ["a", "b", "c"], ["1", "2", "3"], pictured=[3])
