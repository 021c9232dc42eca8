"""Fabricated corpora and features, a few hundred items, on which all training stages can run in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.base import save_tensors
from embedspace.encoders.shipped.image_network import NETWORK_FILE, TunedNetwork
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.backbone import WEIGHTS
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite

CONCEPTS = ("dog", "cat", "rain", "bell", "train", "drum", "fire", "bird")
IMAGE_DIM, AUDIO_DIM, SPEECH_DIM, TEXT_DIM = 3606, 5299, 512, 384
"""Widths of the real front ends, the tuned tail left out."""
IMAGE_LOGITS, AUDIO_LOGITS = 1000, 521

RECIPE = """
seed = 3
embed_dim = 16
corpora = "{root}/corpora"
features = "{root}/features"
[text]
hidden_dim = 8
[image]
members = 2
hidden_dim = 8
steps = {steps}
batch_size = 24
class_rows = 8
views = 2
mixup = 0.2
[image.sources]
icons = 1.0
[audio]
members = 2
hidden_dim = 8
steps = {steps}
batch_size = 16
views = 1
[audio.sources]
sounds = 1.0
[speech]
hidden_dim = 16
steps = {steps}
through_steps = {steps}
batch_size = 8
[speech.sources]
talk = 1.0
"""


def class_names() -> list[str]:
    """The names of ImageNet's classes, which every table of captions holds."""
    rows = json.loads((WEIGHTS.parent / "imagenet_classes.json").read_text("utf-8"))
    return [row["name"] for row in rows]


def write_rows(corpora: Path, source: str, rows: list[dict[str, Any]]) -> None:
    folder = corpora / source
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"source": source, **row}) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, "utf-8")


def plant(corpora: Path, source: str, rows: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Add rows to a source that is there, such as rows that no training may see."""
    text = "".join(json.dumps({"source": source, **row}) + "\n" for row in (rows if isinstance(rows, list) else [rows]))
    with (corpora / source / "manifest.jsonl").open("a", encoding="utf-8") as file:
        file.write(text)


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def items(kind: str, count: int) -> list[dict[str, Any]]:
    """`count` items of a modality that take the concepts in turn; every fourth round is for validation."""
    return [
        {
            "id": f"{kind}-{k}",
            "modality": kind,
            "captions": [f"a {CONCEPTS[k % len(CONCEPTS)]}"],
            "keywords": [CONCEPTS[k % len(CONCEPTS)]],
            "concept": CONCEPTS[k % len(CONCEPTS)],
            "split": "val" if k // len(CONCEPTS) % 4 == 3 else "train",
        }
        for k in range(count)
    ]


def _noisy(centres: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float16]:
    noise = rng.standard_normal((count, centres.shape[1]))
    return (centres[np.arange(count) % len(centres)] + 0.5 * noise).astype(np.float16)


def write_corpora(root: Path) -> None:
    """Write corpora and features in which every item of a concept lies around the concept's own centre."""
    rng = np.random.default_rng(5)
    corpora, features = root / "corpora", root / "features"

    def centres(dim: int) -> NDArray[np.float32]:
        return rng.standard_normal((len(CONCEPTS), dim)).astype(np.float32)

    recipes = [
        {
            "id": f"r{k}",
            "modality": "text",
            "extra": {"title": f"soup {k}", "ingredients": f"leek {k}", "steps": "boil"},
        }
        for k in range(6)
    ]
    write_rows(corpora, "recipes", recipes)
    bodies = [text for k in range(6) for text in (f"soup {k}", f"leek {k}\n\nboil")]
    texts = sorted({*class_names(), *bodies, *CONCEPTS, *(f"a {c}" for c in CONCEPTS)})
    vectors = rng.standard_normal((len(texts), TEXT_DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_arrays(features / "text" / "texts.npz", texts=np.array(texts), features=vectors.astype(np.float16))

    for kind, source, views, dim, classes in (
        ("image", "icons", 2, IMAGE_DIM, IMAGE_LOGITS),
        ("audio", "sounds", 1, AUDIO_DIM, AUDIO_LOGITS),
    ):
        rows = items(kind, 128 if kind == "image" else 320)
        if kind == "audio":
            rows = [{**row, "split": "train"} for row in rows]
        write_rows(corpora, source, rows)
        ids, middle, scores = np.array([row["id"] for row in rows]), centres(dim), centres(classes)
        for view in range(views):
            made = {"features": _noisy(middle, len(rows), rng), "logits": _noisy(scores, len(rows), rng)}
            write_arrays(features / kind / f"{source}.{view}.npz", ids=ids, **made)
    spoken = {"features": _noisy(centres(AUDIO_DIM), 24, rng), "logits": _noisy(centres(AUDIO_LOGITS), 24, rng)}
    write_arrays(features / "audio" / "spoken.0.npz", ids=np.array([f"s{k}" for k in range(24)]), **spoken)

    rows = items("speech", 128)
    write_rows(corpora, "talk", rows)
    lengths, middle = rng.integers(5, 20, len(rows)), centres(SPEECH_DIM)
    frames = np.concatenate([np.repeat(middle[k % len(CONCEPTS)][None], n, axis=0) for k, n in enumerate(lengths)])
    frames = (frames + 0.5 * rng.standard_normal(frames.shape)).astype(np.float16)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.array([row["id"] for row in rows])
    write_arrays(features / "speech" / "talk" / "clips-00000.npz", ids=ids, starts=starts, frames=frames)


def write_recipe(root: Path, steps: int = 6) -> Path:
    path = root / "tiny.toml"
    path.write_text(RECIPE.format(root=root, steps=steps), "utf-8")
    return path


def write_tuned(run: Path, ids: list[str], vectors: NDArray[np.float32]) -> Path:
    """Write a run of `training.finetune.network` as training reads it: an untrained network, vectors of the icons."""
    run.mkdir()
    shape = create_backbone("efficientnet_lite0")
    assert isinstance(shape, EfficientNetLite)
    save_tensors(TunedNetwork(shape, vectors.shape[1], 32), run / NETWORK_FILE)
    (run / "network.json").write_text(json.dumps({"backbone": "efficientnet_lite0", "image_size": 32}))
    write_arrays(run / "icons.npz", ids=np.array(ids), vectors=vectors)
    return run
