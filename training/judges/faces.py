"""A judge of drawn faces: woman or man, adult or child; not for the package.

    python -m training.faces                       # the pictures
    python -m training.judges.faces                # features and training, some minutes of one core: build/judge

Its eyes are EfficientNet-Lite1; two linear readings of them learn from the emoji people of vendors whose faces no
generator of faces sees. How strongly they are held back is chosen by leaving out its vendors in turn. The
accuracy that it publishes is on real faces of the generator's vendors, which it never saw, as they are and as the
autoencoder of pictures keeps them: made faces come out of its decoder, whose blur alone made bearded men women to a
judge that had never met it. So half of what it learns from has gone through the autoencoder.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.numpy import load_file, save_file

from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite, to_pixel_values
from embedspace.errors import ConfigError
from embedspace.files import replacing
from embedspace.media.image import open_image
from training.convert.backbones import convert
from training.judges.decoded import through_autoencoder

__all__ = ["AXES", "FaceJudge", "load", "read_rows"]

FOLDER = Path("build/judge")
DATA = Path("build/faces")
SIDE, INPUT = 96, 128
_LOOKS = 2
VIEWS = 2 * _LOOKS
"""Views of a picture: some as they are, as many through the autoencoder."""
AXES = {"gender": ("male", "female"), "age": ("adult", "child")}
"""What is told, and the two values: a score above 0 is the second."""
_RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)
_FEWEST = 24
"""A vendor's group of fewer pictures weighs less than others'."""
_LEFT_OUT = ("emoji-twitter", "openmoji", "emoji-fluent", "emoji-emojione")
_SAME_HAND = {"emoji-fluent": "emoji-fluent-flat", "emoji-emojione": "emoji-emojione-1"}
_NAME = "efficientnet_lite1"

Rows = NDArray[np.float32]


class FaceJudge:
    """Two readings of what the eyes say.

    Attributes:
        about: Its accuracy on real faces that it never saw, and what it learnt from.
        digest: Of its weights.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any], digest: str) -> None:
        self._tensors, self.about, self.digest = tensors, about, digest

    def scores(self, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, Rows]:
        """Return axis -> (N,) scores of pictures (96, 96, 3): above 0 the second value of the axis."""
        seen = (see(pictures) - self._tensors["mean"]) * self._tensors["scale"]
        rows = np.clip(seen, -4, 4)
        return {axis: rows @ self._tensors[axis] + self._tensors[f"{axis}.bias"][0] for axis in AXES}


@lru_cache(maxsize=1)
def load() -> FaceJudge:
    """Return the trained judge.

    Raises:
        ConfigError: If it is not trained yet.
    """
    path = FOLDER / "faces.safetensors"
    if not path.is_file():
        raise ConfigError(f"{path}: no judge of faces yet; train it: python -m training.judges.faces")
    about = json.loads((FOLDER / "faces.json").read_text("utf-8"))
    return FaceJudge(load_file(path), about, hashlib.sha256(path.read_bytes()).hexdigest())


@lru_cache(maxsize=1)
def _eyes() -> EfficientNetLite:
    path = FOLDER / f"{_NAME}.safetensors"
    if not path.is_file():
        convert(_NAME, FOLDER)
    return EfficientNetLite.read(_NAME, path).channels_last()


@torch.inference_mode()
def see(pictures: Sequence[NDArray[np.uint8]]) -> Rows:
    """Return (N, D) what the eyes say of pictures: pooled features and those of the middle stages."""
    found = []
    for start in range(0, len(pictures), 8):
        out = _eyes()(torch.stack([to_pixel_values(one, INPUT) for one in pictures[start : start + 8]]))
        pooled = out.pooled / out.pooled.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        found.append(torch.cat([pooled, *out.middle], dim=1).numpy())
    return np.concatenate(found)


def read_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a listing of `training.faces` that have a picture.

    Raises:
        ConfigError: If it is not built.
    """
    path = DATA / name
    if not path.is_file():
        raise ConfigError(f"{path}: build it first: python -m training.faces")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row for row in rows if row.get("picture")]


def picture(row: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Return the picture of a row, (96, 96, 3)."""
    with open_image(DATA / row["picture"]) as opened:
        return np.asarray(opened.convert("RGB"))


def view(content: NDArray[np.uint8], name: str, number: int) -> NDArray[np.uint8]:
    """Return a picture as it is, or every other time mirrored or not, smaller, moved, tinted, blurred and noisy."""
    if number % _LOOKS == 0:
        return content
    generator = np.random.default_rng(zlib.crc32(f"{name} {number}".encode()))
    if generator.random() < 0.5:
        content = content[:, ::-1]
    side = int(generator.integers(72, 108))
    ground = Image.new("RGB", (SIDE, SIDE), "white")
    small = Image.fromarray(np.ascontiguousarray(content)).resize((side, side))
    place = (SIDE - side) // 2 + generator.integers(-6, 7, 2)
    ground.paste(small, (int(place[0]), int(place[1])))
    ground = ground.filter(ImageFilter.GaussianBlur(generator.uniform(0.0, 1.2)))
    changed = np.asarray(ground) * generator.uniform(0.8, 1.1, 3) + generator.normal(0, 3, (SIDE, SIDE, 3))
    return np.clip(changed, 0, 255).astype(np.uint8)


def _views(rows: Sequence[Mapping[str, Any]], number: int) -> list[NDArray[np.uint8]]:
    seen = [view(picture(row), row["picture"], number) for row in rows]
    return seen if number < _LOOKS else through_autoencoder(seen)


