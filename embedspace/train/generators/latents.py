"""Train what latent generators are made of: the autoencoder, then on its latents each family that a recipe names."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.encoders.base import load_module, save_tensors
from embedspace.errors import ConfigError
from embedspace.files import read_config, replacing
from embedspace.generate.conditioning import Condition, add_noise
from embedspace.generate.families.base import FamilyConfig, Shape
from embedspace.generate.families.registry import families_that, family_of
from embedspace.generate.latents.autoencoder import Autoencoder
from embedspace.generate.latents.files import autoencoder_config
from embedspace.generate.latents.maps import MAP_KINDS, map_of, to_cells
from embedspace.generate.latents.neighbours import Neighbours, load_neighbours
from embedspace.generate.registry import FORMAT
from embedspace.train.generators.autoencoder import AUTOENCODER_SHARE, MediaSet, latents_of, sharpen, train_autoencoder
from embedspace.train.generators.families import train_family
from embedspace.train.generators.recipe import LatentGeneratorRecipe
from embedspace.train.generators.run import GeneratorRun, measured_sigma, write_generator_config
from embedspace.train.mirroring import can_mirror

__all__ = ["Latents", "train_latent_generator"]

_PARTS = ("autoencoder.safetensors", "gallery.safetensors", "gallery.json")


@dataclass(frozen=True)
class Latents:
    """What the families learn from.

    Attributes:
        train: Training items.
        held: Validation items.
        views: (V, N, C, H, W) latents of the training items, as they are and, where the recipe says so, mirrored.
        held_latents: (M, C, H, W) of the validation items; None without any.
        near: The neighbours that ship and are training items.
        rows: (G,) the training item that each of them is.
        places: (N,) each training item's place among them, -1 where it is none.
        mirrored: (N,) whether a training item may be mirrored.
        maps: Kinds of maps x (N, H, W) bool of the training items; none where no family is told any.
    """

    train: MediaSet
    held: MediaSet
    views: Tensor
    held_latents: Tensor | None
    near: Neighbours
    rows: Tensor
    places: Tensor
    mirrored: Tensor
    maps: tuple[Tensor, ...] = ()

    @property
    def shape(self) -> Shape:
        """Channels, height and width of one item's latents."""
        channels, height, width = self.views.shape[2:]
        return channels, height, width

    @property
    def embed_dim(self) -> int:
        """Width of the vectors."""
        return self.train.keys.shape[1]

    def draw(self, config: FamilyConfig, generator: torch.Generator) -> tuple[Tensor, Condition]:
        """Return latents (B, C, H, W) of a batch, and what they are to be made from."""
        rows = torch.multinomial(self.train.weights, config.batch_size, replacement=True, generator=generator)
        view = torch.randint(len(self.views), (len(rows),), generator=generator) * self.mirrored[rows]
        sigma = torch.rand(len(rows), generator=generator) * config.max_sigma
        vector = add_noise(self.train.keys[rows], sigma, generator)
        context = None
        if config.neighbours:
            # found by the noisy vector, as they will be; the item itself is never among them
            near, _ = self.near.nearest(vector, config.neighbours, exclude=self.places[rows])
            alone = torch.rand(len(rows), generator=generator) < config.drop_context
            # a mirrored item has mirrored neighbours: what faces left in one drawing mostly does in others
            context = self.views[view[:, None], self.rows[near]] * (~alone)[:, None, None, None, None]
        style = self._styles(config, rows, generator) if config.styles else None
        drawn = self._maps(config, rows, view, generator) if config.maps else None
        dropped = torch.rand(len(rows), generator=generator) < config.drop
        return self.views[view, rows], Condition(vector, sigma, context, style, drawn).drop_rows(dropped)

    def _styles(self, config: FamilyConfig, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B,) the numbers of the items' sources, 0 where it is another or is not told."""
        number = {source: place for place, source in enumerate(config.styles, 1)}
        own = torch.tensor([number.get(self.train.items[row].split("/")[0], 0) for row in rows.tolist()])
        return own * (torch.rand(len(rows), generator=generator) >= config.drop_style)

    def _maps(self, config: FamilyConfig, rows: Tensor, view: Tensor, generator: torch.Generator) -> Tensor:
        """Return (B, M, h, w) maps of items, each of a kind of its own, zeros where it is not told."""
        kinds = torch.randint(len(self.maps), (len(rows),), generator=generator).tolist()
        drawn = torch.stack([self.maps[kind][row] for kind, row in zip(kinds, rows.tolist(), strict=True)])
        drawn = torch.where((view > 0)[:, None, None], drawn.flip(2), drawn)
        told = torch.rand(len(rows), generator=generator) < config.maps
        return to_cells(drawn) * told[:, None, None, None]

    def held_out(self, config: FamilyConfig) -> tuple[Tensor, Condition] | None:
        """Return latents of the validation split and their conditions; None without any."""
        if self.held_latents is None:
            return None
        keys = self.held.keys
        near, _ = self.near.nearest(keys, config.neighbours or 1)
        context = self.near.latents[near] if config.neighbours else None
        return self.held_latents, Condition(keys, torch.zeros(len(keys)), context)


