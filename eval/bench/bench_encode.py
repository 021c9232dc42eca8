"""How long encoding takes, against an earlier commit of this project, and whether the vectors stayed what they were.

    python -m eval.bench.bench_encode                          # what `make demo` indexes, a sample of each kind
    python -m eval.bench.bench_encode --against d60caf3 --kinds image --items 96

Two processes, one of this tree and one of the earlier commit's package, encode the same decoded items in turns, so that
what else the machine does falls on both; each figure is that of the fastest round. Decoding is not counted.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.common import arguments, report
from indexes.demo import RECIPES, STAMPS, media_rows, recipe_rows
from training.corpora.fetch import unpacked

ROOT = Path(__file__).resolve().parents[2]
SHARES = {"image": 1.0, "audio": 0.25, "speech": 0.125, "text": 4.0, "recipe": 1.0}
"""Kind -> items of it, as a share of `--items`: a clip of speech takes ten times as long as a picture."""

WORKER = """
import json, sys, time
from pathlib import Path
import numpy as np
from embedspace import EmbeddingSpace
from embedspace.errors import MediaError
space = EmbeddingSpace.from_pretrained()
decoded = {}
for kind, items in json.loads(Path(sys.argv[1]).read_text("utf-8")).items():
    of, imposed = {"speech": ("audio", "speech"), "recipe": ("text", None)}.get(kind, (kind, None))
    decoded[kind] = []
    for item in items:
        source = Path(item["path"]) if "path" in item else item["text"]
        try:
            decoded[kind].append(space.decode(source, of, as_modality=imposed))
        except MediaError as error:  # silent ones
            print(f"left out: {error}", file=sys.stderr)
print(json.dumps({kind: len(items) for kind, items in decoded.items()}), flush=True)
for line in sys.stdin:
    kind = line.strip()
    wall, processor, rows = time.perf_counter(), time.process_time(), []
    for first in range(0, len(decoded[kind]), 32):
        encoded = space.encode_decoded(decoded[kind][first : first + 32])
        rows += [segment.vector for segments in encoded for segment in segments]
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    np.save(sys.argv[2] + kind + ".npy", np.stack(rows))
    print(json.dumps([wall, processor]), flush=True)
"""


class Worker:
    """A process that encodes with the package of one tree."""

    def __init__(self, tree: Path, items: Path, vectors: Path) -> None:
        """Start it, and wait until it has decoded everything."""
        self._vectors = vectors
        vectors.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(items), f"{vectors}/"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
        )  # fmt: skip
        if not (said := self._said()):
            raise SystemExit(f"{tree}: cannot encode; its message is above")
        self.counts: dict[str, int] = json.loads(said)

    def encode(self, kind: str) -> tuple[float, float]:
        """Return the wall and processor seconds that a kind's items take."""
        assert self._process.stdin is not None
        print(kind, file=self._process.stdin, flush=True)
        wall, processor = json.loads(self._said())
        return wall, processor

    def rows(self, kind: str) -> NDArray[np.float32]:
        """Return the vectors of the last round."""
        found: NDArray[np.float32] = np.load(self._vectors / f"{kind}.npy")
        return found

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def sample(kinds: list[str], items: int, seed: int) -> dict[str, list[Mapping[str, Any]]]:
    """Draw items of what the demo indexes, by kind."""
    stamps = unpacked(STAMPS) / "usr/share/tuxpaint/stamps"
    book = next(unpacked(RECIPES).rglob("recipes_en-us.json"))
    rows: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in SHARES}
    for row in media_rows(stamps):
        rows[row["modality"]].append(row)
    rows["recipe"] = [{"text": {k: v for k, v in row.items() if k != "id"}} for row in recipe_rows(book)]
    rng = random.Random(seed)
    return {kind: rng.sample(rows[kind], min(len(rows[kind]), max(1, int(items * SHARES[kind])))) for kind in kinds}


def compare(new: Worker, old: Worker, kind: str, rounds: int) -> dict[str, Any]:
    """Return the figures of one kind; a first round, in which networks are loaded, is not counted."""
    new.encode(kind), old.encode(kind)
    times = [(new.encode(kind), old.encode(kind)) for _ in range(rounds)]
    now, before = (tuple(min(column) for column in zip(*each, strict=True)) for each in zip(*times, strict=True))
    rows, earlier, count = new.rows(kind), old.rows(kind), new.counts[kind]
    return {
        "items": count, "segments": len(rows),
        "milliseconds_per_item": round(1e3 * now[0] / count, 1),
        "milliseconds_per_item_before": round(1e3 * before[0] / count, 1),
        "times_as_fast": round(before[0] / now[0], 2),
        "processor_times_as_fast": round(before[1] / now[1], 2),
        "least_cosine": round(float((rows * earlier).sum(axis=1).min()), 7),
        "largest_difference": float(np.abs(rows - earlier).max()),
    }  # fmt: skip


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--against", default="d60caf3", metavar="COMMIT", help="whose package is the earlier one")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        packed = subprocess.run(
            ["git", "-C", str(ROOT), "archive", given.against, "embedspace"], check=True, capture_output=True
        ).stdout
        (folder / "earlier").mkdir()
        subprocess.run(["tar", "-x", "-C", str(folder / "earlier")], input=packed, check=True)
        chosen = sample(given.kinds, given.items, given.seed)
        (folder / "items.json").write_text(json.dumps(chosen), "utf-8")
        trees = {"new": ROOT, "old": folder / "earlier"}
        new, old = (Worker(tree, folder / "items.json", folder / name) for name, tree in trees.items())
        found = {kind: compare(new, old, kind, given.rounds) for kind in given.kinds}
        new.close(), old.close()
    report(given, "encode", against=given.against, seed=given.seed, rounds=given.rounds, kinds=found)


if __name__ == "__main__":
    main()
