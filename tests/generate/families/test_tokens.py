"""Families that draw tokens, and the tokens."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F

from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import SampleOptions
from embedspace.generate.families.maskgit import MaskGITConfig, MaskGITFamily
from embedspace.generate.families.pixelcnn import PixelCNNConfig, PixelCNNFamily, _Rows
from embedspace.generate.families.vqvae import VQVAEConfig, VQVAEFamily
from embedspace.generate.families.wavenet import WaveNetConfig, WaveNetFamily
from embedspace.generate.latents.tokens import TokenConfig, Tokeniser, draw_tokens

SHAPE, DIM = (2, 3, 4), 8
SIZE: dict[str, Any] = {"channels": 8, "token_channels": 8, "codes": 6, "code_dim": 3, "layers": 2, "neighbours": 1}


def _condition(rows: int = 2) -> Condition:
    generator = torch.Generator().manual_seed(1)
    vectors = F.normalize(torch.randn(rows, DIM, generator=generator), dim=1)
    return Condition(vectors, torch.zeros(rows), torch.randn(rows, 1, *SHAPE, generator=generator))


def _tokens(rows: int = 2) -> torch.Tensor:
    return torch.randint(6, (rows, 12), generator=torch.Generator().manual_seed(2))


def test_the_codebook_is_learnt_and_its_codes_come_back() -> None:
    torch.manual_seed(0)
    tokeniser = Tokeniser(TokenConfig(**{**SIZE, "codes": 32}), SHAPE[0])
    latents = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(tokeniser.parameters(), 3e-3)
    losses = []
    for _ in range(120):
        loss = tokeniser.loss(latents)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    tokens = tokeniser.tokens(latents)
    assert tokens.shape == (16, 12)
    assert len(tokens.unique()) > 8  # not a few codes for everything
    back = tokeniser.decode(tokens, *SHAPE[1:])
    assert (back - latents).square().mean().item() < 0.6 * float(latents.square().mean())


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([0.7, 0.2, 0.1]).log().expand(1, 4000, 3)
    drawn = draw_tokens(logits, [torch.Generator().manual_seed(0)], 1.0)
    torch.testing.assert_close(
        F.one_hot(drawn).float().mean(dim=(0, 1)), torch.tensor([0.7, 0.2, 0.1]), atol=0.03, rtol=0
    )
    assert not draw_tokens(logits, [torch.Generator().manual_seed(0)], 1e-6).any()


def test_the_transformer_s_steps_give_what_the_whole_gives() -> None:
    torch.manual_seed(0)
    module = VQVAEFamily().build(VQVAEConfig(**SIZE, heads=2), SHAPE, DIM).eval()
    condition, tokens = _condition(), _tokens()
    with torch.inference_mode():
        whole = module(tokens, condition)
        cells, caches = module.condition(condition), [[] for _ in module.blocks]  # type: ignore[var-annotated]
        last = torch.full((2,), 6)
        for place in range(12):
            logits = module.step(last, place, cells, caches)
            torch.testing.assert_close(logits, whole[:, place], atol=1e-5, rtol=1e-4)
            last = tokens[:, place]


def test_the_pixelcnn_sees_only_what_lies_before_and_all_of_it() -> None:
    torch.manual_seed(0)
    module = PixelCNNFamily().build(PixelCNNConfig(**{**SIZE, "layers": 4}), SHAPE, DIM).eval()
    cells, tokens = module.cells(_condition(1)), _tokens(1).view(1, 3, 4)
    with torch.inference_mode():
        base = module(tokens, cells).flatten(1, 2)
        for place in range(12):
            other = tokens.clone().flatten(1)
            other[0, place] = (other[0, place] + 1) % 6
            moved = (module(other.view(1, 3, 4), cells).flatten(1, 2) - base).abs().sum(dim=2)[0]
            assert not moved[: place + 1].any()
            assert bool((moved[place + 1 : place + 3] > 0).all())  # no blind spot beside it
        torch.testing.assert_close(module(tokens[:, :2], cells)[0], base.view(3, 4, 6)[:2])
        rows = _Rows(module, cells)
        for number in range(3):  # row by row it is the same
            torch.testing.assert_close(rows.logits(tokens[:, number])[0], base.view(3, 4, 6)[number])
            rows.add(tokens[:, number])


def test_the_wavenet_sees_only_earlier_moments_and_lower_bands_and_its_steps_give_the_whole() -> None:
    torch.manual_seed(0)
    module = WaveNetFamily().build(WaveNetConfig(**{**SIZE, "layers": 4}, cycle=4), SHAPE, DIM).eval()
    grid = torch.arange(12)[None]  # three bands of four moments
    assert module.in_time(grid)[0, :4].tolist() == [0, 4, 8, 1]
    assert torch.equal(module.as_grid(module.in_time(grid)), grid)
    cells, tokens = module.cells(_condition()), _tokens()
    with torch.inference_mode():
        base = module(tokens, cells)
        for place in range(12):
            other = tokens.clone()
            other[0, place] = (other[0, place] + 1) % 6
            moved = (module(other, cells) - base).abs().sum(dim=2)[0]
            assert not moved[: place + 1].any()
            assert bool((moved[place + 1 :] > 0).all())  # 1 + 2 + 4 + 8 tokens back: all that came before
        seen: list[list[torch.Tensor]] = [[] for _ in module.layers]
        last = torch.full((2,), 6)
        for place in range(12):
            torch.testing.assert_close(module.step(last, place, cells, seen), base[:, place], atol=1e-5, rtol=1e-4)
            last = tokens[:, place]


def test_likelihoods_are_those_of_the_tokens() -> None:
    torch.manual_seed(0)
    latents = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    for family, config in (
        (VQVAEFamily(), VQVAEConfig(**SIZE, heads=2)),
        (PixelCNNFamily(), PixelCNNConfig(**SIZE)),
        (WaveNetFamily(), WaveNetConfig(**SIZE)),
    ):
        module: Any = family.build(config, SHAPE, DIM).eval()  # type: ignore[arg-type]
        for parameter in module.out.parameters():
            torch.nn.init.zeros_(parameter)
        found = family.log_likelihood(module, latents, _condition())
        torch.testing.assert_close(found, torch.full((2,), -12 * torch.tensor(6.0).log().item()))


def test_maskgit_keeps_what_it_is_sure_of_and_leaves_no_cell_masked() -> None:
    torch.manual_seed(0)
    family = MaskGITFamily()
    module = family.build(MaskGITConfig(**SIZE, heads=2), SHAPE, DIM).eval()
    seen: list[torch.Tensor] = []

    def look(_: Any, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].clone())

    module.register_forward_pre_hook(look)
    sources = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    made = family.sample(module, _condition(), sources, SampleOptions(4))
    assert made.shape == (2, *SHAPE)
    masked = [int((tokens == 6).sum(dim=1)[0]) for tokens in seen]
    assert masked[0] == 12 and masked == sorted(masked, reverse=True) and masked[-1] < 12
    for before, after in itertools.pairwise(seen):
        known = before != 6
        assert bool((after[known] == before[known]).all())
