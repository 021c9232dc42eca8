"""The kinds of generation suites: which function measures one, and which writes its table."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from embedspace.errors import ConfigError
from embedspace.evaluate.encode import Progress
from embedspace.evaluate.report import CACHE
from embedspace.evaluate.suite import read_suite
from embedspace.space import EmbeddingSpace

__all__ = ["KINDS", "evaluate", "table"]

KINDS = {
    "captions": (
        "embedspace.evaluate.generation.captions:evaluate_generation",
        "embedspace.evaluate.generation.captions:markdown",
    ),
    "media": (
        "embedspace.evaluate.generation.media_run:evaluate_media",
        "embedspace.evaluate.generation.media_report:markdown",
    ),
    "matrix": (
        "embedspace.evaluate.generation.matrix:evaluate_matrix",
        "embedspace.evaluate.generation.matrix:markdown",
    ),
}
"""Value of a suite's `kind`, "captions" where it has none -> who measures it, who writes its table."""


def evaluate(
    suite: str | Path,
    space: EmbeddingSpace,
    out_dir: Path | None = None,
    callback: Progress | None = None,
    *,
    corpora: Path | None = None,
    cache: Path | None = CACHE,
) -> dict[str, Any]:
    """Measure a generation suite of any kind.

    Args:
        suite: TOML file.
        space: The space whose heads are measured.
        out_dir: Where its results go; None to write nothing.
        callback: Called with (what, done, total).
        corpora: Folder of the corpora.
        cache: Folder that keeps vectors and samples between runs.

    Returns:
        The report; `table` of it is the table.

    Raises:
        ConfigError: If the suite, a manifest or a judge cannot be read.
        WeightsError: If a head is missing.
    """
    kind = read_suite(Path(suite)).get("kind", "captions")
    if kind not in KINDS:
        raise ConfigError(f"{suite}: unknown kind {kind!r}; known: {' '.join(KINDS)}")
    entry: dict[str, Any] = _named(KINDS[kind][0])(suite, space, out_dir, callback, corpora=corpora, cache=cache)
    return entry


def table(entry: dict[str, Any]) -> str:
    """Return a report of any kind as Markdown."""
    return str(_named(KINDS[entry.get("kind", "captions")][1])(entry))


def _named(name: str) -> Any:  # noqa: ANN401 - functions of two signatures
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
