"""Composed queries: terms become one vector, each explained; for search and generation alike.

Numpy only: no torch, no FAISS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.centring import MIXED
from embedspace.errors import QueryError
from embedspace.modality import Modality
from embedspace.query.algebra import centre_terms, phrase_row, unit_rows, weighted_sum
from embedspace.query.grammar import Query, Term, parse
from embedspace.query.reading import Names, join_names, stands_apart
from embedspace.query.sources import QueryEncoder, Resolver, Source, embed_sources, resolve
from embedspace.query.timing import Timing, timing_of

__all__ = ["MIXED", "ComposedQuery", "ComposedTerm", "compose"]

_SHOWN_UNKNOWN = 5
_CANCELLED = 1e-4  # of the weights' sum: below it what is left of the terms is rounding, not meaning


@dataclass(frozen=True, slots=True)
class ComposedTerm:
    """A term and what became of it.

    Attributes:
        weight: Signed weight.
        value: As the user wrote it.
        modality: Which encoder made its vector.
        cosine: Cosine of its (centred, where the query is) vector with the composed one: how much of it is left.
    """

    weight: float
    value: str
    modality: str
    cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class ComposedQuery:
    """One query vector.

    Attributes:
        vector: (embed_dim,) float32, unit norm.
        modality: That of the terms if they share one and none is negative, else `MIXED`.
        terms: The terms in order.
        centred: Whether the modality means were taken out.
        phrase: The likeliest reading of words and named media as one text; empty where there is none.
        notes: What was read as one text and what was not, with the reasons, for people.
        read_documents: Makes `document_vectors`.
        unknown: Parts of the words that the text encoder does not know: other scripts, emoji.
        read_timing: Returns when something strikes in the query; None where it is no single film or recording, or the
            space knows no timing.
    """

    vector: NDArray[np.float32]
    modality: str
    terms: tuple[ComposedTerm, ...]
    centred: bool = False
    phrase: str = ""
    notes: tuple[str, ...] = ()
    read_documents: Callable[[], NDArray[np.float32] | None] = lambda: None
    unknown: tuple[str, ...] = ()
    read_timing: Callable[[], Timing | None] = lambda: None

    @property
    def document_vectors(self) -> NDArray[np.float32] | None:
        """(K, embed_dim) what the query may be read as where it searches documents, each as long as it is likely.

        None where it is read as itself. Made when asked for: it needs the names, which take a moment to load.
        """
        return self.read_documents()

    @property
    def source_modality(self) -> str:
        """What generators take the vector as: terms of one modality keep their mean, whatever their signs."""
        return MIXED if self.centred else self.terms[0].modality

    @property
    def words(self) -> str:
        """The words, where the query is nothing else; else empty."""
        only_words = all(term.modality == Modality.TEXT for term in self.terms)
        return " ".join(term.value for term in self.terms) if only_words else ""

    @property
    def unknown_note(self) -> str:
        """One line about what the text encoder does not know of the query; empty where it knows all of it."""
        if not self.unknown:
            return ""
        shown = ", ".join(self.unknown[:_SHOWN_UNKNOWN]) + (", ..." if len(self.unknown) > _SHOWN_UNKNOWN else "")
        words = [term.value for term in self.terms if term.modality == Modality.TEXT]
        text = left = " ".join(words)
        for part in self.unknown:
            left = left.replace(part, "")
        known = sum(char.isalnum() for char in left)
        nothing = len(words) == len(self.terms) and known <= len(text) - len(left)
        return f"the text encoder does not know {shown}; it reads English: translate the query" + (
            ", for as it stands its hits mean little" if nothing else ""
        )

    def explain(self) -> str:
        """Return one line per term: weight, value, modality, cosine with the composed vector."""
        width = max(len(term.value) for term in self.terms)
        lines = [
            f"{term.weight:+g}  {term.value:<{width}}  {term.modality:<6}  cosine {term.cosine:+.2f}"
            for term in self.terms
        ]
        if self.centred:
            lines.append("modality means taken out before the sum")
        lines += self.notes
        if self.document_vectors is not None:
            lines.append("in documents (fields, long passages) searched by what its media may be called")
        return "\n".join(lines)


def compose(
    query: Query | str,
    space: QueryEncoder,
    *,
    as_modality: str | None = None,
    resolver: Resolver | None = None,
) -> ComposedQuery:
    """Turn a query into one vector.

    With unit vectors v_i of modalities m_i, weights w_i and modality means mu_m, the vector is the normalised
    sum_i w_i (v_i - mu_{m_i}) where the terms mix modalities, else the normalised sum_i w_i v_i.

    Where words are added to media and say more of the same thing ("with tears of joy", "cook"), the sum has one more
    term: the text that they make together, each medium replaced by what the space would call it (the mean over its
    likeliest names), with the weight of all that is joined in it. Words that name another thing ("a violin") are left
    out of it: `embedspace.query.reading` says which are which, and `explain` why.

    Why centring: vectors of each modality sit around a mean of their own. Adding "dog.png" to "grass" uncentred adds
    the constant mu_image - mu_text as well, and that constant, not the meaning, would then order the hits. Within one
    modality the mean is shared by every term and by what a plain query has, so it stays.

    Args:
        query: From `parse`, or its text.
        space: The encoder; its `calibration.means` are the modality means (absent means count as zero).
        as_modality: Which modality recordings are: "audio" or "speech".
        resolver: Says what each term refers to; by default `resolve`, which takes an existing file's name as the file.

    Returns:
        The composed query.

    Raises:
        QueryError: If a file does not exist or the terms cancel.
        MediaError: If a file cannot be decoded.
        UnknownModalityError: If a file's modality is not known.

    Source:
        Signed sums: Mikolov et al. 2013, "Linguistic Regularities in Continuous Space Word Representations". The
        gap: Liang et al. 2022, "Mind the Gap", section 3; the mean taken out first: Zhang et al. 2024, "Connect,
        Collapse, Corrupt", section 4. Media as words: Saito et al. 2023, "Pic2Word", with names for pseudo-words.
    """
    terms = (parse(query) if isinstance(query, str) else query).terms
    sources = _sources(terms, as_modality, resolver)
    embedded = embed_sources(sources, space, as_modality=as_modality)
    modalities = [modality for _, modality in embedded]
    rows, centred = centre_terms([vector for vector, _ in embedded], modalities, space.calibration.means)
    weights = np.array([term.weight for term in terms])
    reading, phrase, notes = _read_together(terms, embedded, space) if centred else (0.0, "", ())
    vector = _unit_sum(weights, rows, reading)
    plain = not centred and bool((weights > 0).all())
    return ComposedQuery(
        vector=vector,
        modality=modalities[0] if plain else MIXED,
        terms=_explained(terms, modalities, rows, vector),
        centred=centred,
        phrase=phrase,
        notes=notes,
        read_documents=lambda: _compose_documents(weights, rows, embedded, reading, space),
        unknown=_unknown_words(sources, space),
        read_timing=lambda: timing_of(sources[0], modalities[0], space) if plain and len(terms) == 1 else None,
    )


def _sources(terms: Sequence[Term], as_modality: str | None, resolver: Resolver | None) -> list[Source]:
    """Return what each term refers to."""
    if resolver is None:
        return [resolve(term.value, quoted=term.quoted, as_modality=as_modality) for term in terms]
    return [resolver(term) for term in terms]


def _unit_sum(
    weights: NDArray[np.float64], rows: NDArray[np.float64], reading: NDArray[np.float64] | float
) -> NDArray[np.float32]:
    """Return the terms' weighted sum (embed_dim,) at unit length.

    Raises:
        QueryError: If nothing is left of it.
    """
    total = weighted_sum(weights, rows) + reading
    if not np.linalg.norm(total) > _CANCELLED * max(float(np.abs(weights).sum()), 1e-30):
        raise QueryError("the query's terms cancel each other, so nothing is left to search for; change the weights")
    return unit_rows(total)


def _explained(
    terms: Sequence[Term], modalities: Sequence[str], rows: NDArray[np.float64], vector: NDArray[np.float32]
) -> tuple[ComposedTerm, ...]:
    """Return the terms with what is left of each in the composed vector."""
    cosines = rows @ vector / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    return tuple(
        ComposedTerm(term.weight, term.value, modality, float(cosine))
        for term, modality, cosine in zip(terms, modalities, cosines, strict=True)
    )


def _unknown_words(sources: Sequence[Source], space: QueryEncoder) -> tuple[str, ...]:
    """Return the parts of a query's words that the text encoder does not know; none where the space cannot say."""
    lacking = getattr(space, "unknown_words", None)
    if lacking is None:
        return ()
    return tuple(dict.fromkeys(part for source in sources if source.is_words for part in lacking(source.value)))


