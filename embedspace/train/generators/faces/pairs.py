"""Recordings and pictures that faces are learnt from: a manifest with a row for each pair.

    {"speech": "clips/anna-1.wav", "picture": "faces/anna-1.jpg"}
    {"speech": "clips/anna-2.wav", "picture": "faces/anna-2.jpg", "speaker": "anna", "split": "val"}
    {"speech": "clips/anna-3.wav", "speaker": "anna"}

Paths are relative to the manifest. Recordings and pictures of one speaker go with each other in every combination, and
a row with a speaker may have one of the two alone. A picture shows one face and little else: nothing here finds faces.
Rows of the splits "val" and "test" are never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.catalog.ingest.manifests import BadRow
from embedspace.catalog.ingest.tables import read_rows
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import ConfigError, EmbedspaceError, InputError
from embedspace.generate.conditioning import Condition, add_noise
from embedspace.generate.families.base import FamilyConfig, Shape
from embedspace.generate.latents.autoencoder import Autoencoder
from embedspace.media.image import flatten, load_image
from embedspace.train.generators.faces.voices import FileVoices

__all__ = ["FacePairs", "FaceSet", "Group", "encode_pairs", "read_pairs"]

_SPLITS = ("train", "val", "test")
_BATCH = 16


@dataclass
class Group:
    """What belongs to one speaker.

    Attributes:
        speech: Files of recordings.
        pictures: Files of pictures.
    """

    speech: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class FacePairs:
    """A manifest, read.

    Attributes:
        groups: Split -> speaker -> files; in each at least a recording and a picture.
        skipped: What was left out and why, a line each.
    """

    groups: dict[str, dict[str, Group]]
    skipped: list[str]


def read_pairs(path: Path) -> FacePairs:
    """Read a manifest; rows whose files are missing are left out and listed.

    Raises:
        ConfigError: If it is missing or no table, has an unknown split, or fewer than two speakers to learn from.
    """
    skipped: list[str] = []
    groups: dict[str, dict[str, Group]] = {}
    try:
        rows = list(enumerate(read_rows(path), 1))
    except InputError as error:
        raise ConfigError(str(error)) from error
    for number, row in rows:
        problem = row.reason if isinstance(row, BadRow) else _taken(row, number, path, groups)
        if problem:
            skipped.append(f"{path.name}:{number}: {problem}")
    pictures = {name: one.pictures for name, one in groups.get("train", {}).items()}
    for own in groups.values():
        for name, one in own.items():  # voices of a later split go with the pictures that were learnt
            one.pictures = one.pictures or pictures.get(name, [])
    whole = {
        split: {name: one for name, one in own.items() if one.speech and one.pictures} for split, own in groups.items()
    }
    if len(whole.get("train", {})) < 2:
        raise ConfigError(
            f"{path}: {len(whole.get('train', {}))} speakers with a recording and a picture, and at least 2 are needed"
            + (f"; {len(skipped)} of {len(rows)} rows were left out, the first: {skipped[0]}" if skipped else "")
        )
    return FacePairs(whole, skipped)


def _taken(row: dict[str, Any], number: int, path: Path, groups: dict[str, dict[str, Group]]) -> str:
    """Put a row into its group; returns what keeps it out."""
    files = {name: str(row.get(name) or "") for name in ("speech", "picture")}
    speaker, split = str(row.get("speaker") or ""), str(row.get("split") or "train")
    if split not in _SPLITS:
        raise ConfigError(f"{path}:{number}: split {split!r}: must be one of {', '.join(_SPLITS)}")
    if not any(files.values()):
        return "has neither speech nor picture"
    for name, file in files.items():
        if not file and not speaker:
            return f"has no {name}, and no speaker whose {name} it could go with"
        if file and not (path.parent / file).is_file():
            return f"{name} {file}: no such file"
    group = groups.setdefault(split, {}).setdefault(speaker or f"row {number}", Group())
    if files["speech"]:
        group.speech.append(path.parent / files["speech"])
    if files["picture"]:
        group.pictures.append(path.parent / files["picture"])
    return ""


@dataclass(frozen=True)
class FaceSet:
    """Voices and latents of faces, ready to be drawn from.

    Attributes:
        voices: Split -> (N, D) centred unit rows.
        owners: Split -> (N,) number of the speaker of each.
        latents: (V, M, C, H, W) of all pictures, as they are and, where they may be, mirrored.
        faces: Split -> number of a speaker -> numbers of their pictures.
        mean: (D,) of the training's voices, a mean per speaker; it was taken out.
    """

    voices: dict[str, Tensor]
    owners: dict[str, Tensor]
    latents: Tensor
    faces: dict[str, dict[int, Tensor]]
    mean: NDArray[np.float32]

    @property
    def shape(self) -> Shape:
        """Channels, height and width of one picture's latents."""
        channels, height, width = self.latents.shape[2:]
        return channels, height, width

    @property
    def embed_dim(self) -> int:
        """Width of the voices."""
        return int(self.voices["train"].shape[1])

    def draw(self, config: FamilyConfig, generator: torch.Generator) -> tuple[Tensor, Condition]:
        """Return latents (B, C, H, W) of a batch, each speaker as often as the others, and their voices."""
        owners = self.owners["train"]
        known = torch.unique(owners)
        drawn = known[torch.randint(len(known), (config.batch_size,), generator=generator)]
        rows = torch.stack([_one_of((owners == owner).nonzero()[:, 0], generator) for owner in drawn.tolist()])
        sigma = torch.rand(len(rows), generator=generator) * config.max_sigma
        vector = add_noise(self.voices["train"][rows], sigma, generator)
        dropped = torch.rand(len(rows), generator=generator) < config.drop
        return self._faces("train", drawn, generator), Condition(vector, sigma).drop_rows(dropped)

    def held_out(self, config: FamilyConfig) -> tuple[Tensor, Condition] | None:
        """Return latents for the validation voices, a face of each one's speaker drawn by a fixed seed."""
        del config
        if "val" not in self.voices:
            return None
        rows = self.voices["val"]
        faces = self._faces("val", self.owners["val"], torch.Generator().manual_seed(0))
        return faces, Condition(rows, torch.zeros(len(rows)))

    def _faces(self, split: str, owners: Tensor, generator: torch.Generator) -> Tensor:
        rows = torch.stack([_one_of(self.faces[split][owner], generator) for owner in owners.tolist()])
        view = torch.randint(len(self.latents), (len(rows),), generator=generator)
        return self.latents[view, rows]


