"""Faults that an index must survive, injected on purpose: counts of trials, and of those that went wrong.

    python -m eval.bench.faults --out eval/results/bench            # all of it, on one core about half an hour
    python -m eval.bench.faults --only kills --only damages         # parts of it; the others' figures stay as they are
    python -m eval.bench.faults --scale 0.01 --fake                 # a hundredth of the trials and no networks: seconds

What happens is drawn from `--seed`; a process is killed at a moment on the clock, so that there no two runs are alike.
The exit code is 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedspace.evaluate.report import git_commit
from eval.bench.common import machine
from eval.bench.faults.damages import damages
from eval.bench.faults.hostile import hostile
from eval.bench.faults.kills import kills
from eval.bench.faults.mutants import mutants
from eval.bench.faults.readers import readers
from eval.bench.faults.trials import Plan, Tally

PARTS: dict[str, Callable[[Plan], Tally]] = {
    "kills": kills, "damages": damages, "mutants": mutants, "hostile": hostile, "readers": readers,
}  # fmt: skip


def main() -> int:
    """Run the parts that are asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the trials")
    parser.add_argument("--fake", action="store_true", help="decode only, no networks")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="also write faults.json there, part by part")
    given = parser.parse_args()
    wrong = 0
    for name in given.only or list(PARTS):
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            tally = PARTS[name](Plan(Path(folder), given.seed, given.scale, given.fake))
        figures = {
            **tally.figures(), "seed": given.seed, "seconds": round(time.monotonic() - started),
            "commit": git_commit(Path(__file__).parent), "machine": machine(),
        }  # fmt: skip
        wrong += len(tally.wrong)
        print(json.dumps({"benchmark": "faults", "part": name, **figures}), flush=True)
        if given.out:
            _merge(given.out / "faults.json", name, figures)
    return 1 if wrong else 0


def _merge(path: Path, name: str, figures: dict[str, Any]) -> None:
    """Put one part's figures in the place of its earlier ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text("utf-8")) if path.is_file() else {"benchmark": "faults"}
    found[name] = figures
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
