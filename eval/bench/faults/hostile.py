"""Files that are made to hurt, through the command line: one line per fault, no exit 70, seconds, and within 2 GB."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.bench.faults.hostile_files import CASES, Case
from eval.bench.faults.trials import Plan, Tally

__all__ = ["hostile"]

_GIGABYTES = 2.0
_START_SECONDS, _FILE_SECONDS, _WALL_SECONDS = 20.0, 10.0, 900.0
"""Processor time to load the networks and per file; and on the clock, for one that waits for ever."""


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
    said = folder.with_suffix(".said")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{folder}/bin:{os.environ.get('PATH', '')}"}
    with said.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)
        deadline, late = time.monotonic() + _WALL_SECONDS, False
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline and not late:
                late = True
                process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    text = said.read_text("utf-8", "replace")
    return _Ended(process.returncode, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (1 << 20), late)
