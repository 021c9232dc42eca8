"""What a search by words costs in a new process: in numpy, by a warm server, and as it was, by torch.

    python -m eval.bench.bench_start                    # 10,000 items, 9 rounds, beside commit 8e2edf6
    python -m eval.bench.bench_start --before COMMIT    # another commit, checked out into a temporary folder

Each round runs the three one after the other, so that all meet the same machine; ratios are medians over rounds. Time
of the processor is what the process and its children took (user and system), of the warm one the client's alone: the
server's share is in the wall time. The earlier commit makes the catalog, for both read that.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from eval.bench.common import arguments, report

ROOT = Path(__file__).resolve().parents[2]
QUERY = "a red bicycle"
FILL = """
import sys
from embedspace.catalog import Catalog
from embedspace.space import EmbeddingSpace
from eval.bench.bench_search import items
space = EmbeddingSpace.from_pretrained()
about = {"fingerprints": space.fingerprints(), "calibration_json": space.calibration_json()}
with Catalog.create(sys.argv[1], embed_dim=space.embed_dim, **about) as catalog:
    catalog.add(items(int(sys.argv[2]), space.embed_dim))
"""

Cost = tuple[float, float]
"""Seconds of the processor, seconds."""


def cost(command: list[str], folder: Path) -> Cost:
    """Run a command to its end.

    Args:
        command: Its output goes nowhere.
        folder: Where it runs; what is in it is imported first.
    """
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return used.ru_utime + used.ru_stime, wall


def measured(path: Path, before: Path, runs: int) -> dict[str, list[Cost]]:
    """Return the costs of each way, round by round; the first round fills the page cache and is left out."""
    search = ["search", str(path), QUERY]
    ways = {
        "torch": ([sys.executable, "-m", "embedspace.cli", *search], before),
        "numpy": ([sys.executable, "-m", "embedspace.cli", *search], ROOT),
        "warm": ([sys.executable, "-m", "embedspace", *search], ROOT),
        "python": ([sys.executable, "-c", "pass"], ROOT),
    }
    rounds = [{name: cost(*way) for name, way in ways.items()} for _ in range(runs + 1)][1:]
    return {name: [one[name] for one in rounds] for name in ways}


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--before", default="8e2edf6", metavar="COMMIT", help="commit whose words torch encodes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path, before, run = (Path(temporary) / name for name in ("bench.catalog", "before", "run"))
        run.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(run)
        subprocess.run(["git", "worktree", "add", "--detach", str(before), given.before], check=True, cwd=ROOT)
        serve = [sys.executable, "-m", "embedspace", "serve"]
        try:
            fill = [sys.executable, "-c", FILL, str(path), str(given.items)]
            subprocess.run(fill, check=True, cwd=before, env={**os.environ, "PYTHONPATH": str(before)})
            os.environ["PYTHONPATH"] = str(ROOT)
            subprocess.run([*serve, str(path), "--background", "--no-http"], check=True, cwd=ROOT)
            costs = measured(path, before, given.runs)
            told = subprocess.run([*serve, "--status"], check=True, cwd=ROOT, capture_output=True, text=True).stdout
        finally:
            subprocess.run([*serve, "--stop"], check=False, cwd=ROOT)
            subprocess.run(["git", "worktree", "remove", "--force", str(before)], check=True, cwd=ROOT)

    def median(name: str, column: int) -> float:
        return statistics.median(one[column] for one in costs[name])

    def ratio(name: str, column: int) -> float:
        pairs = zip(costs["torch"], costs[name], strict=True)
        return round(statistics.median(first[column] / second[column] for first, second in pairs), 1)

    report(
        given, "start", items=given.items, runs=given.runs, before=given.before,
        processor_seconds={name: round(median(name, 0), 3) for name in costs},
        wall_seconds={name: round(median(name, 1), 3) for name in costs},
        warm_answers=int(told.split(" commands")[0].split()[-1]), warm_asked=given.runs + 1,
        torch_over_numpy_processor=ratio("numpy", 0), ask_torch_over_numpy_processor=5.0,
        torch_over_warm_wall=ratio("warm", 1), ask_torch_over_warm_wall=20.0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
