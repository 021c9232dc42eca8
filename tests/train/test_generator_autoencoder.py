from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from embedspace.generate.latents.autoencoder import Autoencoder, AutoencoderConfig
from embedspace.train.generators.autoencoder import Discriminator, MediaSet, _Contest, _drawn, sharpen
from embedspace.train.generators.recipe import AutoencoderRecipe
from embedspace.train.loop import FitConfig


def _network() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig(channels=8, latent_dim=4, decoder_blocks=1))


def _media(side: int = 32) -> MediaSet:
    pixels = torch.randint(0, 256, (6, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    names = [str(k) for k in range(6)]
    return MediaSet(pixels, names, names, torch.zeros(6, 4), torch.ones(6))


class _Run:
    """What `sharpen` needs of a run."""

    def __init__(self, out: Path) -> None:
        self.out, self.resume = out, False
        self.recipe: Any = type("Recipe", (), {"seed": 0})
        self.told: list[Any] = []
        self.tell = self.told.append

    def fit_config(self, section: AutoencoderRecipe, steps: int, share: float) -> FitConfig:
        del section, share
        return FitConfig(steps=steps, learning_rate=1e-3, warmup_steps=1, evaluate_every=steps)


def test_crops_lie_on_whole_latent_cells_and_whole_items_come_in_smaller_batches() -> None:
    media, recipe = _media(), AutoencoderRecipe(batch_size=4, crop=16)
    shapes = set()
    for seed in range(40):
        batch = _drawn(media, recipe, torch.Generator().manual_seed(seed))
        shapes.add(tuple(batch.shape))
        if batch.shape[-1] == 16:
            whole = media.batch(torch.arange(6))
            found = [
                (n, y, x)
                for n in range(6)
                for y in range(0, 17, 8)
                for x in range(0, 17, 8)
                if torch.equal(whole[n, :, y : y + 16, x : x + 16], batch[0])
            ]
            assert found
    assert shapes == {(4, 3, 16, 16), (2, 3, 32, 32)}


def test_without_crops_every_batch_is_of_whole_items() -> None:
    batch = _drawn(_media(), AutoencoderRecipe(batch_size=5), torch.Generator().manual_seed(0))
    assert batch.shape == (5, 3, 32, 32)


def test_the_contest_s_loss_is_the_hinge_and_what_the_decoder_pays() -> None:
    contest = _Contest(_network()).eval()  # in training the spectral norm moves with every pass
    real, made = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        high, low = contest.opponent(real), contest.opponent(made)
        expected = 0.5 * ((1 - high).clamp(min=0).mean() + (1 + low).clamp(min=0).mean()) - 0.3 * low.mean()
        torch.testing.assert_close(contest.loss(made, real, 0.3), expected)


def test_the_decoder_s_part_does_not_train_the_opponent() -> None:
    contest = _Contest(_network()).eval()
    real, made = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)

    def gradients(weight: float) -> list[torch.Tensor]:
        contest.zero_grad()
        contest.loss(made, real, weight).backward()
        return [p.grad.clone() for p in contest.opponent.parameters() if p.grad is not None]

    without, strong = gradients(0.0), gradients(5.0)
    assert without
    for a, b in zip(without, strong, strict=True):
        torch.testing.assert_close(a, b)
    watched = made.clone().requires_grad_(True)
    contest.loss(watched, real, 1.0).backward()
    assert watched.grad is not None
    assert float(watched.grad.abs().sum()) > 0


def test_sharpening_leaves_the_latents_as_they_are(tmp_path: Path) -> None:
    network, media = _network(), _media(16)
    before = network.encode(media.batch(torch.arange(6))).detach()
    decoder = [p.detach().clone() for p in network.decoder.parameters()]
    run: Any = _Run(tmp_path)
    sharpen(run, AutoencoderRecipe(batch_size=4, steps_adversarial=3), network, media, media, None)
    torch.testing.assert_close(network.encode(media.batch(torch.arange(6))).detach(), before)
    assert any(not torch.equal(a, b) for a, b in zip(decoder, network.decoder.parameters(), strict=True))
    assert run.told[-1].stage == "decoder"
    assert "held_psnr_db" in run.told[-1].scalars


def test_discriminator_judges_patches() -> None:
    assert Discriminator(1)(torch.zeros(2, 1, 64, 32)).shape == (2, 1, 8, 4)
