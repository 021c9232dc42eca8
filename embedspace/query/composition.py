"""Composed queries: "2:dog.png + rain.wav - grass" becomes one vector, with its terms explained.

Grammar (that of rclip, with quotes)::

    query  :=  ["-" | "+"] term { ("+" | "-") term }      an operator is a + or - with white space on both sides
    term   :=  [weight ":"] value                         weight: a decimal number, 1 when left out
    value  :=  words | path | '"' anything '"' | "'" anything "'"

So "wi-fi", "a - b" in quotes and "rain+thunder" hold no operator. A value that names an existing file is that file; a
value that looks like a path of a known kind but does not exist is an error rather than a search for its name, unless
it is quoted. Everything else is words.

The algebra, for search and generation alike, is `compose`. Numpy only: no torch, no FAISS.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration
from embedspace.errors import QueryError, UnknownModalityError
from embedspace.modality import SUFFIXES, Modality, modality_of
from embedspace.query.reading import Names, join_names, stands_apart
from embedspace.segment import Decoded, Segment

__all__ = [
    "MIXED",
    "ComposedQuery",
    "ComposedTerm",
    "Query",
    "QueryEncoder",
    "Source",
    "Term",
    "compose",
    "embed_sources",
    "parse",
    "resolve",
]

MIXED = "mixed"
"""The `modality` of a composed query whose terms differ in modality or in sign."""

_WEIGHT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)):(?=\S)")
_OPERATOR = re.compile(r"[+-](?=\s|$)")
_NEXT_OPERATOR = re.compile(r"\s[+-](?=\s|$)")
_TERM_ENDS = re.compile(r"\s*(?:$|\s[+-](?=\s|$))")
_SHOWN_UNKNOWN = 5
_CANCELLED = 1e-4  # of the weights' sum: below it what is left of the terms is rounding, not meaning


class QueryEncoder(Protocol):
    """What a query needs of an embedding space; `EmbeddingSpace` fulfils it."""

    embed_dim: int

    @property
    def calibration(self) -> Calibration:
        """The space's modality means, used to centre mixed terms."""
        ...

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:  # noqa: ANN401
        """Decode a path, or for kind "text" a `str`."""
        ...

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        """Encode a batch of decoded items."""
        ...

    def names(self, vectors: NDArray[np.float32], modality: str) -> Sequence[Names]:
        """Say what each of (N, embed_dim) unit rows may be called; nothing where the space knows no names."""
        ...

    def for_documents(self, vectors: NDArray[np.float32], modality: str) -> NDArray[np.float32]:
        """Return (N, K, embed_dim): what each row may be read as where documents are searched, as long as likely."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """One signed, weighted term of a query.

    Attributes:
        weight: Signed weight; the sign of its operator is in it.
        value: Words or a path, without quotes.
        quoted: It stood in quotes: words even if it looks like a path to nothing.
    """

    weight: float
    value: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query: its terms in order, at least one."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What a value refers to.

    Attributes:
        value: As the user wrote it.
        kind: "image", "audio", "text" or "video", as in `embedspace.modality.SUFFIXES`.
        path: The file, or None for words.
    """

    value: str
    kind: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ComposedTerm:
    """A term and what became of it.

    Attributes:
        weight: Signed weight.
        value: As the user wrote it.
        modality: Which encoder made its vector.
        cosine: Of its (centred, where the query is) vector with the composed one: how much of it is left.
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
    """

    vector: NDArray[np.float32]
    modality: str
    terms: tuple[ComposedTerm, ...]
    centred: bool = False
    phrase: str = ""
    notes: tuple[str, ...] = ()
    read_documents: Callable[[], NDArray[np.float32] | None] = lambda: None
    unknown: tuple[str, ...] = ()

    @property
    def document_vectors(self) -> NDArray[np.float32] | None:
        """(K, embed_dim) what the query may be read as where it searches documents, each as long as it is likely.

        None where it is read as itself. Made when asked for: it needs the names, which take a moment to load.
        """
        return self.read_documents()

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
        """Return one line a term: weight, value, modality, cosine with the composed vector."""
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


