"""A judge of generated pictures that neither conditions nor trains a generator; not for the package.

    python -m training.judges.pictures             # features (five minutes on one core), training, accuracy
    python -m training.judges.pictures --views 1 --steps 300        # to try it
    python -m training.judges.pictures --measure                    # accuracy of the head that is there

Its eyes are EfficientNet-Lite1; a small head maps what they say onto names. What it learns from: `naming`.

Everything lies under build/judge; suites name `training.judges.pictures:load`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embedspace.encoders.towers.backbone import WEIGHTS
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite, to_pixel_values
from embedspace.errors import ConfigError
from training.convert.backbones import convert
from training.corpora.manifest import Item
from training.judges.naming import (
    FOLDER,
    SEED,
    SIDE,
    SOURCES,
    accuracy,
    fit,
    items_of,
    remembered,
    small,
    text_rows,
    viewed,
)

__all__ = ["PictureJudge", "load"]

INPUT = 192
_NAME = "efficientnet_lite1"
_HEAD = FOLDER / "pictures.safetensors"
_ABOUT = FOLDER / "pictures.json"
_CLASSES_KEPT = 8
_CLASS_SCALE = 10.0  # of unit vectors beside standardised features


class JudgeHead(nn.Module):
    """From what the eyes say to MiniLM's vectors.

    Args:
        feature_dim: Width of the features.
        class_dim: Width of the mean class name's vector, which is added.
        width: Hidden width.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_dim: int, class_dim: int, width: int = 1024) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))
        self.body = nn.Sequential(
            nn.Linear(feature_dim + class_dim, width), nn.GELU(), nn.Dropout(0.5), nn.Linear(width, class_dim)
        )
        self.classes = nn.Parameter(torch.tensor(0.5))
        self.logit_scale = nn.Parameter(torch.tensor(2.7))

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """Return unit rows (B, class_dim) of features (B, feature_dim) and mean class names' vectors (B, class_dim)."""
        x = torch.cat([(features - self.mean) * self.scale, _CLASS_SCALE * classes], dim=1)
        x = F.dropout(x, 0.3, self.training)  # of 5,000 pictures much could be learnt by heart
        return F.normalize(self.body(x) + self.classes * classes, dim=1)


