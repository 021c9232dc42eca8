"""A limit on the time that a filter may take."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator

from embedspace.catalog.store.database import Database
from embedspace.errors import CatalogError, InputError

__all__ = ["within"]

_STEPS = 20_000
"""Instructions of SQLite's between two looks at the clock: a few milliseconds."""


@contextlib.contextmanager
def within(database: Database, seconds: float | None) -> Iterator[None]:
    """End what a block asks of the database when it takes too long; nothing else asks it meanwhile.

    Args:
        database: The catalog's rows.
        seconds: Longest time that it may take; None: no limit.

    Raises:
        InputError: If it takes longer.
    """
    if seconds is None:
        yield
        return
    with database.lock:
        deadline = time.monotonic() + seconds
        database.connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        try:
            yield
        except CatalogError as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                raise
            raise InputError(f"where: takes longer than {seconds:g} s here; use a simpler filter") from None
        finally:
            database.connection.set_progress_handler(None, 0)
