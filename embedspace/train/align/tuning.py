"""Towers that training changes: parameters unfrozen by pattern, or low-rank updates by peft."""

from __future__ import annotations

import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from embedspace.encoders.towers.base import Tower
from embedspace.errors import ConfigError, MissingExtraError
from embedspace.train.align.recipe import LoraRecipe, TowerRecipe

__all__ = ["changed_tensors", "tune"]


def tune(tower: Tower, recipe: TowerRecipe, name: str) -> None:
    """Make the parameters of a tower trainable that a recipe names, in place.

    Args:
        tower: Frozen.
        recipe: Its table in the recipe.
        name: Its name there, for messages.

    Raises:
        ConfigError: If a pattern or target names nothing.
        MissingExtraError: If low-rank updates are wanted and peft is not installed.
    """
    if recipe.lora is not None:
        _add_updates(tower, recipe.lora, name)
        return
    parameters = dict(tower.named_parameters())
    for pattern in recipe.unfreeze:
        found = fnmatch.filter(parameters, pattern)
        if not found:
            some = ", ".join(list(parameters)[-3:])
            raise ConfigError(f"towers.{name}.unfreeze: {pattern!r} names no parameter; the last are: {some}")
        for parameter in found:
            parameters[parameter].requires_grad_(True)


def _add_updates(tower: Tower, recipe: LoraRecipe, name: str) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError(f"towers.{name}.lora needs peft; run: pip install 'embedspace[train]'") from error
    linear = [where for where, module in tower.named_modules() if type(module) is nn.Linear]
    targets = [w for w in linear if not recipe.targets or any(w == t or w.endswith(f".{t}") for t in recipe.targets)]
    if not targets:
        raise ConfigError(
            f"towers.{name}.lora.targets: none is a linear layer of the tower; its last are: "
            f"{', '.join(linear[-3:]) or 'none'}"
        )
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=targets, bias="none"
    )
    inject_adapter_in_model(config, tower)


@torch.no_grad()
def changed_tensors(tower: Tower, recipe: TowerRecipe) -> dict[str, Tensor]:
    """Return name -> tensor of what training changed, by the names that the tower has when it is made anew."""
    if recipe.lora is None:
        return {name: p.detach() for name, p in tower.named_parameters() if p.requires_grad}
    from peft.tuners.lora import LoraLayer

    found: dict[str, Tensor] = {}
    for name, module in tower.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module
            found[f"{name}.weight"] = layer.base_layer.weight + layer.get_delta_weight("default")
    return found
