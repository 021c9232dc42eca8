"""What the values of a field have in common, so that another engine may compare them as SQLite does."""

from __future__ import annotations

from embedspace.catalog.store.database import Database
from embedspace.catalog.store.filters.values import has_values, is_plain

__all__ = ["TIME_FORMATS", "field_kind", "time_format"]

TIME_FORMATS = {"date": "%Y-%m-%d", "T": "%Y-%m-%dT%H:%M:%S", "Z": "%Y-%m-%dT%H:%M:%SZ", " ": "%Y-%m-%d %H:%M:%S"}
"""Name -> how times are written, of which every value of a field is one: their order as texts is that of time."""


def field_kind(database: Database, field: str) -> str:
    """Return "number" or "text" where all values of a field in the metadata are that; else ""."""
    with database.reading():
        if not has_values(database) or not is_plain(database, field):
            return ""
        number = "SELECT 1 FROM field_values WHERE field = ? AND value < '' LIMIT 1"
        text = "SELECT 1 FROM field_values WHERE field = ? AND value >= '' LIMIT 1"
        numbers, texts = (bool(database.rows(sql, (field,))) for sql in (number, text))
    return "" if numbers == texts else "number" if numbers else "text"


def time_format(database: Database, field: str) -> str:
    """Return the name of the format that every value of a field of texts has; "" where there is none."""
    found = database.rows("SELECT value FROM field_values WHERE field = ? LIMIT 1", (field,))
    for name, pattern in TIME_FORMATS.items() if found else ():
        if database.rows("SELECT strftime(?, ?) IS ?", (pattern, *found[0], *found[0]))[0][0]:
            other = "SELECT 1 FROM field_values WHERE field = ? AND strftime(?, value) IS NOT value LIMIT 1"
            return "" if database.rows(other, (field, pattern)) else name
    return ""