def _fitted(rows: Rows, high: NDArray[np.bool_], groups: NDArray[np.str_], ridge: float) -> tuple[Rows, float]:
    """Return the weights and the bias of a ridge regression in which groups weigh the same, and so do both values."""
    target = np.where(high, 1.0, -1.0)
    weight = np.ones(len(rows))
    for group in set(groups.tolist()):
        own = groups == group
        weight[own] = 1 / max(int(own.sum()), _FEWEST * VIEWS)
    for value in (-1.0, 1.0):
        weight[target == value] /= weight[target == value].sum()
    root = np.sqrt(weight)[:, None]
    middle = (weight[:, None] * rows).sum(axis=0) / weight.sum()
    spread = root * (rows - middle)
    level = float((weight * target).sum() / weight.sum())
    kernel = spread @ spread.T + 0.01 * ridge * rows.shape[1] * np.eye(len(rows))
    found = (spread.T @ np.linalg.solve(kernel, root[:, 0] * (target - level))).astype(np.float32)
    return found, level - float(middle @ found)


def _balanced(scores: Rows, high: NDArray[np.bool_]) -> float:
    return float(np.mean([(scores[high] > 0).mean(), (scores[~high] <= 0).mean()]))


def _area(scores: Rows, high: NDArray[np.bool_]) -> float:
    """Return how often a picture of the second value scores above one of the first."""
    return float((scores[high][:, None] > scores[~high][None]).mean())


def _left_out(rows: Rows, facts: Mapping[str, NDArray[Any]], axis: str, ridge: float) -> float:
    """Return the mean area on the plain heads of vendors that are left out in turn."""
    known, high = facts[axis] != "", facts[axis] == AXES[axis][1]
    areas = []
    for vendor in _LEFT_OUT:
        out = np.isin(facts["vendor"], (vendor, _SAME_HAND.get(vendor, "")))
        weights, bias = _fitted(rows[known & ~out], high[known & ~out], facts["group"][known & ~out], ridge)
        asked = known & (facts["vendor"] == vendor) & (facts["view"] % _LOOKS == 0) & facts["plain"]
        areas.append(_area(rows[asked] @ weights + bias, high[asked]))
    return float(np.mean(areas))


def _seen(seen: Sequence[tuple[Mapping[str, Any], int]]) -> Rows:
    """Return what the eyes say of pictures and views; kept beside the judge, since it takes minutes."""
    listed = "\n".join(f"{row['picture']} {number} {INPUT}" for row, number in seen)
    kept = FOLDER / f"faces-{hashlib.sha256(listed.encode()).hexdigest()[:16]}.npy"
    if kept.is_file():
        return np.asarray(np.load(kept))
    parts = [see(_views([row for row, own in seen if own == number], number)) for number in range(VIEWS)]
    rows = np.concatenate(parts)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as partial, partial.open("wb") as file:
        np.save(file, rows)
    return rows


def train() -> FaceJudge:
    """Train the judge, and write it with its accuracy."""
    taught, asked = read_rows("judge.jsonl"), read_rows("pairs.jsonl")
    # of people with more than a head only changed views: there are many, and no generator draws them
    seen = [(row, number) for number in range(VIEWS) for row in taught if row["plain"] or number % _LOOKS]
    rows = _seen(seen)
    mean, scale = rows.mean(axis=0), 1 / (rows.std(axis=0) + 1e-3)
    rows = np.clip((rows - mean) * scale, -4, 4)
    facts: dict[str, NDArray[Any]] = {
        name: np.array([row[name] for row, _ in seen]) for name in ("vendor", "gender", "age", "plain")
    }
    facts["view"] = np.array([number for _, number in seen])
    facts["group"] = np.array([f"{r['vendor']} {r['gender']} {r['age']} {r['plain']}" for r, _ in seen])
    tensors: dict[str, NDArray[Any]] = {"mean": mean, "scale": scale}
    areas = {ridge: [_left_out(rows, facts, axis, ridge) for axis in AXES] for ridge in _RIDGES}
    ridge = max(areas, key=lambda one: sum(areas[one]))
    for axis, (_, second) in AXES.items():
        known = facts[axis] != ""
        weights, bias = _fitted(rows[known], facts[axis][known] == second, facts["group"][known], ridge)
        tensors |= {axis: weights, f"{axis}.bias": np.array([bias], np.float32)}
    judge = FaceJudge(tensors, {}, "")
    real = [picture(row) for row in asked]
    about = {
        "vendors": sorted({row["vendor"] for row in taught}), "pictures": len(taught), "views": VIEWS,
        "ridge": ridge,
        "area_of_vendors_left_out": dict(zip(AXES, (round(area, 3) for area in areas[ridge]), strict=True)),
        "accuracy": _accuracy(judge, asked, real),
        "accuracy_decoded": _accuracy(judge, asked, through_autoencoder(real)),
    }  # fmt: skip
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(tensors, FOLDER / "faces.safetensors")
    (FOLDER / "faces.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return load()


def _accuracy(
    judge: FaceJudge, asked: Sequence[Mapping[str, Any]], pictures: Sequence[NDArray[np.uint8]]
) -> dict[str, Any]:
    """Return the balanced accuracy on real faces of vendors that it never saw, in percent, by vendor and in all."""
    scores = judge.scores(pictures)
    found: dict[str, Any] = {}
    for axis, (_, second) in AXES.items():
        high = np.array([row[axis] == second for row in asked])
        vendors = np.array([row["vendor"] for row in asked])
        own = {v: _balanced(scores[axis][vendors == v], high[vendors == v]) for v in sorted(set(vendors.tolist()))}
        found[axis] = {name: round(100 * share, 1) for name, share in own.items()}
        found[axis]["all"] = round(100 * _balanced(scores[axis], high), 1)
    return {"pictures": len(asked), **found}


if __name__ == "__main__":
    print(json.dumps(train().about, indent=1))
