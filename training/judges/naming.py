"""What judges of pictures by names share: what they learn from, how they are taught, and how good they are.

A judge maps pictures onto the raw vectors of MiniLM, not onto the space. It learns from the pictures of Twitter's
emoji, which no generator sees, of OpenMoji, Art4Apps, GCompris and the training half of the stamps, and never from
Open Clip Art or the emoji of Google and Fluent, which the generator's gallery holds. Every picture is seen at 96
pixels, as generated ones are. The accuracy it publishes is on pictures it never saw.
"""

from __future__ import annotations

import hashlib
import random
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.files import replacing
from training.align.augment import open_view
from training.corpora.manifest import CORPORA, Item, read_manifest

__all__ = [
    "FOLDER",
    "SEED",
    "SIDE",
    "SOURCES",
    "NamingJudge",
    "accuracy",
    "emoji_names",
    "fit",
    "held_out",
    "items_of",
    "judged",
    "measured",
    "ranks",
    "remembered",
    "small",
    "text_rows",
    "viewed",
]

FOLDER = Path("build/judge")
SIDE = 96
"""Side of generated pictures; real ones are brought to it first, so that sharpness gives nothing away."""
SEED = 20_251
SOURCES: dict[str, tuple[str, ...]] = {
    "emoji-twitter": ("test_vendor",),
    "openmoji": ("train",),
    "art4apps": ("train",),
    "gcompris": ("train",),
    "stamps": ("train",),
}
"""Source -> splits that a judge learns from."""
JUDGED = ("emoji-google", "emoji-fluent", "openclipart")
"""Sources that the gallery holds: pictures that no judge learns from."""
STAMPS = "stamps, test half"
_BATCH = 512


class NamingJudge(Protocol):
    """What can be measured."""

    def scores(self, features: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, M): how well names fit pictures; higher is better."""
        ...


# ---- pictures and names


def items_of(source: str, splits: Sequence[str]) -> list[Item]:
    """Return a source's captioned pictures in some splits."""
    rows = read_manifest(CORPORA / source / "manifest.jsonl")
    return [item for item in rows if item.modality == "image" and item.captions and item.split in splits]


def small(picture: NDArray[Any] | Path) -> NDArray[np.uint8]:
    """Return a picture as a generated one would be shown: (96, 96, 3) on white."""
    if isinstance(picture, Path):
        picture = crop_to_content(open_view(picture.parent, picture.name, 0))
    return picture if picture.shape == (SIDE, SIDE, 3) else resize_padded(picture, SIDE)


