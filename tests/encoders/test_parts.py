"""Long batches are encoded in parts, side by side: the same rows, by threads that each use one core."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedspace.encoders.base import Encoder
from embedspace.encoders.batch import encode_items
from embedspace.encoders.contract import Encoders, Piece
from embedspace.errors import MediaError
from embedspace.segment import Decoded
from embedspace.space import EmbeddingSpace
from tests.support.spaces import write_space
from tests.support.towers import noise, picture


class Seen(Encoder):
    """An encoder of numbers that notes who encodes what, and says what it heard and whether somebody speaks."""

    embed_dim, together = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int, list[float]]] = []
        self.both = threading.Barrier(2, timeout=20)

    def prepare(self, media: float) -> float:
        return media

    def encode(self, prepared: Any) -> NDArray[np.float32]:
        if threading.current_thread() is not threading.main_thread() and prepared[0] in (0, 3):
            self.both.wait()  # the first two parts wait for each other: one thread alone would never be done
        self.calls.append((threading.current_thread().name, torch.get_num_threads(), list(prepared)))
        return np.array([[value, 1.0] for value in prepared], np.float32)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def numbers(count: int) -> list[Decoded]:
    return [Decoded("image", [Piece("image", float(value))], {}) for value in range(count)]


def rows_of(found: list[list[Any]]) -> list[float]:
    return [float(segment.vector[0]) for segments in found for segment in segments]


def threads_of_a_new_thread() -> int:
    told: list[int] = []
    later = threading.Thread(target=lambda: told.append(torch.get_num_threads()))
    later.start()
    later.join()
    return told[0]


def test_parts_are_encoded_side_by_side_and_stay_in_order(two_threads: None) -> None:
    encoder = Seen()
    found = encode_items(numbers(10), Encoders(["image"], lambda modality: encoder))
    assert rows_of(found) == list(range(10))
    assert sorted(part for _, _, part in encoder.calls) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert {threads for _, threads, _ in encoder.calls} == {1}
    assert len({name for name, _, _ in encoder.calls}) == 2
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == (2, 2)  # as before


def test_what_is_short_or_has_one_core_stays_in_its_thread(two_threads: None) -> None:
    encoder = Seen()
    encode_items(numbers(3), Encoders(["image"], lambda modality: encoder))
    torch.set_num_threads(1)
    encode_items(numbers(7), Encoders(["image"], lambda modality: encoder))
    assert {name for name, _, _ in encoder.calls} == {threading.main_thread().name}
    assert [part for _, _, part in encoder.calls] == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [6]]


def test_a_part_that_fails_is_an_error_of_the_batch(two_threads: None) -> None:
    encoder = Seen()
    encoder.together, encoder.both = 5, threading.Barrier(1)
    items = [*numbers(9), Decoded("image", [Piece("image", "nothing")], {})]
    with pytest.raises(ValueError, match="could not convert"):
        encode_items(items, Encoders(["image"], lambda modality: encoder))
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == (2, 2)


def test_rows_of_what_ships_do_not_depend_on_their_part(two_threads: None, tmp_path: Path) -> None:
    space = EmbeddingSpace.from_pretrained(write_space(tmp_path / "space"))
    sounds = [(noise(seed, 0.5 + 0.1 * seed, 16_000), 16_000) for seed in range(5)]
    for modality, items in (("image", [picture(seed) for seed in range(6)]), ("audio", sounds), ("speech", sounds)):
        together = space.encode(items, modality=modality)
        alone = np.concatenate([space.encode([item], modality=modality) for item in items])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        assert 0 < space.encoder(modality).together < len(items)


def _long(parts: Iterator[tuple[list[Piece], float]]) -> Decoded:
    return Decoded("image", [Piece("image", 20.0)], {}, rest=lambda: parts)


def test_the_next_part_of_a_long_item_is_decoded_while_one_is_encoded() -> None:
    decoded = threading.Event()

    def parts() -> Iterator[tuple[list[Piece], float]]:
        yield [Piece("image", 21.0)], 1.0
        decoded.set()
        yield [Piece("image", 22.0)], 2.0

    class Waiting(Seen):
        def encode(self, prepared: Any) -> NDArray[np.float32]:
            if prepared[0] == 21.0:
                assert decoded.wait(timeout=20)
            return super().encode(prepared)

    encoder = Waiting()
    (found,) = encode_items([_long(parts())], Encoders(["image"], lambda modality: encoder))
    assert rows_of([found]) == [20.0, 21.0, 22.0]


def test_a_part_that_cannot_be_decoded_is_the_items_error() -> None:
    def parts() -> Iterator[tuple[list[Piece], float]]:
        yield [Piece("image", 21.0)], 1.0
        raise MediaError("cut off")

    with pytest.raises(MediaError, match="cut off"):
        encode_items([_long(parts())], Encoders(["image"], lambda modality: Seen()))
