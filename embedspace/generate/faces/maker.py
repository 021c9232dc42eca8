"""Make faces from voices: a voice's vector in, pictures out.

from embedspace import EmbeddingSpace
from embedspace.generate.faces import FaceMaker

voice = EmbeddingSpace.from_pretrained().with_voices().encode_voice("who.wav")
for sample in FaceMaker.from_pretrained().make(voice, number=4):
    print(sample.content.shape, sample.seed)

Source: Duarte et al. 2019 (Wav2Pix, https://arxiv.org/abs/1903.10195): a GAN whose generator is told nothing but who
speaks. Here the voice is the vector of a network that tells speakers apart, and what is made are latents of the
generator of pictures.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.encoders.base import load_module
from embedspace.errors import ArgumentError, ConfigError, WeightsError
from embedspace.files import read_config, write_text
from embedspace.generate.base import Sample
from embedspace.generate.conditioning import Condition
from embedspace.generate.families.base import SampleOptions, Shape, network_for_sampling
from embedspace.generate.families.registry import family_of
from embedspace.generate.latents.autoencoder import DOWN, Autoencoder
from embedspace.generate.latents.files import FamilyNetwork, autoencoder_config
from embedspace.generate.registry import FORMAT
from embedspace.generate.upsampling import Upsampler, load_upsampler, resized

__all__ = ["VOICE_NUMBERS", "FaceMaker", "PictureParts", "is_face_maker", "picture_parts", "write_face_config"]

_WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
_SHIPPED = _WEIGHTS / "faces"
_ABOUT = "what makes faces from voices"
_BATCH = 16
VOICE_NUMBERS = 256
"""Numbers of a voice; a row of a space has zeros behind them."""


@dataclass(frozen=True)
class PictureParts:
    """What turns latents into pictures: parts of the generator of pictures that ships.

    Attributes:
        autoencoder: Its decoder makes them.
        upsampler: Draws larger ones; None to interpolate.
        digest: Hex digest of the autoencoder's file: latents of another one mean nothing to it.
    """

    autoencoder: Autoencoder
    upsampler: Upsampler | None
    digest: str


def picture_parts() -> PictureParts:
    """Return the autoencoder and the upsampler of the generator of pictures that ships.

    Raises:
        WeightsError: If they are missing or damaged.
    """
    folder = _WEIGHTS / "heads" / "image"
    config = read_config(folder / "config.json", FORMAT, "configuration of a generator")
    path = folder / "autoencoder.safetensors"
    autoencoder = load_module(partial(Autoencoder, autoencoder_config(config)), path)
    return PictureParts(autoencoder, load_upsampler(config, folder), hashlib.sha256(path.read_bytes()).hexdigest())


class FaceMaker:
    """A network that draws latents of faces from a voice, and what turns them into pictures."""

    def __init__(
        self, network: FamilyNetwork, parts: PictureParts, mean: NDArray[np.float32], about: str = "", digest: str = ""
    ) -> None:
        """Hold a network.

        Args:
            network: Trained.
            parts: Of the generator of pictures on whose latents it was trained.
            mean: (256,) what is taken out of voices.
            about: What it was trained on.
            digest: Hex digest of its files.
        """
        self.network, self.parts, self.mean = network, parts, mean
        self.about, self.digest = about, digest

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str] | None = None) -> FaceMaker:
        """Open a folder that `embedspace train generator` wrote from a recipe of kind faces; what ships by default.

        Raises:
            WeightsError: If a file is missing or damaged, or the latents are of another autoencoder.
            ConfigError: If its configuration has an unknown key.
        """
        where = Path(folder) if folder is not None else _SHIPPED
        path = where / "config.json"
        config = read_config(path, 1, _ABOUT)
        parts = picture_parts()
        try:
            mean = np.array(config["mean"], np.float32)
            shape, section, made_with = config["shape"], dict(config["family"]), config["autoencoder"]
        except KeyError as error:
            raise WeightsError(f"{path}: not the configuration of {_ABOUT}: {error} is missing") from error
        if made_with != parts.digest:
            raise WeightsError(f"{where}: was trained on latents of another autoencoder of pictures; train it again")
        network = _network(section, (shape[0], shape[1], shape[2]), len(mean), where)
        files = (path, where / "network.safetensors")
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        return cls(network, parts, mean, str(config.get("about", "")), digest)

    @property
    def side(self) -> int:
        """Pixels of a side where no other size is asked for."""
        return int(self.shape[1]) * DOWN

    @property
    def shape(self) -> Shape:
        """Channels, height and width of latents."""
        found: Shape = self.network.module.shape  # type: ignore[assignment]
        return found

    def make(
        self, voice: NDArray[np.floating], number: int = 1, *, seed: int = 0, size: int | None = None
    ) -> list[Sample]:
        """Make faces that fit a voice.

        Args:
            voice: (256,) as `encode_voice` makes it, or longer with zeros behind.
            number: How many.
            seed: Of the first; the next have the next ones.
            size: Pixels of a side, if not `side`.

        Returns:
            Pictures (H, W, 3) uint8.

        Raises:
            ArgumentError: If the voice has too few numbers or further ones that are not 0, or `number` is none.
        """
        if number < 1:
            raise ArgumentError("number", f"{number}: must be at least 1")
        condition = self.condition(voice).expand(number, -1)
        found: list[Sample] = []
        for first in range(0, number, _BATCH):
            seeds = range(seed + first, seed + min(first + _BATCH, number))
            latents = self.latents(condition[: len(seeds)], [torch.Generator().manual_seed(one) for one in seeds])
            for one, picture in zip(seeds, self.pictures(latents), strict=True):
                content = resized(picture, size or self.side, self.parts.upsampler)
                about = {"by": "voice", "seed": one, "weights": self.digest, "trained_on": self.about}
                found.append(Sample("image", content, one, provenance=about))
        return found

    def condition(self, voice: NDArray[np.floating]) -> Tensor:
        """Return a voice as the network takes it, (256,).

        Raises:
            ArgumentError: If it is none.
        """
        row = np.asarray(voice, np.float32).ravel()
        width = len(self.mean)
        if len(row) < width or row[width:].any() or not row.any():
            raise ArgumentError("voice", f"{row.shape[0]} numbers: must be a voice, {width} numbers of encode_voice")
        own = row[:width] / max(float(np.linalg.norm(row[:width])), 1e-12) - self.mean
        return torch.from_numpy(own / max(float(np.linalg.norm(own)), 1e-12))

    @torch.inference_mode()
    def latents(self, conditions: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Return latents (B, C, H, W) for conditions (B, 256), each from its own source of noise."""
        own = self.network.config
        options = SampleOptions(
            num_steps=own.num_steps or SampleOptions().num_steps,
            guidance_scale=1.0 if own.guidance_scale is None else own.guidance_scale,
            guided_times=own.guided_times,
        )
        return self.network.draw(Condition(conditions, torch.zeros(len(conditions))), generators, options)

    @torch.inference_mode()
    def pictures(self, latents: Tensor) -> list[NDArray[np.uint8]]:
        """Return pictures (H, W, 3) uint8 of latents (B, C, H, W)."""
        decoded = self.parts.autoencoder.decode(latents).clamp(-1, 1)
        # (B, 3, H, W) -> (B, H, W, 3)
        return list(((decoded + 1) * 127.5).round().permute(0, 2, 3, 1).byte().numpy())


def _network(section: dict[str, Any], shape: Shape, width: int, folder: Path) -> FamilyNetwork:
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}
    try:
        family = family_of(str(settings.pop("type")))
        config = family.Config(**settings)
    except (ConfigError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / 'config.json'}: family: {error}") from error
    make = partial(network_for_sampling, family, config, shape, width)
    return FamilyNetwork(family, config, load_module(make, folder / "network.safetensors"))


def is_face_maker(folder: Path) -> bool:
    """Return whether a folder holds what makes faces from voices."""
    try:
        return bool(json.loads((folder / "config.json").read_text("utf-8")).get("kind") == "faces")
    except (OSError, ValueError, AttributeError):
        return False


def write_face_config(
    folder: Path, family: Mapping[str, Any], shape: Shape, mean: NDArray[np.float32], about: Mapping[str, Any]
) -> None:
    """Write config.json of what makes faces.

    Args:
        folder: Where.
        family: Its type and settings.
        shape: Of latents.
        mean: (256,) what is taken out of voices.
        about: Further keys: "about", "autoencoder", "trained".
    """
    rounded = [round(float(value), 6) for value in mean]
    config = {"format": 1, "kind": "faces", **about, "shape": list(shape), "family": dict(family), "mean": rounded}
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
