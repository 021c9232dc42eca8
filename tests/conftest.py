"""Fakes and small media that several test files share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch or FAISS is loaded: the figures of a tiny model don't repay threads, and CI shares its cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from embedspace.errors import MediaError
from embedspace.segment import Decoded, Segment

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace


class FakeEncoder:
    """A `SegmentEncoder` without a model: equal content gives equal unit vectors, anything else nearly orthogonal ones.

    A text of several lines gives one segment a line; everything else one segment. Any file whose bytes begin with
    b"BAD" cannot be decoded.
    """

    def __init__(self, embed_dim: int = 32, version: str = "1") -> None:
        self.embed_dim = embed_dim
        self.version = version
        self.encoded = 0

    def fingerprints(self) -> Mapping[str, str]:
        return {
            modality: hashlib.sha256(f"{modality}-{self.version}-{self.embed_dim}".encode()).hexdigest()
            for modality in ("image", "audio", "text", "speech")
        }

    def calibration_json(self) -> str:
        return ""

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:
        if isinstance(source, Mapping):
            parts = [str(value) for value in source.values()]
        elif isinstance(source, Path):
            content = source.read_bytes()
            if content.startswith(b"BAD"):
                raise MediaError(f"{source}: cannot be decoded; restore it")
            parts = content.decode("utf-8").splitlines() if kind == "text" else [hashlib.sha256(content).hexdigest()]
        else:
            parts = str(source).splitlines()
        inputs = [(as_modality or kind, part) for part in parts]
        return Decoded(kind, inputs, {}, sum(len(part) for part in parts))

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        self.encoded += len(items)
        return [
            [
                Segment(modality, self.vector(part), float(index), float(index + 1), part)
                for index, (modality, part) in enumerate(item.inputs)
            ]
            for item in items
        ]

    def vector(self, content: str) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(f"{self.version}:{content}".encode()).digest()[:8], "little")
        row = np.random.default_rng(seed).standard_normal(self.embed_dim)
        return (row / np.linalg.norm(row)).astype(np.float32)


@pytest.fixture
def fake_encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute with one thread: sums are then made in one order, and weights compare byte for byte."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def tone() -> NDArray[np.float32]:
    """Half a second of 440 Hz at 16 kHz, peak 0.5."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)).astype(np.float32)


@pytest.fixture
def picture() -> Image.Image:
    """48 x 32 pixels: red on the left, blue on the right."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:, :24, 0] = 255
    pixels[:, 24:, 2] = 255
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def tiny_space_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a space of 16 dimensions: random heads on the real backbones. Not to be changed."""
    from tests.support.spaces import write_space

    return write_space(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="session")
def tiny_space(tiny_space_folder: Path) -> EmbeddingSpace:
    """The space of `tiny_space_folder`, opened once: its encoders stay loaded."""
    from embedspace.space import EmbeddingSpace

    return EmbeddingSpace.from_pretrained(tiny_space_folder)
