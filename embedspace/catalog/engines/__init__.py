"""Serving beyond a process: the vectors of a catalog in an engine of its own, searched as the catalog is.

SQLite stays the truth. An engine holds a copy of vectors and of what filters ask; `push` makes it agree with the
catalog, `verifying` proves that it does, and a search takes from it the numbers of segments alone.
"""