def _one_of(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), (), generator=generator)]


def encode_pairs(
    pairs: FacePairs,
    autoencoder: Autoencoder,
    side: int,
    *,
    mirror: bool,
    voices: FileVoices,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[FaceSet, list[str]]:
    """Encode every recording and picture once.

    Args:
        pairs: From `read_pairs`.
        autoencoder: Whose latents are learnt.
        side: Pixels of its pictures.
        mirror: Whether mirror images are learnt, too.
        voices: Makes vectors of recordings; those that it knows are not encoded again.
        tell: Told how many files are done, of how many.

    Returns:
        The set, and which files were left out and why.

    Raises:
        ConfigError: If fewer than two speakers are left.
    """
    names = sorted({name for own in pairs.groups.values() for name in own})
    number = {name: place for place, name in enumerate(names)}
    everything = [(split, number[name], one) for split, own in pairs.groups.items() for name, one in own.items()]
    total = sum(len(one.speech) for *_, one in everything)
    skipped: list[str] = []
    rows: dict[str, list[NDArray[np.float32]]] = {}
    owners: dict[str, list[int]] = {}
    done = 0
    for split, owner, one in everything:
        for path in one.speech:
            done += 1
            try:
                rows.setdefault(split, []).append(voices.of(path))
                owners.setdefault(split, []).append(owner)
            except EmbedspaceError as error:
                skipped.append(str(error))
            if done % 50 == 0 or done == total:
                tell(done, total)
    latents, faces, bad = _encoded_pictures(everything, autoencoder, side, mirror=mirror)
    found = {split: np.stack(own) for split, own in rows.items() if own}
    held = {split: np.array([owner in faces[split] for owner in owners[split]]) for split in found}
    if len({owner for owner in owners.get("train", ()) if owner in faces["train"]}) < 2:
        reasons = [*skipped, *bad]
        raise ConfigError(
            f"fewer than 2 speakers are left; {len(reasons)} files cannot be read, the first: {reasons[0]}"
        )
    there = [split for split in found if held[split].any()]
    kept = {split: torch.tensor(owners[split])[torch.from_numpy(held[split])] for split in there}
    own_rows = {split: found[split][held[split]] for split in there}
    mean = _mean_voice(own_rows["train"], kept["train"])
    centred = {split: _unit(torch.from_numpy(part - mean)) for split, part in own_rows.items()}
    return FaceSet(centred, kept, latents, faces, mean), [*skipped, *bad]


def _encoded_pictures(
    everything: Sequence[tuple[str, int, Group]], autoencoder: Autoencoder, side: int, *, mirror: bool
) -> tuple[Tensor, dict[str, dict[int, Tensor]], list[str]]:
    """Return the latents of all pictures, the numbers of each speaker's in each split, and what was left out."""
    pixels: list[NDArray[np.uint8]] = []
    places: dict[Path, int] = {}
    skipped: list[str] = []
    for path in dict.fromkeys(path for *_, one in everything for path in one.pictures):
        try:
            pixels.append(resize_padded(np.asarray(flatten(load_image(path))), side))
            places[path] = len(pixels) - 1
        except EmbedspaceError as error:
            skipped.append(str(error))
    faces: dict[str, dict[int, Tensor]] = {split: {} for split, *_ in everything}
    for split, owner, one in everything:  # so that a speaker's pictures of a later split are not learnt
        own = [places[path] for path in one.pictures if path in places]
        if own:
            faces[split][owner] = torch.tensor(sorted({*own}))
    if not pixels:
        return torch.zeros(1, 0, 1, 1, 1), faces, skipped
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    views = [stacked, stacked.flip(3)] if mirror else [stacked]
    return torch.stack([_latents(autoencoder, torch.split(view, _BATCH)) for view in views]), faces, skipped


@torch.inference_mode()
def _latents(autoencoder: Autoencoder, parts: Iterable[Tensor]) -> Tensor:
    found: Tensor = torch.cat([autoencoder.encode(part) for part in parts]).clone()
    return found


def _mean_voice(rows: NDArray[np.float32], owners: Tensor) -> NDArray[np.float32]:
    means = [rows[(owners == owner).numpy()].mean(axis=0) for owner in torch.unique(owners)]
    mean: NDArray[np.float32] = np.mean(means, axis=0).astype(np.float32)
    return mean


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return unit
