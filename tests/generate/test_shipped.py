"""The heads that ship, on real vectors: slow, for they load the whole space."""

from __future__ import annotations

import numpy as np
import pytest

from embedspace.errors import OutsideError
from embedspace.generate import generate
from embedspace.generate.base import Sample
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


def _made(space: EmbeddingSpace, words: str, to: str, **asked: int) -> list[Sample]:
    (samples,) = space.generate(space.encode_text([words]), to=to, modality="text", **asked)
    return samples


def _cosines(space: EmbeddingSpace, samples: list[Sample], texts: list[str]) -> np.ndarray:
    """Return (samples, texts) centred cosines by the space's own encoders."""
    contents = [sample.content for sample in samples]
    if samples[0].modality == "image":
        rows, kind = space.encode_image(contents), "image"
    else:
        rows, kind = space.encode_audio(contents, samples[0].sample_rate), "audio"
    means = space.calibration.means
    left, right = rows - means[kind], space.encode_text(texts) - means["text"]
    return (left / np.linalg.norm(left, axis=1, keepdims=True)) @ (
        right / np.linalg.norm(right, axis=1, keepdims=True)
    ).T


def test_pictures_show_what_was_asked_for(space: EmbeddingSpace) -> None:
    words = ["red heart", "bicycle", "violin", "pig"]
    samples = [_made(space, word, "image", seed=4)[0] for word in words]
    assert all(sample.content.shape == (96, 96, 3) and sample.content.std() > 10 for sample in samples)
    right = _cosines(space, samples, words).argmax(axis=1) == np.arange(len(words))
    assert right.sum() >= 3


def test_a_picture_is_determined_by_its_seed_alone(space: EmbeddingSpace) -> None:
    first, second = _made(space, "a violin", "image", num_samples=2, seed=7)
    (alone,) = _made(space, "a violin", "image", seed=8)
    assert int(np.abs(second.content.astype(int) - alone.content).max()) <= 2
    assert float(np.abs(first.content.astype(int) - second.content).mean()) > 3
    assert first.provenance["nearest_output"]["item"]
    assert len(first.provenance["context"]) == 3


@pytest.mark.parametrize("family", ["flow", "vae"])
def test_both_families_draw(space: EmbeddingSpace, family: str) -> None:
    (samples,) = space.generate(space.encode_text(["a cat"]), to="image", num_samples=2, family=family)
    assert [sample.provenance["family"] for sample in samples] == [family] * 2


def test_sounds_are_heard(space: EmbeddingSpace) -> None:
    samples = [_made(space, words, "audio")[0] for words in ("a trumpet", "a barking dog")]
    for sample in samples:
        assert sample.content.shape == (65_536,)
        assert 0.05 < float(np.abs(sample.content).max()) <= 1.0
        assert np.isfinite(sample.content).all()
    assert float(np.abs(samples[0].content - samples[1].content).max()) > 0.05


@pytest.mark.parametrize("source", ["image", "audio"])
def test_what_is_made_can_be_a_source(space: EmbeddingSpace, source: str) -> None:
    (sample,) = _made(space, "a trumpet", source)
    vector = (
        space.encode_image([sample.content])
        if source == "image"
        else space.encode_audio([sample.content], sample.sample_rate)
    )
    (captions,) = space.generate(vector, to=Modality.TEXT, modality=source, force=True)
    assert captions[0].text
    assert captions[0].alternatives


def test_a_caption_that_people_wrote_is_named_as_such(space: EmbeddingSpace) -> None:
    (sample,) = _made(space, "violin", "text")
    assert "violin" in sample.text
    assert sample.provenance.get("retrieved", "").count("/") >= 1


@pytest.mark.parametrize("words", ["xqzv wplk", "qqqq", "猫"])
def test_letters_thrown_together_are_outside(space: EmbeddingSpace, words: str) -> None:
    (vector,) = space.encode_text([words])
    with pytest.raises(OutsideError, match="outside what the generator knows"):
        generate(space, vector, to="text", texts=[words])
    assert generate(space, vector, to="text", texts=[words], force=True)[0][0].provenance["outside"]


@pytest.mark.parametrize("words", ["a dog", "violin", "jabberwocky", "an accordion player", "1234"])
def test_words_that_the_encoder_knows_are_not_outside(space: EmbeddingSpace, words: str) -> None:
    (vector,) = space.encode_text([words])
    assert generate(space, vector, to="text", texts=[words])[0][0].text
