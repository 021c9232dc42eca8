"""Processes that write to a catalog are killed at random moments; what they leave is opened, verified, and finished.

Parts of some twenty rows are written and merged as those of twenty thousand are, in the background of the writers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.catalog import Catalog
from embedspace.catalog.bulk.importing import import_encoding, read_encoding
from embedspace.catalog.index import local, merging
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.migrate import migrate
from embedspace.errors import CatalogNotFoundError, EmbedspaceError
from eval.bench.faults.small_catalog import (
    CODED,
    Digests,
    content_of,
    new_catalog,
    write_collection,
    write_parts,
    written_items,
)
from eval.bench.faults.trials import Plan, Tally, forked

__all__ = ["kills"]

KILLS = 300


@dataclass(frozen=True, slots=True)
class _Write:
    """One way to write to a catalog.

    Attributes:
        name: Shown in the figures.
        start: The catalog that it starts from; none where `None`.
        run: Does it, on the catalog at a path; done again it goes on where it stopped.
    """

    name: str
    start: Path | None
    run: Callable[[Path], None]


def kills(plan: Plan) -> Tally:
    """Kill writers until so many were caught at work."""
    with _often():
        return _kills(plan)


@contextlib.contextmanager
def _often() -> Iterator[None]:
    """Write and merge parts of a few rows."""
    changed = [
        (local, "_FLUSHED_ROWS", 20),
        (local, "_UNSAVED_ROWS", 5),
        (merging, "_FAN", 3),
        (merging, "_SMALLEST", 60),
    ]
    usual = [(module, name, getattr(module, name)) for module, name, _ in changed]
    for module, name, value in changed:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in usual:
            setattr(module, name, value)


def _kills(plan: Plan) -> Tally:
    writes = _writes(plan.folder)
    references = {write.name: _reference(write, plan.folder) for write in writes}
    tally, number, finished = Tally(), 0, 0
    while tally.trials < plan.count(KILLS):
        write = writes[number % len(writes)]
        content, seconds = references[write.name]
        moment = float(plan.draws(number).uniform(0, 1.1)) * seconds
        path = plan.folder / f"{number}.catalog"
        if _killed(write, path, moment):
            wrong = _aftermath(write, path, content)
            tally.add(write.name, wrong and f"{write.name}, killed after {moment:.3f} s (trial {number}): {wrong}")
        else:
            finished += 1
        shutil.rmtree(path, ignore_errors=True)
        number += 1
    tally.more = {"finished_before_the_kill": finished}
    return tally


def _writes(folder: Path) -> list[_Write]:
    """Return the ways to write, each with the catalog that it starts from."""
    old, new = write_collection(folder / "old"), write_collection(folder / "later", later=True)
    filled = folder / "filled"
    _index(filled, old)
    parts = write_parts(folder / "parts")
    coded = folder / "coded"
    new_catalog(coded, CODED).close()
    _in_sessions(coded)
    moved = folder / "collection"  # what was indexed lies here later, as it is by then
    indexed = folder / "indexed"
    shutil.copytree(old, moved)
    _index(indexed, moved)
    shutil.rmtree(moved)
    shutil.copytree(new, moved)
    return [
        _Write("index into a new catalog", None, lambda path: _index(path, old)),
        _Write("index what changed, with --prune", indexed, lambda path: _index(path, moved, prune=True)),
        _Write("add", filled, _add),
        _Write("import", filled, lambda path: _import(path, parts)),
        _Write("import, 4-bit codes", coded, lambda path: _import(path, parts)),
        _Write("build and extend 4-bit codes", coded, _extend),
        _Write("merge parts", coded, _in_sessions),
        _Write("remove", filled, _remove),
        _Write("optimize", filled, _optimize),
        _Write("migrate", filled, _migrate),
    ]


def _index(path: Path, folder: Path, *, prune: bool = False) -> None:
    try:
        catalog = Catalog.open(path)
    except CatalogNotFoundError:
        catalog = new_catalog(path)
    with catalog:
        ingest(catalog, [folder, folder / "rows.jsonl"], Digests(), batch_size=4, workers=1, prune=prune)


def _add(path: Path) -> None:
    with Catalog.open(path) as catalog:
        for first in range(0, 60, 10):
            catalog.add(written_items(10, first))


def _remove(path: Path) -> None:
    with Catalog.open(path) as catalog:
        for first in range(0, 30, 5):
            catalog.remove(f"year >= {first} and year < {first + 5}")


def _optimize(path: Path) -> None:
    with Catalog.open(path) as catalog:
        for derived in (*path.glob("*.packed"), *path.glob("*.faiss")):
            derived.unlink()
        catalog.add(written_items(40))
        catalog.optimize()


def _import(path: Path, folder: Path) -> None:
    with Catalog.open(path) as catalog:
        import_encoding(catalog, read_encoding(folder))


def _in_sessions(path: Path) -> None:
    for first in range(0, 120, 30):
        with Catalog.open(path) as catalog:
            catalog.add(written_items(30, first))


def _extend(path: Path) -> None:
    with Catalog.open(path) as catalog:
        for derived in path.glob("*.faiss"):
            derived.unlink()
        for first in (200, 240):
            catalog.optimize()
            catalog.add(written_items(40, first))
        catalog.remove("at < 40")  # so many that they are taken out of the codes
        catalog.optimize()


def _migrate(path: Path) -> None:
    with Catalog.open(path) as catalog:
        migrate(catalog, Digests("2"), batch_size=4, workers=1)


def _reference(write: _Write, folder: Path) -> tuple[dict[str, Any], float]:
    """Return what is there when nobody kills the process, and the seconds that it takes in a child."""
    path = folder / "reference.catalog"
    _begin(write, path)
    started = time.monotonic()
    child = forked(lambda: _run(write, path))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - started
    if status:
        raise RuntimeError(f"{write.name}: fails without a kill, status {status}")
    with Catalog.open(path, read_only=True) as catalog:
        content = content_of(catalog)
    shutil.rmtree(path)
    return content, seconds


def _begin(write: _Write, path: Path) -> None:
    if write.start is not None:
        shutil.copytree(write.start, path)


def _run(write: _Write, path: Path) -> int:
    write.run(path)
    return 0


def _killed(write: _Write, path: Path, moment: float) -> bool:
    """Start writing and kill that; returns whether it was still at it."""
    _begin(write, path)
    child = forked(lambda: _run(write, path))
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _aftermath(write: _Write, path: Path, content: dict[str, Any]) -> str:
    """Return what is wrong with what a killed process left, empty if nothing is."""
    try:
        if write.start is not None or (path / "catalog.sqlite").exists():
            with Catalog.open(path, read_only=True) as catalog:
                problems = catalog.verify(files=False).problems
                if problems:
                    return f"verify: {problems[0]}"
                catalog.search([1.0] * catalog.embed_dim, query_modality="text", k=3)
        write.run(path)
        with Catalog.open(path, read_only=True) as catalog:
            problems = catalog.verify(files=False).problems
            if problems:
                return f"verify after it was finished: {problems[0]}"
            if content_of(catalog) != content:
                return "finished, it differs from one that was never killed"
            hits = catalog.search([1.0] * catalog.embed_dim, query_modality="text", k=3)[0]
            return "" if len(hits) == 3 else f"a search finds {len(hits)} of 3"
    except EmbedspaceError as error:
        return f"{type(error).__name__}: {error}"