class PictureJudge:
    """What a suite asks: features of pictures, and how well names fit them.

    Attributes:
        about: Its accuracy on real pictures that it never saw, and what it learnt from.
        digest: Of its weights.
        concepts: (): it can be asked for any name.
    """

    concepts: tuple[str, ...] = ()

    def __init__(self, head: JudgeHead, about: Mapping[str, Any], digest: str) -> None:
        self.about, self.digest = about, digest
        self._head = head.eval().requires_grad_(False)
        self._eyes = _eyes()

    def features(self, contents: Sequence[NDArray[Any]], sample_rate: int = 0) -> NDArray[np.float32]:
        """Return what the eyes say, (N, D) float32, of pictures (H, W, 3) uint8 or files; the first 1280 are pooled."""
        del sample_rate
        return _see(self._eyes, [small(picture) for picture in contents])

    def kernel_features(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the part of the features that distributions are compared by: (N, 1280), of unit mean square."""
        pooled = features[:, : self._eyes.feature_dim]
        rows: NDArray[np.float32] = pooled / np.sqrt((pooled**2).mean(axis=1, keepdims=True) + 1e-12)
        return rows

    @torch.inference_mode()
    def copy_features(self, contents: Sequence[NDArray[Any]], sample_rate: int = 0) -> NDArray[np.float32]:
        """Return (N, 1280) what the eyes pool of pictures at the size that they are made in; not trained here."""
        del sample_rate
        rows = [
            self._eyes(torch.stack([to_pixel_values(small(p), SIDE) for p in contents[start : start + 8]])).pooled
            for start in range(0, len(contents), 8)
        ]
        return torch.cat(rows).numpy() if rows else np.zeros((0, self._eyes.feature_dim), np.float32)

    @torch.inference_mode()
    def scores(self, features: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, M) cosines of pictures with names."""
        rows = self._head(*_inputs(features)).numpy()
        found: NDArray[np.float32] = rows @ text_rows(list(names)).T
        return found


@lru_cache(maxsize=1)
def load() -> PictureJudge:
    """Return the trained judge.

    Raises:
        ConfigError: If it is not trained yet.
    """
    if not (_HEAD.is_file() and _ABOUT.is_file()):
        raise ConfigError(f"{_HEAD}: no judge of pictures yet; train it: python -m training.judges.pictures")
    about = json.loads(_ABOUT.read_text("utf-8"))
    head = JudgeHead(about["feature_dim"], about["class_dim"], about["width"])
    head.load_state_dict(load_file(_HEAD))
    return PictureJudge(head, about, hashlib.sha256(_HEAD.read_bytes()).hexdigest())


@lru_cache(maxsize=1)
def _eyes() -> EfficientNetLite:
    path = FOLDER / f"{_NAME}.safetensors"
    if not path.is_file():
        convert(_NAME, FOLDER)
    return EfficientNetLite.read(_NAME, path).channels_last()


@torch.inference_mode()
def _see(eyes: EfficientNetLite, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return (N, D): pooled features, those of the middle stages, class scores."""
    rows = []
    for start in range(0, len(pictures), 8):
        out = eyes(torch.stack([to_pixel_values(p, INPUT) for p in pictures[start : start + 8]]))
        rows.append(torch.cat([out.pooled, *out.middle, out.logits], dim=1))
    width = eyes.feature_dim + sum(eyes.middle_dims) + 1000
    return torch.cat(rows).numpy() if rows else np.zeros((0, width), np.float32)


@lru_cache(maxsize=1)
def _class_rows() -> NDArray[np.float32]:
    classes = json.loads((WEIGHTS.parent / "imagenet_classes.json").read_text("utf-8"))
    return text_rows([row["name"] for row in classes])


def _inputs(features: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Split features into those that are standardised and the mean vector of the likeliest class names.

    Source: Norouzi et al. 2014 (ConSE, https://arxiv.org/abs/1312.5650), equation 2.
    """
    rows = torch.from_numpy(np.asarray(features, np.float32))
    best = rows[:, -1000:].softmax(dim=1).topk(_CLASSES_KEPT, dim=1)
    shares = best.values / best.values.sum(dim=1, keepdim=True)
    named = torch.from_numpy(_class_rows())[best.indices]  # (N, K, class_dim)
    return rows[:, :-1000], F.normalize((shares[:, :, None] * named).sum(dim=1), dim=1)


# ---- what it learns from


def seen(items: Sequence[Item], kind: str, view: int) -> NDArray[np.float32]:
    """Return the features of pictures in one view; kept between runs under the name `kind`."""
    return remembered(
        f"pictures/{kind}.{view}", items, lambda some: _see(_eyes(), [viewed(item.path, view) for item in some])
    )


def train(views: int, steps: int) -> JudgeHead:
    """Fit the head."""
    named: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    blocks = []
    for view in range(views):
        for source, splits in SOURCES.items():
            items = items_of(source, splits)
            named += [(item.captions, item.keywords) for item in items]
            blocks.append(seen(items, f"{source}.{'-'.join(splits)}", view))
    features, classes = _inputs(np.concatenate(blocks))
    torch.manual_seed(SEED)
    head = JudgeHead(features.shape[1], classes.shape[1])
    head.mean.copy_(features.mean(dim=0))
    head.scale.copy_(1.0 / features.std(dim=0).clamp(min=1e-4))
    fit(head, lambda rows: head(features[rows], classes[rows]), named, steps)
    return head.eval()


def main() -> int:
    """Train, measure, and write what `load` reads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--views", type=int, default=3, help="the first is the plain one")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--measure", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.measure:
        tensors = load_file(_HEAD)
        class_dim = len(tensors["body.3.bias"])
        head = JudgeHead(len(tensors["mean"]), class_dim, len(tensors["body.0.bias"]))
        head.load_state_dict(tensors)
    else:
        head = train(arguments.views, arguments.steps)
        save_file(head.state_dict(), _HEAD)
    about: dict[str, Any] = {
        "feature_dim": len(head.mean),
        "class_dim": head.body[-1].out_features,
        "width": head.body[0].out_features,
        "eyes": "EfficientNet-Lite1",
        "learnt_from": {source: list(splits) for source, splits in SOURCES.items()},
        "views": arguments.views,
        "steps": arguments.steps,
        "seed": SEED,
    }
    about["accuracy"] = accuracy(PictureJudge(head, about, ""), lambda items, kind: seen(items, kind, 0))
    _ABOUT.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    print(json.dumps(about["accuracy"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