def train_latent_generator(
    run: GeneratorRun,
    recipe: LatentGeneratorRecipe,
    train: MediaSet,
    held: MediaSet,
    may_ship: NDArray[np.bool_],
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Train every part of a latent generator, and write it after each.

    Where the run is of some families only and its folder holds a generator, they are trained on that one's latents and
    written beside its families.

    Args:
        run: The run.
        recipe: The recipe.
        train: Training items.
        held: Validation items.
        may_ship: (N,) which training items may be neighbours that ship.
        perceptual: Distance of two batches, for the autoencoder.
        about: Further sections of the generator's configuration.
    """
    kept: dict[str, Any] = {}
    trained: dict[str, Any] = {}
    if (run.folder / "config.json").is_file():
        before = read_config(run.folder / "config.json", FORMAT, "configuration of a generator")
        trained = before.get("trained", {})
    if run.families and (run.folder / "config.json").is_file():
        kept = before["families"]
        latents, autoencoder = _begun(run, recipe, run.folder, train, held)
    elif recipe.latents:
        latents, autoencoder = _begun(run, recipe, Path(recipe.latents), train, held)
    else:
        autoencoder = train_autoencoder(run, recipe.autoencoder, train, held, perceptual)
        if recipe.autoencoder.steps_adversarial:
            sharpen(run, recipe.autoencoder, autoencoder, train, held, perceptual)
        save_tensors(autoencoder, run.folder / "autoencoder.safetensors")
        latents = _encoded(autoencoder, recipe, train, held, may_ship)
        latents.near.save(run.folder)
    latents = dataclasses.replace(latents, maps=_maps_of(recipe, train))
    config = {
        "autoencoder": dataclasses.asdict(autoencoder.config),
        "sigma": measured_sigma(run),
        "options": {**_copies(load_neighbours(run.folder), latents.held_latents), **recipe.options},
        **(about or {}),
    }
    left = 1.0 if kept or recipe.latents else 1.0 - AUTOENCODER_SHARE
    whole = sum(family.config.share for family in recipe.families.values())
    for name, family in recipe.families.items():
        trained[name] = train_family(run, name, family, latents, left * family.config.share / whole, trained.get(name))
        kept[name] = {**({} if family.type == name else {"type": family.type}), **dataclasses.asdict(family.config)}
        own = {key: trained[key] for key in kept if key in trained}
        write_generator_config(run, {**config, "families": kept, "trained": own})


def _begun(
    run: GeneratorRun, recipe: LatentGeneratorRecipe, folder: Path, train: MediaSet, held: MediaSet
) -> tuple[Latents, Autoencoder]:
    """Take the autoencoder and the neighbours of a generator as they are.

    Raises:
        ConfigError: If it makes something else, or was trained on other items.
        WeightsError: If it is damaged.
    """
    if not (folder / "config.json").is_file():
        raise ConfigError(f"recipe {run.recipe.name}: latents: no generator in {folder}; name the folder of one")
    size = autoencoder_config(read_config(folder / "config.json", FORMAT, "configuration of a generator"))
    if size.in_channels != train.media.shape[1]:
        raise ConfigError(f"recipe {run.recipe.name}: latents: {folder} does not make what this recipe is for")
    autoencoder = load_module(partial(Autoencoder, size), folder / "autoencoder.safetensors")
    shipped = load_neighbours(folder)
    place = {item: number for number, item in reversed([*enumerate(train.items)])}
    known = [number for number, item in enumerate(shipped.items) if item in place]
    if not known:
        raise ConfigError(f"recipe {run.recipe.name}: latents: no neighbour in {folder} is of the recipe's sources")
    near = Neighbours(
        shipped.keys[known],
        shipped.latents[known],
        [shipped.items[k] for k in known],
        [shipped.captions[k] for k in known],
    )
    if folder.resolve() != run.folder.resolve():
        for part in _PARTS:
            shutil.copyfile(folder / part, run.folder / part)
    views = _views(autoencoder, recipe, train, Path(run.recipe.features) / "latents")
    return _latents_of(autoencoder, train, held, views, near, [place[item] for item in near.items]), autoencoder


def _encoded(
    autoencoder: Autoencoder,
    recipe: LatentGeneratorRecipe,
    train: MediaSet,
    held: MediaSet,
    may_ship: NDArray[np.bool_],
) -> Latents:
    """Encode all items, and choose the neighbours that ship."""
    views = _views(autoencoder, recipe, train)
    chosen = np.flatnonzero(may_ship).tolist()
    kept = train.take(chosen)
    near = Neighbours(kept.keys, views[0, chosen], kept.items, kept.captions)
    return _latents_of(autoencoder, train, held, views, near, chosen)


def _views(
    autoencoder: Autoencoder, recipe: LatentGeneratorRecipe, train: MediaSet, kept: Path | None = None
) -> Tensor:
    """Return (V, N, C, H, W), read from the folder `kept` where they are there."""
    views = []
    for mirror in (False, True)[: 1 + recipe.mirror]:
        path = None if kept is None else kept / f"{_identity(autoencoder, train)}{'.mirrored' * mirror}.npy"
        if path is not None and path.is_file():
            views.append(torch.from_numpy(np.load(path)))
            continue
        views.append(latents_of(autoencoder, train, mirror))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial, partial.open("wb") as file:
                np.save(file, views[-1].numpy(), allow_pickle=False)
    return torch.stack(views)


def _identity(autoencoder: Autoencoder, items: MediaSet) -> str:
    """Return a name for the latents of items: what is encoded, and by which weights."""
    total = hashlib.sha256()
    for name, weights in sorted(autoencoder.state_dict().items()):
        total.update(name.encode() + weights.numpy().tobytes())
    total.update(items.media.numpy().tobytes())
    return total.hexdigest()[:24]


def _latents_of(
    autoencoder: Autoencoder, train: MediaSet, held: MediaSet, views: Tensor, near: Neighbours, rows: list[int]
) -> Latents:
    place = {item: number for number, item in enumerate(near.items)}
    return Latents(
        train,
        held,
        views,
        latents_of(autoencoder, held) if len(held.items) else None,
        near,
        torch.tensor(rows),
        torch.tensor([place.get(item, -1) for item in train.items]),
        torch.tensor([can_mirror(caption) for caption in train.captions]),
    )


def _maps_of(recipe: LatentGeneratorRecipe, train: MediaSet) -> tuple[Tensor, ...]:
    """Return all kinds of maps of the training items, where a family is told some.

    Raises:
        ConfigError: If a family is told what it cannot be.
    """
    for name, family in recipe.families.items():
        for setting, ability in (("styles", "style"), ("maps", "map")):
            if getattr(family.config, setting) and ability not in family_of(family.type).can:
                able = ", ".join(families_that(ability))
                raise ConfigError(f"families.{name}.{setting}: {family.type} cannot be told any; {able} can")
        unknown = [source for source in family.config.styles if source not in recipe.sources]
        if unknown:
            raise ConfigError(f"families.{name}.styles: {unknown[0]!r} is none of the recipe's sources")
    if not any(family.config.maps for family in recipe.families.values()):
        return ()
    if train.media.shape[1] != 3:
        raise ConfigError("families: maps are of pictures; leave them out for other media")
    return tuple(torch.cat([map_of(part, kind) for part in torch.split(train.media, 512)]) for kind in MAP_KINDS)


def _copies(shipped: Neighbours, held: Tensor | None) -> dict[str, float]:
    """Return the likeness that one in twenty real items that were never trained on has with some training item."""
    if held is None:
        return {}
    alike = torch.tensor([found.similarity for part in torch.split(held, 64) for found in shipped.nearest_output(part)])
    return {"copy_similarity": round(float(alike.quantile(0.95)), 4)}
