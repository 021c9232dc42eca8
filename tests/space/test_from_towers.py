"""Spaces of modules and functions in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from embedspace.encoders.towers.registry import create_tower
from embedspace.errors import ConfigError, InputError, UnknownModalityError
from embedspace.space import EmbeddingSpace

WIDTH = 8


class Letters(nn.Module):
    """Counts of letters through a linear map."""

    max_tokens = 12

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(26, WIDTH)

    def forward(self, texts: list[str]) -> torch.Tensor:
        counts = [[float(text.lower().count(chr(97 + k))) for k in range(26)] for text in texts]
        rows: torch.Tensor = self.linear(torch.tensor(counts))
        return rows

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def colours(pictures: list[Image.Image]) -> NDArray[np.float32]:
    """Return means and deviations of the colours."""
    arrays = [np.asarray(picture, np.float32).reshape(-1, 3) / 255 for picture in pictures]
    assert all(picture.mode == "RGB" for picture in pictures)
    return np.stack([np.r_[a.mean(axis=0), a.std(axis=0), 1, 1] for a in arrays]).astype(np.float32)


def loudness(waveforms: list[NDArray[np.float32]]) -> list[list[float]]:
    """Return the loudness of eighths."""
    return [[float(np.abs(part).mean()) for part in np.array_split(one, WIDTH)] for one in waveforms]


loudness.sample_rate = 8_000  # type: ignore[attr-defined]
loudness.window_seconds = 2.0  # type: ignore[attr-defined]


def test_modules_and_functions_make_a_space(tmp_path: Path) -> None:
    space = EmbeddingSpace.from_towers(text=Letters(), image=colours, audio=loudness)
    assert (space.modalities, space.embed_dim) == (("text", "image", "audio"), WIDTH)
    Image.new("RGBA", (30, 20), (255, 0, 0, 128)).save(tmp_path / "red.png")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * 16_000).astype(np.float32)
    rows = space.encode(["a dog", tmp_path / "red.png", {"audio": (noise, 16_000)}])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    heard = space.encode_decoded([space.decode((noise, 16_000), "audio")])[0]
    assert [(segment.start, segment.end) for segment in heard] == [(0, 2), (2, 4), (4, 5)]
    read = space.encode_decoded([space.decode(" ".join(["word"] * 40), "text")])[0]
    assert max(len(segment.text.split()) for segment in read) == 12
    np.testing.assert_array_equal(space.encode_query("a dog"), space.encode_document("a dog"))


def test_fingerprints_follow_the_weights() -> None:
    first, other = Letters(), Letters()
    assert (
        EmbeddingSpace.from_towers(text=first).fingerprints() == EmbeddingSpace.from_towers(text=other).fingerprints()
    )
    with torch.no_grad():
        other.linear.weight += 1
    assert (
        EmbeddingSpace.from_towers(text=first).fingerprints() != EmbeddingSpace.from_towers(text=other).fingerprints()
    )


def test_a_bundled_tower_serves_as_well() -> None:
    tower = create_tower("minilm_l6")
    space = EmbeddingSpace.from_towers(text=tower)
    assert space.embed_dim == tower.feature_dim("text")
    assert space.encode_text(["a dog"]).shape == (1, 384)


def _wrong_shape(texts: list[str]) -> Any:
    return np.zeros((len(texts) + 1, WIDTH), np.float32)


@pytest.mark.parametrize(
    ("towers", "error", "message"),
    [
        ({}, InputError, "needs at least one tower"),
        ({"text": 3}, InputError, "text: a tower is a module or a function; got int"),
        ({"smell": Letters()}, UnknownModalityError, "unknown modality smell; known: image"),
        ({"text": _wrong_shape}, InputError, r"returned shape \(2, 8\) for 1 items; it must return \(1, width\)"),
        ({"text": Letters(), "image": lambda p: np.ones((len(p), 3))}, InputError, "got text 8, image 3"),
    ],
)
def test_what_is_no_tower_is_refused(towers: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EmbeddingSpace.from_towers(**towers)


def test_modules_in_memory_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot be saved: its tower 'text' is a module in memory, live:text:.*Letters"
    ):
        EmbeddingSpace.from_towers(text=Letters()).save(tmp_path / "space")
