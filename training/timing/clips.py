"""Rendered clips as the networks of timing take them; more are rendered than the corpus holds, by the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.timing.profiles import GRID, SAMPLE_RATE, bands_of, profiles_of
from embedspace.encoders.timing.windows import seen_windows
from embedspace.files import replacing
from embedspace.media.audio import load_audio
from embedspace.media.film import Film, iter_greys
from training.corpora.manifest import CORPORA, Item
from training.corpora.video.rendered import SPLITS, clip_of, material

__all__ = ["BUILD", "Clips", "clip_path", "load_clips", "rendered_clips"]

BUILD = Path("build/timing")


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """Clips of a split, prepared.

    Attributes:
        rows: (N, 3, 72, TICKS) half precision, see `profiles_of`.
        columns: (N, 3, 96, TICKS).
        bands: (N, BANDS, HOPS), see `bands_of`.
        kinds: Motion of each.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    bands: torch.Tensor
    kinds: list[str]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)


def rendered_clips(split: str, first: int, count: int) -> Iterator[Item]:
    """Yield so many clips of a split; those beyond the corpus' are rendered into `BUILD`, where they are not yet.

    Args:
        split: "train", "val" or "test".
        first: Number of the first, which is its seed.
        count: How many.
    """
    made = material(split)
    (BUILD / "clips/files").mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        yield clip_of(split, number, made, CORPORA / "rendered" if number < SPLITS[split] else BUILD / "clips")


def clip_path(item: Item) -> Path:
    """Return where a clip lies."""
    number = int(item.id.rsplit("-", 1)[1])
    return CORPORA / item.path if number < SPLITS[item.split] else BUILD / "clips/files" / Path(item.path).name


def load_clips(split: str, first: int, count: int) -> Clips:
    """Return so many clips of a split, prepared; they are kept in `BUILD`."""
    path = BUILD / f"{split}-{first}-{count}.npz"
    if not path.is_file():
        _prepare(path, split, first, count)
    with np.load(path) as file:
        rows, columns, bands = (torch.from_numpy(file[name]) for name in ("rows", "columns", "bands"))
        return Clips(rows, columns, bands, [str(kind) for kind in file["kinds"]])


def _prepare(path: Path, split: str, first: int, count: int) -> None:
    found: dict[str, list[NDArray[np.float16]]] = {"rows": [], "columns": [], "bands": []}
    kinds = []
    for number, item in enumerate(rendered_clips(split, first, count)):
        clip = clip_path(item)
        (_, _, frames), *_ = seen_windows(iter_greys(clip, Film(), GRID))
        sound = load_audio(clip, sample_rate=SAMPLE_RATE).waveform
        for name, values in zip(found, (*profiles_of(frames), bands_of(sound)), strict=True):
            found[name].append(values.astype(np.float16))
        kinds.append(str(item.extra["motion"]))
        if number % 200 == 199:
            print(f"{split}: {number + 1} of {count} clips", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        made = {name: np.stack(values) for name, values in found.items()}
        np.savez(file, kinds=np.array(kinds), rows=made["rows"], columns=made["columns"], bands=made["bands"])
