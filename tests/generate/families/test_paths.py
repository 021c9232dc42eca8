"""Families between noise and data, against what is known of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from embedspace.generate.conditioning import Condition
from embedspace.generate.families import diffusion, drifting, meanflow
from embedspace.generate.families.base import SampleOptions
from embedspace.generate.families.normalising import NormalisingConfig, NormalisingFamily

CONDITION = Condition(torch.tensor([[0.7], [-2.0]]), torch.zeros(2))
DATA = torch.tensor([0.7, -2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)


def _sources(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class _KnowsData:
    """Predicts v of a diffusion whose data is its condition's number."""

    shape = (1, 2, 2)

    def __call__(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        angle = (time * torch.pi / 2)[:, None, None, None]
        data = condition.vector[:, :1, None, None]
        noise = (latents - angle.cos() * data) / angle.sin()
        return angle.cos() * noise - angle.sin() * data


@pytest.mark.parametrize("steps", [1, 5])
def test_a_diffusion_arrives_at_the_data_that_its_network_knows(steps: int) -> None:
    made = diffusion.denoise(_KnowsData(), CONDITION, _sources(0, 1), SampleOptions(steps))
    torch.testing.assert_close(made, DATA, atol=1e-5, rtol=1e-4)
    loss = diffusion.diffusion_loss(_KnowsData(), DATA, CONDITION, torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(0.0, abs=1e-6)
    assert float(diffusion.diffusion_loss(_KnowsData(), DATA.flip(0), CONDITION)) > 0.1


def test_a_diffusion_may_begin_at_a_neighbour() -> None:
    class Nothing(_KnowsData):
        """Says that there is neither noise nor data: what comes out has turned, and is as large as where it began."""

        def __call__(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
            self.first = getattr(self, "first", (latents, time))
            return torch.zeros_like(latents)

    near = Condition(CONDITION.vector, CONDITION.sigma, torch.full((2, 1, 1, 2, 2), 3.0))
    network = Nothing()
    diffusion.denoise(network, near, _sources(5, 6), SampleOptions(3, start=0.75))
    noise = torch.stack([torch.randn(1, 2, 2, generator=one) for one in _sources(5, 6)])
    angle = torch.tensor(0.25 * torch.pi / 2)
    torch.testing.assert_close(network.first[0], angle.cos() * 3.0 + angle.sin() * noise)
    assert network.first[1].tolist() == [0.25, 0.25]


class _Straight(torch.nn.Module):
    """The mean velocity where all paths lead straight to the condition's number: the same over every span."""

    shape = (1, 2, 2)

    def forward(
        self, latents: torch.Tensor, time: torch.Tensor, condition: Condition, span: torch.Tensor
    ) -> torch.Tensor:
        return (condition.vector[:, :1, None, None] - latents) / (1 - time[:, None, None, None]) + 0 * span.sum()


@pytest.mark.parametrize("steps", [1, 4])
def test_a_mean_flow_arrives_and_its_loss_is_nothing_for_the_true_mean(steps: int) -> None:
    network: Any = _Straight()
    made = meanflow.MeanFlowFamily().sample(network, CONDITION, _sources(0, 1), SampleOptions(steps))
    torch.testing.assert_close(made, DATA, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        loss = meanflow.mean_flow_loss(network, DATA, CONDITION, torch.Generator().manual_seed(0), instant=0.0)
        wrong = meanflow.mean_flow_loss(network, DATA.flip(0), CONDITION, instant=0.0)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)
    assert float(wrong) > 0.1


def test_the_mean_over_a_span_takes_the_slope_into_account() -> None:
    """A network that says "the span" has a slope of -1 along any path, so that velocity minus span is its target."""

    class Span(_Straight):
        def forward(self, latents: Any, time: Any, condition: Any, span: torch.Tensor) -> torch.Tensor:
            self.span = span
            return span[:, None, None, None].expand_as(latents)

    network: Any = Span()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        loss = meanflow.mean_flow_loss(network, DATA, CONDITION, generator, instant=0.0)
    noise = torch.randn(DATA.shape, generator=torch.Generator().manual_seed(0))
    times = torch.Generator().manual_seed(0)
    torch.randn(DATA.shape, generator=times)
    ends = (torch.randn(2, 2, generator=times) + 0.4).sigmoid()
    span = (ends[0] - ends[1]).abs()[:, None, None, None]
    torch.testing.assert_close(loss, (span - (DATA - noise - span)).square().mean())


def test_what_drifts_comes_to_be_as_the_data_are_and_to_those_of_its_own_vector() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.tensor([-2.0, -2.0, -2.0, 2.0]).repeat(16)[:, None] + 0.1 * torch.randn(64, 1, generator=generator)
    made, nothing = torch.randn(64, 1, generator=generator), torch.zeros(64, 64)
    for _ in range(300):
        made = made + 2 * drifting.drift(made, data, nothing, nothing, 0.5)
    assert float((made.abs() - 2).abs().mean()) < 0.3
    assert 0.6 < float((made < 0).float().mean()) < 0.9, "three quarters of the data are there"
    assert float(made[made < -1].std()) > 0.03, "what is made keeps apart"

    own = (torch.arange(64) % 2)[:, None] != (torch.arange(64) % 2)[None]
    far, sides = own * 20.0, torch.tensor([-2.0, 2.0]).repeat(32)[:, None]
    made = torch.zeros(64, 1) + 0.1 * torch.randn(64, 1, generator=generator)
    for _ in range(300):
        made = made + 2 * drifting.drift(made, sides, far, far, 0.2)
    assert bool((made * sides > 0).all()), "each to the side of its own vector"
    assert float(made[sides > 0].mean()) == pytest.approx(2.0, abs=0.2)


def test_the_loss_of_drifting_leads_where_its_field_does() -> None:
    class Points(torch.nn.Module):
        """Says what it has learnt, whatever it is given."""

        def __init__(self) -> None:
            super().__init__()
            self.points = torch.nn.Parameter(torch.zeros(2, 1, 2, 2) + torch.tensor([-0.1, 0.1]).view(2, 1, 1, 1))

        def forward(self, noise: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
            assert noise.shape == (2, 1, 2, 2) and not time.any()
            return self.points

    network: Any = Points()
    condition = Condition(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2))
    config = drifting.DriftingConfig(samples=1, scales=(1,), temperatures=(0.5,))
    loss = drifting.drifting_loss(network, DATA, condition, torch.Generator().manual_seed(0), config)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0, abs=1e-4), "each field has a mean square of one"
    steps = -network.points.grad
    assert bool((steps[0] > 0).all()) and bool((steps[1] < 0).all()), "each towards the item of its own vector"


def test_a_normalising_flow_is_undone_and_knows_its_change_of_volume() -> None:
    torch.manual_seed(0)
    shape = (2, 2, 3)
    family = NormalisingFamily()
    module = family.build(NormalisingConfig(channels=8, couplings=4, neighbours=1), shape, 4)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    vector = F.normalize(torch.randn(1, 4), dim=1)
    condition = Condition(vector, torch.zeros(1), torch.randn(1, 1, *shape))
    latents = torch.randn(1, *shape)
    noise, volume = module(latents, condition)
    torch.testing.assert_close(module.inverse(noise, condition), latents, atol=1e-4, rtol=1e-3)

    def flat(x: torch.Tensor) -> torch.Tensor:
        return module(x.view(1, *shape), condition)[0].flatten()  # type: ignore[no-any-return]

    slope: Any = torch.autograd.functional.jacobian(flat, latents.flatten())
    torch.testing.assert_close(volume[0], torch.linalg.slogdet(slope)[1], atol=1e-4, rtol=1e-3)
    density = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum() + volume[0]
    torch.testing.assert_close(family.log_likelihood(module, latents, condition)[0], density.detach())
    assert not torch.allclose(noise, module(latents, Condition(-vector, condition.sigma, condition.context))[0])
