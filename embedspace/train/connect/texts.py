"""Which texts two spaces share: distinct, encoded by both, some of them held out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from embedspace.encoders.connectors.lasso import nonnegative_lasso
from embedspace.errors import InputError

__all__ = [
    "Pairs",
    "composing_texts",
    "distinct_pairs",
    "media_of",
    "nearest_texts",
    "nearness",
    "split_pairs",
    "withhold",
]

_FEWEST_TEXTS = 100
"""Below this a rotation of hundreds of dimensions follows the accidents of its texts."""
_FEWEST_MEDIA = 20
_COMPARED, _CHUNK = 500, 4096
_ATOMS, _PENALTY = 400, 0.1
"""Nearest texts and cost of weights where texts are counted by combinations, as the method `sparse` has them."""
_FEWEST_HELD_OUT, _MOST_HELD_OUT = 20, 1000
_ORDINARY = re.compile(r"[^\w]+")


def withhold(texts: Sequence[str], withheld: Iterable[str], key: Callable[[str], str] | None = None) -> list[int]:
    """Return the positions of the texts that say nothing that is withheld.

    Args:
        texts: Candidates for the shared texts.
        withheld: What must not be among them, such as the captions of a test's gallery.
        key: Makes two texts the same: by default letters and digits alone, in one case.

    Returns:
        Ascending positions.
    """
    of = key or _plain
    taken = {of(text) for text in withheld}
    return [position for position, text in enumerate(texts) if of(text) not in taken]


def _plain(text: str) -> str:
    return _ORDINARY.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


@dataclass(frozen=True)
class Pairs:
    """Unit rows of the same texts in both spaces, (N, in_dim) and (N, embed_dim)."""

    x: Tensor
    y: Tensor


def distinct_pairs(source: NDArray[np.float32], target: NDArray[np.float32]) -> Pairs:
    """Check two matrices, and leave out rows that are not finite or repeat.

    Args:
        source: (N, in_dim) rows of the shared texts in the source space.
        target: (N, out_dim) rows of the same texts in the target space.

    Returns:
        The rows that are left, (M, in_dim) and (M, out_dim), of unit norm.

    Raises:
        InputError: If the shapes do not belong together, or too few texts are left.
    """
    for name, rows in (("source", source), ("target", target)):
        if rows.ndim != 2 or not rows.shape[1]:
            raise InputError(f"{name} of shape {rows.shape}: give (N, width) rows, one per text")
    if len(source) != len(target):
        raise InputError(
            f"{len(source)} source rows and {len(target)} target rows: row i of both must be the same text"
        )
    good = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    rows = np.ascontiguousarray(source[good], np.float32)
    first = np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))), return_index=True)[1]
    first = np.sort(first.ravel())
    if len(first) < _FEWEST_TEXTS:
        raise InputError(
            f"{len(first)} distinct shared texts: a connector needs at least {_FEWEST_TEXTS}, thousands are better; "
            "add captions or names"
        )
    x, y = torch.from_numpy(rows[first]), torch.from_numpy(np.asarray(target[good][first], np.float32))
    return Pairs(F.normalize(x, dim=-1), F.normalize(y, dim=-1))


def media_of(rows: NDArray[np.float32], width: int, name: str) -> Tensor:
    """Check a modality's (M, width) unlabelled unit rows; return those that are finite.

    Raises:
        InputError: If the shape is another, the modality is text, or too few rows are left.
    """
    if name == "text":
        raise InputError("media 'text': texts are centred by the shared texts; name another modality")
    if rows.ndim != 2 or rows.shape[1] != width:
        raise InputError(f"media {name!r} of shape {rows.shape}: give (M, {width}) rows of the source space")
    good = rows[np.isfinite(rows).all(axis=1)]
    if len(good) < _FEWEST_MEDIA:
        raise InputError(f"media {name!r}: {len(good)} vectors give no centre; give at least {_FEWEST_MEDIA} files")
    return torch.from_numpy(np.asarray(good, np.float32))


def nearness(x: Tensor, media: Mapping[str, Tensor]) -> Tensor:
    """Return the cosine of each text with the nearest medium, all centred, (N,).

    Args:
        x: (N, in_dim) unit rows of texts.
        media: Modality -> (M, in_dim) unit rows; of more than 500 the first are compared.
    """
    texts, some = _centred(x, media)
    return torch.cat([(part @ some.T).amax(dim=1) for part in torch.split(texts, _CHUNK)])


def _centred(x: Tensor, media: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the texts and the media that are compared, each centred by its own mean, unit rows."""
    centred = [F.normalize(rows[:_COMPARED] - rows.mean(dim=0), dim=-1) for rows in media.values()]
    return F.normalize(x - x.mean(dim=0), dim=-1), torch.cat(centred)


def nearest_texts(
    source: NDArray[np.float32], media: Mapping[str, NDArray[np.float32]], count: int
) -> NDArray[np.int64]:
    """Return which texts are nearest to some unlabelled media: the ones to share where only few can be.

    Args:
        source: (N, in_dim) unit rows of the texts in the space of the media.
        media: Modality -> (M, in_dim) unit rows.
        count: How many.

    Returns:
        Ascending positions, at most `count`; a text without a vector is never among them.

    Raises:
        InputError: If there are no media, or they do not belong to the texts.
    """
    return _foremost(source, media, count, nearness)


def composing_texts(
    source: NDArray[np.float32], media: Mapping[str, NDArray[np.float32]], count: int
) -> NDArray[np.int64]:
    """Return which texts some unlabelled media are best put together of: the ones for `sparse` where few can be shared.

    Each medium is written as a sparse, non-negative combination of the texts nearest to it, as the method `sparse`
    does; texts count by the sum of their weights. Arguments, result and errors as `nearest_texts`.
    """
    return _foremost(source, media, count, _total_weights)


def _total_weights(x: Tensor, media: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of each text's weights over the media, (N,); arguments as `nearness`."""
    texts, some = _centred(x, media)
    totals = np.zeros(len(texts))
    for row in some:
        nearest = (texts @ row).topk(min(_ATOMS, len(texts))).indices
        atoms = texts[nearest].double().numpy()
        totals[nearest.numpy()] += nonnegative_lasso(atoms @ atoms.T, atoms @ row.double().numpy(), _PENALTY)
    return torch.from_numpy(totals)


def _foremost(
    source: NDArray[np.float32],
    media: Mapping[str, NDArray[np.float32]],
    count: int,
    score: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
) -> NDArray[np.int64]:
    """Return the positions of the `count` texts with the highest scores, ascending."""
    if not media:
        raise InputError("no media to be near to; give unlabelled vectors of at least one modality")
    rows = torch.from_numpy(np.asarray(source, np.float32))
    good = torch.isfinite(rows).all(dim=1)
    given = {name: media_of(one, rows.shape[1], name) for name, one in media.items()}
    near = torch.full((len(rows),), -torch.inf, dtype=torch.float64)
    near[good] = score(rows[good], given).double()
    first = near.argsort(descending=True, stable=True)[: min(count, int(good.sum()))]
    return np.sort(first.numpy())


def split_pairs(pairs: Pairs, share: float, seed: int) -> tuple[Pairs, Pairs]:
    """Hold out some texts by the seed."""
    count = len(pairs.x)
    held = min(max(_FEWEST_HELD_OUT, round(count * share)), _MOST_HELD_OUT, count // 2)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    out, kept = order[:held].sort().values, order[held:].sort().values
    return Pairs(pairs.x[kept], pairs.y[kept]), Pairs(pairs.x[out], pairs.y[out])
