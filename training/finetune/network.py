"""Fine-tune a whole EfficientNet-Lite on pictograms, clip-art and cut-outs, straight into the shared space.

    python -m training.finetune.network pixels               # once: every picture as 160 x 160 RGBA
    python -m training.finetune.network train --minutes 60   # without stamps; resumable; a figure each minute
    python -m training.finetune.network train --stamps --start build/runs/tuned --out build/runs/tuned-stamps
                                                             # then on, with the training half of the stamps
    python -m training.finetune.network average --runs build/runs/tuned-stamps build/runs/tuned-longer --out OUT

The ImageNet networks know photographs; most of what the corpora hold is drawn. At 128 pixels a step through the whole
network costs no more than one through cached maps of its late stages at 224, and every step sees fresh crops, turns and
colours: what such maps hold is learnt by heart in a thousand steps. The text head is the one that ships and is not
trained (Zhai et al. 2022, LiT), so that the network's vectors can be averaged with the heads' on frozen features.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.base import load_strict, save_tensors
from embedspace.encoders.projections import LinearProjection
from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.shipped.image_network import NETWORK_FILE, TunedNetwork, load_network
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite
from embedspace.errors import ConfigError
from embedspace.media.image import open_image
from embedspace.train.mirroring import can_mirror
from training.align.augment import open_view
from training.align.features import FEATURES, WEIGHTS, _progress, manifests
from training.corpora.manifest import CORPORA

PIXELS = FEATURES / "pixels"
STORED, TRAINED, TESTED = 160, 128, 160
"""Sides of a stored picture, of the views that train, of what is tested: a network trained on crops, in which things
look larger, does best at a larger size (Touvron et al. 2019, FixRes)."""
SHARES = {
    "openclipart": 2.0,
    "openmoji": 1.0,
    "emoji-google": 1.0,
    "emoji-fluent": 0.8,
    "emoji-fluent-flat": 0.8,
    "emoji-emojione": 0.8,
    "emoji-emojione-1": 0.7,
    "emoji-blob": 0.9,
    "emoji-firefox": 0.5,
    "emoji-streamline": 0.4,
    "art4apps": 0.6,
    "gcompris": 0.4,
    "stamps": 0.8,
}
"""Share of a batch by source."""


# ---- pixels


def _pixels(paths: list[str]) -> np.ndarray:
    return np.stack([_square(open_image(CORPORA / path)) for path in paths])


def _square(image: Image.Image) -> np.ndarray:
    """Return a picture cut to its content, amid a clear square: (STORED, STORED, 4), alpha multiplied in."""
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    image = image.crop(box) if box else image
    scale = STORED / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # "RGBa" is PIL's name for colours times alpha, which are what may be averaged.
    small = image.convert("RGBa").resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    out = np.zeros((STORED, STORED, 4), np.uint8)
    top, left = (STORED - size[1]) // 2, (STORED - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = np.frombuffer(small.tobytes(), np.uint8).reshape(*size[::-1], 4)
    return out


def build_pixels(processes: int) -> None:
    """Write build/features/pixels/<source>.npy, (N, STORED, STORED, 4) in manifest order, and the ids beside."""
    PIXELS.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for source, items in manifests("image", sorted(SHARES)):
            out, ids = PIXELS / f"{source}.npy", np.array([i.id for i in items])
            if out.exists() and np.array_equal(np.load(PIXELS / f"{source}.ids.npy"), ids):
                continue
            tasks = [[i.path for i in items[k : k + 32]] for k in range(0, len(items), 32)]
            rows = list(_progress(pool.imap(_pixels, tasks), len(tasks), f"pixels {source}"))
            partial = out.with_suffix(".partial.npy")
            np.save(partial, np.concatenate(rows))
            np.save(PIXELS / f"{source}.ids.npy", ids)
            partial.replace(out)


@dataclass(frozen=True)
class _Pictures:
    """Pictures of one split with what is said of them.

    Attributes:
        arrays: Open files of pixels.
        rows: Each picture's (array, row).
        captions: Each picture's caption rows in the table of texts, its first caption first.
        mirrored: (N,) whether a picture may be mirrored.
        weights: (N,) chance of each picture; sums to one.
    """

    arrays: list[np.ndarray]
    rows: list[tuple[int, int]]
    captions: list[list[int]]
    mirrored: np.ndarray
    weights: np.ndarray

    def pixels(self, picked: np.ndarray) -> Tensor:
        """Return (B, 4, STORED, STORED) in [0, 1]."""
        found = np.stack([self.arrays[a][r] for a, r in (self.rows[i] for i in picked)])
        return torch.from_numpy(found).permute(0, 3, 1, 2).float().div_(255)


def _pictures(index: dict[str, int], split: str, stamps: bool) -> _Pictures:
    """Open the pictures of a split; without `stamps` neither they nor near copies of them."""
    arrays: list[np.ndarray] = []
    rows: list[tuple[int, int]] = []
    captions: list[list[int]] = []
    mirrored: list[bool] = []
    weights: list[float] = []
    for source, items in manifests("image", sorted(SHARES)):
        if source == "stamps" and not stamps:
            continue
        ids = np.load(PIXELS / f"{source}.ids.npy").tolist()
        if ids != [i.id for i in items]:
            raise ConfigError(
                f"{PIXELS}/{source}.npy: made from another manifest; run: python -m {__spec__.name} pixels"
            )
        known = [[c for c in [*i.captions, *i.keywords[:3]] if c in index] for i in items]
        kept = [
            k
            for k, i in enumerate(items)
            if i.split == split and known[k] and (stamps or not i.extra.get("near_stamp"))
        ]
        if not kept:
            continue
        own = np.array([float(items[k].extra.get("weight", 1.0)) for k in kept])
        weights.extend((own / own.sum() * SHARES[source]).tolist())
        rows.extend((len(arrays), k) for k in kept)
        captions.extend([index[c] for c in known[k]] for k in kept)
        mirrored.extend(can_mirror(known[k][0]) for k in kept)
        arrays.append(np.load(PIXELS / f"{source}.npy"))
    chosen = np.array(weights)
    return _Pictures(arrays, rows, captions, np.array(mirrored), chosen / max(chosen.sum(), 1e-9))


# ---- views


def augment(pixels: Tensor, mirrored: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Turn, zoom, stretch, shift and mirror pictures, lay them on a colour, tint them.

    Args:
        pixels: (B, 4, H, W) in [0, 1], colours times alpha.
        mirrored: (B,) True where a mirror leaves the caption right.
        side: Height and width of the views.
        generator: Source of randomness.

    Returns:
        (B, 3, side, side) in [0, 1].
    """
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    angle = uniform(-0.26, 0.26)
    zoom, stretch = uniform(0.8, 1.15), uniform(-0.14, 0.14).exp()
    flip = torch.where((torch.rand(count, generator=generator) < 0.5) & mirrored, -1.0, 1.0)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    theta = torch.stack(
        [
            torch.stack([cos * stretch * flip, -sin / stretch, uniform(-0.1, 0.1)], dim=1),
            torch.stack([sin * stretch * flip, cos / stretch, uniform(-0.1, 0.1)], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [count, 4, side, side], align_corners=False)
    views = F.grid_sample(pixels, grid, mode="bilinear", align_corners=False)
    plain = torch.rand(count, 1, generator=generator) < 0.6
    ground = torch.where(plain, torch.ones(count, 3), torch.rand(count, 3, generator=generator))
    rgb = views[:, :3] + (1 - views[:, 3:]) * ground[..., None, None]
    grey = rgb.mean(dim=1, keepdim=True)
    saturation = torch.where(uniform(0, 1) < 0.1, torch.zeros(count), uniform(0.4, 1.5))[:, None, None, None]
    rgb = grey + saturation * (rgb - grey)
    mean = rgb.mean(dim=(1, 2, 3), keepdim=True)
    rgb = mean + uniform(0.7, 1.3, 1, 1, 1) * (rgb - mean)
    return (rgb * uniform(0.8, 1.2, 3, 1, 1)).clamp_(0, 1)


def plain(pixels: Tensor, side: int) -> Tensor:
    """Lay (B, 4, H, W) pictures on white and resize them: (B, 3, side, side) in [0, 1]."""
    rgb = pixels[:, :3] + (1 - pixels[:, 3:])
    return rgb if side == rgb.shape[-1] else F.interpolate(rgb, size=side, mode="bilinear", antialias=True)


# ---- training

_CHUNK = 32
"""Pictures at once: what fits the cache is fastest on a CPU."""


class Student(nn.Module):
    """A tuned network and its temperature."""

    def __init__(self, network: EfficientNetLite, embed_dim: int) -> None:
        super().__init__()
        self.network = TunedNetwork(network, embed_dim, TESTED)
        self.logit_scale = nn.Parameter(torch.tensor(2.7))

    def forward(self, rgb: Tensor) -> Tensor:
        """Map (B, 3, H, W) in [0, 1] to (B, embed_dim) unit rows."""
        return torch.cat([self.network(chunk, dropout=0.2) for chunk in ((rgb * 255 - 127) / 128).split(_CHUNK)])


def _text_space(weights: Path) -> tuple[dict[str, int], Tensor, Tensor]:
    """Return the table of texts: row of each, MiniLM's unit rows, and the shared space's."""
    from embedspace.encoders.shipped.text_network import load_text_projection
    from embedspace.space import EmbeddingSpace

    space = EmbeddingSpace.from_pretrained(weights)
    head: LinearProjection = load_text_projection(space.config["sections"]["text"]["head"], space.folder)
    stored = np.load(FEATURES / "text" / "texts.npz")
    text = torch.from_numpy(stored["features"].astype(np.float32))
    with torch.inference_mode():
        shared = torch.cat([head(chunk) for chunk in text.split(4096)])
    return {t: k for k, t in enumerate(stored["texts"].tolist())}, text, shared.clone()


def train(args: argparse.Namespace) -> None:
    """Fine-tune; the checkpoint makes it resumable, the result is `out`/image_network.safetensors."""
    from embedspace.encoders.towers import create_backbone
    from embedspace.train.curves import Curves
    from embedspace.train.loop import FitConfig, FitProgress, fit

    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    index, text, shared = _text_space(args.weights)
    pictures = _pictures(index, "train", args.stamps)
    print(f"{len(pictures.rows)} pictures", flush=True)
    network = create_backbone(args.backbone)
    assert isinstance(network, EfficientNetLite)
    model = Student(network, shared.shape[1]).float().requires_grad_(True)
    if args.start:
        load_strict(model.network, args.start / "image_network.safetensors")
        model.requires_grad_(True)

    with contextlib.closing(Curves(args.out)) as curves:

        def tell(progress: FitProgress) -> None:
            print(f"step {progress.step}/{progress.steps} {progress.seconds:.0f} s {progress.scalars}", flush=True)
            curves.add(progress)

        done = fit(
            model,
            _loss(pictures, text, shared, args.batch_size),
            FitConfig(args.steps, args.learning_rate, 0.02, 60, args.minutes, args.seed, evaluate_every=100),
            stage=f"network {args.backbone}",
            checkpoint=args.out / "checkpoint.pt",
            resume=True,
            evaluate=_validation(_pictures(index, "val", args.stamps), shared),
            callback=tell,
        )
    if done:
        export(model.network, args.backbone, args.out)


@torch.inference_mode()
def export(network: TunedNetwork, backbone: str, out: Path) -> None:
    """Write `out`/image_network.safetensors, what it is, and its vectors of every source's validation pictures."""
    save_tensors(network.eval(), out / NETWORK_FILE)
    (out / "network.json").write_text(json.dumps({"backbone": backbone, "image_size": TESTED}) + "\n", "utf-8")
    for source, items in manifests("image", sorted(SHARES)):
        kept = [i for i in items if i.split == "val"]
        views = [network.preprocess(crop_to_content(open_view(CORPORA, i.path, 0))) for i in kept]
        vectors = network.encode(torch.stack(views)).numpy() if views else np.empty((0, network.project.out_features))
        np.savez(out / f"{source}.npz", ids=np.array([i.id for i in kept]), vectors=vectors.astype(np.float16))
    print(f"wrote {out / NETWORK_FILE}", flush=True)


def average(args: argparse.Namespace) -> None:
    """Average the weights of some runs of one descent: `out` is written as training writes it.

    Source:
        Wortsman et al. 2022, "Model soups" (https://arxiv.org/abs/2203.05482), uniform soup.
    """
    from embedspace.space import EmbeddingSpace

    embed_dim = EmbeddingSpace.from_pretrained(args.weights).embed_dim
    networks = [load_network(args.backbone, embed_dim, TESTED, run) for run in args.runs]
    states = [network.state_dict() for network in networks]
    networks[0].load_state_dict({k: torch.stack([s[k] for s in states]).mean(dim=0) for k in states[0]})
    args.out.mkdir(parents=True, exist_ok=True)
    export(networks[0], args.backbone, args.out)


def _loss(
    pictures: _Pictures, text: Tensor, shared: Tensor, batch_size: int
) -> Callable[[nn.Module, torch.Generator], Tensor]:
    """Picture to caption among all training captions, caption to picture within the batch."""
    from training.finetune.contrast import drawn_captions, loss_among_all

    firsts = sorted({c[0] for c in pictures.captions})
    corpus = text[firsts], shared[firsts]
    mirrored = torch.from_numpy(pictures.mirrored)

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, Student)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        picked = rng.choice(len(pictures.rows), batch_size, p=pictures.weights, replace=False)
        rows = drawn_captions([pictures.captions[i] for i in picked], rng)
        z = model(augment(pictures.pixels(picked), mirrored[picked], TRAINED, generator))
        scale = model.logit_scale.exp().clamp(max=60)
        return loss_among_all(z, (text[rows], shared[rows]), corpus, scale)

    return loss_of_step


def _validation(pictures: _Pictures, shared: Tensor) -> Callable[[nn.Module], dict[str, float]]:
    """Recall among the validation split's first captions."""
    from embedspace.train.ranks import recall_scalars

    firsts, labels = np.unique([c[0] for c in pictures.captions], return_inverse=True)
    target = torch.from_numpy(labels)
    views = plain(pictures.pixels(np.arange(len(pictures.rows))), TESTED)

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        scores = model(views) @ shared[firsts].T
        return recall_scalars(scores, target, ks=(1, 5, 10))

    return evaluate


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pixels", "train", "average"])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "default", help="space whose text head is kept")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="runs to average")
    parser.add_argument("--start", type=Path, help="run to go on from, with fresh steps")
    parser.add_argument("--stamps", action="store_true", help="train on the training half of the stamps too")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("build/runs/tuned"))
    args = parser.parse_args()
    if args.what == "average" and len(args.runs) < 2:
        parser.error("average: name at least two folders with --runs")
    if args.what == "pixels":
        build_pixels(args.processes)
    else:
        {"train": train, "average": average}[args.what](args)


if __name__ == "__main__":
    main()
