"""Which items of a gallery answer a query, which are hidden from it, and what intervals resample."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from embedspace.errors import ConfigError
from embedspace.evaluate.items import EvalItem, field_of
from embedspace.evaluate.suite import Direction, Suite

__all__ = ["beside_suite", "clusters_of", "excluded", "places_by_key", "positives_of"]


def places_by_key(items: Sequence[EvalItem]) -> dict[str, list[int]]:
    """Return key -> the places of the items that have it."""
    positions: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        positions[item.key].append(position)
    return dict(positions)


def beside_suite(name: str, suite: Suite, corpora: Path) -> Path:
    """Return the path of a file that lies beside the suite or in the corpora folder.

    Raises:
        ConfigError: If it lies in neither.
    """
    path = next((folder / name for folder in (suite.folder, corpora) if (folder / name).is_file()), None)
    if path is None:
        raise ConfigError(f"suite {suite.name}: {name!r} lies neither in {suite.folder} nor in {corpora}")
    return path


def positives_of(
    direction: Direction, queries: Sequence[EvalItem], gallery: Sequence[EvalItem], suite: Suite, corpora: Path
) -> list[list[int]]:
    """Return for each query the places in the gallery that answer it, itself left out.

    Raises:
        ConfigError: If the direction's table of answers cannot be read.
    """
    places = places_by_key(gallery)
    if direction.positives:
        table = _read_positives(direction, suite, corpora)
        found = [[p for key in table.get(item.key, ()) for p in places.get(key, ())] for item in queries]
    else:
        found = [places.get(item.key, []) for item in queries]
    if direction.query == direction.gallery:
        found = [[p for p in entry if p != own] for own, entry in enumerate(found)]
    return found


def _read_positives(direction: Direction, suite: Suite, corpora: Path) -> dict[str, list[str]]:
    """Read a direction's query key -> gallery keys."""
    path = beside_suite(direction.positives, suite, corpora)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not direction.positives_fields:
            return {str(key): [str(answer) for answer in answers] for key, answers in raw.items()}
        asked, answering = direction.positives_fields
        table: dict[str, list[str]] = defaultdict(list)
        for entry in raw:
            for key in entry[asked]:
                table[str(key)] += [str(answer) for answer in entry[answering]]
        return table
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not the table of answers that the suite expects: {error!r}") from None


def clusters_of(direction: Direction, queries: Sequence[EvalItem], key: str) -> dict[str, list[str]]:
    """Return kind of cluster -> each query's: what they share with their answers, or what the direction names."""
    if not direction.clusters:
        return {key.rpartition(".")[2]: [item.key for item in queries]}
    return {
        name.rpartition(".")[2]: [str(field_of(item.row, name) or "") for item in queries]
        for name in direction.clusters
    }


def excluded(
    direction: Direction, queries: Sequence[EvalItem], gallery: Sequence[EvalItem], positives: list[list[int]]
) -> list[list[int]] | None:
    """Return what each query may not find: itself, and what shares its `exclude_by` value without being an answer."""
    if direction.exclude_by:
        shared: dict[str, list[int]] = defaultdict(list)
        for position, item in enumerate(gallery):
            shared[str(field_of(item.row, direction.exclude_by))].append(position)
        values = [str(field_of(item.row, direction.exclude_by)) for item in queries]
        pairs = zip(values, positives, strict=True)
        return [[p for p in shared.get(value, ()) if p not in set(mine)] for value, mine in pairs]
    return [[own] for own in range(len(queries))] if direction.query == direction.gallery else None
