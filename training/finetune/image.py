"""Fine-tune the late stages of an EfficientNet-Lite on pictograms, clip-art and cut-outs against the captions' vectors.

    python -m training.finetune.image maps --views 4          # once: the frozen trunk's maps, ~45 KB a view
    python -m training.finetune.image train --minutes 75      # resumable; prints a figure each minute
    python -m training.finetune.image extract --tail embedspace/weights/default    # features of a tail that is there

The ImageNet networks know photographs; most of what the corpora hold is drawn. The trunk (up to stride 16) stays frozen
and is run once, so that an epoch costs minutes on two cores.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.encoders.base import load_strict
from embedspace.encoders.towers.efficientnet_lite import EfficientNetTail
from embedspace.errors import ConfigError
from training.align.augment import open_view
from training.align.features import FEATURES, _progress, manifests
from training.corpora.manifest import CORPORA

MAPS = FEATURES / "maps"
TAIL_FILE = "image_tail.safetensors"
_NET: Any = None
_TAIL: Any = None


def _start(name: str) -> None:
    global _NET
    torch.set_num_threads(1)
    from embedspace.encoders.towers import create_backbone

    _NET = create_backbone(name)


def _start_tail(name: str, folder: Path) -> None:
    global _NET, _TAIL
    _start(name)
    _TAIL = copy.deepcopy(EfficientNetTail(_NET)).to("meta")
    load_strict(_TAIL, folder / TAIL_FILE)
    _TAIL.to(memory_format=torch.channels_last)


@torch.inference_mode()
def _maps(task: tuple[list[str], int]) -> np.ndarray:
    from embedspace.encoders.shipped.image_features import crop_to_content

    paths, view = task
    pictures = [crop_to_content(open_view(CORPORA, path, view)) for path in paths]
    return np.stack([_NET(_NET.preprocess(rgb)[None]).trunk[0].numpy().astype(np.float16) for rgb in pictures])


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


@dataclass(frozen=True)
class _Pictures:
    """Cached maps of one split with what is said of them.

    Attributes:
        arrays: Open files of maps.
        rows: The views of each picture, (array, row).
        captions: Each picture's caption rows in the table of texts, its first caption first.
        weights: (N,) chance of each picture; sums to one.
    """

    arrays: list[np.ndarray]
    rows: list[list[tuple[int, int]]]
    captions: list[list[int]]
    weights: np.ndarray

    def maps(self, picked: np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        """Return (B, C, H, W) maps: a random view's random crop, or without `rng` the plain view whole."""
        views = [self.rows[i][rng.integers(len(self.rows[i])) if rng else 0] for i in picked]
        if rng is None:
            return torch.from_numpy(np.stack([self.arrays[a][r] for a, r in views]).astype(np.float32))
        side = int(rng.choice(_CROPS))
        corners = rng.integers(0, _SIDE - side + 1, (len(views), 2))
        crops = [
            self.arrays[a][r][:, y : y + side, x : x + side] for (a, r), (y, x) in zip(views, corners, strict=True)
        ]
        return torch.from_numpy(np.stack(crops).astype(np.float32))


_SIDE = 14
_CROPS = (12, 13, 14)
"""Sides of the squares cut out of a map; cutting costs nothing here and nearly doubles what a view teaches."""


def _pictures(index: dict[str, int], split: str, drop_stamps: bool, views: int) -> _Pictures:
    """Open the maps of a split."""
    arrays: list[np.ndarray] = []
    rows: list[list[tuple[int, int]]] = []
    captions: list[list[int]] = []
    weights: list[float] = []
    for source, items in manifests("image", sorted(SHARES)):
        if drop_stamps and source == "stamps":
            continue
        kept = [k for k, i in enumerate(items) if i.split == split and not (drop_stamps and i.extra.get("near_stamp"))]
        if not kept:
            continue
        if not np.array_equal(np.load(MAPS / f"{source}.ids.npy"), [i.id for i in items]):
            raise ConfigError(f"{MAPS}/{source}.*: made from another manifest; remove them and make the maps again")
        opened = [np.load(p, mmap_mode="r") for v in range(views) if (p := MAPS / f"{source}.{v}.npy").exists()]
        own = np.array([float(items[k].extra.get("weight", 1.0)) for k in kept])
        weights.extend((own / own.sum() * SHARES[source]).tolist())
        rows.extend([(len(arrays) + v, k) for v in range(len(opened))] for k in kept)
        said = ([*items[k].captions, *items[k].keywords[:3]] for k in kept)
        captions.extend([index[c] for c in texts if c in index] for texts in said)
        arrays.extend(opened)
    chosen = np.array(weights)
    return _Pictures(arrays, rows, captions, chosen / max(chosen.sum(), 1e-9))


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
        pooled = torch.cat([self.tail(chunk) for chunk in maps.split(_CHUNK)])
        return F.normalize(self.project(F.dropout(pooled, 0.2, self.training)), dim=-1)


_CHUNK = 16
"""Maps at once: a quarter faster on a CPU than the whole batch."""