def parse(text: str) -> Query:
    """Read a query.

    Args:
        text: For example "a barking dog" or "2:dog.png + rain.wav - grass".

    Returns:
        The terms in order.

    Raises:
        QueryError: If it is empty, an operator has no term, a quote is not closed, or a weight is not finite.
    """
    terms: list[Term] = []
    position, sign = 0, 1.0
    expects_term, operator = True, ""
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif _OPERATOR.match(text, position):
            if expects_term and (terms or operator):
                raise QueryError(f"query {text!r}: two operators in a row; put words that are only a sign in quotes")
            operator = text[position]
            sign, expects_term, position = (-1.0 if operator == "-" else 1.0), True, position + 1
        else:
            term, position = _read_term(text, position, sign)
            terms.append(term)
            sign, expects_term = 1.0, False
    if not terms:
        raise QueryError("the query is empty; give words, a file, or terms such as '2:dog.png + rain.wav - grass'")
    if expects_term:
        raise QueryError(f"query {text!r}: nothing follows the last {operator!r}")
    return Query(tuple(terms))


def _read_term(text: str, position: int, sign: float) -> tuple[Term, int]:
    """Read one term at `position`; returns it and where it ends."""
    weight = 1.0
    if match := _WEIGHT.match(text, position):
        weight, position = float(match[1]), match.end()
        if not math.isfinite(weight):
            raise QueryError(f"query {text!r}: the weight {match[1][:20]}... is not a finite number")
    if text[position] in "\"'":
        quote, start = text[position], position + 1
        end = text.find(quote, start)
        while end >= 0:
            if _TERM_ENDS.match(text, end + 1):
                if not text[start:end].strip():
                    raise QueryError(f"query {text!r}: empty quotes")
                return Term(sign * weight, text[start:end], quoted=True), end + 1
            end = text.find(quote, end + 1)
        if quote == '"' and '"' not in text[start:]:
            raise QueryError(f"query {text!r}: a quote is not closed")
    following = _NEXT_OPERATOR.search(text, position)
    end = following.start() if following else len(text)
    return Term(sign * weight, text[position:end].rstrip()), end


