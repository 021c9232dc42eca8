"""Every switch of the adversaries acts."""

from __future__ import annotations

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.encoders.base import load_module, save_tensors
from embedspace.errors import ConfigError
from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import network_for_sampling
from embedspace.generate.families.gan import Adversaries, GANConfig, GANFamily
from embedspace.generate.families.stylegan import ModulatedConv
from embedspace.generate.latents.adversarial import (
    LOSSES,
    augment,
    critic_loss,
    generator_loss,
    gradient_penalty,
    zero_centred_penalty,
)
from embedspace.generate.latents.blocks import GridAttention, attend
from embedspace.generate.latents.critic import Critic, grids

ROOT = Path(__file__).resolve().parents[3]
SHAPE, DIM = (2, 4, 4), 8


def _rows(count: int = 6) -> tuple[Tensor, Condition]:
    generator = torch.Generator().manual_seed(1)
    vectors = F.normalize(torch.randn(count, DIM, generator=generator), dim=1)
    return torch.randn(count, *SHAPE, generator=generator), Condition(vectors, torch.zeros(count))


def _module(**switches: Any) -> Adversaries:
    torch.manual_seed(0)
    plain = {"r1": 0.0, "r2": 0.0, "projection": False, "conditional_norm": False}
    size = {"channels": 8, "critic_channels": 8, "noise_dim": 4, "neighbours": 0}
    return GANFamily().build(GANConfig(**{**size, **plain, **switches}), SHAPE, DIM)


def _losses(module: Adversaries) -> tuple[float, float]:
    """Return the generator's loss and the critic's on the same items and the same noise."""
    found = [
        phase.loss(module, *_rows(), torch.Generator().manual_seed(3)) for phase in GANFamily().phases(module.config)
    ]
    return found[0].item(), found[1].item()


def _critic(**switches: bool) -> Critic:
    torch.manual_seed(0)
    return Critic(SHAPE, DIM, 8, 1, **switches)


@pytest.mark.parametrize(
    ("kind", "critic", "generator"),
    [
        ("minimax", 0.126928 + 0.313262, -0.313262),
        ("non-saturating", 0.126928 + 0.313262, 1.313262),
        ("hinge", 0.0 + 0.0, 1.0),
        ("wasserstein", -3.0, 1.0),
        ("relativistic", 0.048587, 3.048587),
    ],
)
def test_the_losses_are_those_of_the_papers(kind: str, critic: float, generator: float) -> None:
    real, made = torch.tensor([2.0]), torch.tensor([-1.0])
    assert float(critic_loss(kind, real, made)) == pytest.approx(critic, abs=1e-5)
    assert float(generator_loss(kind, real, made)) == pytest.approx(generator, abs=1e-5)
    with pytest.raises(ConfigError, match="known: minimax"):
        critic_loss("smoke", real, made)


def test_each_loss_is_the_one_that_is_played() -> None:
    assert len({_losses(_module(loss=kind))[1] for kind in set(LOSSES) - {"minimax"}}) == 4
    assert _losses(_module(loss="minimax"))[0] != _losses(_module(loss="non-saturating"))[0]


def test_penalties_are_those_of_a_slope_that_is_known() -> None:
    slope = torch.full(SHAPE, 0.5)

    def judge(items: Tensor) -> Tensor:
        return (items * slope).sum(dim=(1, 2, 3))

    items = torch.randn(3, *SHAPE, requires_grad=True)
    norm = float(slope.norm())
    assert zero_centred_penalty(items, judge(items)).item() == pytest.approx(0.5 * norm**2)
    made = gradient_penalty(judge, items.detach(), torch.zeros(3, *SHAPE), torch.Generator())
    assert made.item() == pytest.approx((norm - 1) ** 2)


@pytest.mark.parametrize("penalty", ["r1", "r2", "gradient_penalty"])
def test_a_penalty_adds_its_weight_times_the_slope_to_the_critic_alone(penalty: str) -> None:
    plain, once, twice = (_losses(_module(**{penalty: weight})) for weight in (0.0, 1.0, 2.0))
    assert once[0] == plain[0]
    assert once[1] - plain[1] > 1e-6
    assert twice[1] - plain[1] == pytest.approx(2 * (once[1] - plain[1]), rel=1e-3)


