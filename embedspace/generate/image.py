"""The generator of pictures: small square pictures from latents of an eighth as many cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.calibration.centring import centre
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import ArgumentError
from embedspace.generate.base import GeneratorSpace, Neighbour, Request, Sample
from embedspace.generate.editing import Edit
from embedspace.generate.latents.autoencoder import DOWN
from embedspace.generate.latents.edits import draws_anew, padded_mask, picture_merged
from embedspace.generate.latents.files import LatentParts, load_parts
from embedspace.generate.latents.generator import LatentGenerator
from embedspace.generate.registry import register_generator
from embedspace.generate.targets import option_names
from embedspace.generate.upsampling import FACTOR, resized
from embedspace.modality import Modality

__all__ = ["ImageGenerator"]


class ImageGenerator(LatentGenerator):
    """Pictures.

    Args:
        parts: From `load_parts`.
        space: Whose image encoder tells candidates apart; None to take the first.
    """

    modality = Modality.IMAGE.value
    options = option_names("image")

    def __init__(self, parts: LatentParts, space: GeneratorSpace | None = None) -> None:
        super().__init__(parts)
        self.space = space
        self.upsampler = parts.upsampler

    @torch.inference_mode()
    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Return `request.num_samples` samples of each vector; an edit of strength 0 is only made larger or smaller."""
        edit = request.edit
        translated = edit is not None and request.style in self.translators
        if edit is None or not (translated or (edit.strength == 0 and not edit.is_masked)):
            return super().generate(vectors, sigma, request)
        self.family_of(request)
        content = self._redrawn(edit, request) if translated else self._as_it_is(edit, request)
        seeds = range(request.seed, request.seed + request.num_samples)
        return [[Sample(self.modality, content, seed) for seed in seeds] for _ in vectors]

    def _as_it_is(self, edit: Edit, request: Request) -> NDArray[np.uint8]:
        return resized(edit.content, request.size or max(edit.content.shape[:2]), self.upsampler)

    def _redrawn(self, edit: Edit, request: Request) -> NDArray[np.uint8]:
        """Return the picture that is edited as a translator draws it, so far as the strength says: all of it, unless.

        Raises:
            ArgumentError: If a mask is to be found: a style is not of a part.
        """
        if edit.auto:
            raise ArgumentError("mask", f"auto: the style {request.style!r} draws all of it anew; name a mask yourself")
        translator = self.translators[request.style or ""]
        latents = translator.between(
            self.autoencoder.encode(self.to_input(edit)), 1.0 if edit.strength is None else edit.strength
        )
        ((made, _),) = self.to_media(self.autoencoder.decode(latents), request)
        return self.merged(made, edit, None, request)

    @property
    def chooses(self) -> bool:
        """Whether it can tell which of several candidates fits best."""
        return self.space is not None

    def fits(self, vector: NDArray[np.float32], samples: Sequence[Sample]) -> list[float]:
        """Return the cosines of the pictures' own centred vectors with the condition."""
        if self.space is None:
            return super().fits(vector, samples)
        rows = self.space.encode_image([sample.content for sample in samples])
        cosines = centre(rows, Modality.IMAGE, self.space.calibration.means) @ vector
        return [float(value) for value in cosines]

    def to_media(self, decoded: Tensor, request: Request) -> list[tuple[NDArray[Any], int]]:
        """Turn (B, 3, H, W) into (H, W, 3) uint8, drawn at the side that is asked for."""
        # (B, 3, H, W) -> (B, H, W, 3)
        pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).byte().numpy()
        longer = request.size if request.edit is None and request.size is not None else self.side
        return [(resized(picture, longer, self.upsampler), 0) for picture in pixels]

    def to_input(self, edit: Edit) -> Tensor:
        """Return the picture on a white square."""
        pixels = resize_padded(edit.content, self.side)
        return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1

    def changed_cells(self, edit: Edit) -> Tensor:
        """Return the cells that the mask touches."""
        assert edit.mask is not None
        return padded_mask(edit.mask, self.side, DOWN)

    def merged(self, made: NDArray[Any], edit: Edit, cells: NDArray[np.bool_] | None, request: Request) -> NDArray[Any]:
        """Return a picture in the proportions of what is edited, with what stays out of it.

        What is itself drawn anew is as large as it was, within what the upsampler draws.
        """
        whole = max(edit.content.shape[:2])
        if not edit.is_masked:
            told = self.without_translation(request)
            redrawn = draws_anew(told, self.networks[self.family_of(told)])
            whole = max(self.side, min(whole, FACTOR * self.side)) if redrawn else self.side
        longer = request.size or whole
        return picture_merged(resized(made, max(longer, self.side), self.upsampler), edit, cells, longer)

    def own_condition(self, edit: Edit) -> tuple[NDArray[np.float32], float]:
        """Return the picture's own vector."""
        if self.space is None:
            return super().own_condition(edit)
        row = centre(self.space.encode_image([edit.content]), Modality.IMAGE, self.space.calibration.means)
        vectors, sigma = self.conditions(row, np.array([self.noise_of(Modality.IMAGE)], np.float32))
        return vectors[0], float(sigma[0])

    @property
    def side(self) -> int:
        """Pixels of a side of what the decoder makes."""
        return int(self.neighbours.latents.shape[-1]) * DOWN

    def neighbour_pictures(
        self, vector: NDArray[np.float32], modality: str, space: GeneratorSpace, k: int
    ) -> list[tuple[Neighbour, NDArray[np.uint8]]]:
        """Return the k training items nearest to a vector of the space, as the autoencoder keeps them."""
        return self.neighbour_media(centre(vector[None], modality, space.calibration.means)[0], k)


@register_generator("image")
def _create(config: Mapping[str, Any], folder: Path, space: GeneratorSpace) -> ImageGenerator:
    return ImageGenerator(load_parts(config, folder), space)
