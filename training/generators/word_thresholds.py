"""Choose when a text of words that the encoder does not know counts as "outside what the generator knows".

    python -m training.align.vectors text --splits val      # where they are not there
    python -m training.generators.word_thresholds

Chosen on one half of the validation captions that the memory lacks and on words of random letters; both errors are of
the other half and of other random words. `refused`: captions that count as outside. `admitted`: random words that do
not.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.generate.captions.legible import BROKEN, NEAR, needed_cosine
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace
from embedspace.vocabulary import SHIPPED_GENERATORS, load_vocabulary
from training.corpora.manifest import CORPORA, read_manifest
from training.generators.thresholds import random_words

__all__ = ["main"]

LIMITS = (2.0, 2.3, 2.6, 3.0)
NEARS = (0.55, 0.6, 0.65, 0.7, 0.75)
MOST_REFUSED = 0.04
"""Share of good captions that may be refused; of the settings that keep to it, the one that admits least is chosen."""
_PROBES = 300


def _shares(
    texts: list[str],
    words: list[list[list[str]]],
    cosines: NDArray[np.float32],
    floor: float,
    limit: float,
    near: float,
) -> float:
    """Return which share of the texts is outside."""
    needed = np.array([max(floor, needed_cosine(split, limit, near)) for split in words])
    return float((cosines < needed).mean()) if texts else 0.0


def main() -> None:
    """Print the setting that is chosen, and both errors of it, of the one that is in use, and of the cosine alone."""
    space, memory = EmbeddingSpace.from_pretrained(), load_vocabulary(SHIPPED_GENERATORS)
    known = set(memory.captions)
    items = (item for path in sorted(CORPORA.glob("*/manifest.jsonl")) for item in read_manifest(path))
    good = sorted({item.captions[0] for item in items if item.split == "val" and item.captions} - known)
    sets = {"chosen": (good[::2], random_words(_PROBES, 1)), "measured": (good[1::2], random_words(_PROBES, 2))}
    encoder, floor = space.encoder(Modality.TEXT), memory.known_cosine["text"]
    parts = {}
    for name, pair in sets.items():
        parts[name] = [
            (
                texts,
                [encoder.words_of(text) for text in texts],
                memory.cosines(centre(space.encode_text(texts), Modality.TEXT, space.calibration.means)).max(axis=1),
            )
            for texts in pair
        ]

    def errors(name: str, limit: float, near: float) -> tuple[float, float]:
        refused, caught = (_shares(*part, floor, limit, near) for part in parts[name])
        return refused, 1.0 - caught

    tried = {pair: errors("chosen", *pair) for pair in itertools.product(LIMITS, NEARS)}
    best = min((pair for pair in tried if tried[pair][0] <= MOST_REFUSED), key=lambda pair: tried[pair][1])
    print(f"{len(good)} captions; chosen: {best[0]} letters per piece, cosine {best[1]}; in use: {BROKEN}, {NEAR}")
    for name, pair in (("chosen", best), ("in use", (BROKEN, NEAR)), ("the cosine alone", (0.0, -1.0))):
        refused, admitted = errors("measured", *pair)
        print(f"{name}: refused {refused:.1%}, admitted {admitted:.1%}")


if __name__ == "__main__":
    main()
