"""What the fields of metadata hold: of all items, or of those that a filter leaves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from embedspace.catalog.store.database import Database
from embedspace.catalog.store.filters.clock import within
from embedspace.catalog.store.filters.plan import matching_items
from embedspace.catalog.store.filters.values import has_values, is_plain
from embedspace.catalog.store.filters.where import Condition, json_value
from embedspace.catalog.stored import FieldFacts

__all__ = ["field_facts", "field_names"]

_TIME = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}.*)?)?")


def field_names(database: Database) -> set[str]:
    """Return the names that the metadata of the catalog has."""
    return {name for (name,) in database.rows("SELECT name FROM fields")}


def field_facts(
    database: Database,
    names: Iterable[str] | None = None,
    condition: Condition | None = None,
    most: int = 20,
    seconds: float | None = None,
) -> list[FieldFacts]:
    """Return what fields of the metadata hold, those that hold nothing left out.

    Args:
        database: The catalog's rows.
        names: Which; all where `None`.
        condition: Only of the items that fulfil it.
        most: So many of the most frequent values of a text.
        seconds: Longest time that it may take; None: no limit.

    Raises:
        InputError: If it takes longer.
    """
    found = []
    with within(database, seconds), database.snapshot("count its fields") as connection:
        looked_up = has_values(database)
        if condition is not None:  # once for all fields
            among, values = matching_items(database, condition)
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS chosen(item INTEGER PRIMARY KEY)")
            connection.execute("DELETE FROM chosen")
            connection.execute(f"INSERT OR IGNORE INTO chosen {among}", values)
        for name in sorted(field_names(database) if names is None else names):
            if looked_up and is_plain(database, name):
                source, parameters = "(SELECT value AS v, item FROM field_values WHERE field = ?)", [name]
            else:
                value, parameters = json_value(name)
                source = f"(SELECT {value} AS v, item FROM items i)"
            if condition is not None:
                source = f"(SELECT v FROM {source} WHERE item IN (SELECT item FROM temp.chosen))"
            facts = _facts(database, name, source, parameters, most)
            if facts is not None:
                found.append(facts)
    return found


def _facts(database: Database, name: str, source: str, parameters: list[Any], most: int) -> FieldFacts | None:
    """Return what a field holds; numbers come before texts, and texts before all else."""
    summed = f"SELECT count(*), min(v), max(v) FROM {source} WHERE"
    numbers, low, high = database.rows(f"{summed} v < ''", parameters)[0]
    texts, first, last = database.rows(f"{summed} v >= '' AND v < x''", parameters)[0]
    if numbers >= texts and numbers:
        return FieldFacts(name, "number", numbers, low, high)
    if texts and _TIME.fullmatch(str(first)) and _TIME.fullmatch(str(last)):
        return FieldFacts(name, "time", texts, first, last)
    if not texts:
        return None
    values = database.rows(
        f"SELECT v, count(*) FROM {source} WHERE v >= '' AND v < x'' GROUP BY v ORDER BY 2 DESC, 1 LIMIT {most:d}",
        parameters,
    )
    return FieldFacts(name, "text", texts, values=tuple((str(v), int(n)) for v, n in values))
