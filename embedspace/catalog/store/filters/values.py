"""The metadata of all items as rows of (field, value, item), so that a filter looks up what it asks for.

Derived from `items.metadata`, and kept in step with it in the same transactions. Versions of embedspace that do not
know the table leave `values_revision` behind: then nobody reads the table until it has been made anew.

Values are as SQLite's `json_extract` returns them: whole numbers (also for true and false), reals and texts. Where one
cannot be stored so (a list, a long text, a name that may be read in two ways) an empty blob takes its place, and the
field is looked for in the metadata itself.
"""

from __future__ import annotations

import functools
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from embedspace.catalog.store.database import Database
from embedspace.catalog.store.schema import FIELD_VALUES, VALUES_FACTS

__all__ = [
    "erase_values",
    "fill_values",
    "flat_fields",
    "forget_values",
    "has_values",
    "is_plain",
    "metadata_changes",
    "pairs_of",
    "plain_values",
    "stored_value",
    "values_agree",
    "write_values",
]

_LONGEST = 200
_UNREADABLE = b""
_BATCH = 5000
_INSERT = "INSERT OR IGNORE INTO field_values VALUES (?, ?, ?)"


def flat_fields(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names under which `where` finds metadata; a nested mapping's are dotted."""
    for key, value in metadata.items():
        if '"' in key or "\0" in key:
            continue  # SQLite's JSON paths cannot name it
        if isinstance(value, Mapping):
            yield from flat_fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def pairs_of(metadata: Mapping[str, Any], prefix: str = "", *, odd: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield (field, value) of metadata as JSON has it.

    Args:
        metadata: Name -> value.
        prefix: What the names of nested values begin with.
        odd: Whether a name before it may be read in two ways.
    """
    for key, value in metadata.items():
        if '"' in key or "\0" in key:
            continue  # no filter can name it
        strange = odd or _has_two_readings(key)
        if isinstance(value, Mapping):
            yield from pairs_of(value, f"{prefix}{key}.", odd=strange)
        elif value is not None:
            yield f"{prefix}{key}", _UNREADABLE if strange else stored_value(value)


@functools.lru_cache(1024)
def _has_two_readings(key: str) -> bool:
    return "." in key or not key or json.dumps(key, ensure_ascii=False)[1:-1] != key


def stored_value(value: Any) -> Any:  # noqa: ANN401
    """Return what stands in the table for a value that is not `None`."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST and "\0" not in value else _UNREADABLE
    if isinstance(value, (bool, int)):
        return int(value) if -(2**63) <= value < 2**63 else _UNREADABLE
    return value if isinstance(value, float) and math.isfinite(value) else _UNREADABLE


def plain_values(values: Sequence[Any]) -> bool:
    """Return whether values of one type, whole numbers or texts, are stored as they are."""
    if isinstance(values[0], str):
        return max(map(len, values)) <= _LONGEST and "\0" not in "".join(values)
    return bool(-(2**63) <= min(values) and max(values) < 2**63)


def write_values(connection: sqlite3.Connection, rows: Iterable[tuple[str, Any, int]]) -> None:
    """Write (field, value, item), best in that order, inside an open transaction."""
    connection.executemany(_INSERT, rows)


def erase_values(connection: sqlite3.Connection, item: int, metadata: str) -> None:
    """Erase an item's values, given its metadata as JSON, inside an open transaction."""
    connection.executemany(
        "DELETE FROM field_values WHERE field = ? AND value = ? AND item = ?",
        [(field, value, item) for field, value in pairs_of(json.loads(metadata))],
    )


def has_values(database: Database) -> bool:
    """Return whether the table is there, in step and complete; the caller translates errors."""
    sql = "SELECT key, value FROM meta WHERE key IN ('revision', 'values_revision', 'values_item')"
    with database.lock:
        facts = dict(database.connection.execute(sql).fetchall())
    return facts.get("values_item") == -1 and facts.get("values_revision") == facts.get("revision")


def metadata_changes(database: Database) -> int | None:
    """Return how often the metadata of an item that was there has changed; None where nobody counts it."""
    with database.reading():
        return int(database.meta("metadata_changes")) if has_values(database) else None


def is_plain(database: Database, field: str) -> bool:
    """Return whether all values of a field are in the table as they are; the caller translates errors."""
    sql = "SELECT 1 FROM field_values WHERE field = ? AND value >= x'' LIMIT 1"
    with database.lock:
        return database.connection.execute(sql, (field,)).fetchone() is None


def values_agree(database: Database) -> bool:
    """Return whether the table says what the metadata does; true where nobody reads it."""
    with database.snapshot("compare its metadata") as connection:
        if not has_values(database):
            return True
        table = _sum(connection.execute("SELECT field, value, item FROM field_values"))
        rows = connection.execute("SELECT item, metadata FROM items")
        return table == _sum((*pair, item) for item, text in rows for pair in pairs_of(json.loads(text)))


def _sum(rows: Iterable[tuple[Any, ...]]) -> tuple[int, int]:
    """Return the number of rows and the sum of their hashes, whatever their order."""
    count = total = 0
    for row in rows:
        count, total = count + 1, total + hash(row)
    return count, total


def forget_values(database: Database) -> None:
    """Let the table be made anew by the next `fill_values`."""
    with database.writing("forget its index of metadata"):
        database.connection.execute("DELETE FROM meta WHERE key = 'values_revision'")


def fill_values(database: Database, most: int | None = None) -> bool:
    """Make the table where it is missing, not complete or out of step: some thousand items per transaction.

    It may be killed at any moment; the next call goes on.

    Args:
        database: The catalog's rows.
        most: Leave it to a later call where more items than this are to be done; None: however many.

    Returns:
        Whether it is complete.
    """
    if has_values(database):
        return True
    facts = dict(database.rows("SELECT key, value FROM meta WHERE key IN ('revision', 'values_revision')"))
    if facts.get("values_revision") != facts["revision"]:
        with database.writing("index its metadata") as connection:
            connection.execute("DROP TABLE IF EXISTS field_values")
            connection.execute(FIELD_VALUES)
            revision = int(database.meta("revision"))
            for key, value in {**VALUES_FACTS, "values_item": 0, "values_revision": revision}.items():
                if key != "metadata_changes" or database.meta(key) is None:
                    database.set_meta(key, value)
    if most is not None:
        left = "SELECT count(*) FROM (SELECT 1 FROM items WHERE item > ? LIMIT ?)"
        if database.rows(left, (database.meta("values_item"), most + 1))[0][0] > most:
            return False
    while not _fill_some(database):
        pass
    return True


def _fill_some(database: Database) -> bool:
    """Write the values of the next items; returns whether there are no more."""
    with database.writing("index its metadata") as connection:
        done = int(database.meta("values_item"))
        rows = connection.execute(
            "SELECT item, metadata FROM items WHERE item > ? ORDER BY item LIMIT ?", (done, _BATCH)
        ).fetchall()
        if done < 0 or not rows:
            database.set_meta("values_item", -1)
            return True
        found = [(field, value, item) for item, text in rows for field, value in pairs_of(json.loads(text))]
        write_values(connection, sorted(found, key=_order_of))
        database.set_meta("values_item", rows[-1][0])
        return False


def _order_of(row: tuple[str, Any, int]) -> tuple[Any, ...]:
    """Return what sorts rows as the table does, numbers before texts: they are written faster so."""
    field, value, item = row
    rank = 0 if isinstance(value, (int, float)) else 1 if isinstance(value, str) else 2
    return field, rank, value, item
