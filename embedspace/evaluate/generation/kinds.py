"""The kinds of generation suites, and the one way to measure a suite of any kind."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedspace.errors import ConfigError
from embedspace.evaluate.encode import Progress
from embedspace.evaluate.generation.session import Kind, open_session, report_of
from embedspace.evaluate.report import CACHE
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.evaluate.suite import read_suite
from embedspace.space import EmbeddingSpace

__all__ = ["KINDS", "evaluate", "table"]

KINDS = {name: f"embedspace.evaluate.generation.{name}.run" for name in ("captions", "media", "matrix")}
"""Value of a suite's `kind`, "captions" where it has none -> the module whose `KIND` measures it."""


def evaluate(
    suite: str | Path,
    space: EmbeddingSpace,
    out_dir: Path | None = None,
    callback: Progress | None = None,
    *,
    corpora: Path | None = None,
    cache: Path | None = CACHE,
) -> dict[str, Any]:
    """Measure a generation suite of any kind; what `embedspace eval generation` calls.

    Args:
        suite: TOML file.
        space: The space whose generators are measured.
        out_dir: Where <suite>.json, .md and pictures go; None to write nothing.
        callback: Called with (what, done, total).
        corpora: Folder of the corpora; `EMBEDSPACE_CORPORA` or build/corpora by default.
        cache: Folder that keeps vectors and samples between runs; None to keep none.

    Returns:
        The report as its JSON holds it; `table` of it is the table.

    Raises:
        ConfigError: If the suite, a manifest or a judge cannot be read.
        WeightsError: If a generator is missing.
        MissingExtraError: If a picture is due and matplotlib is not installed; JSON and table are written by then.
    """
    path = Path(suite)
    name = read_suite(path).get("kind", "captions")
    kind = _kind(name, str(path))
    session = open_session(kind.load(path), space, corpora_folder() if corpora is None else corpora, cache, callback)
    outcome = kind.measure(session)
    entry: dict[str, Any] = json.loads(json.dumps(report_of(name, session, outcome), default=float))
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)
        stem = session.suite.name
        (out_dir / f"{stem}.json").write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (out_dir / f"{stem}.md").write_text(kind.table(entry), "utf-8")
        outcome.draw(entry, out_dir)
    return entry


def table(entry: Mapping[str, Any]) -> str:
    """Return a report of any kind as Markdown."""
    return _kind(entry.get("kind", "captions"), "the report").table(entry)


def _kind(name: str, where: str) -> Kind:
    if name not in KINDS:
        raise ConfigError(f"{where}: unknown kind {name!r}; known: {' '.join(KINDS)}")
    kind: Kind = importlib.import_module(KINDS[name]).KIND
    return kind
