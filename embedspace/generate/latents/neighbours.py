"""The neighbours that condition a latent generator: training items' latents, found by what they are called.

Keys are centred text vectors of the items' captions, so that it serves any source, and stays valid when the image or
audio tower is replaced. Only items whose licence lets a small copy ship are in it; see NOTICE.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedspace.encoders.quantize import from_rows, to_rows8
from embedspace.errors import WeightsError
from embedspace.generate.candidates.looks import best_looking, load_looks
from embedspace.media.source import one_line
from embedspace.vocabulary import Neighbour

__all__ = ["Neighbours", "load_neighbours"]


class Neighbours:
    """Latents of training items; those nearest to a vector are its neighbours.

    Args:
        keys: (M, embed_dim) centred unit rows.
        latents: (M, C, H, W), standardised.
        items: M ids.
        captions: M names.
        looks: (M, embed_dim) centred unit rows of what the latents decode to; None where nothing looked.
    """

    def __init__(
        self,
        keys: Tensor,
        latents: Tensor,
        items: Sequence[str],
        captions: Sequence[str],
        looks: Tensor | None = None,
    ) -> None:
        if not len(keys) == len(latents) == len(items) == len(captions):
            raise WeightsError(f"{len(keys)} keys, {len(latents)} latents, {len(items)} ids do not match")
        self.keys, self.latents, self.looks = keys, latents, looks
        self.items, self.captions = list(items), list(captions)
        self._unit = F.normalize(latents.flatten(1) - latents.flatten(1).mean(dim=0), dim=1)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def nearest(self, vectors: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return numbers and cosines (B, k) of the items nearest to centred vectors (B, embed_dim), nearest first.

        Args:
            vectors: Unit rows.
            k: At most the number of items.
            exclude: (B,) number of an item that is not to be found, -1 for none: in training, the item itself.
        """
        cosines = vectors @ self.keys.T
        if exclude is not None:
            rows = (exclude >= 0).nonzero().flatten()
            cosines[rows, exclude[rows]] = -2.0
        best = cosines.topk(min(k, len(self)), dim=1)
        return best.indices, best.values

    def draw(
        self,
        vector: Tensor,
        generators: Sequence[torch.Generator],
        k: int,
        *,
        pool: int,
        spread: float,
        by_looks: bool = False,
    ) -> Tensor:
        """Return (B, k) numbers of items for B samples of one vector (embed_dim,), nearest first.

        A sample with an even seed takes the nearest k, any other draws k of the pool without replacement: samples then
        differ in what they start from, and each depends on its own seed alone.

        Args:
            vector: Centred unit row.
            generators: One seeded generator of random numbers per sample.
            k: Neighbours per sample.
            pool: They are drawn from so many nearest.
            spread: An item's chance goes with exp(cosine / spread).
            by_looks: Of the pool, those are the nearest that show best what is wanted, where that is known.

        Source: Vieira 2014 and Kool et al. 2019 (https://arxiv.org/abs/1903.06059), section 2.3, Gumbel-top-k.
        """
        found, cosines = self.nearest(vector[None], max(k, pool))
        near, fits = found[0], cosines[0]
        if by_looks and self.looks is not None:
            near, fits = best_looking(self.looks, vector, near)
        logits = fits / spread
        rows = []
        for generator in generators:
            chosen = near[:k]
            if generator.initial_seed() % 2:
                uniform = torch.rand(len(near), generator=generator).clamp(1e-9, 1 - 1e-9)
                gumbel = -torch.log(-torch.log(uniform))
                chosen = near[(logits + gumbel).topk(k).indices.sort().values]
            rows.append(chosen)
        return torch.stack(rows)

    def nearest_output(self, latents: Tensor) -> list[Neighbour]:
        """Return for latents (B, C, H, W) the item whose latents are most alike; similarity is their correlation."""
        flat = latents.flatten(1) - self.latents.flatten(1).mean(dim=0)
        values, rows = (F.normalize(flat, dim=1) @ self._unit.T).max(dim=1)
        return [
            Neighbour(self.items[row], self.captions[row], value, "output")
            for row, value in zip(rows.tolist(), values.tolist(), strict=True)
        ]

    def save(self, folder: Path) -> None:
        """Write gallery.safetensors (8-bit rows) and gallery.json, which keep the names that they had before."""
        tensors = {"keys": self.keys, "latents": self.latents.flatten(1)}
        save_file(to_rows8(tensors), folder / "gallery.safetensors")
        about = {"shape": list(self.latents.shape[1:]), "items": self.items, "captions": self.captions}
        (folder / "gallery.json").write_text(json.dumps(about, ensure_ascii=False) + "\n", "utf-8")


def load_neighbours(folder: Path) -> Neighbours:
    """Read what `Neighbours.save` wrote.

    Raises:
        WeightsError: If it is missing or damaged.
    """
    try:
        about = json.loads((folder / "gallery.json").read_text("utf-8"))
        tensors = from_rows(load_file(folder / "gallery.safetensors"))
        latents = tensors["latents"].float().view(-1, *about["shape"])
        keys = F.normalize(tensors["keys"].float(), dim=1)
        looks = load_looks(folder, *keys.shape)
        return Neighbours(keys, latents, about["items"], about["captions"], looks)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise WeightsError(f"{folder}: no training items to find neighbours among there: {one_line(error)}") from error