def _compose_documents(
    weights: NDArray[np.float64],
    rows: NDArray[np.float64],
    embedded: Sequence[tuple[NDArray[np.float32], str]],
    reading: NDArray[np.float64] | float,
    space: QueryEncoder,
) -> NDArray[np.float32] | None:
    """Return the vectors that documents are searched with: the same sum, once for each reading of its media.

    The likeliest readings of several media belong together, then the next ones; the share is the mean of theirs.
    """
    parts: list[NDArray[np.float64]] = []
    shares: list[NDArray[np.float64]] = []
    for row, (vector, modality) in zip(rows, embedded, strict=True):
        read = vector[None] if modality == Modality.TEXT else space.for_documents(vector[None], modality)[0]
        if len(read) == 1 and np.array_equal(read[0], vector):
            parts.append(row[None])
            continue
        lengths = np.linalg.norm(read.astype(np.float64), axis=1, keepdims=True)
        shares.append(lengths)
        parts.append(read / np.maximum(lengths, 1e-12))
    if not shares:
        return None
    count = min(map(len, shares))
    total = np.zeros((count, rows.shape[1])) + reading
    for weight, part in zip(weights, parts, strict=True):
        total += weight * part[:count]  # one row stands for all readings
    norms = np.linalg.norm(total, axis=1, keepdims=True)
    likely = np.mean([lengths[:count] for lengths in shares], axis=0)
    return np.where(norms > 0, total / np.maximum(norms, 1e-12) * likely, 0.0).astype(np.float32)


