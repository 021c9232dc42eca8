"""What every registered family must do: learn, be kept, be loaded, and draw by seed. A new one needs no edit here."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from embedspace.encoders.base import load_module
from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import FamilyConfig, SampleOptions, network_for_sampling
from embedspace.generate.families.registry import families_that, family_names, family_of
from embedspace.train.generators.families import train_family
from embedspace.train.generators.recipe import FamilyRecipe
from embedspace.train.loop import FitConfig, FitProgress

SHAPE, DIM = (4, 4, 4), 16
NAMES = [name for name in family_names() if family_of(name).__module__.startswith("embedspace.")]
SMALL = {
    "channels": 16,
    "critic_channels": 16,
    "token_channels": 16,
    "blocks": 1,
    "layers": 2,
    "couplings": 4,
    "codes": 16,
    "tokeniser": 0.4,
    "code_dim": 4,
    "noise_dim": 8,
    "neighbours": 2,
    "batch_size": 16,
    "ema": 0.5,
    "learning_rate": 8e-3,
}
STEPS = {"vqvae": 60, "maskgit": 60, "pixelcnn": 60, "wavenet": 120}
"""Steps of training, where it takes more than 30."""

Trained = tuple[str, "Run", torch.nn.Module]


class FourDrawings:
    """Latents of four things, each near its own vector."""

    shape, embed_dim = SHAPE, DIM

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.keys = F.normalize(torch.randn(4, DIM, generator=generator), dim=1)
        self.latents = torch.randn(4, 1, *SHAPE[1:], generator=generator).expand(-1, SHAPE[0], -1, -1)

    def draw(self, config: FamilyConfig, generator: torch.Generator) -> tuple[torch.Tensor, Condition]:
        rows = torch.randint(4, (config.batch_size,), generator=generator)
        dropped = torch.rand(len(rows), generator=generator) < config.drop
        noise = 0.1 * torch.randn(len(rows), *SHAPE, generator=generator)
        return self.latents[rows] + noise, self.condition(config, rows).drop_rows(dropped)

    def condition(self, config: FamilyConfig, rows: torch.Tensor) -> Condition:
        near = (rows[:, None] + 1 + torch.arange(config.neighbours)) % 4
        return Condition(self.keys[rows], torch.zeros(len(rows)), self.latents[near] if config.neighbours else None)

    def held_out(self, config: FamilyConfig) -> tuple[torch.Tensor, Condition]:
        return self.latents, self.condition(config, torch.arange(4))


class Run:
    """What training a family needs of a run."""

    resume = False

    def __init__(self, out: Path, steps: int) -> None:
        self.out = self.folder = out
        self.steps = steps
        self.recipe: Any = type("Recipe", (), {"seed": 0})
        self.told: list[FitProgress] = []
        self.tell = self.told.append

    def fit_config(self, section: FamilyConfig, steps: int, share: float) -> FitConfig:
        del steps, share
        return FitConfig(self.steps, section.learning_rate, warmup_steps=1, evaluate_every=self.steps // 6)


def small(name: str) -> FamilyRecipe:
    """Settings of a family that make a few thousand weights."""
    config = family_of(name).Config
    fields = {field.name for field in dataclasses.fields(config)}
    changes: dict[str, Any] = {key: value for key, value in SMALL.items() if key in fields}
    return FamilyRecipe(name, config(**changes))


@pytest.fixture(scope="module", params=NAMES)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Run, torch.nn.Module]:
    """A family's name, its run, and the network as it is loaded."""
    recipe = small(request.param)
    run: Any = Run(tmp_path_factory.mktemp(request.param), STEPS.get(request.param, 30))
    train_family(run, request.param, recipe, FourDrawings(), 1.0)
    make = partial(network_for_sampling, family_of(request.param), recipe.config, SHAPE, DIM)
    return request.param, run, load_module(make, run.out / f"{request.param}.safetensors")


def test_it_learns(trained: Trained) -> None:
    name, run, _ = trained
    phases = family_of(name).phases(small(name).config)
    assert {phase.name for phase in phases} <= set(run.told[-1].scalars)
    assert all(math.isfinite(value) for value in run.told[-1].scalars.values())
    for phase in phases:
        if phase.held:
            first, last = (share * run.steps for share in phase.span)
            losses = [told.scalars[f"held_{phase.name}"] for told in run.told if first < told.step <= last]
            assert losses[-1] < losses[0], (phase.name, losses)


def test_it_draws_each_sample_by_its_own_seed(trained: Trained) -> None:
    name, _, module = trained
    family, drawings = family_of(name), FourDrawings()
    options = SampleOptions(2, 2.0 if "guidance" in family.can else 1.0, 0.5 if "start" in family.can else 0.0)

    def draw(*seeds: int) -> torch.Tensor:
        condition = drawings.condition(small(name).config, torch.zeros(len(seeds), dtype=torch.long))
        return family.sample(module, condition, [torch.Generator().manual_seed(seed) for seed in seeds], options)

    together = draw(1, 2, 3)
    assert together.shape == (3, *SHAPE) and together.dtype == torch.float32
    assert bool(together.isfinite().all())
    torch.testing.assert_close(together[2:], draw(3), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(together[0], together[1])


def test_it_draws_what_it_is_asked_for(trained: Trained) -> None:
    """After so few steps most samples are nearest to their own drawing; those of adversaries at least depend on it."""
    name, _, module = trained
    family, drawings = family_of(name), FourDrawings()
    rows = torch.arange(4).repeat(4)
    sources = [torch.Generator().manual_seed(seed) for seed in range(len(rows))]
    made = family.sample(module, drawings.condition(small(name).config, rows), sources, SampleOptions(8))
    far = torch.cdist(made.flatten(1), drawings.latents.flatten(1))
    if "critic" in family.training_only:
        same = [torch.Generator().manual_seed(0) for _ in range(4)]
        made = family.sample(module, drawings.condition(small(name).config, torch.arange(4)), same, SampleOptions())
        assert float(torch.pdist(made.flatten(1)).min()) > 0.01
    else:
        assert float((far.argmin(dim=1) == rows).float().mean()) >= 0.5, name


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    family = family_of(name)
    known = {"start", "mask", "difference", "guidance", "steps", "likelihood", "redraw", "style", "map"}
    assert family.can <= known
    assert family.about and issubclass(family.Config, FamilyConfig)
    assert all(name in families_that(ability) for ability in family.can)


def test_the_guide_lists_them_all() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/families.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{n}` | {family_of(n).about} | {', '.join(sorted(family_of(n).can)) or '–'} |" for n in NAMES]
