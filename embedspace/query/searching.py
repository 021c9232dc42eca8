"""Searching a catalog with composed queries: where it holds documents, what its media may be called counts as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from embedspace.query.composition import ComposedQuery
from embedspace.query.timing import Timing, timed_hits, timing_wanted

__all__ = ["Searchable", "search_composed"]


class Searchable(Protocol):
    """What is searched; `Catalog` fulfils it."""

    def has_documents(self) -> bool:
        """Return whether some text is a document's."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """Return modality -> number of segments that can be searched."""
        ...

    @property
    def search(self) -> Callable[..., list[list[Any]]]:
        """Return the best items for each of (Q, embed_dim) vectors, as `Catalog.search` does."""
        ...


def search_composed(catalog: Searchable, composed: Sequence[ComposedQuery], **options: Any) -> list[list[Any]]:  # noqa: ANN401
    """Return the hits of each query, as `Catalog.search` does; the options are its own.

    Sounds alone that are searched for with a film, and films with a sound, are found by when something strikes as well,
    where the catalog knows (`embedspace.query.timing`): their scores are then means of two cosines.
    """
    timings = [_timing(catalog, query, options) for query in composed]
    meant = [query for query, timing in zip(composed, timings, strict=True) if timing is None]
    found = iter(_by_meaning(catalog, meant, options) if meant else ())
    return [
        next(found) if timing is None else timed_hits(catalog.search, query.vector, query.modality, timing, options)
        for query, timing in zip(composed, timings, strict=True)
    ]


def _timing(catalog: Searchable, query: ComposedQuery, options: Mapping[str, Any]) -> Timing | None:
    wanted = timing_wanted(query.modality, options.get("to"))
    if not wanted or options.get("min_probability") is not None or wanted not in catalog.sizes():
        return None
    return query.read_timing()


def _by_meaning(catalog: Searchable, composed: Sequence[ComposedQuery], options: Mapping[str, Any]) -> list[list[Any]]:
    given = dict(options)
    vectors = np.stack([query.vector for query in composed])
    read = [query.document_vectors for query in composed] if catalog.has_documents() else []
    if any(rows is not None for rows in read):
        most = max(len(rows) for rows in read if rows is not None)
        readings = np.zeros((len(read), most, vectors.shape[1]), np.float32)
        for place, rows in enumerate(read):
            if rows is not None:
                readings[place, : len(rows)] = rows
        given["document_vectors"] = readings
    return catalog.search(vectors, query_modality=[query.modality for query in composed], **given)
