"""What a search by words costs from the command line: in numpy, by a warm server, and as it was, by torch.

    python -m eval.bench.bench_start                    # 10,000 items, 9 rounds, beside commit 8e2edf6
    python -m eval.bench.bench_start --before COMMIT    # another commit, checked out into a temporary folder

Each way is the command `embedspace search CATALOG "a red bicycle"`, the script as pip writes it, in an environment as
wheels leave it (an editable one starts later: its finder is imported first). A round runs all ways one after the other,
so that they meet the same machine; ratios are medians over rounds. "warm" asks a server after a pause, as people do,
"again" at once, before a copy of the server has got ready. Time of the processor is what the process and its children
took (user and system); the server's, with getting ready for the next command, stands beside it. The earlier commit
makes the catalog, for both read that; it says nothing of speech, whose recogniser has changed since.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eval.bench.common import arguments, report

ROOT = Path(__file__).resolve().parents[2]
QUERY = "a red bicycle"
PAUSE = 2.0
"""Seconds in which a copy of the server gets ready, on any machine."""
FILL = """
import sys
from embedspace.catalog import Catalog
from embedspace.space import EmbeddingSpace
from eval.bench.bench_search import items
space = EmbeddingSpace.from_pretrained()
fingerprints = {modality: made for modality, made in space.fingerprints().items() if modality != "speech"}
about = {"fingerprints": fingerprints, "calibration_json": space.calibration_json()}
with Catalog.create(sys.argv[1], embed_dim=space.embed_dim, **about) as catalog:
    catalog.add(items(int(sys.argv[2]), space.embed_dim))
"""
SCRIPT = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from {module} import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(main())
"""

Cost = tuple[float, float]
"""Seconds of the processor, seconds."""


@dataclass(frozen=True)
class Installed:
    """One commit, as somebody has it who installed wheels.

    Attributes:
        python: Interpreter.
        command: `embedspace`.
        environment: Of its processes.
    """

    python: str
    command: str
    environment: dict[str, str]

    def run(self, *given: str) -> str:
        """Return what a command prints; it has to end well."""
        return subprocess.run(given, check=True, text=True, env=self.environment, stdout=subprocess.PIPE).stdout


def installed(folder: Path, source: Path, module: str) -> Installed:
    """Make an environment that has the libraries of this one, and the package from its source.

    Args:
        folder: The environment's folder.
        source: Root of a checkout.
        module: Where its `main` is.
    """
    venv.create(folder, symlinks=True)
    python, command = folder / "bin" / "python", folder / "bin" / "embedspace"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (packages / "bench.pth").write_text(f"{source}\n{sysconfig.get_path('purelib')}\n")
    command.write_text(SCRIPT.format(python=python, module=module))
    command.chmod(0o755)
    unlike = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")  # a user's modules are compiled once
    environment = {name: value for name, value in os.environ.items() if name not in unlike}
    return Installed(str(python), str(command), environment)


def cost(command: list[str], environment: dict[str, str]) -> Cost:
    """Run a command to its end; its output goes nowhere."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return used.ru_utime + used.ru_stime, wall


def measured(path: Path, now: Installed, before: Installed, runs: int) -> dict[str, list[Cost]]:
    """Return the costs of each way per round; the first compiles modules, fills the page cache and is left out."""
    search = ["search", str(path), QUERY]
    alone = {**now.environment, "XDG_RUNTIME_DIR": str(path.parent)}  # no server there
    rounds = []
    for _ in range(runs + 1):
        one = {"torch": cost([before.command, *search], before.environment)}
        one["numpy"] = cost([now.command, *search], alone)
        time.sleep(PAUSE)
        one["warm"] = cost([now.command, *search], now.environment)
        one["again"] = cost([now.command, *search], now.environment)
        one["python"] = cost([now.python, "-c", "pass"], now.environment)
        rounds.append(one)
    return {name: [one[name] for one in rounds[1:]] for name in rounds[0]}


@contextmanager
def warm_server(now: Installed, path: Path) -> Iterator[int]:
    """Keep a server of the command line alone while a block runs; gives its process."""
    now.run(now.command, "serve", str(path), "--background", "--no-http")
    try:
        yield int(now.run(now.command, "serve", "--status").split()[1].rstrip(","))
    finally:
        now.run(now.command, "serve", "--stop")


def processor_seconds(process: int) -> float:
    """Return the time of the processor that a process and its children that have ended took."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--before", default="8e2edf6", metavar="COMMIT", help="commit whose words torch encodes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path, source, run = (Path(temporary) / name for name in ("bench.catalog", "source", "run"))
        run.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(run)
        checkout = ["git", "worktree", "add", "--quiet", "--detach", str(source), given.before]
        subprocess.run(checkout, check=True, cwd=ROOT)
        try:
            before = installed(Path(temporary) / "before", source, "embedspace.cli")
            now = installed(Path(temporary) / "now", ROOT, "embedspace.__main__")
            before.run(before.python, "-P", "-c", FILL, str(path), str(given.items))
            with warm_server(now, path) as process:
                started = processor_seconds(process)
                costs = measured(path, now, before, given.runs)
                time.sleep(PAUSE)
                server = processor_seconds(process) - started
                answers = int(now.run(now.command, "serve", "--status").split(" commands")[0].split()[-1])
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(source)], check=True, cwd=ROOT)

    def median(name: str, column: int) -> float:
        return round(statistics.median(one[column] for one in costs[name]), 3)

    def ratio(name: str, column: int) -> float:
        pairs = zip(costs["torch"], costs[name], strict=True)
        return round(statistics.median(first[column] / second[column] for first, second in pairs), 1)

    report(
        given, "start", items=given.items, runs=given.runs, before=given.before,
        processor_seconds={name: median(name, 0) for name in costs},
        wall_seconds={name: median(name, 1) for name in costs},
        least_wall_seconds={name: round(min(one[1] for one in costs[name]), 3) for name in costs},
        warm_answers=answers, warm_asked=2 * (given.runs + 1),
        server_processor_seconds_per_command=round(server / answers, 3),
        torch_over_numpy_processor=ratio("numpy", 0), ask_torch_over_numpy_processor=5.0,
        torch_over_warm_wall=ratio("warm", 1), ask_torch_over_warm_wall=20.0,
        warm_wall_seconds=median("warm", 1), ask_warm_wall_seconds=0.1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
