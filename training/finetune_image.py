"""Fine-tune the late stages of an EfficientNet-Lite on pictograms, clip-art and cut-outs against the captions' vectors.

    python -m training.finetune_image maps --views 4          # once: the frozen trunk's maps, ~45 KB a view
    python -m training.finetune_image train --minutes 25      # resumable; prints a figure each minute

The ImageNet networks know photographs; most of what the corpora hold is drawn. The trunk (up to stride 16) stays frozen
and is run once, so that an epoch costs minutes on two cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.encoders.backbones.efficientnet_lite import EfficientNetTail
from embedspace.errors import ConfigError
from training.augment import augment_image
from training.corpora.manifest import CORPORA
from training.features import FEATURES, _progress, manifests

MAPS = FEATURES / "maps"
_NET: Any = None


def _start(name: str) -> None:
    global _NET
    torch.set_num_threads(1)
    from embedspace.encoders.backbones import create_backbone

    _NET = create_backbone(name)


@torch.inference_mode()
def _maps(task: tuple[list[str], int]) -> np.ndarray:
    from PIL import Image

    from embedspace.encoders.image_features import crop_to_content

    paths, view = task
    out = []
    for path in paths:
        image = Image.open(CORPORA / path)
        image = (
            image.convert("RGBA") if "A" in image.getbands() or "transparency" in image.info else image.convert("RGB")
        )
        if view:
            import zlib

            image = augment_image(image, zlib.crc32(f"{path} {view}".encode()))
        out.append(_NET(_NET.preprocess(crop_to_content(image))[None]).trunk[0].numpy().astype(np.float16))
    return np.stack(out)


def build_maps(name: str, views: int, only: list[str] | None, processes: int) -> None:
    """Write build/features/maps/<source>.<view>.npy, (N, C, 14, 14) float16 in manifest order, and the ids beside."""
    MAPS.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(processes, _start, (name,)) as pool:
        for view in range(views):
            for source, items in manifests("image", only):
                if view and all(i.split != "train" for i in items):
                    continue
                out = MAPS / f"{source}.{view}.npy"
                if out.exists() and np.load(out, mmap_mode="r").shape[0] == len(items):
                    continue
                tasks = [([i.path for i in items[k : k + 16]], view) for k in range(0, len(items), 16)]
                rows = list(_progress(pool.imap(_maps, tasks), len(tasks), f"maps {source} view {view}"))
                partial = out.with_suffix(".partial.npy")
                np.save(partial, np.concatenate(rows))
                partial.replace(out)
                np.save(MAPS / f"{source}.ids.npy", np.array([i.id for i in items]))


# ---- training


def _training_rows(
    sources: list[str], drop_stamps: bool, views: int
) -> tuple[list[np.ndarray], list[tuple[int, int]], list[list[str]], np.ndarray]:
    """Open the maps; return them, (array, row) a view of each item, the items' captions and their sampling weights."""
    arrays: list[np.ndarray] = []
    rows: list[list[tuple[int, int]]] = []
    captions: list[list[str]] = []
    weights: list[float] = []
    for source, items in manifests("image", sources):
        share = SHARES.get(source, 0.0)
        if not share or (drop_stamps and source == "stamps"):
            continue
        if not np.array_equal(np.load(MAPS / f"{source}.ids.npy"), [i.id for i in items]):
            raise ConfigError(f"{MAPS}/{source}.*: made from another manifest; remove them and make the maps again")
        opened = [np.load(p, mmap_mode="r") for v in range(views) if (p := MAPS / f"{source}.{v}.npy").exists()]
        first = len(arrays)
        arrays.extend(opened)
        kept = [
            k for k, i in enumerate(items) if i.split == "train" and not (drop_stamps and i.extra.get("near_stamp"))
        ]
        own = np.array([float(items[k].extra.get("weight", 1.0)) for k in kept])
        weights.extend((own / own.sum() * share).tolist())
        for k in kept:
            rows.append([(first + v, k) for v in range(len(opened))])
            captions.append([*items[k].captions, *items[k].keywords[:3]])
    chosen = np.array(weights)
    return arrays, rows, captions, chosen / chosen.sum()  # type: ignore[return-value]


SHARES = {
    "openclipart": 2.0,
    "openmoji": 1.2,
    "emoji-google": 1.2,
    "emoji-fluent": 1.2,
    "art4apps": 0.6,
    "gcompris": 0.4,
    "stamps": 0.8,
}
"""Share of a batch by source."""


