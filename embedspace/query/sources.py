"""What the terms of a query refer to, words or files, and their vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration
from embedspace.errors import QueryError, UnknownModalityError
from embedspace.modality import SUFFIXES, Modality, is_apart, kind_of_modality, leading, modality_of
from embedspace.query.grammar import Term
from embedspace.query.reading import Names
from embedspace.segment import Decoded, Segment, mean_vector

__all__ = ["QueryEncoder", "Resolver", "Source", "embed_sources", "embedded_source", "resolve"]


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
class Source:
    """What a value refers to.

    Attributes:
        value: As the user wrote it.
        kind: "image", "audio", "text" or "video", as in `embedspace.modality.SUFFIXES`.
        path: The file, or None for words.
        embedded: Its unit vector (embed_dim,) and modality, where somebody encoded it already.
    """

    value: str
    kind: str
    path: str | None = None
    embedded: tuple[NDArray[np.float32], str] | None = None

    @property
    def is_words(self) -> bool:
        """Whether it is the words themselves."""
        return self.path is None and self.kind == Modality.TEXT


Resolver = Callable[[Term], Source]
"""Says what a term refers to. Whoever takes queries from a network brings one that never makes a path of a text."""


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
        return Source(value, kind_of_modality(str(as_modality)), path)
    if os.path.isdir(path) and (explicit or path.endswith("/")):
        raise QueryError(f"{value}: a folder cannot be a query; give a file, or words in double quotes")
    if (suffix in SUFFIXES or explicit) and not quoted:
        raise QueryError(f"{value}: no such file; if you mean these words, put them in double quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise QueryError(f"query {value!a}: not UTF-8; write it so, or give the path of a file that exists") from None
    return Source(value, "text")


def embedded_source(value: str, kind: str, rows: Mapping[str, NDArray[np.float32]], modality: str | None) -> Source:
    """Return what somebody encoded before, such as an item of a catalog, as a source.

    Args:
        value: How people call it.
        kind: "image", "audio", "text" or "video".
        rows: Modality -> (embed_dim,) unit row, the leading one first.
        modality: Which of them; None or empty: the leading one.

    Raises:
        UnknownModalityError: If it has not that modality, or none.
    """
    wanted = modality or next(iter(rows), "")
    if wanted not in rows:
        raise UnknownModalityError(f"{value}: holds {', '.join(rows) or 'nothing'}, not {wanted or 'a modality'}")
    return Source(value, kind, None, (rows[wanted], wanted))


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
    if is_apart(as_modality) and (other := next((one for one in sources if not _may_be(one, as_modality)), None)):
        raise QueryError(f"{other.value}: no recording, so that it has no {as_modality}; give a recording of speech")
    waiting = [source for source in sources if source.embedded is None]
    decoded = []
    for source in waiting:
        wanted = as_modality if source.kind in ("audio", "video") else None
        content = Path(source.path) if source.path else source.value
        query = space.decode(content, source.kind, as_modality=wanted)
        query.is_query = True
        decoded.append(query)
    encoded = iter(space.encode_decoded(decoded) if decoded else ())
    return [source.embedded or _pool(source, next(encoded), as_modality) for source in sources]


def _may_be(source: Source, modality: str | None) -> bool:
    """Whether a source may be of a modality that recordings hold."""
    return source.kind in ("audio", "video") if source.embedded is None else source.embedded[1] == modality


def _pool(source: Source, segments: list[Segment], as_modality: str | None) -> tuple[NDArray[np.float32], str]:
    """Return the normalised mean of an item's segments in its leading modality."""
    present = {segment.modality for segment in segments}
    wanted = as_modality if source.kind in ("audio", "video") and as_modality else None
    modality = next((name for name in leading(present) if wanted in (None, name)), None)
    if modality is None:
        found = ", ".join(sorted(present)) or "nothing"
        raise UnknownModalityError(
            f"{source.value}: holds {found}, not {wanted or 'a known modality'}; change as_modality (--as)"
        )
    mean = mean_vector(segments, modality)
    norm = float(np.linalg.norm(mean)) if mean is not None else 0.0
    if mean is None or not norm > 0:
        raise QueryError(f"{source.value}: its vector is zero or not a number")
    return (mean / norm).astype(np.float32), modality
