"""Half precision is kept where a batch of its own proves it as good and faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace import EmbeddingSpace
from embedspace.encoders.contract import MediaEncoder
from embedspace.encoders.half import HalfPrecision


class Batch:
    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.rows = rows


class Known(MediaEncoder):
    """An encoder whose half precision turns each row by an angle, and takes a share of the time."""

    may_halve = True

    def __init__(self, cosine: float = 1.0, seconds: float = 0.25, *, fails: bool = False) -> None:
        self.cosine, self.seconds, self.fails, self.clock, self.encoded = cosine, seconds, fails, 0.0, 0

    def prepare(self, media: Any) -> Any:
        return media

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        self.encoded += 1
        if self.halved and self.fails:
            raise RuntimeError("expected scalar type")
        self.clock += self.seconds if self.halved else 1.0
        cosine = self.cosine if self.halved else 1.0
        rows = np.tile(np.float32([1.0, 0.0]), (len(prepared), 1))
        rows[-1] = cosine, np.sqrt(1 - cosine**2)
        return rows

    def batch(self, count: int) -> Callable[[], Batch]:
        return lambda: Batch(self.encode([0] * count))


def _tried(encoder: Known, count: int = 8) -> HalfPrecision:
    half = HalfPrecision(lambda: encoder.clock)
    assert half.encode("text", encoder, encoder.batch(count)).rows[-1, 0] == 1.0, "the batch itself is in full"
    return half


def test_what_stays_the_same_and_comes_faster_is_kept() -> None:
    encoder = Known(cosine=0.9985)
    half = _tried(encoder)
    assert encoder.halved
    assert half.trials["text"].gain == pytest.approx(4.0)
    assert half.told() == ["in half precision: text (cosine at least 0.99850 over 8 rows, 4.0 times as fast)"]
    encoder.encoded = 0
    assert half.encode("text", encoder, encoder.batch(8)).rows[-1, 0] == pytest.approx(0.9985)
    assert encoder.encoded == 1, "it is tried once"


@pytest.mark.parametrize(
    "encoder", [Known(cosine=0.9975), Known(seconds=0.95), Known(fails=True)], ids=["far", "slow", "fails"]
)
def test_what_does_not_is_computed_in_full(encoder: Known) -> None:
    half = _tried(encoder)
    assert not encoder.halved
    (line,) = half.told()
    assert line.startswith("in full precision: text (")
    assert ("cannot compute so" in line) is encoder.fails


def test_a_few_rows_prove_nothing() -> None:
    encoder = Known()
    half = _tried(encoder, 7)
    assert (half.trials, encoder.encoded) == ({}, 1)
    half.encode("text", encoder, encoder.batch(8))
    assert "text" in half.trials


def test_an_encoder_that_cannot_is_not_asked() -> None:
    encoder = Known()
    encoder.may_halve = False
    half = _tried(encoder)
    assert (half.trials, encoder.encoded) == ({}, 1)


@pytest.fixture(scope="module")
def halved() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained().in_half_precision()


TEXTS = [f"a {colour} boat of the year {year} lies in the harbour" for colour in ("red", "blue") for year in range(20)]


def test_words_that_ship_keep_their_vectors(halved: EmbeddingSpace) -> None:
    full = EmbeddingSpace.from_pretrained()
    assert halved.fingerprints() == full.fingerprints()
    encoder = halved.encoder("text")
    items = [halved.decode(text, "text") for text in TEXTS]
    encoder.halved = True  # whatever a trial would say of this machine's time
    assert halved.half is not None
    halved.half.trials["text"] = None  # type: ignore[assignment]
    rows = np.stack([found[0].vector for found in halved.encode_decoded(items)])
    wanted = full.encode_text(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    cosines = (rows * wanted).sum(axis=1)
    assert cosines.min() > 0.9995
    assert np.abs(rows - wanted).max() > 1e-5, "computed in full"
    assert not full.encoder("text").halved, "the other space is not changed"


def test_queries_are_computed_in_full(halved: EmbeddingSpace) -> None:
    halved.encoder("text").halved = True
    full = EmbeddingSpace.from_pretrained()
    np.testing.assert_allclose(halved.encode_query(TEXTS), full.encode_query(TEXTS), atol=2e-5)


def test_spaces_set_otherwise_keep_it(halved: EmbeddingSpace) -> None:
    assert halved.without_recogniser().half is halved.half
    assert halved.with_voices().half is halved.half
    assert EmbeddingSpace.from_pretrained().half is None
