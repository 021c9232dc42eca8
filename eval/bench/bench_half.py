"""What half precision does to each kind of medium on this machine: time, and the rows' least cosine.

    python -m eval.bench.bench_half                            # of what `make demo` indexes, some of each kind

With OMP_NUM_THREADS=1 in one thread. Each kind is one batch, and the trial is that of `index --half-precision` (see
`embedspace.encoders.half`): processor time of the batch in full precision over that in bfloat16. Pictures are tried in
torch, in both precisions, and their time by onnxruntime, which many pictures take, stands beside.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

from embedspace import EmbeddingSpace
from embedspace.encoders.half import HalfPrecision
from eval.bench.bench_batches import decoded
from eval.bench.bench_encode import SHARES, sample
from eval.bench.common import arguments, report


class Rows:
    """The rows of a batch, as the trial wants them."""

    def __init__(self, space: EmbeddingSpace, items: list[Any]) -> None:
        self.rows = np.stack([segment.vector for found in space.encode_decoded(items) for segment in found])


def measure(kind: str, rows: list[Any]) -> dict[str, Any]:
    """Try half precision on items of a kind, in a space of its own."""
    space = EmbeddingSpace.from_pretrained()
    items = decoded(space, kind, rows)
    for item in items:  # a recording as sound alone, without what may be said in it
        item.inputs = [piece for piece in item.inputs if not (kind == "audio" and piece.optional)]
    encoder = space.encoder("text" if kind == "recipe" else kind)
    facts: dict[str, Any] = {"items": len(items)}
    if kind == "image":
        encoder.may_halve = True
        encoder._note = lambda count: None  # torch's networks, not yet onnxruntime's sessions
    half = HalfPrecision()
    encode = functools.partial(Rows, space, items)
    encode()  # what is loaded with the first batch is not counted
    half.encode(kind, encoder, encode)
    trial = half.trials[kind]
    facts |= {"rows": trial.rows, "least_cosine": round(trial.cosine, 5), "times_as_fast": round(trial.gain, 2)}
    if kind == "image":
        encoder.halved = False
        torch_seconds = _seconds(encode)
        del encoder._note
        encode()
        facts["onnxruntime_times_as_fast"] = round(torch_seconds / _seconds(encode), 2)
    return facts


def _seconds(encode: functools.partial[Rows]) -> float:
    started = time.process_time()
    encode()
    return time.process_time() - started


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    given = parser.parse_args()
    found = {kind: measure(kind, rows) for kind, rows in sample(given.kinds, given.items, given.seed).items()}
    report(given, "half", seed=given.seed, kinds=found)


if __name__ == "__main__":
    main()
