"""Composed queries: "2:dog.png + rain.wav - grass" becomes one vector, with its terms explained."""

from embedspace.query.composition import MIXED, ComposedQuery, ComposedTerm, compose
from embedspace.query.grammar import Query, Term, parse
from embedspace.query.reading import Names, join_names, stands_apart
from embedspace.query.searching import search_composed
from embedspace.query.sources import QueryEncoder, Resolver, Source, embed_sources, embedded_source, resolve

__all__ = [
    "MIXED",
    "ComposedQuery",
    "ComposedTerm",
    "Names",
    "Query",
    "QueryEncoder",
    "Resolver",
    "Source",
    "Term",
    "compose",
    "embed_sources",
    "embedded_source",
    "join_names",
    "parse",
    "resolve",
    "search_composed",
    "stands_apart",
]
