"""A judge of generated pictures that neither conditions nor trains a generator; not for the package.

    python -m training.judges.pictures             # features (five minutes on one core), training, accuracy
    python -m training.judges.pictures --views 1 --steps 300        # to try it
    python -m training.judges.pictures --measure                    # accuracy of the head that is there

Its eyes are EfficientNet-Lite1; a small head maps them onto the raw vectors of MiniLM, not onto the space. It learns
from the pictures of Twitter's emoji, which no generator sees, of OpenMoji, Art4Apps, GCompris and the training half of
the stamps, and never from Open Clip Art or the emoji of Google and Fluent, which the generator's gallery holds. Every
picture is seen at 96 pixels, as generated ones are. The accuracy it publishes is on pictures it never saw.

Everything lies under build/judge; suites name `training.judges.pictures:load`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.backbone import WEIGHTS
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite, resize_padded, to_pixel_values
from embedspace.errors import ConfigError
from training.align.augment import open_view
from training.convert.backbones import convert
from training.corpora.manifest import CORPORA, Item, read_manifest

__all__ = ["FOLDER", "PictureJudge", "load"]

FOLDER = Path("build/judge")
SIDE = 96
"""Side of generated pictures; real ones are brought to it first, so that sharpness gives nothing away."""
INPUT = 192
SEED = 20_251
SOURCES: dict[str, tuple[str, ...]] = {
    "emoji-twitter": ("test_vendor",),
    "openmoji": ("train",),
    "art4apps": ("train",),
    "gcompris": ("train",),
    "stamps": ("train",),
}
"""Source -> splits that the judge learns from."""
_NAME = "efficientnet_lite1"
_HEAD = FOLDER / "pictures.safetensors"
_ABOUT = FOLDER / "pictures.json"
_BATCH = 512
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
        return _see(self._eyes, [_small(picture) for picture in contents])

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
            self._eyes(torch.stack([to_pixel_values(_small(p), SIDE) for p in contents[start : start + 8]])).pooled
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


def _small(picture: NDArray[Any] | Path) -> NDArray[np.uint8]:
    """Return a picture as a generated one would be shown: (96, 96, 3) on white."""
    if isinstance(picture, Path):
        picture = crop_to_content(open_view(picture.parent, picture.name, 0))
    return picture if picture.shape == (SIDE, SIDE, 3) else resize_padded(picture, SIDE)


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


_TEXTS: dict[str, NDArray[np.float32]] = {}


@torch.inference_mode()
def text_rows(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return (N, 384) unit rows of texts: MiniLM's own, not the space's."""
    backbone: Any = create_backbone("minilm_l6")
    missing = sorted({text for text in texts if text not in _TEXTS})
    for start in range(0, len(missing), 256):
        chunk = missing[start : start + 256]
        rows = backbone([backbone.preprocess(text) for text in chunk]).normalized.numpy()
        _TEXTS.update(zip(chunk, rows.astype(np.float32), strict=True))
    return np.stack([_TEXTS[text] for text in texts])


# ---- what it learns from


def items_of(source: str, splits: Sequence[str]) -> list[Item]:
    """Return a source's captioned pictures in some splits."""
    rows = read_manifest(CORPORA / source / "manifest.jsonl")
    return [item for item in rows if item.modality == "image" and item.captions and item.split in splits]


def seen(items: Sequence[Item], kind: str, view: int) -> NDArray[np.float32]:
    """Return the features of pictures in one view; kept between runs under the name `kind`."""
    path = FOLDER / "pictures" / f"{kind}.{view}.npz"
    ids = np.array([item.id for item in items])
    if path.is_file():
        with np.load(path) as stored:
            if np.array_equal(stored["ids"], ids):
                return np.asarray(stored["features"], np.float32)
    started = time.monotonic()
    blocks = [
        _see(_eyes(), [_viewed(item.path, view) for item in items[start : start + 64]])
        for start in range(0, len(items), 64)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, ids=ids, features=np.concatenate(blocks).astype(np.float16))
    print(f"{kind} view {view}: {len(items)} in {time.monotonic() - started:.0f} s", flush=True)
    return np.concatenate(blocks)


