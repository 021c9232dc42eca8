"""What `train align` optimises, and its loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from embedspace.encoders.carrier import Carrier
from embedspace.encoders.towers.base import Tower
from embedspace.encoders.trained import Projection
from embedspace.train.align.recipe import TrainingRecipe
from embedspace.train.losses import info_nce, siglip, soft_targets
from embedspace.train.precision import bfloat16_autocast

__all__ = ["AlignModel", "contrast"]

Inputs = Tensor | Sequence[Any]
"""(B, feature_dim) rows of a frozen tower, or what a tuned one's `encode` takes."""


class AlignModel(nn.Module):
    """Projections, the towers that are tuned, and the scale of the logits.

    Args:
        projections: Modality -> projection, or the way into a space that training goes on from; a modality without one
            has the tower's own rows.
        towers: Modality -> tower, of those that are tuned.
        loss: "infonce" or "siglip".
    """

    def __init__(self, projections: Mapping[str, Projection | Carrier], towers: Mapping[str, Tower], loss: str) -> None:
        super().__init__()
        self.projections = nn.ModuleDict(projections)
        self.towers = nn.ModuleDict(towers)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))  # log(1 / 0.07)
        self.logit_bias = nn.Parameter(torch.tensor(-10.0), requires_grad=loss == "siglip")

    def train(self, mode: bool = True) -> Self:
        """Switch dropout of projections and low-rank updates; a tower's own behaviour stays that of evaluation."""
        super().train(mode)
        for name, module in self.towers.named_modules():
            module.training = mode and "lora_dropout" in name
        return self

    def encode(self, modality: str, inputs: Inputs, *, chunk: int = 0, bfloat16: bool = False) -> Tensor:
        """Return (B, embed_dim) unit rows.

        Args:
            modality: Modality of all inputs.
            inputs: B of them.
            chunk: Inputs that run at once, 0 for all; backward, each chunk runs again.
            bfloat16: Compute in it where the device can.
        """

        def run(part: Inputs) -> Tensor:
            device = self.logit_scale.device
            with bfloat16_autocast(bfloat16, device.type):
                rows = part.to(device) if isinstance(part, Tensor) else self._encode(modality, part)
                return self._project(modality, rows.float())

        if not chunk or len(inputs) <= chunk or not torch.is_grad_enabled():
            return run(inputs)
        parts = [inputs[start : start + chunk] for start in range(0, len(inputs), chunk)]
        return torch.cat([checkpoint(run, part, use_reentrant=False) for part in parts])

    def _encode(self, modality: str, prepared: Sequence[Any]) -> Tensor:
        tower = self.towers[modality]
        assert isinstance(tower, Tower)
        return tower.encode(modality, prepared)

    def _project(self, modality: str, rows: Tensor) -> Tensor:
        rows = self.projections[modality](rows) if modality in self.projections else rows
        return F.normalize(rows.float(), dim=-1)


def contrast(
    recipe: TrainingRecipe, model: AlignModel, z: Tensor, y: Tensor, same: Tensor, likeness: Tensor | None
) -> Tensor:
    """Return the loss of a batch.

    Args:
        recipe: Names the loss and its thresholds.
        model: Has the scale and the bias.
        z: (B, embed_dim) unit rows of items.
        y: (B, embed_dim) unit rows of their captions.
        same: (B, B) boolean, True where two captions are the same text.
        likeness: (B, B) cosines of the captions by the text tower.
    """
    cosines = same.float() if likeness is None else torch.where(same, 1.0, likeness)
    targets, ignored = soft_targets(cosines, positive_above=recipe.positive_above, ignore_above=recipe.ignore_above)
    scale = model.logit_scale.exp().clamp(max=100)
    if recipe.loss == "siglip":
        return siglip(z, y, scale, model.logit_bias, targets > 0, ignored, chunk=recipe.chunk)
    return info_nce(z, y, scale, targets, ignored)
