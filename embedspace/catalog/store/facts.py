"""The facts about a catalog that are kept beside its rows: checked, and brought up to date, as it is opened."""

from __future__ import annotations

import contextlib
from typing import Any

from embedspace.catalog.store.database import Database
from embedspace.catalog.store.filters.values import fill_values, has_values
from embedspace.errors import CatalogCorruptError, CatalogError

__all__ = ["read_facts"]

_FILLED_AT_OPENING = 20_000
"""Of so many items metadata is made ready for filters as a catalog is opened; of more by `optimize`, or at `close`."""
_COUNTS = ("embed_dim", "revision", "deletions")
_NEEDED = ("catalog_id", "calibration", "recipe", *_COUNTS)


def read_facts(database: Database) -> dict[str, Any]:
    """Return all facts about a catalog, brought up to date where it is open for writing.

    Raises:
        CatalogCorruptError: If one that it cannot be read without is missing, or is no number.
    """
    facts = dict(database.rows("SELECT key, value FROM meta"))
    wrong = [key for key in _NEEDED if key not in facts]
    wrong += [key for key in _COUNTS if not isinstance(facts.get(key, 0), int)]
    if wrong:
        raise CatalogCorruptError(
            f"{database.path}: the catalog is damaged, its setting {', '.join(wrong)} is missing or wrong; restore it "
            "from a copy, or delete it and index again"
        )
    if not database.read_only and "row_uris" not in facts:
        with contextlib.suppress(CatalogError):  # another process is writing: the next opening does it
            _escape_manifests(database)
    if not database.read_only and not has_values(database):
        with contextlib.suppress(CatalogError):
            fill_values(database, _FILLED_AT_OPENING)
    return facts


def _escape_manifests(database: Database) -> None:
    """Write the uris of rows as `row_uri` does: earlier versions did not escape the paths of manifests."""
    with database.writing("bring its uris up to date") as connection:
        connection.execute(
            "UPDATE OR IGNORE uris SET uri = replace(replace(source, '%', '%25'), '#', '%23') || "
            "substr(uri, length(source) + 1) WHERE (instr(source, '#') OR instr(source, '%')) "
            "AND substr(uri, 1, length(source) + 1) = source || '#'"
        )
        connection.execute("INSERT INTO meta VALUES ('row_uris', 1)")
