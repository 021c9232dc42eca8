"""Every modality from every other: the matrix, each cell scored by who can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from embedspace.errors import ConfigError, EmbedspaceError
from embedspace.evaluate.generation.judges import Judge
from embedspace.evaluate.generation.matrix.cells import MADE, Cells, open_cells
from embedspace.evaluate.generation.matrix.report import METRIC, markdown
from embedspace.evaluate.generation.matrix.suite import MatrixSuite, load_matrix_suite
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.evaluate.generation.session import Kind, Outcome, Session
from embedspace.evaluate.generation.sources import vectors_for
from embedspace.evaluate.report import heat_map

__all__ = ["KIND", "measure"]


def measure(session: Session[MatrixSuite]) -> Outcome:
    """Score every cell; one whose generator or voice is missing is left out, with the reason among the failures.

    Raises:
        ConfigError: If a judge cannot be loaded, or the judges know none of the concepts.
    """
    cells = open_cells(session)
    results = [row for modality in session.suite.sources for row in _rows_from(session, cells, modality)]
    judges = {"pictures": cells.pictures, "sounds": cells.sounds}
    figures = {
        "judges": {name: _described(judge) for name, judge in judges.items()},
        "captions_searched": len(cells.captions),
        "concepts": [item.key for item in cells.prompts],
        "results": results,
    }
    return Outcome(MADE, figures, _draw)


def _rows_from(session: Session[MatrixSuite], cells: Cells, modality: str) -> Iterator[dict[str, Any]]:
    """Yield the cells of one source."""
    found = vectors_for(session, cells.prompts, str(session.suite.sources[modality]))
    for to in MADE if found.have else ():
        try:
            hits = cells.score(to.value, found)
        except ConfigError:
            raise
        except EmbedspaceError as error:
            session.failures[f"{modality} -> {to}"] = str(error)
            continue
        concepts = [cells.prompts[number].key for number in found.have]
        value = clustered_mean(hits, concepts, resamples=session.suite.resamples)
        row = {"query": modality, "gallery": to.value, "label": "", "concepts": len(hits)}
        yield {**row, "metrics": {METRIC: value}}


def _described(judge: Judge) -> dict[str, Any]:
    return {"digest": judge.digest, "accuracy": judge.about.get("accuracy", {})}


def _draw(entry: Mapping[str, Any], folder: Path) -> None:
    """Draw the heat map."""
    name = entry["generation_suite"]
    heat_map({**entry, "suite": name}, folder / f"{name}.png", METRIC, ("to", "from"))


KIND = Kind(load_matrix_suite, measure, markdown)
