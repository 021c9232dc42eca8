"""Encode what the generator's training items look like, so that a sample begins at one that shows what is wanted.

    python -m training.generators.looks              # build/features/looks; ten minutes of an idle core
    python -m training.generators.looks --ship       # and into the generator that ships

A training item is found by its name, and names are loose: of the eight nearest some show the thing badly, or another
one. What the space's own image encoder says of them, as the autoencoder keeps them, tells which. Parts that are made
are kept; several processes may share the work, each beginning at another part (`--first`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from embedspace.calibration.centring import centre
from embedspace.encoders.quantize import to_rows8
from embedspace.files import replacing
from embedspace.generate.base import Request
from embedspace.generate.candidates.looks import FILE
from embedspace.generate.image import ImageGenerator
from embedspace.space import EmbeddingSpace

__all__ = ["encoded", "main", "ship"]

GENERATOR = Path("embedspace/weights/heads/image")
FEATURES = Path("build/features/looks")
_PART = 96


@torch.inference_mode()
def encoded(space: EmbeddingSpace, generator: ImageGenerator, folder: Path, first: int = 0) -> torch.Tensor:
    """Return (M, embed_dim) centred unit rows of what the training items decode to, kept part by part.

    Args:
        space: Whose encoder looks at them.
        generator: Whose training items.
        folder: Where parts are kept.
        first: The part to begin at; those before it come last.
    """
    latents = generator.neighbours.latents
    starts = list(range(0, len(latents), _PART))
    folder = folder / generator.digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for start in starts[first:] + starts[:first]:
        path = folder / f"{start}.npy"
        if path.is_file():
            continue
        media = generator.to_media(generator.autoencoder.decode(latents[start : start + _PART]), Request())
        rows = centre(space.encode_image([content for content, _ in media]), "image", space.calibration.means)
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        print(f"{start + len(rows)}/{len(latents)}", flush=True)
    return torch.from_numpy(np.concatenate([np.load(folder / f"{start}.npy") for start in starts]))


def ship(rows: torch.Tensor, generator: Path = GENERATOR) -> Path:
    """Write them, as 8-bit rows, into a generator's folder."""
    path = generator / FILE
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as partial:
        save_file(to_rows8({"looks": rows}), partial)
        partial.chmod(0o644)
    return path


def main() -> None:
    """Encode, and ship where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the part to begin at")
    parser.add_argument("--ship", action="store_true", help="put them into the generator that ships")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = EmbeddingSpace.from_pretrained()
    generator = space.generators["image"]
    assert isinstance(generator, ImageGenerator)
    rows = encoded(space, generator, FEATURES, given.first)
    print(ship(rows) if given.ship else f"{len(rows)} rows")


if __name__ == "__main__":
    main()
