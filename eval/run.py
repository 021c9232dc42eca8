"""Measure a space on the suites and rewrite the tables.

    python -m eval.run                                          # the shipped weights on every suite they are fair for
    python -m eval.run --only stamps emoji_vendor               # some suites
    python -m eval.run --only stamps_full --weights FOLDER      # weights that saw no stamp

Minutes on one core the first time; vectors are kept under build/eval-cache until the weights or the files change.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from embedspace.errors import EmbedspaceError
from embedspace.evaluate import evaluate_retrieval, load_suite
from embedspace.space import EmbeddingSpace

SUITES = Path(__file__).parent / "suites"
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the suites one after the other; a suite that cannot run is named and does not stop the others."""
    names = sorted(
        path.stem for path in SUITES.glob("*.toml") if not path.stem.startswith("generation")
    )  # not retrieval
    parser = argparse.ArgumentParser(description="Measure a space on the suites and rewrite the tables.")
    parser.add_argument("--only", nargs="+", choices=names, metavar="SUITE", help=f"of {' '.join(names)}")
    parser.add_argument("--weights", type=Path, help="folder of a space; the shipped one by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    space = EmbeddingSpace.from_pretrained(arguments.weights)
    failed = 0
    for name in arguments.only or [name for name in names if not load_suite(SUITES / f"{name}.toml").own_weights]:
        started = time.monotonic()
        try:
            entry = evaluate_retrieval(SUITES / f"{name}.toml", space, arguments.out)
        except EmbedspaceError as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        for result in entry["results"]:
            metrics = {key: result["metrics"][key][0] for key in ("recall_at_1", "recall_at_10", "medr")}
            print(
                f"{name:22} {result['query']:>14} -> {result['gallery']:12} {result['label']:20} "
                f"R@1 {100 * metrics['recall_at_1']:5.1f}  R@10 {100 * metrics['recall_at_10']:5.1f}  "
                f"MedR {metrics['medr']:g} of {result['gallery_size']}",
                flush=True,
            )
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    if arguments.out.resolve() == RESULTS.resolve():
        subprocess.run([sys.executable, "-m", "eval.figures"], check=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
