"""Edits of what latents decode to: the latents of what is edited, where they stay, and the whole put together again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import ArgumentError
from embedspace.generate.base import Request
from embedspace.generate.conditioning import Condition
from embedspace.generate.editing import Edit
from embedspace.generate.families.base import SampleOptions
from embedspace.generate.latents.files import FamilyNetwork, LatentOptions

__all__ = [
    "EditedLatents",
    "ability_name",
    "cells_that_differ",
    "draws_anew",
    "needed_abilities",
    "options_for",
    "padded_mask",
    "picture_merged",
    "picture_without_padding",
    "refuse_untold",
    "soft_edges",
]

DEFAULT_STRENGTH = 0.6
"""Of an edit without a mask."""
STYLE_STRENGTH = 0.5
"""Of what is drawn anew in a style."""
STYLE_GUIDANCE = 6.0
"""Weight of a style against none, of what is drawn anew in it."""
EDIT_GUIDANCE = 4.0
"""Weight of what is asked for against what it is, of what is drawn anew without a style."""
_PICTURE = 3
"""Dimensions of a picture's content; a sound has one."""
_DIFFERS = 0.5
"""A cell is changed that differs by more than this share of what the most different ones do."""
_MOST, _LEAST = 0.95, 0.05
"""Quantiles of the differences that count as all and as nothing."""
_FEATHER = 0.01
"""Radius, in longer sides, within which a change fades towards what stays."""

_ABILITIES = {"num_steps": "steps", "guidance_scale": "guidance"}
"""Option of a request -> what a family must be able to, where it is not 1."""
_LACKING = {
    "start": "start from what is there",
    "mask": "masks",
    "difference": "masks of its own",
    "style": "styles",
    "map": "maps",
}
"""What a family is said not to have, where it is called otherwise than the ability."""


@dataclass(frozen=True, slots=True, eq=False)
class EditedLatents:
    """What a family is given of an edit.

    Attributes:
        init: (1, C, H, W) latents of what is edited.
        keep: (N, 1, H, W) where they stay, for each of N vectors; None for nowhere.
        whole: Whether what may change begins at what is edited; else at a neighbour.
        given: What is edited, as one condition whose context is `init` itself; None unless it is drawn anew.
    """

    init: Tensor
    keep: Tensor | None
    whole: bool
    given: Condition | None = None

    def context(self, near: Tensor) -> Tensor:
        """Return the context (B, K, C, H, W) of B samples: what is drawn anew, else the neighbours `near`."""
        if self.given is None or self.given.context is None:
            return near
        return self.given.context.expand(len(near), -1, -1, -1, -1)

    def options(self, options: SampleOptions, condition: Condition, rows: Tensor) -> SampleOptions:
        """Return how the samples of a condition are drawn; `rows` (B,) says of which vector each is."""
        init = self.init.expand(len(rows), -1, -1, -1)
        if self.given is not None:
            given = self.given.rows(torch.zeros(len(rows), dtype=torch.long))
            keep = None if self.keep is None else self.keep[rows]
            return dataclasses.replace(options, init=init, keep=keep, given=given)
        if self.keep is None:
            return dataclasses.replace(options, init=init)
        keep = self.keep[rows]
        if not self.whole and condition.context is not None and condition.context.shape[1]:
            init = torch.where(keep, init, condition.context[:, 0])
        return dataclasses.replace(options, init=init, keep=keep)


def draws_anew(request: Request, network: FamilyNetwork) -> bool:
    """Return whether what is edited is itself drawn anew, and not something else in its place.

    So are pictures in a style, and pictures of which all may change towards what is asked for; sounds have no such way
    that was measured.
    """
    edit = request.edit
    if edit is None or edit.auto or "redraw" not in network.family.can:
        return False
    return request.style is not None or (not edit.is_masked and edit.content.ndim == _PICTURE and not request.drawing)


def start_for(request: Request, network: FamilyNetwork) -> float:
    """Return the time that an edit begins at: a strength of 1 is the earliest that the network was trained for.

    Args:
        request: Where its edit has a mask and no strength, or there is none, the earliest time is taken.
        network: Draws it.
    """
    earliest, edit = network.family.earliest(network.config), request.edit
    anew = draws_anew(request, network)
    if edit is None or (edit.strength is None and edit.is_masked and not anew):
        return earliest
    usual = STYLE_STRENGTH if anew and request.style is not None else DEFAULT_STRENGTH
    return earliest + (1 - earliest) * (1 - (usual if edit.strength is None else edit.strength))


def options_for(request: Request, network: FamilyNetwork, sampling: LatentOptions) -> SampleOptions:
    """Return how a network samples for a request; over a map it begins at noise, for a neighbour lies elsewhere."""
    usual = network.options(sampling, request.start)
    if (request.candidates or 1) > 1 and usual.start:
        usual = dataclasses.replace(usual, num_steps=min(usual.num_steps, sampling.candidate_steps))
    as_usual = request.start is not None or (request.edit is None and request.drawing is None)
    guidance = usual.guidance_scale
    if draws_anew(request, network):
        guidance = EDIT_GUIDANCE if request.style is None else STYLE_GUIDANCE
    return dataclasses.replace(
        usual,
        start=usual.start if as_usual else start_for(request, network),
        num_steps=request.num_steps or usual.num_steps,
        guidance_scale=guidance if request.guidance_scale is None else request.guidance_scale,
    )


