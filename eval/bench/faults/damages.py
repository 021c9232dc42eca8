"""Bytes of a catalog's files are changed: the damage is said, or nothing that the catalog answers has changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.catalog import Catalog
from embedspace.errors import EmbedspaceError
from eval.bench.faults.kills import _add, _index
from eval.bench.faults.small_catalog import content_of, vector_of, write_collection
from eval.bench.faults.trials import Plan, Tally, forked, outcome_of

__all__ = ["damages"]

DAMAGES = 300
_SECONDS = 30.0
_SAID, _HARMLESS, _SILENT = 0, 1, 2
_OUTCOMES = {_SAID: "said", _HARMLESS: "no effect", _SILENT: "silently wrong"}


def damages(plan: Plan) -> Tally:
    """Damage the database two times in three, else one of the files that are derived from it."""
    path = plan.folder / "whole.catalog"
    _index(path, write_collection(plan.folder / "collection"))
    _add(path)
    with Catalog.open(path) as catalog:
        catalog.optimize()
    truth = _answers(path)
    tally = Tally()
    derived = sorted(file.name for file in path.iterdir() if file.suffix in (".packed", ".faiss", ".json"))
    for number in range(plan.count(DAMAGES)):
        draws = plan.draws(number)
        broken = plan.folder / f"{number}.catalog"
        shutil.copytree(path, broken)
        name = str(draws.choice(derived)) if number % 3 == 2 else "catalog.sqlite"
        how = _damage(broken / name, draws)
        child = forked(lambda broken=broken: _look(broken, truth))  # type: ignore[misc]
        status, late = outcome_of(child, _SECONDS)
        outcome = "too long" if late else _OUTCOMES.get(-1 if status is None else status, f"died, status {status}")
        wrong = "" if outcome in ("said", "no effect") else f"{name}, {how} (trial {number}): {outcome}"
        tally.add(f"{'database' if name == 'catalog.sqlite' else 'derived file'}: {outcome}", wrong)
        shutil.rmtree(broken)
    return tally


def _damage(file: Path, draws: np.random.Generator) -> str:
    """Change a file; returns what was done."""
    raw = bytearray(file.read_bytes())
    at = int(draws.integers(len(raw)))
    match int(draws.integers(5)):
        case 0:
            raw[at] ^= 1 << int(draws.integers(8))
            how = f"one bit at byte {at}"
        case 1:
            raw[at : at + 64] = draws.bytes(len(raw[at : at + 64]))
            how = f"64 random bytes at {at}"
        case 2:
            at -= at % 4096
            raw[at : at + 4096] = bytes(len(raw[at : at + 4096]))
            how = f"a page of zeros at {at}"
        case 3:
            del raw[at:]
            how = f"cut at byte {at}"
        case _:
            other = int(draws.integers(len(raw))) // 4096 * 4096
            at -= at % 4096
            raw[at : at + 4096] = raw[other : other + len(raw[at : at + 4096])]
            how = f"page {other // 4096} over page {at // 4096}"
    file.write_bytes(raw)
    return how


def _answers(path: Path) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    with Catalog.open(path, read_only=True) as catalog:
        hits = catalog.search(vector_of("1", b"item 3"), query_modality="image", k=20)[0]
        return content_of(catalog), [(hit.id, round(hit.score, 4)) for hit in hits]


def _look(path: Path, truth: tuple[dict[str, Any], list[tuple[str, float]]]) -> int:
    """Verify and search a damaged catalog, in a child process."""
    try:
        with Catalog.open(path, read_only=True) as catalog:
            if catalog.verify(files=False).problems:
                return _SAID
        return _HARMLESS if _answers(path) == truth else _SILENT
    except EmbedspaceError:
        return _SAID
