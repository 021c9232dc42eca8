"""Train the network that draws pictures at four times their side, on drawings rendered at both sizes.

    python -m training.generators.upsampler --minutes 30 --resume         # build/runs/upsampler
    python -m training.generators.upsampler --minutes 30 --resume --ship  # and into the generator that ships

Five vendors' emoji and Open Clip Art are vector drawings: each is rendered at 384 pixels, and made smaller to the 96 of
the generator. Half of a batch is enlarged from those, the other half from what the generator's autoencoder makes of
them, which is what its own pictures look like. Only items of the training split take part, and neither Twitter's emoji
nor Firefox's.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.base import load_module, save_tensors
from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import MediaError
from embedspace.files import read_config, replacing, write_text
from embedspace.generate.latents.autoencoder import Autoencoder
from embedspace.generate.latents.files import autoencoder_config
from embedspace.generate.registry import FORMAT
from embedspace.generate.upsampling import FACTOR, Upsampler, UpsamplerConfig
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.train.precision import bfloat16_autocast
from training.corpora.fetch import unpacked
from training.corpora.manifest import CORPORA
from training.corpora.pictures import emoji
from training.corpora.pictures.normalise import rasterise

GENERATOR = Path("embedspace/weights/heads/image")
OUT = Path("build/runs/upsampler")
FEATURES = Path("build/features/pictures")
SMALL = 96
SIDE = FACTOR * SMALL
VENDORS = (emoji.OPENMOJI, emoji.FLUENT_FLAT, emoji.EMOJIONE, emoji.BLOB, emoji.STREAMLINE)
PER_VENDOR, CLIPART, HELD = 600, 1000, 40
CROP, BATCH, STEPS = 32, 16, 8000
Item = TypeVar("Item")


def drawings(split: str, vendors: tuple[emoji.Vendor, ...] = VENDORS) -> Iterator[tuple[str, Path | bytes]]:
    """Yield ids and SVGs of a split's items, evenly over each source."""
    most = (PER_VENDOR, CLIPART) if split == "train" else (HELD, HELD)
    for vendor in vendors:
        pictures = vendor.pictures()
        names = [row for row in _ids(vendor.source, split) if row.split("/")[1] in pictures]
        for name in _evenly(names, most[0]):
            yield name, pictures[name.split("/")[1]]
    folder = unpacked("openclipart-svg") / "usr/share/openclipart/svg"
    known = [(name, folder / f"{name.split('/', 1)[1]}.svg") for name in _ids("openclipart", split)]
    yield from _evenly([(name, path) for name, path in known if path.is_file()], most[1])


