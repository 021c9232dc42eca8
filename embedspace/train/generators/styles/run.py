"""Train a translator between two folders of pictures: adversaries on latents, and the way there and back.

    embedspace train generator training/recipes/generators/unpaired.toml --from photos --to woodcuts --minutes 12

Source: Zhu et al. 2017 (CycleGAN, https://arxiv.org/abs/1703.10593), section 3, equations 1 to 3, and 5.2 for identity;
Lim and Ye 2017 (https://arxiv.org/abs/1705.02894) for the hinge loss; Miyato et al. 2018
(https://arxiv.org/abs/1802.05957) for spectral norms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from embedspace.encoders.base import load_module, save_tensors
from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import ConfigError, MediaError
from embedspace.files import read_config, write_text
from embedspace.generate.latents.autoencoder import DOWN, Autoencoder
from embedspace.generate.latents.files import autoencoder_config
from embedspace.generate.latents.neighbours import load_neighbours
from embedspace.generate.registry import FORMAT
from embedspace.generate.translation.translator import Translator, TranslatorConfig, described
from embedspace.media.image import load_image
from embedspace.modality import SUFFIXES, Modality
from embedspace.train.generators.recipe import GeneratorRecipe
from embedspace.train.generators.styles.recipe import StyleRecipe
from embedspace.train.loop import FitConfig, FitPhase, FitProgress, fit
from embedspace.vocabulary import SHIPPED_GENERATORS

__all__ = ["Translation", "autoencoder_of", "critic_loss", "latents_of_folder", "train_recipe", "translator_loss"]

LEAST = 16
"""Pictures that a folder holds at least."""
_BATCH = 32
_BETAS = (0.5, 0.99)
Tell = Callable[[FitProgress], None]


class Translation(nn.Module):
    """Two translators, there and back, and a critic of each kind's latents."""

    def __init__(self, recipe: StyleRecipe, latent_dim: int) -> None:
        super().__init__()
        size = TranslatorConfig(latent_dim, recipe.channels, recipe.blocks)
        self.there, self.back = Translator(size), Translator(size)
        self.critics = nn.ModuleList([_critic(latent_dim, recipe.critic_channels) for _ in range(2)])


def _critic(latent_dim: int, width: int) -> nn.Module:
    """Return what says of every patch of latents how real it looks, (B, 1, h, w)."""

    def layer(into: int, out: int, stride: int = 1) -> nn.Module:
        return spectral_norm(nn.Conv2d(into, out, 3, stride, padding=1))

    slope = partial(nn.LeakyReLU, 0.2)
    return nn.Sequential(
        layer(latent_dim, width), slope(), layer(width, 2 * width, 2), slope(),
        layer(2 * width, 2 * width), slope(), layer(2 * width, 1),
    )  # fmt: skip


def translator_loss(model: Translation, one: Tensor, other: Tensor, recipe: StyleRecipe) -> Tensor:
    """Return the loss of the translators on latents of both kinds: adversaries, the way there and back, identity."""
    translated, returned = model.there(one), model.back(other)
    seen = -model.critics[1](translated).mean() - model.critics[0](returned).mean()
    cycle = F.l1_loss(model.back(translated), one) + F.l1_loss(model.there(returned), other)
    same = F.l1_loss(model.there(other), other) + F.l1_loss(model.back(one), one)
    loss: Tensor = seen + recipe.cycle * cycle + recipe.identity * same
    return loss


def critic_loss(model: Translation, one: Tensor, other: Tensor) -> Tensor:
    """Return the hinge loss of both critics on latents of both kinds."""
    with torch.no_grad():
        made = model.back(other), model.there(one)
    real = one, other
    losses = [
        F.relu(1 - critic(of_kind)).mean() + F.relu(1 + critic(fake)).mean()
        for critic, of_kind, fake in zip(model.critics, real, made, strict=True)
    ]
    return torch.stack(losses).sum()


