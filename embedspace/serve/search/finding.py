"""The search itself: requests that ask alike are composed one by one and searched together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from embedspace.catalog import Catalog, Hit
from embedspace.query import ComposedQuery, Source, search_composed
from embedspace.serve.models import SearchRequest, TermAnswer
from embedspace.serve.search.queries import Queries

__all__ = ["Asked", "Finder", "Found", "finder_key"]

Asked = tuple[SearchRequest, Sequence[tuple[TermAnswer, Source]]]
"""A request, and its terms with their vectors."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        hits: The most probable first.
        groups: Modality -> its own hits, where the request asks for groups.
        good: Whether any is likely enough; None where that is not known.
        notes: Remarks for people.
        revision: The catalog's revision.
    """

    hits: list[Hit]
    groups: dict[str, list[Hit]]
    good: bool | None
    notes: list[str]
    revision: int


def finder_key(asked: SearchRequest) -> Hashable:
    """Return what requests have in common that are searched together; one of several terms goes alone, it may wait."""
    to = tuple(asked.to) if isinstance(asked.to, list) else asked.to
    alone = id(asked) if len(asked.terms) > 1 else 0
    return to, asked.k, asked.where, asked.min_probability, asked.grouped, alone


class Finder:
    """Composes and searches; called by the few threads for it."""

    def __init__(self, catalog: Catalog, queries: Queries, where_seconds: float) -> None:
        self._catalog, self._queries, self._where_seconds = catalog, queries, where_seconds

    def find(self, requests: Sequence[Asked]) -> list[Found]:
        """Search for requests of one key."""
        catalog, asked = self._catalog, requests[0][0]
        composed = [self._queries.compose(terms) for _, terms in requests]
        options: dict[str, Any] = {
            "k": asked.k,
            "where": asked.where,
            "min_probability": asked.min_probability,
            "filter_seconds": self._where_seconds,
        }
        sizes = catalog.sizes()
        hits = search_composed(catalog, composed, to=asked.to, **options)
        groups: list[dict[str, list[Hit]]] = [{} for _ in composed]
        if asked.grouped:
            wanted = [asked.to] if isinstance(asked.to, str) else asked.to or list(sizes)
            for name in (name for name in wanted if name in sizes):
                found = search_composed(catalog, composed, to=name, **options)
                for group, own in zip(groups, found, strict=True):
                    group[name] = own
        revision = catalog.revision
        return [
            Found(own, group, self._is_good(query, own, sizes, asked), _notes(query), revision)
            for query, own, group in zip(composed, hits, groups, strict=True)
        ]

    def _is_good(
        self, query: ComposedQuery, hits: Sequence[Hit], sizes: dict[str, int], asked: SearchRequest
    ) -> bool | None:
        if not hits and asked.min_probability is not None:
            return False
        chances = [(hit.modality, hit.probability) for hit in hits]
        return self._catalog.calibration.has_good_match(query.modality, chances, sizes)


def _notes(composed: ComposedQuery) -> list[str]:
    return [*composed.notes, *([composed.unknown_note] if composed.unknown_note else [])]
