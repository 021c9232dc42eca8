"""Towers of a few hundred weights that really see colours and really read words, and pairs that they can learn."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.towers.base import Tower, TowerRequest
from embedspace.encoders.towers.registry import register_tower

COLOURS = {
    "red": (220, 30, 30), "green": (30, 160, 40), "blue": (30, 60, 220), "yellow": (240, 220, 40),
    "black": (15, 15, 15), "white": (250, 250, 250), "pink": (250, 130, 190), "grey": (128, 128, 128),
}  # fmt: skip
_WORDS = 512


class TinyTower(Tower):
    """Pictures by the mean colour of nine fields, texts by their words, each through two small layers."""

    image_size = 8

    def __init__(self, request: TowerRequest) -> None:
        seed = int(request.place)
        modalities = tuple(request.options.get("modalities", ("text", "image")))
        super().__init__(request.reference, modalities, preprocessing={"seed": seed})
        self.encoded = 0
        self.max_tokens = 8 if "text" in modalities else None
        torch.manual_seed(seed)
        widths = {"text": _WORDS, "image": 27}
        self.networks = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(widths[m], 24), nn.Tanh(), nn.Linear(24, 16)) for m in modalities}
        )
        self.freeze()

    def feature_dim(self, modality: str) -> int:
        self.require(modality)
        return 16

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def prepare(self, modality: str, media: Any) -> Tensor:
        self.require(modality)
        if modality == "text":
            assert self.count_tokens(media) <= (self.max_tokens or 99), "longer than the tower takes"
            row = torch.zeros(_WORDS)
            for word in media.casefold().split():
                row[zlib.crc32(word.encode()) % _WORDS] = 1.0
            return row
        pixels = np.asarray(Image.fromarray(np.asarray(media)).convert("RGB").resize((3, 3), Image.Resampling.BOX))
        return torch.from_numpy(pixels.astype(np.float32).ravel() / 127.5 - 1)

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> Tensor:
        self.encoded += len(prepared)
        rows: Tensor = self.networks[modality](torch.stack(list(prepared)).to(self.device))
        return rows


@register_tower("tiny")
def _create(request: TowerRequest) -> TinyTower:
    request.only("modalities")
    return TinyTower(request)


def write_squares(folder: Path, count: int = 96, seed: int = 0) -> list[dict[str, str]]:
    """Write noisy squares of eight colours, and return their rows: path, caption and split; every fourth validates."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        name, colour = list(COLOURS.items())[number % len(COLOURS)]
        noise = rng.integers(-25, 26, (16, 16, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        split = "val" if number // len(COLOURS) % 4 == 3 else "train"
        rows.append({"path": f"{number}.png", "caption": f"a {name} square", "split": split})
    return rows


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


RECIPE = """
[pairs]
manifests = ["squares.csv"]
[towers.photo]
model = "tiny:1"
modalities = ["image"]
[towers.photo.projections.image]
hidden_dim = 32
dropout = 0.0
[towers.words]
model = "tiny:2"
modalities = ["text"]
[training]
steps = 60
batch_size = 24
learning_rate = 0.01
warmup_steps = 5
evaluate_every = 30
"""


def write_recipe(folder: Path, changes: dict[str, str] | None = None, recipe: str = RECIPE) -> Path:
    """Write squares, their manifest and a recipe; `changes` replace parts of the recipe's text."""
    if not (folder / "squares.csv").exists():
        write_manifest(folder / "squares.csv", write_squares(folder))
    text = f'features = "{folder}/rows"\n' + recipe
    for old, new in (changes or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "squares.toml"
    path.write_text(text)
    return path
