"""A second judge of generated pictures, with eyes that no network of the space or the first judge shares.

    python -m training.judges.pixels               # features (minutes on one core), training, accuracy
    python -m training.judges.pixels --views 1 --steps 300          # to try it

It has no pretrained network: outlines, colours and small patches of its own pictures (`shapes`), and a small head that
maps these onto names. What it learns from: `naming`; every second view of that has gone through the autoencoder
(`decoded`).

Everything lies under build/judge; suites name `training.judges.pixels:load`.
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

from embedspace.errors import ConfigError
from training.corpora.manifest import Item
from training.judges import pictures
from training.judges.decoded import through_autoencoder
from training.judges.naming import (
    FOLDER,
    SEED,
    SOURCES,
    accuracy,
    emoji_names,
    fit,
    items_of,
    judged,
    ranks,
    remembered,
    small,
    text_rows,
    viewed,
)
from training.judges.shapes import PARTS, Patches, drawn_features, learn_patches, shapes

__all__ = ["PixelJudge", "load"]

_HEAD = FOLDER / "pixels.safetensors"
_ABOUT = FOLDER / "pixels.json"
_PATCHES = 384
_CLIP = 4.0  # standard deviations


class PixelHead(nn.Module):
    """From what pixels say to MiniLM's vectors.

    Args:
        feature_dim: Width of the features.
        text_dim: Width of MiniLM's vectors.
        width: Hidden width.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_dim: int, text_dim: int, width: int = 512) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))
        self.body = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(feature_dim, width), nn.GELU(), nn.Dropout(0.5), nn.Linear(width, text_dim)
        )
        self.logit_scale = nn.Parameter(torch.tensor(2.7))

    def forward(self, features: Tensor) -> Tensor:
        """Return unit rows (B, text_dim) of features (B, feature_dim)."""
        x = ((features - self.mean) * self.scale).clamp(-_CLIP, _CLIP)
        return F.normalize(self.body(x), dim=1)


