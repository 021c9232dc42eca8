from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from embedspace.errors import WeightsError
from embedspace.train.checkpoint import load_checkpoint, save_checkpoint
from embedspace.train.loop import FitConfig, FitPhase, FitProgress, _time_factor, fit

CONFIG = FitConfig(steps=30, learning_rate=1e-2, warmup_steps=5, seed=4, evaluate_every=10)
TRUTH = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 2))


def loss_of_step(module: nn.Module, generator: torch.Generator) -> Tensor:
    x = torch.randn(32, 6, generator=generator)
    loss: Tensor = (module(x) - x @ TRUTH).square().mean()
    return loss


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def trained(config: FitConfig = CONFIG, checkpoint: Path | None = None) -> Tensor:
    module = model()
    assert fit(module, loss_of_step, config, stage="toy", checkpoint=checkpoint)
    return weights(module)


class Duel(nn.Module):
    """Two numbers that two phases train."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Parameter(torch.zeros(1, 1)), nn.Parameter(torch.zeros(1, 1))

    def far(self, module: nn.Module, generator: torch.Generator) -> Tensor:
        """Return a loss that both numbers have a part in."""
        return (self.one - 1).square().mean() + (self.other - 1).square().mean()


def duel(phases: list[FitPhase], steps: int) -> tuple[Duel, list[tuple[float, float]], list[FitProgress]]:
    """Train, and return the numbers after each step."""
    module, told, seen = Duel(), [], []  # type: ignore[var-annotated]

    def look(progress: FitProgress) -> None:
        told.append(progress)
        seen.append((module.one.item(), module.other.item()))

    config = FitConfig(steps, 0.1, weight_decay=0.0, warmup_steps=1, evaluate_every=1)
    losses = [dataclasses.replace(phase, loss=module.far) for phase in phases]
    fit(module, losses, config, stage="duel", callback=look)
    return module, seen, told


def test_a_phase_trains_its_own_parameters_in_its_own_steps() -> None:
    one = FitPhase(loss_of_step, ("one",))
    module, seen, told = duel([one, FitPhase(loss_of_step, ("other",), every=2, name="rival")], 5)
    moved = [other for _, other in seen]
    assert moved[0] == moved[1] < moved[2] == moved[3] < moved[4]  # in steps 0, 2 and 4
    assert all(a < b for (a, _), (b, _) in itertools.pairwise(seen[:4]))
    assert set(told[-1].scalars) == {"loss", "rival"}
    assert module.one.requires_grad and module.other.requires_grad
    _, seen, _ = duel(
        [dataclasses.replace(one, span=(0.0, 0.5)), FitPhase(loss_of_step, ("other",), span=(0.5, 1.0))], 8
    )
    assert all(other == 0.0 for _, other in seen[:4])
    assert len({first for first, _ in seen[3:]}) == 1 and seen[-1][1] > 0.05
    late = dataclasses.replace(one, span=(0.5, 1.0))
    _, _, told = duel([late, FitPhase(loss_of_step, ("other",), span=(0.0, 0.5), name="rival")], 8)
    assert told[0].scalars.keys() == {"rival"} and told[-1].scalars.keys() == {"rival", "loss"}


class StopError(Exception):
    """Ends a run in the middle of a step, as a kill would."""


def test_fit_learns() -> None:
    told: list[FitProgress] = []
    module = model()
    config = dataclasses.replace(CONFIG, steps=300, evaluate_every=150)
    assert fit(module, loss_of_step, config, stage="toy", callback=told.append, evaluate=lambda _: {"recall": 1.0})
    assert [p.step for p in told] == [150, 300]
    assert told[-1].scalars["loss"] < 0.6 * told[0].scalars["loss"]
    assert told[-1].scalars["recall"] == 1.0
    assert (told[-1].stage, told[-1].steps) == ("toy", 300)
    assert not module.training


def test_fit_is_determined_by_its_seed() -> None:
    first = trained()
    torch.randn(7)  # whatever else draws from the global generator
    assert torch.equal(first, trained())
    assert not torch.equal(first, trained(dataclasses.replace(CONFIG, seed=5)))


@pytest.mark.parametrize("at", [1, 12, 29])
def test_fit_interrupted_and_resumed_equals_an_uninterrupted_run(tmp_path: Path, at: int) -> None:
    checkpoint = tmp_path / "toy.pt"
    often = dataclasses.replace(CONFIG, checkpoint_seconds=0.0)
    calls = 0

    def interrupted(module: nn.Module, generator: torch.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > at:
            raise StopError
        return loss_of_step(module, generator)

    with pytest.raises(StopError):
        fit(model(), interrupted, often, stage="toy", checkpoint=checkpoint)
    module = model(seed=99)  # all of it comes from the checkpoint
    assert fit(module, loss_of_step, often, stage="toy", checkpoint=checkpoint, resume=True)
    assert torch.equal(weights(module), trained())


def test_fit_stops_in_time_with_a_checkpoint_and_goes_on(tmp_path: Path) -> None:
    checkpoint = tmp_path / "toy.pt"
    module = model()
    told: list[FitProgress] = []
    short = dataclasses.replace(CONFIG, minutes=0.0)
    assert not fit(module, loss_of_step, short, stage="toy", checkpoint=checkpoint, callback=told.append)
    assert [progress.step for progress in told] == [1]  # where it ended
    assert checkpoint.is_file()
    assert not module.training
    assert fit(module, loss_of_step, CONFIG, stage="toy", checkpoint=checkpoint, resume=True)
    assert torch.equal(weights(module), trained())
    assert [p.name for p in tmp_path.iterdir()] == ["toy.pt"]


def test_a_run_that_is_short_of_time_cools_down() -> None:
    plain = FitConfig(minutes=10.0)
    assert [_time_factor(plain, seconds) for seconds in (0.0, 599.0, 700.0)] == [1.0, 1.0, 1.0]
    cooling = FitConfig(minutes=10.0, cooldown=0.2)
    found = [_time_factor(cooling, seconds) for seconds in (0.0, 480.0, 540.0, 600.0, 700.0)]
    assert found == pytest.approx([1.0, 1.0, 0.5, 0.0, 0.0])


def test_fit_resumed_when_done_trains_no_more(tmp_path: Path) -> None:
    expected = trained(checkpoint=tmp_path / "toy.pt")
    module = model(seed=9)

    def never(module: nn.Module, generator: torch.Generator) -> Tensor:
        raise AssertionError

    assert fit(module, never, CONFIG, stage="toy", checkpoint=tmp_path / "toy.pt", resume=True)
    assert torch.equal(weights(module), expected)


def test_fit_without_resume_begins_anew(tmp_path: Path) -> None:
    first = trained(checkpoint=tmp_path / "toy.pt")
    assert torch.equal(first, trained(checkpoint=tmp_path / "toy.pt"))


def test_fit_leaves_frozen_parameters_alone() -> None:
    module = model()
    first, last = module[0], module[3]  # type: ignore[index]
    first.requires_grad_(False)
    before, last_before = first.weight.clone(), last.weight.clone()
    fit(module, loss_of_step, CONFIG, stage="toy")
    assert torch.equal(first.weight, before)
    assert not torch.equal(last.weight, last_before)


def test_resume_refuses_a_checkpoint_of_another_stage(tmp_path: Path) -> None:
    trained(checkpoint=tmp_path / "toy.pt")
    with pytest.raises(WeightsError, match=r"checkpoint of stage 'toy', expected 'image 0'; remove it"):
        fit(model(), loss_of_step, CONFIG, stage="image 0", checkpoint=tmp_path / "toy.pt", resume=True)


def test_resume_refuses_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    trained(checkpoint=tmp_path / "toy.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of this model"):
        fit(nn.Linear(6, 2), loss_of_step, CONFIG, stage="toy", checkpoint=tmp_path / "toy.pt", resume=True)


def test_resume_refuses_a_checkpoint_of_another_recipe_and_takes_one_that_names_none(tmp_path: Path) -> None:
    path = tmp_path / "toy.pt"
    fit(model(), loss_of_step, CONFIG, stage="toy", checkpoint=path, recipe="a")
    assert fit(model(), loss_of_step, CONFIG, stage="toy", checkpoint=path, resume=True, recipe="a")
    with pytest.raises(WeightsError, match=r"toy\.pt: made after another recipe .*train without resume .--resume."):
        fit(model(), loss_of_step, CONFIG, stage="toy", checkpoint=path, resume=True, recipe="b")
    state = torch.load(path, weights_only=True)
    del state["recipe"]
    torch.save(state, path)
    assert fit(model(), loss_of_step, CONFIG, stage="toy", checkpoint=path, resume=True, recipe="b")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "list", "flipped"])
def test_resume_refuses_a_damaged_checkpoint(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "toy.pt"
    trained(checkpoint=path)
    whole = path.read_bytes()
    if damage == "list":
        torch.save([1, 2], path)
    else:
        broken = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not a checkpoint\n" * 9}
        path.write_bytes(broken.get(damage, b"PK\x03\x04" + b"\x00" * 40 + whole[44:600]))
    with pytest.raises(WeightsError, match=r"toy\.pt: not a checkpoint of this model"):
        fit(model(), loss_of_step, CONFIG, stage="toy", checkpoint=path, resume=True)


def test_load_checkpoint_without_a_file_begins_at_zero(tmp_path: Path) -> None:
    module = model()
    optimizer = torch.optim.AdamW(module.parameters())
    assert load_checkpoint(tmp_path / "none.pt", module, optimizer, "toy") == 0
    save_checkpoint(tmp_path / "deep" / "toy.pt", module, optimizer, "toy", 17)
    assert load_checkpoint(tmp_path / "deep" / "toy.pt", module, optimizer, "toy") == 17
