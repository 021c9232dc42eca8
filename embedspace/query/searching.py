"""Searching a catalog with composed queries: where it holds documents, what its media may be called counts as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from embedspace.query.composition import ComposedQuery

__all__ = ["Searchable", "search_composed"]


class Searchable(Protocol):
    """What is searched; `Catalog` fulfils it."""

    def has_documents(self) -> bool:
        """Return whether some text is a document's."""
        ...

    @property
    def search(self) -> Callable[..., list[list[Any]]]:
        """Return the best items for each of (Q, embed_dim) vectors, as `Catalog.search` does."""
        ...


def search_composed(catalog: Searchable, composed: Sequence[ComposedQuery], **options: Any) -> list[list[Any]]:  # noqa: ANN401
    """Return the hits of each query, as `Catalog.search` does; the options are its own."""
    vectors = np.stack([query.vector for query in composed])
    read = [query.document_vectors for query in composed] if catalog.has_documents() else []
    if any(rows is not None for rows in read):
        most = max(len(rows) for rows in read if rows is not None)
        readings = np.zeros((len(read), most, vectors.shape[1]), np.float32)
        for place, rows in enumerate(read):
            if rows is not None:
                readings[place, : len(rows)] = rows
        options["document_vectors"] = readings
    return catalog.search(vectors, query_modality=[query.modality for query in composed], **options)
