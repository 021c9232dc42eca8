"""A run of a generation suite: what it is opened with, and what every report says of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from embedspace.errors import EmbedspaceError
from embedspace.evaluate.encode import Progress, SuiteEncoder
from embedspace.evaluate.generation.suites import GenerationSuite
from embedspace.evaluate.items import EvalItem, rows_hash, select_sets
from embedspace.evaluate.report import git_commit, splits_digest
from embedspace.space import EmbeddingSpace

__all__ = ["Kind", "Outcome", "Session", "open_session", "report_of"]

_SHOWN_FAILURES = 20

SuiteT = TypeVar("SuiteT", bound=GenerationSuite)


@dataclass
class Session(Generic[SuiteT]):
    """What a suite is measured with.

    Attributes:
        suite: The suite.
        space: The space whose generators are measured.
        items: Set -> its items.
        encoder: Keeps vectors between runs, and the reason of every failure.
        cache: Folder that keeps vectors and samples between runs; None to keep none.
        tell: Called with (what, done, total).
    """

    suite: SuiteT
    space: EmbeddingSpace
    items: dict[str, list[EvalItem]]
    encoder: SuiteEncoder
    cache: Path | None
    tell: Progress

    @property
    def corpora(self) -> Path:
        """Folder of the corpora."""
        return self.encoder.corpora

    @property
    def failures(self) -> dict[str, str]:
        """What could not be encoded, said or made -> why."""
        return self.encoder.failures


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured.

    Attributes:
        targets: What was made; the report holds the digest of the generator of each.
        figures: The report's own part.
        draw: Draws pictures of a whole report into a folder.
    """

    targets: tuple[str, ...]
    figures: dict[str, Any]
    draw: Callable[[Mapping[str, Any], Path], None] = lambda entry, folder: None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of generation suites.

    Attributes:
        load: Reads and checks a suite's file.
        measure: Measures it in a session of such a suite.
        table: Writes a report as Markdown.
    """

    load: Callable[[Path], Any]
    measure: Callable[[Any], Outcome]
    table: Callable[[Mapping[str, Any]], str]


def open_session(
    suite: SuiteT, space: EmbeddingSpace, corpora: Path, cache: Path | None, callback: Progress | None
) -> Session[SuiteT]:
    """Select a suite's items.

    Raises:
        ConfigError: If a manifest cannot be read or a set is empty.
    """
    items = select_sets(suite.name, suite.sets, corpora)
    tell = callback or (lambda doing, done, total: None)
    return Session(suite, space, items, SuiteEncoder(space, corpora, cache, callback), cache, tell)


def report_of(kind: str, session: Session[Any], outcome: Outcome) -> dict[str, Any]:
    """Return the whole report: what was measured with what, the figures, and what failed."""
    suite = session.suite
    return {
        "generation_suite": suite.name,
        "kind": kind,
        "description": suite.description,
        "commit": git_commit(suite.folder),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "split_hash": rows_hash(session.items),
        "corpora_splits": splits_digest(session.corpora),
        "weights": dict(session.space.fingerprints()),
        "heads": _digests(session.space, outcome.targets),
        "seeds": list(suite.seeds),
        **outcome.figures,
        "failures": dict(list(session.failures.items())[:_SHOWN_FAILURES]),
    }


def _digests(space: EmbeddingSpace, targets: Iterable[str]) -> dict[str, str]:
    found = {}
    for target in targets:
        try:
            found[str(target)] = space.generators[target].digest
        except EmbedspaceError:
            continue  # named among the failures of what it should have made
    return found
