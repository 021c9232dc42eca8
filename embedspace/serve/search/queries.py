"""From the terms of a request to one vector: words, media that were sent before, items of the catalog.

A text from outside is words, whatever it looks like: the resolver here never makes a path of it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog import Catalog
from embedspace.errors import UnknownModalityError
from embedspace.modality import Modality
from embedspace.query.composition import ComposedQuery, compose
from embedspace.query.grammar import Query, Term
from embedspace.query.sources import Source, embedded_source
from embedspace.segment import Decoded, Segment, modality_rows
from embedspace.serve.errors import not_found, refused
from embedspace.serve.models import TermAnswer, TermRequest
from embedspace.serve.search.batching import BatchedSpace

__all__ = ["KeptQueries", "Queries", "StoredQuery", "marks"]

_SHORT = 400
"""Characters of a text that is cut into passages at once, rather than in a thread."""
_MOST = 2000
"""Media of queries that are kept at the same time: a few kilobytes each."""
_WORD = re.compile(r"\w+")
_COMMON = frozenset("a an and are as at by for from in into is it its of on or that the their this to was with".split())

Embedded = tuple[NDArray[np.float32], str]


@dataclass(frozen=True, slots=True, eq=False)
class StoredQuery:
    """A medium that was sent to be searched with: what it means, without itself.

    Attributes:
        kind: "image", "audio", "text" or "video".
        name: As the client called it.
        rows: Modality -> (embed_dim,) unit row, the leading one first.
        names: What it may be called, with shares.
        duration: Seconds.
        expires: When it is forgotten, by the monotonic clock.
    """

    kind: str
    name: str
    rows: Mapping[str, NDArray[np.float32]]
    names: Sequence[tuple[str, float]] = ()
    duration: float | None = None
    expires: float = field(default=0.0)


class KeptQueries:
    """The media of queries, for some minutes."""

    def __init__(self, seconds: float) -> None:
        """Keep each for so long."""
        self.seconds = seconds
        self._kept: dict[str, StoredQuery] = {}

    def put(self, query: StoredQuery) -> str:
        """Keep a medium; returns the name to ask for it by, which cannot be guessed."""
        now = time.monotonic()
        for ref in [ref for ref, one in self._kept.items() if one.expires < now]:
            del self._kept[ref]
        while len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        ref = secrets.token_urlsafe(12)
        self._kept[ref] = query
        return ref

    def get(self, ref: str) -> StoredQuery:
        """Return a medium.

        Raises:
            ApiError: 404, if it is unknown or forgotten.
        """
        found = self._kept.get(ref)
        if found is None or found.expires < time.monotonic():
            raise not_found("this ref is unknown, or was forgotten; send the media again", "ref")
        return found


class Queries:
    """Composes the terms of requests."""

    def __init__(self, space: BatchedSpace, catalog: Catalog, kept: KeptQueries) -> None:
        self.space, self.catalog, self.kept = space, catalog, kept

    async def embed(self, terms: Sequence[TermRequest]) -> list[tuple[TermAnswer, Source]]:
        """Return the vector of each term; words are encoded together, among those of other requests.

        Raises:
            ApiError: If a ref is unknown, or one has not the modality that is asked for.
            UnknownItemError: If an item is unknown.
        """
        texts = [term.text for term in terms if term.text is not None]
        return self.sources(terms, await self.embed_texts(texts, is_query=True))

    def sources(
        self, terms: Sequence[TermRequest], rows: Sequence[NDArray[np.float32]]
    ) -> list[tuple[TermAnswer, Source]]:
        """Return the vector of each term, given those of its words; for what it raises see `embed`."""
        words = iter(rows)
        return [self._known(term) if term.text is None else self._text(term, next(words)) for term in terms]

    async def embed_texts(self, texts: Sequence[str], *, is_query: bool) -> list[NDArray[np.float32]]:
        """Return the (embed_dim,) unit row of each text.

        Raises:
            InputError: If there are no words in one.
            ApiError: 429, if the queue is full.
        """
        decoded = []
        for text in texts:
            short = len(text) <= _SHORT
            item = self.decode_text(text) if short else await asyncio.to_thread(self.decode_text, text)
            item.is_query = is_query
            decoded.append(item)
        encoded = await self.space.batcher.encode(decoded)
        return [_only_row(segments) for segments in encoded]

    def decode_text(self, text: str) -> Decoded:
        """Cut a text into passages.

        Raises:
            ApiError: 400, if it cannot be written as UTF-8.
            EmptyMediaError: If there are no words in it.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise refused("a text holds half of a character (a lone surrogate)", "text") from None
        return self.space.decode(text, Modality.TEXT)

    def _text(self, term: TermRequest, row: NDArray[np.float32]) -> tuple[TermAnswer, Source]:
        said = term.text or ""
        return _answer(term, said, "text", Modality.TEXT), Source(said, Modality.TEXT, None, (row, Modality.TEXT))

    def _known(self, term: TermRequest) -> tuple[TermAnswer, Source]:
        if term.ref is not None:
            query = self.kept.get(term.ref)
            asked, label, kind, rows = "ref", query.name or query.kind, query.kind, query.rows
        else:
            item = self.catalog.item(term.id or "")
            asked, label, kind, rows = "id", item.name, item.kind, modality_rows(item.segments)
        try:
            source = embedded_source(label, kind, rows, term.as_)
        except UnknownModalityError as error:
            raise refused(f"{error}; change as", "as") from None
        assert source.embedded is not None
        return _answer(term, label, asked, source.embedded[1]), source

    def compose(self, terms: Sequence[tuple[TermAnswer, Source]]) -> ComposedQuery:
        """Turn embedded terms into one vector. It may encode what words and named media make together, and waits.

        Raises:
            QueryError: If the terms cancel each other.
        """
        given = iter([source for _, source in terms])
        query = Query(tuple(Term(answer.weight, source.value, quoted=True) for answer, source in terms))
        return compose(query, self.space, resolver=lambda _: next(given))


def _answer(term: TermRequest, label: str, kind: str, modality: str) -> TermAnswer:
    return TermAnswer(label=label, kind=kind, weight=term.weight, as_=modality)


def _only_row(segments: Sequence[Segment]) -> NDArray[np.float32]:
    rows = modality_rows(segments)
    if not rows:
        raise refused("its vector is zero or not a number")
    return next(iter(rows.values()))


def marks(text: str, terms: Sequence[TermAnswer]) -> list[tuple[int, int]]:
    """Return where words of a query stand in a text: (from, to) in characters, in order."""
    asked = {
        word.casefold()
        for term in terms
        if term.kind == "text" and term.weight > 0
        for word in _WORD.findall(term.label)
    } - _COMMON
    stems = {_stem(word) for word in asked}
    return [match.span() for match in _WORD.finditer(text) if _stem(match[0].casefold()) in stems] if stems else []


def _stem(word: str) -> str:
    """Take common endings off, so that "dogs" marks "dog"."""
    for ending in ("ing", "es", "s", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word
