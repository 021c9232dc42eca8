"""How many items encoders should take at once: the same decoded items in batches of 1 to 64, in turns.

    python -m eval.bench.bench_batches                         # of what `make demo` indexes, some of each kind
    python -m eval.bench.bench_batches --kinds image --items 64

With OMP_NUM_THREADS=1 in one thread. A batch is what the network gets at once: the size that an encoder would cut it to
(`together`) is set to the batch's. Figures are milliseconds of processor time per item, of the fastest round; a size
beyond the items that there are is left out.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from embedspace import EmbeddingSpace
from embedspace.errors import MediaError
from embedspace.segment import Decoded
from eval.bench.bench_encode import SHARES, sample
from eval.bench.common import arguments, report

SIZES = (1, 2, 4, 8, 16, 32, 64)
_MANY = 32


def decoded(space: EmbeddingSpace, kind: str, items: list[Any]) -> list[Decoded]:
    """Return the items of a kind that can be encoded."""
    of, imposed = {"speech": ("audio", "speech"), "recipe": ("text", None)}.get(kind, (kind, None))
    found = []
    for item in items:
        source = Path(item["path"]) if "path" in item else item["text"]
        try:
            found.append(space.decode(source, of, as_modality=imposed))
        except MediaError:  # silent ones
            continue
    return found


def measure(space: EmbeddingSpace, items: list[Decoded], rounds: int) -> dict[str, Any]:
    """Encode some items in batches of each size, in turns."""
    encoders = [space.encoder(name) for name in {piece.modality for item in items for piece in item.inputs}]
    usual = [encoder.together for encoder in encoders]
    for _ in range(1 + _MANY // len(items)):  # networks are loaded, and changed for those that many items are worth
        space.encode_decoded(items)
    best: dict[int, float] = {}
    sizes = [size for size in SIZES if size <= len(items)]
    for _ in range(rounds):
        for size in sizes:
            for encoder in encoders:
                encoder.together = size
            started = time.process_time()
            for first in range(0, len(items), size):
                space.encode_decoded(items[first : first + size])
            spent = 1e3 * (time.process_time() - started) / len(items)
            best[size] = min(spent, best.get(size, spent))
    for encoder, size in zip(encoders, usual, strict=True):
        encoder.together = size
    fastest = min(best, key=lambda size: best[size])
    return {
        "items": len(items),
        "milliseconds": {str(size): round(ms, 2) for size, ms in best.items()},
        "best": fastest,
    }


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    given = parser.parse_args()
    space = EmbeddingSpace.from_pretrained()
    chosen = sample(given.kinds, given.items, given.seed)
    found = {}
    for kind, items in chosen.items():
        ready = decoded(space, kind, list(items))
        if ready:
            found[kind] = measure(space, ready, given.rounds)
    report(given, "batches", seed=given.seed, rounds=given.rounds, kinds=found)


if __name__ == "__main__":
    main()
