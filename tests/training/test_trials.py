"""Recipes of several networks that are compared, and the suites that compare them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from embedspace.evaluate.generation.media.suite import load_media_suite
from embedspace.generate.conditioning import Condition
from embedspace.generate.families.registry import family_names, family_of
from embedspace.train.generators.recipe import load_generator_recipe

ROOT = Path(__file__).resolve().parents[2]
SUITES = ROOT / "eval/suites"


@pytest.mark.parametrize("name", ["families", "stabilisers", "families_sound"])
def test_a_suite_compares_what_its_recipe_trains(name: str) -> None:
    recipe = load_generator_recipe(ROOT / f"training/recipes/generators/{name}.toml")
    suite = load_media_suite(ROOT / f"eval/suites/{name}.toml")
    assert suite.to == recipe.kind
    assert list(suite.families) == list(getattr(recipe, recipe.kind).families)


def test_every_family_is_compared_with_others() -> None:
    compared = {
        family
        for name in ("families", "families_sound")
        for family in load_media_suite(SUITES / f"{name}.toml").families
    }
    assert {name for name in family_names() if family_of(name).__module__.startswith("embedspace")} == compared


@pytest.mark.parametrize(
    ("name", "shape", "parameters"), [("families", (8, 12, 12), 4.5e6), ("families_sound", (16, 8, 32), 2.05e6)]
)
def test_families_that_are_compared_have_about_as_many_parameters(
    name: str, shape: tuple[int, int, int], parameters: float
) -> None:
    recipe = load_generator_recipe(ROOT / f"training/recipes/generators/{name}.toml")
    for family, own in getattr(recipe, recipe.kind).families.items():
        with torch.device("meta"):
            network = family_of(own.type).build(own.config, shape, 384)
        count = sum(one.numel() for one in network.parameters())
        assert 0.9 * parameters <= count <= 1.1 * parameters, (family, count)


def test_each_trial_of_a_gan_differs_from_the_full_one_as_its_name_says() -> None:
    trials = load_generator_recipe(ROOT / "training/recipes/generators/stabilisers.toml").image.families
    full = dataclasses.asdict(trials["full"].config)
    switches = {name.removeprefix("without_") for name in trials if name.startswith("without_")}
    for name, trial in trials.items():
        own = dataclasses.asdict(trial.config)
        changed = {key for key in full if own[key] != full[key]}
        if name.startswith("without_"):
            (switch,) = changed
            assert name == f"without_{switch}" and not own[switch], name
        elif name == "loss_wasserstein":
            assert changed == {"loss", "r1", "r2", "gradient_penalty"} and own["loss"] == "wasserstein"
        elif name.startswith("loss_"):
            assert changed == {"loss"} and name == f"loss_{own['loss'].replace('-', '_')}"
        elif name == "plain":
            assert changed == switches | {"loss"} and not any(own[switch] for switch in switches)
    games = {trial.config.loss for trial in trials.values()}
    assert games == {"minimax", "non-saturating", "hinge", "wasserstein", "relativistic"}


def test_every_trial_of_a_gan_takes_a_step() -> None:
    trials = load_generator_recipe(ROOT / "training/recipes/generators/stabilisers.toml").image.families
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(4, 2, 4, 4, generator=generator)
    near = torch.randn(4, 3, 2, 4, 4, generator=generator)
    vectors = torch.nn.functional.normalize(torch.randn(4, 8, generator=generator), dim=1)
    for name, trial in trials.items():
        torch.manual_seed(0)
        config = dataclasses.replace(trial.config, channels=8, critic_channels=8)
        family = family_of(trial.type)
        module = family.build(config, (2, 4, 4), 8).train()
        for phase in family.phases(config):
            loss = phase.loss(module, latents, Condition(vectors, torch.zeros(4), near), generator)
            loss.backward()  # type: ignore[no-untyped-call]
        slopes = [one.grad for one in module.parameters() if one.grad is not None]
        assert slopes and all(bool(slope.isfinite().all()) for slope in slopes), name
