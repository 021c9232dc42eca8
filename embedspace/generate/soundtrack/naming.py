"""What strikes gets a name first, among those that sounds bear, and then a sound of that name.

A picture's vector finds sounds badly: it is as near to names of no picture. So names are compared with each other, as
things look in a film: small, coded, before whatever is behind them. Vectors of such pictures have a mean of their own,
and a name is its text's vector with some of its pictures' beside it (`training/generators/sound_names.py` makes both).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from embedspace.errors import WeightsError
from embedspace.files import read_config, replacing, write_text

__all__ = ["FORMAT", "SHIPPED", "Named", "SoundNames", "load_names"]

Rows = NDArray[np.float32]

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "soundtrack"
FORMAT = 1
_VECTORS, _NAMES = "names.safetensors", "names.json"
_SHARP = 0.04
"""Temperature of a name's probability."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name for something that is seen.

    Attributes:
        name: One of those that sounds bear.
        probability: Its share among all of them, mean of the views.
        similarity: Mean cosine of the views with it.
    """

    name: str
    probability: float
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class SoundNames:
    """Names that sounds bear, as they look.

    Attributes:
        names: N of them.
        items: Training items of each name among the generator's, the one first that is most like its name by the
            space's own hearing.
        vectors: (N, embed_dim) unit rows.
        middle: (embed_dim,) what is taken out of a picture's vector.
        encoder: Fingerprint of the encoder of pictures that all this belongs to.
    """

    names: tuple[str, ...]
    items: tuple[tuple[str, ...], ...]
    vectors: Rows
    middle: NDArray[np.float32]
    encoder: str

    def of(self, views: Rows) -> Named:
        """Return the likeliest name of a thing.

        Args:
            views: (V, embed_dim) unit rows of pictures of it.
        """
        rows = views - self.middle
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        cosines = rows.astype(np.float64) @ self.vectors.T  # (V, N)
        shares = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / _SHARP)
        shares /= shares.sum(axis=1, keepdims=True)
        mean = shares.mean(axis=0)
        best = int(np.argmax(mean))
        return Named(self.names[best], float(mean[best]), float(cosines[:, best].mean()))

    def among(self, items: Sequence[str]) -> SoundNames | None:
        """Return those of them that have a sound among some training items; None where none has."""
        there = set(items)
        kept = [(k, tuple(i for i in own if i in there)) for k, own in enumerate(self.items)]
        kept = [(k, own) for k, own in kept if own]
        if not kept:
            return None
        places = [k for k, _ in kept]
        names = tuple(self.names[k] for k in places)
        return SoundNames(names, tuple(own for _, own in kept), self.vectors[places], self.middle, self.encoder)

    def items_of(self, name: str) -> tuple[str, ...]:
        """Return the training items of a name."""
        return self.items[self.names.index(name)]

    def save(self, folder: Path, about: Mapping[str, object]) -> None:
        """Write names.safetensors (half precision) and names.json; `about` says what they were made from."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / _VECTORS) as partial:
            save_file({"vectors": self.vectors.astype(np.float16), "middle": self.middle.astype(np.float32)}, partial)
            partial.chmod(0o644)
        listed = {"names": list(self.names), "items": [list(own) for own in self.items], "encoder": self.encoder}
        write_text(folder / _NAMES, _json({"format": FORMAT, **listed, **about}))


def _json(value: Mapping[str, object]) -> str:
    import json

    return json.dumps(value, ensure_ascii=False) + "\n"


@lru_cache(maxsize=2)
def load_names(folder: Path = SHIPPED) -> SoundNames:
    """Read what `SoundNames.save` wrote.

    Raises:
        WeightsError: If it is missing or damaged.
    """
    about = read_config(folder / _NAMES, FORMAT, "names of sounds")
    try:
        tensors = load_file(folder / _VECTORS)
        names, items = tuple(about["names"]), tuple(tuple(own) for own in about["items"])
        vectors = tensors["vectors"].astype(np.float32)
        if not len(names) == len(items) == len(vectors):
            raise ValueError(f"{len(names)} names, {len(items)} lists of items and {len(vectors)} vectors")
        return SoundNames(names, items, vectors, tensors["middle"], str(about["encoder"]))
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{folder / _VECTORS}: not the vectors of names: {reason}; install embedspace again"
        ) from error