class PixelJudge:
    """What a suite asks: features of pictures, and how well names fit them.

    Attributes:
        about: Its accuracy on real pictures that it never saw, and what it learnt from.
        digest: Of its weights.
        concepts: (): it can be asked for any name.
    """

    concepts: tuple[str, ...] = ()

    def __init__(self, head: PixelHead, patches: Patches, about: Mapping[str, Any], digest: str) -> None:
        self.about, self.digest = about, digest
        self._head = head.eval().requires_grad_(False)
        self._patches = patches

    def features(self, contents: Sequence[NDArray[Any]], sample_rate: int = 0) -> NDArray[np.float32]:
        """Return (N, D) float32 of pictures (H, W, 3) uint8 or files."""
        del sample_rate
        return shapes([small(picture) for picture in contents], self._patches)

    def kernel_features(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features (N, D) themselves, of unit mean square."""
        rows: NDArray[np.float32] = features / np.sqrt((features**2).mean(axis=1, keepdims=True) + 1e-12)
        return rows

    def copy_features(self, contents: Sequence[NDArray[Any]], sample_rate: int = 0) -> NDArray[np.float32]:
        """Return (N, K) outlines and colours of pictures; nothing of them is learnt."""
        del sample_rate
        return drawn_features([small(picture) for picture in contents])

    @torch.inference_mode()
    def scores(self, features: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, M) cosines of pictures with names."""
        found: NDArray[np.float32] = self._head(torch.from_numpy(features)).numpy() @ text_rows(list(names)).T
        return found


@lru_cache(maxsize=1)
def load() -> PixelJudge:
    """Return the trained judge.

    Raises:
        ConfigError: If it is not trained yet.
    """
    if not (_HEAD.is_file() and _ABOUT.is_file()):
        raise ConfigError(f"{_HEAD}: no second judge of pictures yet; train it: python -m training.judges.pixels")
    about = json.loads(_ABOUT.read_text("utf-8"))
    tensors = load_file(_HEAD)
    patches = Patches(**{name: tensors.pop(f"patches.{name}") for name in PARTS})
    head = PixelHead(about["feature_dim"], about["text_dim"])
    head.load_state_dict(tensors)
    return PixelJudge(head, patches, about, hashlib.sha256(_HEAD.read_bytes()).hexdigest())


# ---- how it learns


def seen(items: Sequence[Item], patches: Patches, kind: str, view: int) -> NDArray[np.float32]:
    """Return the features of pictures in one view; kept between runs. Every second view went through the autoencoder.

    Args:
        items: Pictures.
        patches: The dictionary.
        kind: A name to keep them under.
        view: 0 as they are, 1 through the autoencoder, then both augmented.
    """

    def see(some: Sequence[Item]) -> NDArray[np.float32]:
        plain = [viewed(item.path, view // 2) for item in some]
        return shapes(through_autoencoder(plain) if view % 2 else plain, patches)

    return remembered(f"pixels/{patches.digest()}/{kind}.{view}", items, see)


def train(views: int, steps: int, batch: int = 256) -> tuple[PixelHead, Patches]:
    """Learn the dictionary of patches, then the head."""
    lessons = {source: items_of(source, splits) for source, splits in SOURCES.items()}
    patches = learn_patches([viewed(item.path, 0) for items in lessons.values() for item in items], _PATCHES, SEED)
    named: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    blocks = []
    for view in range(views):
        for source, items in lessons.items():
            named += [(item.captions, item.keywords) for item in items]
            blocks.append(seen(items, patches, source, view).astype(np.float16))
    features = torch.from_numpy(np.concatenate(blocks))
    torch.manual_seed(SEED)
    head = PixelHead(features.shape[1], text_rows(["a"]).shape[1])
    part = features[:: max(1, views)].float()  # enough for means
    head.mean.copy_(part.mean(dim=0))
    head.scale.copy_(1.0 / part.std(dim=0).clamp(min=1e-4))
    fit(head, lambda rows: head(features[rows].float()), named, steps, batch=batch)
    return head.eval(), patches


def agreement(judge: PixelJudge, patches: Patches) -> dict[str, Any]:
    """Return how often both judges find a picture's name among ten of 500, one of them, and neither.

    `phi` is the correlation of the two: 0 where what one finds says nothing about what the other does.
    """
    first, pool, out = pictures.load(), emoji_names(), {}
    for name, items in judged().items():
        own, kind = [item.captions[0] for item in items], f"{name.partition(',')[0]}.judged"
        looks = (pictures.seen(items, kind, 0), seen(items, patches, kind, 0))
        one, two = (ranks(each, rows, own, pool)[1] <= 10 for each, rows in zip((first, judge), looks, strict=True))
        shares = {"both": one & two, "first_alone": one & ~two, "second_alone": two & ~one, "neither": ~one & ~two}
        out[name] = {key: round(float(share.mean()), 4) for key, share in shares.items()}
        spread = float(one.std() * two.std())
        out[name]["phi"] = round(float(((one & two).mean() - one.mean() * two.mean()) / spread), 4) if spread else 0.0
    return out


def main() -> int:
    """Train, measure, and write what `load` reads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--views", type=int, default=3, help="of each picture: plain, decoded, augmented, and both")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=256)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    head, patches = train(arguments.views, arguments.steps, arguments.batch)
    tensors = {**head.state_dict(), **{f"patches.{name}": getattr(patches, name) for name in PARTS}}
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, _HEAD)
    judge = PixelJudge(head, patches, {}, "")
    about = {
        "feature_dim": len(head.mean),
        "text_dim": head.body[-1].out_features,
        "eyes": "outlines, colours and learnt patches of pixels",
        "learnt_from": {source: list(splits) for source, splits in SOURCES.items()},
        "views": arguments.views,
        "steps": arguments.steps,
        "batch": arguments.batch,
        "seed": SEED,
        "accuracy": accuracy(judge, lambda items, kind: seen(items, patches, kind, 0)),
        "accuracy_decoded": accuracy(judge, lambda items, kind: seen(items, patches, kind, 1)),
        "agreement": agreement(judge, patches),
    }
    _ABOUT.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    print(json.dumps({name: about[name] for name in ("accuracy", "accuracy_decoded", "agreement")}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