def train_recipe(
    recipe: GeneratorRecipe,
    out: Path,
    minutes: float | None,
    resume: bool,
    tell: Tell,
    folders: tuple[Path, Path] | None,
) -> Path:
    """Train a translator from the pictures of one folder to those of another; its name is the recipe's.

    Args:
        recipe: Of kind "style".
        out: Folder of the run.
        minutes: Wall-time budget; None for no limit.
        resume: Go on from the checkpoint.
        tell: Told of progress.
        folders: Where the pictures lie.

    Returns:
        The folder of its weights and settings, which go into the folder `styles` of the generator.

    Raises:
        ConfigError: If no folders are named, one has too few pictures, or the generator is none of pictures.
        WeightsError: If the generator is damaged.
    """
    if folders is None:
        raise ConfigError(
            f"recipe {recipe.name}: a style is learnt from two folders of pictures; name them: --from, --to"
        )
    own = recipe.style
    generator = Path(own.generator) if own.generator else SHIPPED_GENERATORS / "image"
    autoencoder, side = autoencoder_of(generator)
    views = [latents_of_folder(folder, autoencoder, side, own.mirror, tell) for folder in folders]
    draw = partial(_drawn, views, own.batch_size)
    torch.manual_seed(recipe.seed)
    model = Translation(own, views[0].shape[2])
    out.mkdir(parents=True, exist_ok=True)
    fit(
        model,
        [
            FitPhase(lambda _, source: critic_loss(model, *draw(source)), ("critics.",), name="critics", betas=_BETAS),
            FitPhase(lambda _, source: translator_loss(model, *draw(source), own), ("there.", "back."), betas=_BETAS),
        ],
        FitConfig(
            own.steps,
            own.learning_rate,
            own.weight_decay,
            minutes=minutes,
            seed=recipe.seed,
            cooldown=0.3,
        ),
        stage="style",
        checkpoint=out / "style.ckpt",
        resume=resume,
        recipe=_digest(own, views),
        callback=tell,
    )
    return _written(model.there, out / "generator", recipe.name, generator)


def _written(network: Translator, folder: Path, name: str, generator: Path) -> Path:
    """Write a translator's weights and settings into a folder."""
    folder.mkdir(exist_ok=True)
    save_tensors(network, folder / f"{name}.safetensors", pack=_halves)
    write_text(folder / f"{name}.json", json.dumps(described(network.config, generator), indent=1) + "\n")
    return folder


def _drawn(views: list[Tensor], size: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return latents of a batch of each kind."""
    drawn = []
    for latents in views:
        view = torch.randint(len(latents), (size,), generator=source)
        rows = torch.randint(latents.shape[1], (size,), generator=source)
        drawn.append(latents[view, rows])
    return drawn[0], drawn[1]


def autoencoder_of(generator: Path) -> tuple[Autoencoder, int]:
    """Return the autoencoder of a generator of pictures, and the side of its pictures in pixels."""
    if not (generator / "config.json").is_file():
        raise ConfigError(f"style.generator: no generator in {generator}; name the folder of one of pictures")
    size = autoencoder_config(read_config(generator / "config.json", FORMAT, "configuration of a generator"))
    if size.in_channels != 3:
        raise ConfigError(f"style.generator: {generator} makes no pictures; name the folder of one that does")
    network = load_module(partial(Autoencoder, size), generator / "autoencoder.safetensors")
    return network, int(load_neighbours(generator).latents.shape[-1]) * DOWN


@torch.inference_mode()
def latents_of_folder(folder: Path, autoencoder: Autoencoder, side: int, mirror: bool, tell: Tell) -> Tensor:
    """Return latents (V, N, C, H, W) of the pictures of a folder and its folders, as they are and mirrored.

    Raises:
        ConfigError: If there are fewer than `LEAST`.
    """
    paths = sorted(path for path in folder.rglob("*") if SUFFIXES.get(path.suffix.lower()) == Modality.IMAGE)
    pictures = []
    for path in paths:
        try:
            pictures.append(resize_padded(crop_to_content(load_image(path, min_side=side)), side))
        except MediaError as error:
            tell(FitProgress(f"left out: {error}", len(pictures), len(paths), 0.0, {}))
    if len(pictures) < LEAST:
        raise ConfigError(
            f"{folder}: {len(pictures)} pictures in it; a kind of pictures is learnt from {LEAST} at least"
        )
    # (N, H, W, 3) -> (N, 3, H, W)
    media = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    views = [media, media.flip(3)] if mirror else [media]
    return torch.stack([torch.cat([autoencoder.encode(part) for part in torch.split(one, _BATCH)]) for one in views])


def _digest(recipe: StyleRecipe, views: list[Tensor]) -> str:
    total = hashlib.sha256(repr(recipe).encode())
    for latents in views:
        total.update(latents.numpy().tobytes())
    return total.hexdigest()


def _halves(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in half precision."""
    return {name: tensor.half().contiguous() for name, tensor in tensors.items()}
