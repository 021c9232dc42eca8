"""Files that are made to hurt, through the command line: one line per fault, no exit 70, seconds, and within 2 GB."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.bench.faults.hostile_files import CASES, Case
from eval.bench.faults.trials import Plan, Tally

__all__ = ["hostile"]

_GIGABYTES = 2.0
_START_SECONDS, _FILE_SECONDS, _WALL_SECONDS = 20.0, 10.0, 900.0
"""Processor time to load the networks and per file; and on the clock, for one that waits for ever."""
_WATCH = """
import json, os, subprocess, sys
_, status, usage = os.wait4(subprocess.Popen(sys.argv[2:]).pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
"""
"""Starts a command from a small process: Linux counts to a child what its parent held when it was forked."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a command ended."""

    code: int
    said: str
    processor: float
    gigabytes: float
    late: bool


def hostile(plan: Plan) -> Tally:
    """Run every case in a process of its own."""
    tally = Tally()
    cases = CASES[: plan.count(len(CASES))] if plan.scale < 1 else CASES
    figures: dict[str, dict[str, float | int]] = {}
    for number, case in enumerate(cases):
        folder = plan.folder / f"{number}"
        folder.mkdir()
        arguments = case.make(folder)
        command = [part.format(catalog=folder / "c.catalog") for part in arguments]
        ended = _run([sys.executable, "-m", "embedspace.cli", *command], folder)
        wrong = _wrong(case, ended) or case.after(folder)
        tally.add(f"exit {ended.code}", wrong and f"{case.name}: {wrong}")
        figures[case.name] = {
            "exit": ended.code, "processor_seconds": round(ended.processor, 1), "gigabytes": round(ended.gigabytes, 2)
        }  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
    tally.more = {
        "most_gigabytes": max(float(found["gigabytes"]) for found in figures.values()), "cases": figures
    }  # fmt: skip
    return tally


def _wrong(case: Case, ended: _Ended) -> str:
    if ended.late:
        return f"still running after {_WALL_SECONDS:.0f} s"
    if ended.code not in case.codes:
        return f"exit {ended.code}, not one of {case.codes}: {ended.said[-300:]}"
    if "Traceback" in ended.said or "unexpected" in ended.said:
        return ended.said[-300:]
    if case.says not in ended.said:
        return f"does not say {case.says!r}: {ended.said[-300:]}"
    if ended.processor > _START_SECONDS + _FILE_SECONDS * case.files:
        return f"{ended.processor:.0f} s of processor time"
    return f"{ended.gigabytes:.2f} GB" if ended.gigabytes > _GIGABYTES else ""


def _run(command: Sequence[str], folder: Path) -> _Ended:
    """Run a command to its end; what it says is kept in a file, so that no pipe can fill up."""
    said, used = folder.with_suffix(".said"), folder.with_suffix(".used")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{folder}/bin:{os.environ.get('PATH', '')}"}
    watched = [sys.executable, "-S", "-c", _WATCH, str(used), *command]
    late = False
    with said.open("wb") as out:
        process = subprocess.Popen(
            watched, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            process.wait(_WALL_SECONDS)
        except subprocess.TimeoutExpired:
            late = True
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = said.read_text("utf-8", "replace")
    if late:
        return _Ended(-signal.SIGKILL, text, 0.0, 0.0, late)
    code, processor, kilobytes = json.loads(used.read_text("utf-8"))
    return _Ended(code, text, processor, kilobytes / (1 << 20), late)