def cells_that_differ(network: FamilyNetwork, init: Tensor, given: Condition, wanted: Condition) -> Tensor:
    """Return which cells (N, 1, H, W) of latents a network sees differently as N wanted things than as what they are.

    Args:
        network: Of a family that can "difference".
        init: (1, C, H, W).
        given: Condition of what is edited, one item.
        wanted: Conditions of N items.

    Raises:
        ArgumentError: If none differs more than others.

    Source: Couairon et al. 2022 (DiffEdit, https://arxiv.org/abs/2210.11427), section 3.2.
    """
    count = len(wanted.vector)
    context = None if given.context is None else given.context.expand(count, *given.context.shape[1:])
    repeated = Condition(given.vector.expand(count, -1), given.sigma.expand(count), context)
    apart = network.family.difference(network.module, init.expand(count, -1, -1, -1), repeated, wanted)
    smooth = F.avg_pool2d(apart[:, None], 3, stride=1, padding=1, count_include_pad=False)
    flat = smooth.flatten(1)
    least, most = flat.quantile(_LEAST, dim=1), flat.quantile(_MOST, dim=1)
    scaled = (smooth - least[:, None, None, None]) / (most - least).clamp(min=1e-6)[:, None, None, None]
    found = scaled > _DIFFERS
    if not bool(found.flatten(1).any(dim=1).all()):
        raise ArgumentError("mask", "auto: nothing of it differs from what is wanted; name the mask yourself")
    return found


def picture_without_padding(square: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the part of a square (S, S, ...) that `resize_padded` put a picture of a shape (H, W, ...) into."""
    side, (height, width) = square.shape[0], shape[:2]
    scale = side / max(height, width)
    high, wide = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (side - high) // 2, (side - wide) // 2
    return square[top : top + high, left : left + wide]


def padded_mask(mask: NDArray[np.bool_], side: int, down: int) -> Tensor:
    """Return the cells (1, 1, side / down, side / down) of a padded picture that a mask (H, W) touches."""
    white = Image.fromarray(np.where(mask, 0, 255).astype(np.uint8)).convert("RGB")  # what is padded stays
    small = 255 - resize_padded(white, side)[:, :, 0]
    cells = F.max_pool2d(torch.from_numpy(small.astype(np.float32))[None, None], down)
    return cells >= 128


def picture_merged(
    made: NDArray[np.uint8], edit: Edit, changed: NDArray[np.bool_] | None, longer: int
) -> NDArray[np.uint8]:
    """Return an edited picture (H, W, 3) in the proportions of the original, with what stays out of the original.

    Args:
        made: (S, S, 3), padded.
        edit: The edit.
        changed: (h, w) cells that the generator chose, where it did.
        longer: Pixels of the longer side of what is returned.
    """
    height, width = edit.content.shape[:2]
    scale = longer / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    new = Image.fromarray(picture_without_padding(made, edit.content.shape)).resize(size, Image.Resampling.BICUBIC)
    if not edit.is_masked:
        return np.asarray(new)
    mask = edit.mask
    if mask is None:
        assert changed is not None
        cells = Image.fromarray((changed * 255).astype(np.uint8)).resize(made.shape[:2], Image.Resampling.NEAREST)
        mask = picture_without_padding(np.asarray(cells), edit.content.shape) > 0
    old = Image.fromarray(edit.content).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(Image.composite(new, old, soft_edges(mask, size)))


def soft_edges(mask: NDArray[np.bool_], size: tuple[int, int]) -> Image.Image:
    """Return how much of each pixel is new, 0 to 255, at (width, height): nothing of what the mask (H, W) keeps."""
    hard = Image.fromarray((mask * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    hard = hard.point(lambda level: 255 * (level >= 128))
    blurred = np.asarray(hard.filter(ImageFilter.GaussianBlur(_FEATHER * max(size))), np.float32) / 255
    return Image.fromarray((np.clip(2 * blurred - 1, 0, 1) * np.asarray(hard)).astype(np.uint8))


def needed_abilities(request: Request) -> list[tuple[str, Any, str]]:
    """Return (option, its value, what a family must be able to) of a request."""
    found: list[tuple[str, Any, str]] = [
        (option, f"{value:g}", ability)
        for option, ability in _ABILITIES.items()
        if (value := getattr(request, option)) not in (None, 1)
    ]
    if request.start:
        found.append(("start", f"{request.start:g}", "start"))
    if request.style is not None:
        found.append(("style", request.style, "style"))
    if request.drawing is not None:
        found.append(("map", request.drawing.about.get("map", "map"), "map"))
    edit = request.edit
    if edit is None:
        return found
    about = edit.asked
    if edit.is_masked:
        found.append(("mask", about.get("mask", "mask"), "mask"))
    if edit.auto:
        found.append(("mask", about.get("mask", "mask"), "difference"))
    if not edit.is_masked or edit.strength is not None:
        found.append(("init", about.get("init", "init"), "start"))
    return found


def ability_name(ability: str) -> str:
    """Return what a family is said not to have."""
    return _LACKING.get(ability, ability)


def refuse_untold(request: Request, family: str, network: FamilyNetwork, others: Iterable[str]) -> None:
    """Refuse a style or a map of which a network was told nothing in training, and a start that is before all it saw.

    Args:
        request: What is asked.
        family: Name of the network.
        network: The network.
        others: Styles that other networks draw.

    Raises:
        ArgumentError: If one is asked for.
    """
    config, earliest = network.config, network.family.earliest(network.config)
    if request.start is not None and request.start < earliest:
        raise ArgumentError("start", f"{request.start:g}: the family {family!r} was trained from {earliest:g} on")
    if request.style is not None and request.style not in config.styles:
        known = ", ".join([*config.styles, *others])
        known = known or f"none; name some in the recipe's families.{family}.styles and train it"
        raise ArgumentError("style", f"{request.style!r}: the family {family!r} was trained on the styles {known}")
    if request.drawing is not None and not config.maps:
        raise ArgumentError(
            "map", f"the family {family!r} was trained without maps; set families.{family}.maps and train it"
        )
