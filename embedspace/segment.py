"""The records that travel between decoding, encoding and the catalog. Numpy only: no torch, no FAISS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedspace.modality import is_apart, leading

__all__ = ["Decoded", "Segment", "SegmentEncoder", "mean_vector", "modality_rows"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One encoded piece of an item.

    Attributes:
        modality: Value of a `Modality`: which encoder made the vector. A recording may have "audio" and "speech" ones.
        vector: (embed_dim,) float32, unit norm.
        start: Seconds (audio, speech, video) or characters (text) from the start of the item; None for a whole image.
        end: As `start`.
        text: What the segment says, where that is known (a text passage, a recipe's field), for showing a hit.
        label: Name of the field ("title", "ingredients", ...), empty where the item has no fields.
    """

    modality: str
    vector: NDArray[np.float32]
    start: float | None = None
    end: float | None = None
    text: str = ""
    label: str = ""


def modality_rows(segments: Sequence[Segment]) -> dict[str, NDArray[np.float32]]:
    """Return modality -> unit row (embed_dim,) of an item's segments, the leading one first."""
    rows = {}
    for name in leading({segment.modality for segment in segments}):
        mean = mean_vector(segments, name)
        norm = 0.0 if mean is None else float(np.linalg.norm(mean))
        if mean is not None and norm > 0:
            rows[name] = (mean / norm).astype(np.float32)
    return rows


def mean_vector(segments: Sequence[Segment], modality: str) -> NDArray[np.float64] | None:
    """Return the mean (embed_dim,) of an item's segments of one modality, not normalised; None where it has none.

    Of voices it is the row of who speaks longest: a mean of two people is nobody.
    """
    if is_apart(modality):
        return _longest([segment for segment in segments if segment.modality == modality])
    rows = [segment.vector for segment in segments if segment.modality == modality]
    return np.mean(rows, axis=0, dtype=np.float64) if rows else None


def _longest(segments: Sequence[Segment]) -> NDArray[np.float64] | None:
    """Return the row that stands for most of the time; segments of one speaker have the same."""
    seconds: dict[bytes, float] = {}
    for segment in segments:
        key = segment.vector.tobytes()
        seconds[key] = seconds.get(key, 0.0) + max((segment.end or 0.0) - (segment.start or 0.0), 0.0)
    if not seconds:
        return None
    longest = max(seconds, key=seconds.__getitem__)
    return next(one.vector for one in segments if one.vector.tobytes() == longest).astype(np.float64)


@dataclass(slots=True)
class Decoded:
    """One decoded item, ready for the encoder: everything slow on disk is done, nothing has met a model.

    Attributes:
        kind: "image", "audio", "text", "video", or another that was registered.
        inputs: One entry per segment, in the encoder's own form (opaque to the catalog); of a long recording the first.
        metadata: JSON-able facts found while decoding (width, height, duration in seconds, ...); of a long recording
            they are complete when all of it is encoded.
        nbytes: Memory the inputs hold, for bounding queues.
        cuts: Ascending positions before which the inputs may be divided, to be encoded one part after the other:
            no segment depends on one beyond it.
        rest: Decodes what follows `inputs` of a long recording, anew at each call: (inputs, seconds reached) part by
            part, so that no more than a part is ever in memory. None where there is no more.
        progress: Told (seconds encoded, seconds in all or None) after each part of a long recording is encoded.
        is_query: It is searched with: some networks encode a query otherwise than what is to be found.
    """

    kind: str
    inputs: list[Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    nbytes: int = 0
    cuts: Sequence[int] = ()
    rest: Callable[[], Iterator[tuple[list[Any], float]]] | None = None
    progress: Callable[[float, float | None], None] | None = None
    is_query: bool = False

    def parts(self, size: int) -> Iterator[Decoded]:
        """Yield it in parts of at most `size` inputs each, larger ones where it may not be divided."""
        first = last = 0
        for cut in (*self.cuts, len(self.inputs)):
            if cut - first > size and last > first:
                yield Decoded(self.kind, self.inputs[first:last], is_query=self.is_query)
                first = last
            last = cut
        rest = self.inputs[first:]
        yield Decoded(self.kind, rest, self.metadata, rest=self.rest, progress=self.progress, is_query=self.is_query)


class SegmentEncoder(Protocol):
    """What the catalog needs of an embedding space; `EmbeddingSpace` fulfils it, tests use a tiny fake."""

    embed_dim: int

    def fingerprints(self) -> Mapping[str, str]:
        """Return modality value -> hex digest of all that determines that modality's vectors."""
        ...

    def calibration_json(self) -> str:
        """Return the JSON form of the space's `Calibration`."""
        ...

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:  # noqa: ANN401
        """Decode a path (or, for text, a `str`; or a mapping field -> text). Pure CPU and disk work, safe in threads.

        Raises:
            MediaError: If it cannot be decoded.
        """
        ...

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        """Encode a batch; result i holds the segments of items[i], and does not depend on the other items."""
        ...