def _ids(source: str, split: str) -> list[str]:
    lines = (CORPORA / source / "manifest.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["id"] for row in rows if row.get("split", "train") == split]


def _evenly(items: list[Item], most: int) -> list[Item]:
    return [items[k * len(items) // most] for k in range(most)] if len(items) > most else items


def rendered(source: Path | bytes) -> NDArray[np.uint8]:
    """Return a drawing as the generator's pictures are: on a white square of `SIDE`.

    Raises:
        MediaError: If it cannot be rendered.
    """
    image = rasterise(source)
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return resize_padded(crop_to_content(white.convert("RGB")), SIDE)


def large(split: str) -> NDArray[np.uint8]:
    """Return (N, SIDE, SIDE, 3) of a split, rendered once and kept beside the features, mapped."""
    path = FEATURES / f"drawings.{split}.{SIDE}.npy"
    if not path.is_file():
        made = []
        for name, source in drawings(split):
            try:
                made.append(rendered(source))
            except MediaError as error:
                print(f"{name}: left out: {error}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, np.stack(made))
    found: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return found


class Pairs:
    """Drawings at both sizes.

    Args:
        high: (N, SIDE, SIDE, 3) uint8.
        autoencoder: Makes the other half of the small ones.
    """

    def __init__(self, high: NDArray[np.uint8], autoencoder: Autoencoder) -> None:
        self.high = high
        low = np.stack([resize_padded(picture, SMALL) for picture in high])
        # (N, SMALL, SMALL, 3) -> (N, 3, SMALL, SMALL)
        self.low = torch.from_numpy(low).permute(0, 3, 1, 2).contiguous()
        with torch.inference_mode():
            parts = [autoencoder.decode(autoencoder.encode(_signed(part))) for part in torch.split(self.low, 32)]
        self.made = ((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round().byte()

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return small (B, 3, CROP, CROP) and large crops of a batch, turned and mirrored."""
        numbers = torch.randint(len(self.high), (BATCH,), generator=generator).tolist()
        places = torch.randint(SMALL - CROP + 1, (BATCH, 2), generator=generator).tolist()
        turns = torch.randint(8, (BATCH,), generator=generator).tolist()
        small, whole = [], []
        for k, (number, (top, left), turn) in enumerate(zip(numbers, places, turns, strict=True)):
            low = (self.made if k % 2 else self.low)[number, :, top : top + CROP, left : left + CROP]
            rows, columns = (slice(FACTOR * at, FACTOR * (at + CROP)) for at in (top, left))
            high = torch.from_numpy(np.array(self.high[number, rows, columns])).permute(2, 0, 1)
            small.append(_turned(low, turn))
            whole.append(_turned(high, turn))
        return _signed(torch.stack(small)), _signed(torch.stack(whole))


def _signed(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def _turned(picture: Tensor, turn: int) -> Tensor:
    turned = picture.rot90(turn % 4, (1, 2))
    return turned.flip(2) if turn >= 4 else turned


def loss_of(network: nn.Module, pairs: Pairs, generator: torch.Generator) -> Tensor:
    """Return the mean distance of a batch (Charbonnier's, which is nearly the absolute one)."""
    small, whole = pairs.draw(generator)
    with bfloat16_autocast():
        drawn = network(small.contiguous(memory_format=torch.channels_last))
    return ((drawn.float() - whole).square() + 1e-6).sqrt().mean()


@torch.inference_mode()
def held_out(network: nn.Module, pairs: Pairs) -> dict[str, float]:
    """Return decibels over bicubic on a split: of small drawings, and of what the autoencoder makes of them."""
    gains = {}
    for name, small in (("drawings", pairs.low), ("made", pairs.made)):
        errors = []
        for first in range(0, len(small), 8):
            part = _signed(small[first : first + 8])
            whole = _signed(torch.from_numpy(np.array(pairs.high[first : first + 8])).permute(0, 3, 1, 2))
            plain = nn.functional.interpolate(part, scale_factor=FACTOR, mode="bicubic", align_corners=False)
            drawn = network(part.contiguous(memory_format=torch.channels_last))
            both = [(x.clamp(-1, 1) - whole).square().mean(dim=(1, 2, 3)) for x in (plain, drawn)]
            errors.append(torch.stack(both))
        plain, drawn = torch.cat(errors, dim=1).clamp(min=1e-8)
        gains[f"gain_{name}_db"] = float((10 * torch.log10(plain / drawn)).mean())
    return gains


def train(minutes: float, resume: bool, out: Path = OUT) -> Path:
    """Train it; returns the file of its weights."""
    about = read_config(GENERATOR / "config.json", FORMAT, "configuration of a generator")
    autoencoder = load_module(lambda: Autoencoder(autoencoder_config(about)), GENERATOR / "autoencoder.safetensors")
    pairs, held = Pairs(large("train"), autoencoder), Pairs(large("val"), autoencoder)
    torch.manual_seed(0)
    network = Upsampler(UpsamplerConfig()).to(memory_format=torch.channels_last)
    out.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(repr((UpsamplerConfig(), CROP, BATCH)).encode()).hexdigest()
    fit(
        network,
        lambda model, generator: loss_of(model, pairs, generator),
        FitConfig(STEPS, 6e-4, weight_decay=0.0, minutes=minutes, cooldown=0.2, evaluate_every=500),
        stage="upsampler",
        checkpoint=out / "upsampler.ckpt",
        resume=resume,
        recipe=digest,
        evaluate=lambda model: held_out(model, held),
        callback=_tell,
    )
    path = out / "upsampler.safetensors"
    save_tensors(network, path, pack=_halves)
    return path


def _halves(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in half precision: with so few weights 8 bits would save half a megabyte."""
    return {name: tensor.half().contiguous() for name, tensor in tensors.items()}


def _tell(progress: FitProgress) -> None:
    scalars = "  ".join(f"{name} {value:.4f}" for name, value in progress.scalars.items())
    print(f"{progress.step}/{progress.steps}  {progress.seconds:.0f} s  {scalars}", flush=True)


def ship(path: Path, generator: Path = GENERATOR) -> None:
    """Put it into a generator's folder."""
    config: Mapping[str, object] = json.loads((generator / "config.json").read_text("utf-8"))
    (generator / "upsampler.safetensors").write_bytes(path.read_bytes())
    section = {**config, "upsampler": dataclasses.asdict(UpsamplerConfig())}
    write_text(generator / "config.json", json.dumps(section, indent=1) + "\n")


def main() -> None:
    """Train, and ship where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--ship", action="store_true", help="put it into the generator that ships")
    given = parser.parse_args()
    path = train(given.minutes, given.resume)
    if given.ship:
        ship(path)
    print(path)


if __name__ == "__main__":
    main()
