"""Checkpoints of a training run: one atomic file a stage, refused when it belongs to another one."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch
from torch import nn

from embedspace.errors import WeightsError
from embedspace.files import replacing
from embedspace.media.source import one_line

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, stage: str, step: int, recipe: str = ""
) -> None:
    """Write model, optimiser and step; a kill at any moment leaves the previous checkpoint or this one.

    Args:
        path: File to write.
        model: With its weights.
        optimizer: With its state.
        stage: What is trained.
        step: Steps done.
        recipe: Digest of what determines the training.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "stage": stage, "step": step}
    state["recipe"] = recipe
    with replacing(path) as partial, partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, stage: str, recipe: str = ""
) -> int:
    """Load what `save_checkpoint` wrote; a checkpoint of an earlier version names no recipe and is taken as it is.

    Returns:
        The number of steps done; 0 if there is no checkpoint.

    Raises:
        WeightsError: If the file belongs to another stage, model or recipe.
    """
    if not path.exists():
        return 0
    try:
        # weights_only: a checkpoint is tensors and plain containers, never code
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["stage"] != stage:
            raise WeightsError(
                f"{path}: checkpoint of stage {state['stage']!r}, expected {stage!r}; remove it or name another out "
                "(--out)"
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path}: not a checkpoint of this model ({one_line(error)}); remove it or train without resume (--resume)"
        ) from error
    if (state.get("recipe") or recipe) != recipe:
        raise WeightsError(
            f"{path}: made after another recipe (its seed, start, [text] or the stage's table); restore it, train "
            "without resume (--resume), or name another out (--out)"
        )
    return int(state["step"])