@pytest.mark.parametrize("penalty", ["r1", "r2", "gradient_penalty"])
def test_penalties_in_some_of_the_steps_weigh_as_much_in_all(penalty: str) -> None:
    """Four steps of the critic, whose weights stay as they are: one penalty of four times the weight."""
    always, plain = _module(**{penalty: 1.0}).eval(), _module().eval()
    seldom = _module(**{penalty: 1.0}, penalty_every=4).train()
    rows, critic = _rows(), GANFamily().phases(seldom.config)[1]

    def loss(module: Adversaries) -> float:
        value: float = critic.loss(module, *rows, torch.Generator().manual_seed(3)).item()
        return value

    slope = loss(always) - loss(plain)
    added = [loss(seldom) - loss(plain) for _ in range(5)]
    assert added == pytest.approx([4 * slope, 0.0, 0.0, 0.0, 4 * slope], abs=1e-5)
    seldom.critic.turns.zero_()
    seldom.eval()  # a loss that is only looked at is no step
    assert [loss(seldom) - loss(plain) for _ in range(2)] == pytest.approx([4 * slope] * 2, abs=1e-5)


def test_the_spectral_norm_holds_the_largest_singular_value_at_one() -> None:
    latents, condition = _rows()
    for spectral in (False, True):
        critic = _critic(spectral=spectral)
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.mul_(3.0)
            for _ in range(30):  # power iterations
                critic(latents, condition)
        largest = float(torch.linalg.matrix_norm(critic.enter.weight.detach().flatten(1), 2))
        assert (largest == pytest.approx(1.0, abs=0.05)) == spectral


