"""Spaces of a small random CLIP and CLAP, and pipelines around the same networks; each is made once."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import pipelines, towers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the libraries deprecate among themselves is nothing that embedspace can change."""
    for item in items:
        if Path(item.fspath).name in ("test_pipelines.py", "test_clipcap.py"):
            item.add_marker(pytest.mark.filterwarnings("default::DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("default::FutureWarning"))


class Workshop:
    """The folders, and the spaces by their anchors; both towers are 16 wide, so that widths tell nothing."""

    def __init__(self, folder: Path) -> None:
        from embedspace import EmbeddingSpace

        self.folder = folder
        self.clip, self.clap = towers.tiny_clip(folder / "clip", 16), towers.tiny_clap(folder / "clap")
        draw = random.Random(0)
        letters = [sorted(draw.choices(string.ascii_lowercase[:20], k=6)) for _ in range(300)]
        (folder / "words.txt").write_text("\n".join(f"{''.join(one)}z" for one in letters))
        self.unclip = pipelines.tiny_unclip(folder / "unclip", self.clip)
        self.prior = pipelines.tiny_prior(folder / "prior", self.clip)
        self.kandinsky = pipelines.tiny_kandinsky(folder / "kandinsky")
        self.diffusion, self.adapter = pipelines.tiny_ip_adapter(folder / "diffusion", self.clip)
        self.audioldm = pipelines.tiny_audioldm(folder / "audioldm", self.clap)
        self.by_clip = EmbeddingSpace.compose(self.recipe("clip", "clap"))
        self.by_clap = EmbeddingSpace.compose(self.recipe("clap", "clip"))

    def recipe(self, anchor: str, *others: str, **more: Any) -> dict[str, Any]:
        """Return what a space is composed of."""
        takes = {"clip": ["text", "image"], "clap": ["text", "audio"]}
        return {
            "anchor": anchor,
            "towers": {
                name: {"model": f"transformers:{self.folder / name}", "modalities": takes[name]}
                for name in (anchor, *others)
            },
            "connect": {name: {"method": "procrustes", "texts": [str(self.folder / "words.txt")]} for name in others},
            **more,
        }


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="session")
def text(workshop: Workshop) -> np.ndarray:
    return workshop.by_clip.encode_text(["a dog"])


@pytest.fixture(scope="session")
def photo(workshop: Workshop) -> np.ndarray:
    return workshop.by_clip.encode_image([towers.picture(1)])