def _read_together(
    terms: Sequence[Term], embedded: Sequence[tuple[NDArray[np.float32], str]], space: QueryEncoder
) -> tuple[NDArray[np.float64] | float, str, tuple[str, ...]]:
    """Return what added words and named media add to the sum as one text, its likeliest reading, and the reasons."""
    added = [(term, *found) for term, found in zip(terms, embedded, strict=True) if term.weight > 0]
    media = any(modality != Modality.TEXT for _, _, modality in added)
    if not media or not any(modality == Modality.TEXT for _, _, modality in added):
        return 0.0, "", ()
    parts: list[Names] = []
    notes, weight, words = [], 0.0, False
    for term, vector, modality in added:
        if modality == Modality.TEXT and (why := stands_apart(term.value)):
            notes.append(f"{term.value!r} is not read together with the rest: {why}")
            continue
        words = words or modality == Modality.TEXT
        weight += term.weight
        parts.append([(term.value, 1.0)] if modality == Modality.TEXT else space.names(vector[None], modality)[0])
    if not words or not all(parts):
        return 0.0, "", tuple(notes)
    read = join_names(parts)
    found = embed_sources([Source(text, "text") for text, _ in read], space)
    row = phrase_row([share for _, share in read], np.stack([vector for vector, _ in found]))
    row -= np.asarray(space.calibration.means.get("text", 0.0), np.float64)
    notes.append(f"read, too, as {read[0][0]!r}: the words say more of the same thing")
    return weight * row, read[0][0], tuple(notes)
