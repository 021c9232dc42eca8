"""The speech-or-sound router: one linear layer on the audio features that are there anyway."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from embedspace.encoders.shipped.audio import AudioProjections
from embedspace.errors import ConfigError
from training.align.recipe import Recipe
from training.align.stages.audio import training_rows
from training.align.tables import read_features

__all__ = ["take_router", "train_router"]

_STEPS = 300


def train_router(recipe: Recipe, heads: AudioProjections) -> float:
    """Fit `heads.router` on sounds against speech; both classes weigh the same.

    Args:
        recipe: Names the sources of sounds; the speech is `<features>/audio/spoken.<view>.npz`.
        heads: Gets the weights in place.

    Returns:
        Share of the training windows that it gets right, the classes averaged.

    Raises:
        ConfigError: If the features of spoken windows were not made.
    """
    features = Path(recipe.features)
    if not (features / "audio" / "spoken.0.npz").is_file():
        raise ConfigError(f"{features}/audio/spoken.0.npz: none; run: python -m training.align.features spoken")
    width = heads.config.feature_dim
    speech = np.load(features / "audio" / "spoken.0.npz")["features"].astype(np.float32)
    sounds = []
    for name in recipe.audio.sources:
        table = read_features(features, "audio", name, 1)
        rows = training_rows(recipe, name)
        sounds.append(
            table.features[[table.index[r["id"]][0] for r in rows if r["id"] in table.index]].astype(np.float32)
        )
    x = torch.from_numpy(np.concatenate([speech, *sounds])[:, :width])
    y = torch.zeros(len(x))
    y[: len(speech)] = 1.0
    weight = torch.where(y > 0, 0.5 / y.sum(), 0.5 / (1 - y).sum())
    mean, scale = heads.standard
    x = (x - mean) * scale
    torch.manual_seed(recipe.seed)
    heads.router.reset_parameters()
    heads.router.requires_grad_(True)
    optimizer = torch.optim.AdamW(heads.router.parameters(), lr=3e-3, weight_decay=1.0)
    for _ in range(_STEPS):
        loss = F.binary_cross_entropy_with_logits(heads.router(x)[:, 0], y, weight, reduction="sum")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    heads.router.requires_grad_(False)
    right = ((heads.router(x)[:, 0] > 0) == (y > 0)).float()
    return float((right * weight).sum())


@torch.no_grad()
def take_router(given: AudioProjections, heads: AudioProjections) -> None:
    """Take over another space's router in place: the same answer for the same features, whatever standardises them.

    Args:
        given: Has the router.
        heads: Gets it; both read features of one width.

    Raises:
        ConfigError: If the features differ.
    """
    if given.config.feature_dim != heads.config.feature_dim:
        raise ConfigError(
            f"the router to take over reads {given.config.feature_dim} features, these heads "
            f"{heads.config.feature_dim}: train one, without keep_router"
        )
    (old_mean, old_scale), (mean, scale) = given.standard, heads.standard
    slope = given.router.weight[0] * old_scale  # of the features as they are
    heads.router.weight.copy_((slope / scale)[None])
    heads.router.bias.copy_(given.router.bias + slope @ (mean - old_mean))
