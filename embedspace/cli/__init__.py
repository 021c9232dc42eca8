"""The command line: one small file per verb over space, query, catalog, evaluate and train.

Exit codes of every verb: 0 done (a search without a hit is done), 1 nothing could be done as asked (every file
failed), 2 a mistake in what was asked (one line on stderr says what, where, and what to do), 130 interrupted.
"""

from __future__ import annotations

from embedspace.cli.app import application, main

__all__ = ["application", "main"]
