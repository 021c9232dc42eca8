"""Damaged media of every format: each is decoded, or refused in one line, within ten seconds and within 2 GB.

All mutants go through the decoders; a hundredth of those that are decoded are also encoded by the networks.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog.places import MANIFEST_SUFFIXES
from embedspace.errors import EmbedspaceError
from embedspace.media.audio import iter_audio
from embedspace.media.image import load_image
from embedspace.media.text import read_text
from embedspace.media.video import iter_frames
from embedspace.modality import modality_of
from eval.bench.faults.samples import mutated, tables, write_samples
from eval.bench.faults.trials import Plan, Tally

__all__ = ["mutants"]

MUTANTS = 10_000
_SECONDS, _GIGABYTES = 10.0, 2.0
_START_WALL_SECONDS, _WALL_SECONDS = 900.0, 120.0
"""On the clock, until the networks are loaded and whole files read, and for one mutant."""
_TABLE_SHARE, _ENCODED = 20, 100
"""One mutant in so many is a table; one in so many is also encoded."""


def mutants(plan: Plan) -> Tally:
    """Have a process read mutant after mutant; one that dies or hangs is replaced and goes on with the next."""
    tally, count, first, barren = Tally(), plan.count(MUTANTS), 0, 0
    slowest, largest, kinds = 0.0, 0.0, dict[str, int]()
    while first < count:
        command = [sys.executable, "-m", "eval.bench.faults.mutants", json.dumps(_order(plan, first, count))]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, bufsize=0) as reader:
            barren += 1
            for found in _results(reader):
                first, barren = found["number"] + 1, 0
                slowest, largest = max(slowest, found["seconds"]), max(largest, found["gigabytes"])
                kinds[found["suffix"]] = kinds.get(found["suffix"], 0) + 1
                tally.add(found["outcome"], _wrong(found))
            reader.kill()
        if first < count:
            if barren > 2:
                raise RuntimeError(f"reading does not begin; see what is said by: {' '.join(command)}")
            tally.add("died", f"mutant {first}: the process died, status {reader.returncode}, or did not answer")
            first += 1
    tally.more = {
        "networks": not plan.fake,
        "slowest_seconds_of_processor": round(slowest, 2), "most_gigabytes": round(largest, 2), "by_suffix": kinds
    }  # fmt: skip
    return tally


def _order(plan: Plan, first: int, count: int) -> dict[str, Any]:
    return {"folder": str(plan.folder), "seed": plan.seed, "fake": plan.fake, "first": first, "count": count}


def _wrong(found: dict[str, Any]) -> str:
    which = f"mutant {found['number']} ({found['suffix']}, {found['how']})"
    if found["outcome"] == "unexpected":
        return f"{which}: {found['said']}"
    if found["seconds"] > _SECONDS:
        return f"{which}: {found['seconds']:.1f} s of processor time"
    return f"{which}: {found['gigabytes']:.1f} GB" if found["gigabytes"] > _GIGABYTES else ""


def _results(reader: subprocess.Popen[bytes]) -> Any:  # noqa: ANN401 - an iterator of JSON objects
    """Yield what a reader says, until it ends or says nothing for too long; unbuffered, so that `select` sees all."""
    assert reader.stdout is not None
    patience = _START_WALL_SECONDS
    while select.select([reader.stdout], [], [], patience)[0]:
        patience = _WALL_SECONDS
        line = reader.stdout.readline()
        if not line.endswith(b"\n"):
            return
        yield json.loads(line)


# -- in the process that reads ---------------------------------------------------------------------------------------


def _peak_gigabytes() -> float:
    """The most memory that this process has held; `ru_maxrss` would begin with what its parent held."""
    peak = Path("/proc/self/status").read_text("ascii").split("VmHWM:")[1].split()[0]
    return int(peak) / (1 << 20)


def _read_all(order: dict[str, Any]) -> None:
    folder = Path(order["folder"]) / f"from-{order['first']}"
    folder.mkdir()
    samples = write_samples(folder / "samples")
    whole = [(file.suffix, file.read_bytes()) for file in samples]
    sheets = [(file.suffix, file.read_bytes()) for file in tables(folder / "samples", samples[0].name)]
    read = _reader(order["fake"])
    for suffix, raw in whole:  # what is whole must be read; and what is loaded on first use is loaded now
        file = folder / f"whole{suffix}"
        file.write_bytes(raw)
        if said := read(file, True)[1]:
            raise SystemExit(f"a whole {suffix} is not read: {said}")
    for number in range(order["first"], order["count"]):
        draws = np.random.default_rng([order["seed"], number])
        choice = sheets if number % _TABLE_SHARE == 0 else whole
        suffix, raw = choice[number // _TABLE_SHARE % len(choice) if choice is sheets else number % len(choice)]
        damaged, how = mutated(raw, [content for _, content in whole], draws)
        file = folder / f"mutant{suffix}"
        file.write_bytes(damaged)
        started = time.process_time()
        outcome, said = read(file, number % _ENCODED == 1)
        found = {
            "number": number, "suffix": suffix, "how": how, "outcome": outcome, "said": said,
            "seconds": time.process_time() - started,
            "gigabytes": _peak_gigabytes(),
        }  # fmt: skip
        print(json.dumps(found), flush=True)


def _reader(fake: bool) -> Callable[[Path, bool], tuple[str, str]]:
    """Return a function (file, whether to encode) -> (outcome, what was said)."""
    from embedspace.catalog.ingest.scan import Candidate, scan

    encode = _encoder(fake)

    def read(file: Path, encoded: bool) -> tuple[str, str]:
        try:
            if file.suffix in MANIFEST_SUFFIXES:
                rows = sum(isinstance(entry, Candidate) for entry in scan(file))
                return f"table read, {'some' if rows else 'no'} rows", ""
            _DECODERS[modality_of(file)](file)
            if encoded:
                encode(file)
            return "read", ""
        except EmbedspaceError as error:
            return "refused", str(error)
        except Exception as error:
            return "unexpected", f"{type(error).__name__}: {error}"

    return read


_DECODERS: dict[str, Callable[[Path], Any]] = {
    "image": lambda file: load_image(file, min_side=288),
    "text": read_text,
    "audio": lambda file: list(iter_audio(file, 16_000, 6.0, 6.0)),
    "video": lambda file: [list(iter_frames(file, 10.0)), list(iter_audio(file, 16_000, 6.0, 6.0))],
}


def _encoder(fake: bool) -> Callable[[Path], None]:
    if fake:
        return lambda _: None
    from embedspace.space import EmbeddingSpace

    space = EmbeddingSpace.from_pretrained()

    def encode(file: Path) -> None:
        for segment in space.encode_decoded([space.decode(file, modality_of(file))])[0]:
            if not abs(float(np.linalg.norm(segment.vector)) - 1) < 1e-3:
                raise ValueError("a vector that is not of unit norm")

    return encode


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _read_all(json.loads(sys.argv[1]))