def test_augmentation_is_none_without_a_chance_and_treats_each_item_by_itself() -> None:
    latents, _ = _rows()
    same = augment(latents, torch.tensor(0.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, latents)
    other = augment(latents, torch.tensor(1.0), torch.Generator().manual_seed(0))
    assert all(not torch.allclose(a, b) for a, b in zip(latents, other, strict=True))
    assert bool((other == 0).any())  # a hole


def test_augmentation_rises_where_the_critic_is_sure_and_falls_where_it_is_not() -> None:
    module = _module(adaptive_augmentation=True).train()
    for sign, rises in ((5.0, True), (-5.0, False)):
        with torch.no_grad():
            module.critic.out.bias.fill_(sign)
            module.chance.fill_(0.1)
        _losses(module)
        assert (float(module.chance) > 0.1) == rises
    with torch.no_grad():
        module.chance.fill_(0.8)
    sure = _losses(module)
    with torch.no_grad():
        module.chance.fill_(0.0)
    assert _losses(module) != sure


def test_sure_is_how_many_verdicts_are_for_the_real_not_how_far(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(adaptive_augmentation=True).train()
    verdicts = torch.tensor([10.0, -1.0, -1.0, -1.0, -1.0, -1.0], requires_grad=True)
    monkeypatch.setattr(module.critic, "judge", lambda seen, condition: verdicts)
    with torch.no_grad():
        module.chance.fill_(0.1)
    _losses(module)
    assert float(module.chance) < 0.1


def test_attention_lets_cells_of_both_see_each_other() -> None:
    module = _module(self_attention=True)
    assert sum(isinstance(part, GridAttention) for part in module.modules()) == 2
    assert not any(isinstance(part, GridAttention) for part in _module().modules())
    attention = module.critic.attention
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 8, 4, 4)
    far = x.clone()
    far[0, :, 3, 3] += 1
    assert not torch.allclose(attention(x)[0, :, 0, 0], attention(far)[0, :, 0, 0])
    x.requires_grad_(True)  # a penalty differentiates its slope
    (slope,) = torch.autograd.grad(attention(x).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert attention.qkv.weight.grad.abs().sum() > 0
    fused = GridAttention(8)
    fused.load_state_dict(attention.state_dict())
    torch.testing.assert_close(fused(x), attention(x))


def test_the_conditional_norm_tells_every_layer() -> None:
    _, condition = _rows()
    for conditional in (True, False):
        module = _module(conditional_norm=conditional)
        for part in module.generator.modules():
            if hasattr(part, "conv2"):
                torch.nn.init.normal_(part.conv2.weight, std=0.3)
        torch.nn.init.zeros_(module.generator.enter.weight)  # what enters says nothing
        made, _ = module(torch.zeros(6, module.noise_dim), condition)
        assert (made.std(dim=0).max().item() > 1e-5) == conditional


def test_conditioning_augmentation_draws_a_condition_near_the_given_one() -> None:
    _, condition = _rows()
    module = _module(conditioning_augmentation=2.0)
    plain = _module()
    assert module.noise_dim == plain.noise_dim + 16
    noise = torch.zeros(6, module.noise_dim)
    other = noise.clone()
    other[:, plain.noise_dim :] = 2.0
    made, divergence = module(noise, condition)
    assert not torch.allclose(made, module(other, condition)[0])
    assert divergence.item() > 0 and plain(noise[:, :4], condition)[1].item() == 0.0
    weightless = _module(conditioning_augmentation=1e-9)
    drawn = torch.randn(6, module.noise_dim, generator=torch.Generator().manual_seed(3))
    difference = _losses(module)[0] - _losses(weightless)[0]
    assert difference == pytest.approx(2.0 * module(drawn, condition)[1].item(), rel=1e-3)


def test_the_auxiliary_classifier_names_what_it_sees() -> None:
    _, condition = _rows()
    critic = _critic(classifier=True)
    right = torch.linalg.lstsq(critic.names.weight, (condition.vector - critic.names.bias).T).solution.T
    wrong = right.roll(1, dims=0)
    assert critic.naming_loss(right, condition).item() < critic.naming_loss(wrong, condition).item()
    assert critic.naming_loss(right, condition.dropped()).item() == 0.0
    named, lightly = _losses(_module(auxiliary_classifier=1.0)), _losses(_module(auxiliary_classifier=1e-9))
    assert named[0] > lightly[0] and named[1] > lightly[1]


def test_the_projection_multiplies_condition_and_features() -> None:
    latents, condition = _rows()
    critic = _critic(projection=True)
    assert critic.enter.weight.shape[1] == SHAPE[0]
    assert _critic(projection=False).enter.weight.shape[1] == SHAPE[0] + 8
    seen = critic.features(latents, condition)
    torch.testing.assert_close(seen, critic.features(latents, condition.dropped()))
    apart = critic(latents, condition) - critic(latents, condition.dropped())
    told = critic.condition(condition) - critic.condition(condition.dropped())
    torch.testing.assert_close(apart, (seen * told).sum(dim=1) / 8**0.5, atol=1e-5, rtol=1e-4)


def test_grids_are_halved_while_they_can_be() -> None:
    assert grids(12, 12) == [(3, 3), (6, 6), (12, 12)]
    assert grids(8, 32) == [(2, 8), (4, 16), (8, 32)]
    assert grids(5, 8) == [(5, 8)]
    assert grids(2, 2) == [(2, 2)]


def test_a_modulated_convolution_scales_its_kernels_by_each_style() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(3, 5, 4)
    x, styles = torch.randn(2, 3, 4, 4), torch.randn(2, 4)
    made = layer(x, styles)
    for item in range(2):
        kernels = layer.gain * layer.weight * layer.style(styles[item])[None, :, None, None]
        kernels = kernels / kernels.flatten(1).norm(dim=1)[:, None, None, None]
        torch.testing.assert_close(
            made[item], F.conv2d(x[item : item + 1], kernels, padding=1)[0], atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("causal", [False, True])
def test_plain_products_attend_as_the_fused_kernels_do(causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 5, 4, generator=generator) for _ in range(3))
    plain = attend(q, k, v, causal, twice=True)
    torch.testing.assert_close(plain, attend(q, k, v, causal))
    learning = [part.bfloat16().requires_grad_() for part in (q, k, v)]
    seen = attend(*learning, causal)
    torch.testing.assert_close(seen.float(), plain, atol=0.05, rtol=0.05)
    slope = torch.autograd.grad(seen.float().square().sum(), learning[0], create_graph=True)[0]
    slope.float().sum().backward()  # of fused kernels there is none
    assert learning[1].grad is not None


def test_trials_with_every_switch_are_loaded_from_what_is_kept(tmp_path: Path) -> None:
    """Critics of spectral norms have many times as many tensors as a generator, and none of them is in the file."""
    recipe = tomllib.loads((ROOT / "training/recipes/generators/stabilisers.toml").read_text("utf-8"))
    for name, table in recipe["image"]["families"].items():
        config = GANConfig(**{key: value for key, value in table.items() if key != "type"})
        kept = GANFamily().build(config, (8, 12, 12), 256)
        del kept.critic
        save_tensors(kept, tmp_path / f"{name}.safetensors")
        make = partial(network_for_sampling, GANFamily(), config, (8, 12, 12), 256)
        loaded = load_module(make, tmp_path / f"{name}.safetensors")
        assert not hasattr(loaded, "critic") and {*loaded.state_dict()} == {*kept.state_dict()}
