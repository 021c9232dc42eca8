"""Measure the generators on every generation suite.

    python -m eval.generate                         # hours the first time; samples are kept under build/eval-cache
    python -m eval.generate --only sounds matrix    # some suites

What was made is kept by what the networks were given: after new encoders, noise or thresholds only that is made anew
whose condition changed. `python -m training.judges.pictures` and `python -m training.judges.sounds` make the judges.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from embedspace.errors import EmbedspaceError
from embedspace.evaluate.generation.kinds import evaluate, table
from embedspace.space import EmbeddingSpace

SUITES = Path(__file__).parent / "suites"
RESULTS = Path(__file__).parent / "results"
_MADE = ("images", "images_chosen", "images_from_noise", "sounds", "matrix")
NAMES = {"captions": "generation", **{name: f"generation_{name}" for name in _MADE}}
"""What is asked for -> the suite; in the order in which they are measured."""


def main() -> int:
    """Run the suites one after the other; one that cannot run is named and does not stop the others."""
    parser = argparse.ArgumentParser(description="Measure the generators on every generation suite.")
    parser.add_argument("--only", nargs="+", choices=list(NAMES), help="some suites; all by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    space, failed = EmbeddingSpace.from_pretrained(), 0
    for name in arguments.only or NAMES:
        started, told = time.monotonic(), [0.0]

        def tell(doing: str, done: int, total: int, told: list[float] = told) -> None:
            if time.monotonic() - told[0] > 30 or done == total:
                told[0] = time.monotonic()
                print(f"{doing}: {done}/{total}", flush=True)

        try:
            entry = evaluate(SUITES / f"{NAMES[name]}.toml", space, arguments.out, tell)
        except EmbedspaceError as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        print(table(entry))
        print(f"{name}: {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
