"""Rows of frozen towers, computed once per tower and item, and kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.tower import TowerEncoder
from embedspace.errors import MediaError
from embedspace.files import replacing
from embedspace.train.align.media import prepared_of
from embedspace.train.align.pairs import Pair

__all__ = ["TowerRows", "caption_rows", "media_rows"]

Tell = Callable[[str, int, int], None]
_AT_ONCE = 32
_SAVE_SECONDS = 60.0


@dataclass
class TowerRows:
    """Rows of one tower for one modality.

    Attributes:
        rows: (M, feature_dim) float16, of any length.
        views: For each item its rows: a recording has one per window, most things have one.
        unreadable: Item -> reason, of those without rows.
    """

    rows: NDArray[np.float16]
    views: list[NDArray[np.int64]]
    unreadable: dict[int, str] = field(default_factory=dict)


def media_rows(encoder: TowerEncoder, pairs: Sequence[Pair], folder: Path, tell: Tell) -> TowerRows:
    """Return the rows of the items of some pairs; what the folder holds already is not computed again.

    Args:
        encoder: Encoder of the modality of all the pairs.
        pairs: The items.
        folder: Where rows are kept, in a file per tower's digest.
        tell: Told (what, done, total).
    """
    return _rows(encoder, [pair.key for pair in pairs], [pair.media for pair in pairs], folder, tell)


def caption_rows(encoder: TowerEncoder, captions: Sequence[str], folder: Path, tell: Tell) -> NDArray[np.float16]:
    """Return a row per caption, (N, feature_dim) float16; where the tower cannot take it whole, of its beginning."""
    keys = [hashlib.sha256(caption.encode()).hexdigest() for caption in captions]
    found = _rows(encoder, keys, list(captions), folder, tell)
    if found.unreadable:
        number, reason = next(iter(found.unreadable.items()))
        raise MediaError(f"caption {captions[number]!r}: {reason}")
    return found.rows[[views[0] for views in found.views]]


def _rows(encoder: TowerEncoder, keys: list[str], media: list[Any], folder: Path, tell: Tell) -> TowerRows:
    modality = encoder.modality
    other = encoder.window_seconds != TowerEncoder(encoder.tower, modality).window_seconds
    cut = f".{encoder.window_seconds:g}s" if other else ""  # rows of windows of another length
    name = f"{encoder.tower.digest[:16]}.{modality}{cut}.npz"
    store = _Store(folder / name, encoder.tower.feature_dim(modality))
    unreadable: dict[str, str] = {}
    first = {key: number for number, key in reversed(list(enumerate(keys)))}  # of equal items one is computed
    missing = [number for key, number in sorted(first.items(), key=lambda entry: entry[1]) if key not in store.found]
    saved, done = time.monotonic(), 0
    for batch in _prepared(encoder, missing, media):
        done += len(batch)
        unreadable |= {keys[number]: str(found) for number, found in batch if isinstance(found, MediaError)}
        readable = {keys[number]: found for number, found in batch if not isinstance(found, MediaError)}
        for key, rows in zip(readable, _encoded(encoder, list(readable.values())), strict=True):
            store.add(key, rows)
        if time.monotonic() - saved > _SAVE_SECONDS or done == len(missing):
            store.save()
            saved = time.monotonic()
            tell(f"{modality} rows", done, len(missing))
    packed, places = store.packed()
    empty = np.empty(0, np.int64)
    return TowerRows(
        packed,
        [places.get(key, empty) for key in keys],
        {number: unreadable[key] for number, key in enumerate(keys) if key in unreadable},
    )


@torch.inference_mode()
def _encoded(encoder: TowerEncoder, items: Sequence[list[Any]]) -> list[NDArray[np.float16]]:
    """Return the rows of some items, whose parts run through the tower together."""
    parts = [part for item in items for part in item]
    batches = [parts[start : start + _AT_ONCE] for start in range(0, len(parts), _AT_ONCE)]
    if not batches:
        return []
    made = torch.cat([encoder.tower.encode(encoder.modality, batch) for batch in batches]).cpu()
    return [rows.numpy().astype(np.float16) for rows in torch.split(made, [len(item) for item in items])]


def _prepared(
    encoder: TowerEncoder, numbers: Sequence[int], media: Sequence[Any]
) -> Iterator[list[tuple[int, list[Any] | MediaError]]]:
    """Decode in threads, a batch of items at a time."""

    def one(number: int) -> tuple[int, list[Any] | MediaError]:
        try:
            return number, prepared_of(encoder, media[number])
        except MediaError as error:
            return number, error

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(numbers), _AT_ONCE):
            yield list(pool.map(one, numbers[start : start + _AT_ONCE]))


class _Store:
    """A file of rows by key: arrays `keys`, `counts` and `rows`."""

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width = path, width
        self.found: dict[str, NDArray[np.float16]] = {}
        if path.is_file():
            with np.load(path) as stored:
                parts = np.split(stored["rows"], np.cumsum(stored["counts"])[:-1])
                self.found = dict(zip(stored["keys"].tolist(), parts, strict=True))

    def add(self, key: str, rows: NDArray[np.float16]) -> None:
        self.found[key] = rows

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        counts = np.array([len(rows) for rows in self.found.values()], np.int64)
        with replacing(self.path) as partial, partial.open("wb") as file:
            np.savez(file, keys=np.array(list(self.found)), counts=counts, rows=np.concatenate(self._all()))

    def packed(self) -> tuple[NDArray[np.float16], dict[str, NDArray[np.int64]]]:
        """Return all rows, and key -> places of its rows."""
        ends = np.cumsum([0, *(len(rows) for rows in self.found.values())])
        places = {key: np.arange(ends[n], ends[n + 1]) for n, key in enumerate(self.found)}
        return np.concatenate(self._all()), places

    def _all(self) -> list[NDArray[np.float16]]:
        return [np.empty((0, self.width), np.float16), *self.found.values()]