def _viewed(path: str, view: int) -> NDArray[np.uint8]:
    """Return a picture at 96 pixels; augmented views also lose some of their sharpness."""
    picture = resize_padded(crop_to_content(open_view(CORPORA, path, view)), SIDE)
    if view:
        side = random.Random(zlib.crc32(f"soft {path} {view}".encode())).randint(40, SIDE)
        soft = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        picture = np.asarray(soft.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return picture


def train(views: int, steps: int) -> JudgeHead:
    """Fit the head: each picture against the others' names, whichever of its names is drawn.

    Source: Oord et al. 2018 (InfoNCE, https://arxiv.org/abs/1807.03748), equation 4, both ways.
    """
    names: list[tuple[str, ...]] = []
    weak: list[tuple[str, ...]] = []
    blocks = []
    for view in range(views):
        for source, splits in SOURCES.items():
            items = items_of(source, splits)
            names += [item.captions for item in items]
            weak += [item.keywords for item in items]
            blocks.append(seen(items, f"{source}.{'-'.join(splits)}", view))
    features, classes = _inputs(np.concatenate(blocks))
    words = sorted({word for group in (*names, *weak) for word in group})
    place = {word: number for number, word in enumerate(words)}
    texts = torch.from_numpy(text_rows(words))
    torch.manual_seed(SEED)
    head = JudgeHead(features.shape[1], texts.shape[1])
    head.mean.copy_(features.mean(dim=0))
    head.scale.copy_(1.0 / features.std(dim=0).clamp(min=1e-4))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    rng = np.random.default_rng(SEED)
    for step in range(steps):
        rows = rng.choice(len(names), _BATCH, replace=False)
        said = torch.tensor([place[_drawn(names[r], weak[r], rng)] for r in rows])
        logits = head(features[rows], classes[rows]) @ texts[said].T * head.logit_scale.exp()
        same = said[:, None] == said[None, :]
        logits = logits.masked_fill(same & ~torch.eye(len(said), dtype=torch.bool), -1e4)
        target = torch.arange(len(said))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == steps - 1:
            print(f"step {step}: loss {float(loss.detach()):.3f}", flush=True)
    return head.eval()


def _drawn(names: tuple[str, ...], weak: tuple[str, ...], rng: np.random.Generator) -> str:
    if weak and rng.random() < 0.15:
        return weak[int(rng.integers(len(weak)))]
    return names[int(rng.integers(len(names)))] if rng.random() < 0.5 else names[0]


# ---- how good it is


def accuracy(judge: PictureJudge) -> dict[str, Any]:
    """Return the judge's accuracy on real pictures that it never saw."""
    drawn = {item.concept for source, splits in SOURCES.items() for item in items_of(source, splits)}
    emoji = items_of("emoji-twitter", SOURCES["emoji-twitter"])
    pool = sorted({item.captions[0] for item in emoji}, key=_rank)
    out: dict[str, Any] = {}
    for source in ("emoji-google", "emoji-fluent", "openclipart"):
        firsts: dict[str, Item] = {}
        for item in items_of(source, ("train", "val")):
            if item.concept in drawn:
                firsts.setdefault(item.concept, item)
        chosen = [firsts[concept] for concept in sorted(firsts, key=_rank)[:100]]
        features = seen(chosen, f"{source}.judged", 0)
        out[source] = _measured(judge, features, [item.captions[0] for item in chosen], pool)
    stamps = sorted(items_of("stamps", ("test",)), key=lambda item: _rank(item.id))
    stamps = [item for item in stamps if item.extra.get("unique")]
    own = [item.captions[0] for item in stamps]
    out["stamps, test half"] = _measured(judge, seen(stamps, "stamps.judged", 0), own, pool)
    return out


def _rank(name: str) -> bytes:
    return hashlib.sha256(f"{SEED} {name}".encode()).digest()


def _measured(judge: PictureJudge, features: NDArray[np.float32], own: list[str], pool: list[str]) -> dict[str, Any]:
    gallery = [*dict.fromkeys(own), *(text for text in pool if text not in set(own))][:500]
    scores = judge.scores(features, gallery)
    answer = np.array([gallery.index(text) for text in own])
    mine = scores[np.arange(len(own)), answer][:, None]
    rank = (scores >= mine).sum(axis=1)
    among = (scores[:, : len(set(own))] >= mine).sum(axis=1)
    return {
        "pictures": len(own),
        "classes": len(set(own)),
        "gallery": len(gallery),
        "top_1_of_classes": round(float((among == 1).mean()), 4),
        "recall_at_1": round(float((rank <= 1).mean()), 4),
        "recall_at_10": round(float((rank <= 10).mean()), 4),
    }


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
    about["accuracy"] = accuracy(PictureJudge(head, about, ""))
    _ABOUT.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    print(json.dumps(about["accuracy"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