def resolve(value: str, *, quoted: bool = False, as_modality: str | None = None) -> Source:
    """Say what a value refers to: a file, or words.

    Args:
        value: A path or words.
        quoted: Words even where it looks like a path, unless that file exists.
        as_modality: What a file of unknown suffix is.

    Returns:
        The source. A name without a suffix ("dog") is words even if there is such a file: write "./dog" for it.

    Raises:
        QueryError: If it looks like a path and no such file exists, is a folder, or is words that are not UTF-8.
        UnknownModalityError: If it is a path to a file of unknown suffix and `as_modality` is None.
    """
    path = os.path.expanduser(value)
    suffix = os.path.splitext(path)[1].lower()
    explicit = value.startswith(("./", "../", "~/", "/")) and not any(char.isspace() for char in value)
    if os.path.isfile(path) and (explicit or suffix):
        if suffix in SUFFIXES:
            return Source(value, SUFFIXES[suffix], path)
        if as_modality is None:
            modality_of(path)  # raises, naming the known suffixes
        return Source(value, "audio" if as_modality == Modality.SPEECH else str(as_modality), path)
    if os.path.isdir(path) and (explicit or path.endswith("/")):
        raise QueryError(f"{value}: a folder cannot be a query; give a file, or words in double quotes")
    if (suffix in SUFFIXES or explicit) and not quoted:
        raise QueryError(f"{value}: no such file; if you mean these words, put them in double quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise QueryError(f"query {value!a}: not UTF-8; write it so, or give the path of a file that exists") from None
    return Source(value, "text")


def embed_sources(
    sources: Sequence[Source], space: QueryEncoder, *, as_modality: str | None = None
) -> list[tuple[NDArray[np.float32], str]]:
    """Encode sources, one vector each.

    A recording that holds both gives what is said ("speech") unless `as_modality` is "audio"; a long item gives the
    normalised mean of its segments.

    Args:
        sources: From `resolve`.
        space: The encoder.
        as_modality: Which modality recordings and videos are; words and images ignore it.

    Returns:
        For each source its (embed_dim,) unit vector and modality.

    Raises:
        MediaError: If one cannot be decoded.
        UnknownModalityError: If one has no segment of the wanted modality.
    """
    decoded = []
    for source in sources:
        wanted = as_modality if source.kind in ("audio", "video") else None
        content = Path(source.path) if source.path else source.value
        decoded.append(space.decode(content, source.kind, as_modality=wanted))
    encoded = space.encode_decoded(decoded)
    return [_pool(source, segments, as_modality) for source, segments in zip(sources, encoded, strict=True)]


def _pool(source: Source, segments: list[Segment], as_modality: str | None) -> tuple[NDArray[np.float32], str]:
    """Return the normalised mean of an item's segments in its leading modality."""
    present = {segment.modality for segment in segments}
    wanted = as_modality if source.kind in ("audio", "video") and as_modality else None
    order = (wanted,) if wanted else (Modality.IMAGE, Modality.TEXT, Modality.SPEECH, Modality.AUDIO)
    modality = next((str(name) for name in order if name in present), None)
    if modality is None:
        found = ", ".join(sorted(present)) or "nothing"
        raise UnknownModalityError(f"{source.value}: holds {found}, not {wanted or 'a known modality'}; change --as")
    rows = np.stack([segment.vector for segment in segments if segment.modality == modality]).astype(np.float64)
    mean = rows.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    if not norm > 0:
        raise QueryError(f"{source.value}: its vector is zero or not a number")
    return (mean / norm).astype(np.float32), modality


def compose(query: Query | str, space: QueryEncoder, *, as_modality: str | None = None) -> ComposedQuery:
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

    Returns:
        The composed query.

    Raises:
        QueryError: If a file does not exist or the terms cancel.
        MediaError: If a file cannot be decoded.
        UnknownModalityError: If a file's modality is not known.

    Source:
        Signed sums: Mikolov et al. 2013, "Linguistic Regularities in Continuous Space Word Representations". The
        gap: Liang et al. 2022, "Mind the Gap", section 3; taking the mean out before vectors of different
        modalities are exchanged: Zhang et al. 2024, "Connect, Collapse, Corrupt", section 4. Media as words of a text
        query: Saito et al. 2023, "Pic2Word", with names in place of a learnt pseudo-word.
    """
    terms = (parse(query) if isinstance(query, str) else query).terms
    sources = [resolve(term.value, quoted=term.quoted, as_modality=as_modality) for term in terms]
    embedded = embed_sources(sources, space, as_modality=as_modality)
    modalities = [modality for _, modality in embedded]
    rows = np.stack([vector for vector, _ in embedded]).astype(np.float64)  # (terms, embed_dim)
    centred = len(set(modalities)) > 1
    if centred:
        means = space.calibration.means
        rows -= np.stack([np.asarray(means.get(name, np.zeros(rows.shape[1])), np.float64) for name in modalities])
    weights = np.array([term.weight for term in terms])
    reading, phrase, notes = _read_together(terms, embedded, space) if centred else (0.0, "", ())
    total = weights @ rows + reading
    norm = float(np.linalg.norm(total))
    if not norm > _CANCELLED * max(float(np.abs(weights).sum()), 1e-30):
        raise QueryError("the query's terms cancel each other, so nothing is left to search for; change the weights")
    vector = (total / norm).astype(np.float32)
    cosines = rows @ vector / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    plain = not centred and bool((weights > 0).all())
    return ComposedQuery(
        vector=vector,
        modality=modalities[0] if plain else MIXED,
        terms=tuple(
            ComposedTerm(term.weight, term.value, modality, float(cosine))
            for term, modality, cosine in zip(terms, modalities, cosines, strict=True)
        ),
        centred=centred,
        phrase=phrase,
        notes=notes,
        read_documents=lambda: _compose_documents(weights, rows, embedded, reading, space),
        unknown=_unknown_words(sources, space),
    )


def _unknown_words(sources: Sequence[Source], space: QueryEncoder) -> tuple[str, ...]:
    """Return the parts of a query's words that the text encoder does not know; none where the space cannot say."""
    lacking = getattr(space, "unknown_words", None)
    if lacking is None:
        return ()
    return tuple(dict.fromkeys(part for source in sources if source.path is None for part in lacking(source.value)))


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
    mean = np.array([share for _, share in read]) @ np.stack([vector for vector, _ in found]).astype(np.float64)
    mean = mean / np.linalg.norm(mean) - np.asarray(space.calibration.means.get("text", 0.0), np.float64)
    return weight * mean, read[0][0], (*notes, f"read, too, as {read[0][0]!r}: the words say more of the same thing")