def train(name: str, minutes: float, out: Path, batch_size: int, steps: int, drop_stamps: bool, seed: int) -> None:
    """Fine-tune the tail; the checkpoint makes it resumable, the result is `out`/image_tail.safetensors."""
    from embedspace.encoders.base import save_tensors
    from embedspace.encoders.towers import create_backbone
    from embedspace.train.loop import FitConfig, FitProgress, fit

    torch.manual_seed(seed)
    stored = np.load(FEATURES / "text" / "texts.npz")
    index = {t: k for k, t in enumerate(stored["texts"].tolist())}
    text = torch.from_numpy(stored["features"].astype(np.float32))
    pictures = _pictures(index, "train", drop_stamps, 8)
    print(f"{len(pictures.rows)} pictures, {sum(map(len, pictures.rows))} views", flush=True)
    model = _Student(EfficientNetTail(create_backbone(name)), text.shape[1])  # type: ignore[arg-type]
    model.tail.requires_grad_(True)
    model.tail.float()

    def tell(progress: FitProgress) -> None:
        print(f"step {progress.step}/{progress.steps} {progress.seconds:.0f} s {progress.scalars}", flush=True)

    fit(
        model,
        _loss(pictures, text, batch_size),
        FitConfig(steps, 7e-4, 0.02, warmup_steps=40, minutes=minutes, seed=seed, evaluate_every=100),
        stage="image tail",
        checkpoint=out / "checkpoint.pt",
        resume=True,
        evaluate=_validation(_pictures(index, "val", drop_stamps, 1), text),
        callback=tell,
    )
    save_tensors(model.tail, out / TAIL_FILE)
    _extract(model.tail, out)


def _loss(pictures: _Pictures, text: Tensor, batch_size: int) -> Callable[[nn.Module, torch.Generator], Tensor]:
    """Picture to caption among all training captions, caption to picture within the batch."""
    from training.finetune.contrast import drawn_captions, loss_among_all

    corpus = text[sorted({c[0] for c in pictures.captions})]

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, _Student)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        picked = rng.choice(len(pictures.rows), batch_size, p=pictures.weights, replace=False)
        t = text[drawn_captions([pictures.captions[i] for i in picked], rng)]
        z, y = model(pictures.maps(picked, rng)), F.normalize(model.text(t), dim=-1)
        among = F.normalize(model.text(corpus), dim=-1)
        return loss_among_all(z, (t, y), (corpus, among), model.logit_scale.exp().clamp(max=100))

    return loss_of_step


def _validation(pictures: _Pictures, text: Tensor) -> Callable[[nn.Module], dict[str, float]]:
    """Recall among the validation split's first captions."""
    from embedspace.train.ranks import recall_scalars

    firsts, labels = np.unique([c[0] for c in pictures.captions], return_inverse=True)
    target = torch.from_numpy(labels)

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, _Student)
        scores = model(pictures.maps(np.arange(len(pictures.rows)))) @ F.normalize(model.text(text[firsts]), dim=-1).T
        return recall_scalars(scores, target)

    return evaluate


@torch.inference_mode()
def _extract(tail: nn.Module, out: Path) -> None:
    """Run the tuned tail over every map: `out`/<source>.<view>.npz with ids and (N, 1280) float16 features."""
    for path in sorted(MAPS.glob("*.[0-9].npy")):
        maps = np.load(path, mmap_mode="r")
        rows = [tail(torch.from_numpy(maps[k : k + 4].astype(np.float32))) for k in range(0, len(maps), 4)]
        ids = np.load(MAPS / f"{path.name.split('.')[0]}.ids.npy")
        np.savez(out / f"{path.stem}.npz", ids=ids, features=torch.cat(rows).numpy().astype(np.float16))
        print(f"{path.stem}: {len(maps)}", flush=True)


@torch.inference_mode()
def _tail_rows(paths: list[str]) -> np.ndarray:
    maps = _maps((paths, 0)).astype(np.float32)
    rows: Tensor = torch.cat([_TAIL(torch.from_numpy(maps[k : k + 4])) for k in range(0, len(maps), 4)])
    return rows.numpy().astype(np.float16)


def extract(name: str, folder: Path, out: Path, only: list[str] | None, processes: int) -> None:
    """Write `out`/<source>.0.npz, as training does, of a tail that a space has; its plain views alone, and no maps."""
    shutil.copyfile(folder / TAIL_FILE, out / TAIL_FILE)
    with multiprocessing.get_context("spawn").Pool(processes, _start_tail, (name, folder)) as pool:
        for source, items in manifests("image", only):
            path, ids = out / f"{source}.0.npz", np.array([i.id for i in items])
            if path.exists() and np.array_equal(np.load(path)["ids"], ids):
                continue
            tasks = [[i.path for i in items[k : k + 16]] for k in range(0, len(items), 16)]
            rows = list(_progress(pool.imap(_tail_rows, tasks), len(tasks), f"tail {source}"))
            np.savez(path, ids=ids, features=np.concatenate(rows))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["maps", "train", "extract"])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--batch-size", type=int, default=160)
    parser.add_argument("--drop-stamps", action="store_true", help="train without any stamp, for the 563-stamp suite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tail", type=Path, help="extract: folder of the space that has the tail")
    parser.add_argument("--out", type=Path, default=FEATURES / "ft")
    args = parser.parse_args()
    if args.what == "extract" and args.tail is None:
        parser.error("extract: name the space's folder with --tail")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == "maps":
        build_maps(args.backbone, args.views, args.only or [*SHARES, "emoji-twitter"], args.processes)
    elif args.what == "extract":
        extract(args.backbone, args.tail, args.out, args.only, args.processes)
    else:
        train(args.backbone, args.minutes, args.out, args.batch_size, args.steps, args.drop_stamps, args.seed)


if __name__ == "__main__":
    main()