class _Student(nn.Module):
    def __init__(self, tail: EfficientNetTail, text_dim: int, embed_dim: int = 256) -> None:
        super().__init__()
        self.tail = tail
        self.project = nn.Linear(1280, embed_dim)
        self.text = nn.Linear(text_dim, embed_dim, bias=False)
        nn.init.orthogonal_(self.text.weight)
        self.logit_scale = nn.Parameter(torch.tensor(2.7))

    def forward(self, maps: Tensor) -> Tensor:
        return F.normalize(self.project(F.dropout(self.tail(maps), 0.2, self.training)), dim=-1)


def train(name: str, minutes: float, out: Path, batch_size: int, steps: int, drop_stamps: bool, seed: int) -> None:
    """Fine-tune the tail; the checkpoint makes it resumable, the result is `out`/image_tail.safetensors."""
    from embedspace.encoders.backbones import create_backbone
    from embedspace.encoders.base import save_tensors
    from embedspace.train.loop import FitConfig, FitProgress, fit
    from embedspace.train.losses import info_nce, soft_targets

    torch.manual_seed(seed)
    stored = np.load(FEATURES / "text" / "texts.npz")
    index = {t: k for k, t in enumerate(stored["texts"].tolist())}
    text = torch.from_numpy(stored["features"].astype(np.float32))
    arrays, rows, captions, weights = _training_rows(sorted(SHARES), drop_stamps, 8)
    caption_rows = [[index[c] for c in cs if c in index] for cs in captions]
    print(f"{len(rows)} pictures, {sum(map(len, rows))} views", flush=True)
    model = _Student(EfficientNetTail(create_backbone(name)), text.shape[1])  # type: ignore[arg-type]
    model.tail.requires_grad_(True)
    model.tail.float()

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        picks = rng.choice(len(rows), batch_size, p=weights, replace=False)
        views = [rows[i][rng.integers(len(rows[i]))] for i in picks]
        maps = torch.from_numpy(np.stack([arrays[a][r] for a, r in views]).astype(np.float32))
        chosen = [
            caption_rows[i][0] if rng.random() < 0.7 else caption_rows[i][rng.integers(len(caption_rows[i]))]
            for i in picks
        ]
        t = text[chosen]
        targets, ignored = soft_targets(t @ t.T, positive_above=0.95, ignore_above=0.85)
        z, y = model(maps), F.normalize(model.text(t), dim=-1)  # type: ignore[operator, union-attr]
        return info_nce(z, y, model.logit_scale.exp().clamp(max=100), targets, ignored)  # type: ignore[operator, union-attr]

    def tell(progress: FitProgress) -> None:
        print(f"step {progress.step}/{progress.steps} {progress.seconds:.0f} s {progress.scalars}", flush=True)

    config = FitConfig(
        steps=steps,
        learning_rate=7e-4,
        weight_decay=0.02,
        warmup_steps=40,
        minutes=minutes,
        seed=seed,
        evaluate_every=50,
    )
    fit(model, loss_of_step, config, stage="image tail", checkpoint=out / "checkpoint.pt", resume=True, callback=tell)
    save_tensors(model.tail, out / "image_tail.safetensors")
    _extract(model.tail, out)


@torch.inference_mode()
def _extract(tail: nn.Module, out: Path) -> None:
    """Run the tuned tail over every map: `out`/<source>.<view>.npz with ids and (N, 1280) float16 features."""
    for path in sorted(MAPS.glob("*.[0-9].npy")):
        maps = np.load(path, mmap_mode="r")
        rows = [tail(torch.from_numpy(maps[k : k + 4].astype(np.float32))) for k in range(0, len(maps), 4)]
        ids = np.load(MAPS / f"{path.name.split('.')[0]}.ids.npy")
        np.savez(out / f"{path.stem}.npz", ids=ids, features=torch.cat(rows).numpy().astype(np.float16))
        print(f"{path.stem}: {len(maps)}", flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["maps", "train"])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=160)
    parser.add_argument("--drop-stamps", action="store_true", help="train without any stamp, for the 563-stamp suite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FEATURES / "ft")
    args = parser.parse_args()
    if args.what == "maps":
        build_maps(args.backbone, args.views, args.only or [*SHARES, "emoji-twitter"], args.processes)
    else:
        args.out.mkdir(parents=True, exist_ok=True)
        train(args.backbone, args.minutes, args.out, args.batch_size, args.steps, args.drop_stamps, args.seed)


if __name__ == "__main__":
    main()
