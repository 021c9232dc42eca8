"""The names of a classifier's classes: lists of them by file or library, and their vectors in the space."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embedspace.encoders.towers.imagenet import imagenet_classes
from embedspace.errors import ConfigError, MissingExtraError

__all__ = ["class_vectors", "read_names"]

_TIMM = "timm:"
_SHIPPED = "imagenet"


def read_names(reference: str, folder: Path) -> list[tuple[str, ...]]:
    """Return what each class is called, in the order of the classifier's outputs; none has no name.

    Args:
        reference: "imagenet" (the 1,000 classes, as they ship), "timm:" and the name of one of its lists, such as
            "timm:imagenet-22k", or a file: a line per class with its names separated by commas, or JSON, a list of
            such lines or of lists of names.
        folder: Where a relative path begins.

    Raises:
        ConfigError: If there is no such list, or a class has no name.
        MissingExtraError: If timm is asked for and not installed.
    """
    if reference == _SHIPPED:
        return [(row.name, *row.synonyms) for row in imagenet_classes()]
    lines = _of_timm(reference) if reference.startswith(_TIMM) else _of_file(folder / reference)
    found = [line.split(",") if isinstance(line, str) else list(line) for line in lines]
    names = [tuple(name.strip() for name in line if name.strip()) for line in found]
    if not names or not all(names):
        where = next((number for number, own in enumerate(names, 1) if not own), 0)
        raise ConfigError(f"names {reference}: " + (f"class {where} has no name" if where else "no class in it"))
    return names


def _of_timm(reference: str) -> list[str]:
    try:
        from timm.data import imagenet_info
    except ImportError as error:
        raise MissingExtraError(f"names {reference} need timm; run: pip install 'embedspace[open-clip]'") from error
    try:
        info: Any = imagenet_info.ImageNetInfo(reference.removeprefix(_TIMM))
    except (AssertionError, ValueError, KeyError) as error:
        raise ConfigError(f"names {reference}: timm has no such list: {error}") from None
    return [str(info.index_to_description(number)) for number in range(info.num_classes())]


def _of_file(path: Path) -> list[str] | list[list[str]]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"names {path}: cannot read the names of classes: {error}") from None
    if path.suffix != ".json":
        return text.rstrip("\n").split("\n")
    try:
        stored = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"names {path}: no JSON: {error}") from None
    plain = isinstance(stored, list) and all(
        isinstance(row, str) or (isinstance(row, list) and all(isinstance(name, str) for name in row)) for row in stored
    )
    if not plain:
        raise ConfigError(f"names {path}: must be a list with a text, or a list of texts, per class")
    return list(stored)


def class_vectors(
    names: Sequence[tuple[str, ...]], encode: Callable[[list[str]], NDArray[np.float16] | NDArray[np.float32]]
) -> Tensor:
    """Return the vectors of classes, (C, embed_dim) unit rows: the mean of what the text tower makes of their names.

    Args:
        names: Names of each class.
        encode: Texts -> (N, embed_dim) rows of any length.
    """
    distinct = list(dict.fromkeys(name for own in names for name in own))
    place = {name: number for number, name in enumerate(distinct)}
    rows = F.normalize(torch.from_numpy(np.asarray(encode(distinct), np.float32)), dim=-1)
    means = torch.stack([rows[[place[name] for name in own]].mean(dim=0) for own in names])
    return F.normalize(means, dim=-1)