def viewed(path: str, view: int) -> NDArray[np.uint8]:
    """Return a picture at 96 pixels; augmented views also lose some of their sharpness."""
    picture = resize_padded(crop_to_content(open_view(CORPORA, path, view)), SIDE)
    if view:
        side = random.Random(zlib.crc32(f"soft {path} {view}".encode())).randint(40, SIDE)
        soft = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        picture = np.asarray(soft.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return picture


_TEXTS: dict[str, NDArray[np.float32]] = {}


@torch.inference_mode()
def text_rows(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return (N, 384) unit rows of texts: MiniLM's own, not the space's."""
    missing = sorted({text for text in texts if text not in _TEXTS})
    backbone: Any = create_backbone("minilm_l6") if missing else None
    for start in range(0, len(missing), 256):
        chunk = missing[start : start + 256]
        rows = backbone([backbone.preprocess(text) for text in chunk]).normalized.numpy()
        _TEXTS.update(zip(chunk, rows.astype(np.float32), strict=True))
    return np.stack([_TEXTS[text] for text in texts])


def remembered(
    kind: str, items: Sequence[Item], see: Callable[[Sequence[Item]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return the features of pictures; kept between runs under build/judge and the name `kind`."""
    path = FOLDER / f"{kind}.npz"
    ids = np.array([item.id for item in items])
    if path.is_file():
        with np.load(path) as stored:
            if np.array_equal(stored["ids"], ids):
                return np.asarray(stored["features"], np.float32)
    started = time.monotonic()
    found = np.concatenate([see(items[start : start + 64]) for start in range(0, len(items), 64)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, ids=ids, features=found.astype(np.float16))
    print(f"{kind}: {len(items)} in {time.monotonic() - started:.0f} s", flush=True)
    return found


# ---- how it is taught


def fit(
    network: nn.Module,
    rows_of: Callable[[NDArray[np.int64]], Tensor],
    named: Sequence[tuple[Sequence[str], Sequence[str]]],
    steps: int,
    *,
    batch: int = _BATCH,
    rate: float = 1e-3,
) -> None:
    """Train a network: each picture against the others' names, whichever of its names is drawn.

    Source: Oord et al. 2018 (InfoNCE, https://arxiv.org/abs/1807.03748), equation 4, both ways.

    Args:
        network: What learns; it has a `logit_scale`.
        rows_of: Numbers of pictures (B,) to unit rows (B, 384), by the network.
        named: Names of each picture, and its keywords.
        steps: How many.
        batch: Pictures a step.
        rate: Highest learning rate.
    """
    words = sorted({word for names, weak in named for word in (*names, *weak)})
    place = {word: number for number, word in enumerate(words)}
    with torch.random.fork_rng(devices=[]):  # to read MiniLM changes nothing of what is drawn
        texts = torch.from_numpy(text_rows(words))
    scale: Tensor = network.logit_scale  # type: ignore[assignment]  # a parameter
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    rng = np.random.default_rng(SEED)
    for step in range(steps):
        rows = rng.choice(len(named), batch, replace=False)
        said = torch.tensor([place[_drawn(*named[int(r)], rng)] for r in rows])
        logits = rows_of(rows) @ texts[said].T * scale.exp()
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


def _drawn(names: Sequence[str], weak: Sequence[str], rng: np.random.Generator) -> str:
    if weak and rng.random() < 0.15:
        return weak[int(rng.integers(len(weak)))]
    return names[int(rng.integers(len(names)))] if rng.random() < 0.5 else names[0]


# ---- how good it is


def held_out(source: str) -> tuple[list[Item], list[Item]]:
    """Return 100 pictures by which accuracy is published, one a concept that a judge knows, and 200 to choose by."""
    drawn = {item.concept for own, splits in SOURCES.items() for item in items_of(own, splits)}
    firsts: dict[str, Item] = {}
    for item in items_of(source, ("train", "val")):
        if item.concept in drawn:
            firsts.setdefault(item.concept, item)
    order = [firsts[concept] for concept in sorted(firsts, key=_rank)]
    return order[:100], order[100:300]


def judged() -> dict[str, list[Item]]:
    """Return the pictures by which accuracy is published, by what they are called; no judge learnt from them."""
    stamps = sorted(items_of("stamps", ("test",)), key=lambda item: _rank(item.id))
    found = {source: held_out(source)[0] for source in JUDGED}
    return {**found, STAMPS: [item for item in stamps if item.extra.get("unique")]}


def accuracy(judge: NamingJudge, see: Callable[[Sequence[Item], str], NDArray[np.float32]]) -> dict[str, Any]:
    """Return a judge's accuracy on real pictures that it never saw.

    Args:
        judge: The judge.
        see: Its features of pictures; the second argument is a name to keep them under.
    """
    pool, out = emoji_names(), {}
    for name, items in judged().items():
        features = see(items, f"{name.partition(',')[0]}.judged")
        out[name] = measured(judge, features, [item.captions[0] for item in items], pool)
    return out


def emoji_names() -> list[str]:
    """Return the names of Twitter's emoji, in always the same order: what right names are found among."""
    return sorted({item.captions[0] for item in items_of("emoji-twitter", SOURCES["emoji-twitter"])}, key=_rank)


def _rank(name: str) -> bytes:
    return hashlib.sha256(f"{SEED} {name}".encode()).digest()


def ranks(
    judge: NamingJudge, features: NDArray[np.float32], own: Sequence[str], pool: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return (N,) the ranks of right names among all right ones and among 500 names, and how many these are.

    Ties count against the judge.

    Args:
        judge: The judge.
        features: (N, D) of pictures.
        own: Their N names.
        pool: Other names.
    """
    gallery = [*dict.fromkeys(own), *(text for text in pool if text not in set(own))][:500]
    scores = judge.scores(features, gallery)
    answer = np.array([gallery.index(text) for text in own])
    mine = scores[np.arange(len(own)), answer][:, None]
    return (scores[:, : len(set(own))] >= mine).sum(axis=1), (scores >= mine).sum(axis=1), len(gallery)


def measured(
    judge: NamingJudge, features: NDArray[np.float32], own: Sequence[str], pool: Sequence[str]
) -> dict[str, Any]:
    """Return how often right names come first, and are among the first ten of 500; arguments as for `ranks`."""
    among, rank, gallery = ranks(judge, features, own, pool)
    return {
        "pictures": len(own),
        "classes": len(set(own)),
        "gallery": gallery,
        "top_1_of_classes": round(float((among == 1).mean()), 4),
        "recall_at_1": round(float((rank <= 1).mean()), 4),
        "recall_at_10": round(float((rank <= 10).mean()), 4),
    }
