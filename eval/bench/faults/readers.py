"""Eight processes search a catalog while another one writes to it: every answer is right for some committed state."""

from __future__ import annotations

import time
from pathlib import Path

from embedspace.catalog import Catalog
from embedspace.errors import EmbedspaceError
from eval.bench.faults.small_catalog import new_catalog, vector_of, written_items
from eval.bench.faults.trials import Plan, Tally, forked, outcome_of

__all__ = ["readers"]

READERS, SECONDS = 8, 60.0
_BATCH = 8
_FIRST = 40


def readers(plan: Plan) -> Tally:
    """Search and write at the same time for a while."""
    path = plan.folder / "shared.catalog"
    with new_catalog(path) as catalog:
        catalog.add(written_items(_FIRST))
    until = time.monotonic() + max(SECONDS * plan.scale, 1.0)
    logs = [plan.folder / f"{number}.log" for number in range(READERS + 1)]
    children = [forked(lambda log=log: _read(path, until, log)) for log in logs[:-1]]  # type: ignore[misc]
    children.append(forked(lambda: _write(path, until, logs[-1])))
    tally, counts = Tally(), []
    for child, log in zip(children, logs, strict=True):
        status, late = outcome_of(child, 120 + SECONDS)
        said = log.read_text("utf-8") if log.exists() else "said nothing"
        name = "writer" if log == logs[-1] else "reader"
        good = status == 0 and not late and said.isdigit()
        tally.add(f"{name} {'right to the end' if good else 'failed'}", "" if good else f"{name}: {said}")
        counts.append(int(said) if said.isdigit() else 0)
    with Catalog.open(path, read_only=True) as catalog:
        problems = catalog.verify(files=False).problems
    if problems:
        tally.wrong.append(f"verify afterwards: {problems[0]}")
    tally.more = {"readers": READERS, "searches": sum(counts[:-1]), "transactions": counts[-1]}
    return tally


def _write(path: Path, until: float, log: Path) -> int:
    """Add and remove items, eight per transaction; write down how many transactions that were."""
    done = 0
    try:
        with Catalog.open(path, timeout=30.0) as catalog:
            while time.monotonic() < until:
                catalog.add(written_items(_BATCH, _FIRST + _BATCH * (done % 20)))
                catalog.remove(
                    uris=[f"item/{_FIRST + _BATCH * ((done + 10) % 20) + number}" for number in range(_BATCH)]
                )
                done += 2
                if done % 50 == 0:
                    catalog.optimize()
    except EmbedspaceError as error:
        return _say(log, f"{type(error).__name__}: {error}", 1)
    return _say(log, str(done), 0)


def _read(path: Path, until: float, log: Path) -> int:
    """Search; opening anew every now and then. Write down how many searches that were, or what was wrong."""
    done = 0
    try:
        while time.monotonic() < until:
            with Catalog.open(path, read_only=True) as catalog:
                for _ in range(20):
                    if wrong := _check(catalog, done):
                        return _say(log, wrong, 1)
                    done += 1
    except EmbedspaceError as error:
        return _say(log, f"{type(error).__name__}: {error}", 1)
    return _say(log, str(done), 0)


def _check(catalog: Catalog, number: int) -> str:
    wanted = number % _FIRST  # one that nobody touches
    hits = catalog.search(vector_of("1", b"item %d" % wanted), query_modality="image", k=500)[0]
    if not hits or hits[0].uri != f"item/{wanted}" or abs(hits[0].score - 1) > 1e-3:
        return f"item/{wanted} is not the first hit of its own vector"
    if (len(hits) - _FIRST) % _BATCH:
        return f"{len(hits)} hits: part of a transaction is seen"
    if any(hit.metadata != {"at": int(hit.uri.removeprefix("item/"))} for hit in hits):
        return "a hit with the metadata of another item"
    return ""


def _say(log: Path, text: str, code: int) -> int:
    log.write_text(text, "utf-8")
    return code
