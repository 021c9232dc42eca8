"""What every encoder is, whatever computes its rows: no torch, so that a search by words loads none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from embedspace.encoders.half import HalfPrecision

Made = TypeVar("Made")

__all__ = ["Encoders", "MediaEncoder", "Piece", "Turn", "content_bytes"]


@dataclass(slots=True)
class Piece:
    """One segment of a decoded item, ready for its encoder.

    Attributes:
        modality: Value of the `Modality` whose encoder takes it.
        content: What `MediaEncoder.prepare` returned; no model was run.
        start: Seconds or characters from the start of the item; None for a whole image.
        end: As `start`.
        text: What it says, where that is known.
        label: The field it comes from.
        optional: Encode it only if the router hears speech in the span.
        beside: Encode it only if there is a segment of this modality in the span, as voices are where speech is.
    """

    modality: str
    content: Any
    start: float | None = None
    end: float | None = None
    text: str = ""
    label: str = ""
    optional: bool = False
    beside: str = ""


class Turn(NamedTuple):
    """A part of prepared content.

    Attributes:
        start: Seconds from where the content begins.
        end: As `start`.
        row: (embed_dim,) unit row.
    """

    start: float
    end: float
    row: NDArray[np.float32]


class MediaEncoder(ABC):
    """Media of one modality in, one unit row of the shared space a segment out: usually a tower and a projection.

    `prepare` is pure CPU work on decoded media and safe in threads; `encode` runs the networks. The vector of a
    segment does not depend on what is encoded beside it (within 1e-5). What an encoder says of itself decides how
    media are decoded and cut for it; a subclass sets what differs. Networks of torch derive from
    `embedspace.encoders.base.Encoder`, which is a module as well.

    An encoder of sound may also have `encode_and_route(prepared)`, which returns the rows and the probability (N,)
    that somebody speaks in each window; one of speech `encode_and_transcribe(prepared)`, which returns the rows and
    what is said, "" where nothing is recognised. Where the encoder of sound cannot say whether somebody speaks, the
    one of speech may, by `speech_probability(prepared)`, (N,): where it is less than half sure is no speech segment.
    One whose segments are shorter than what it prepares has `encode_turns(prepared)`, which returns for each a list of
    `Turn`s, and `join_turns(segments)`, which makes of an item's those that are stored; `encode` then gives their mean.

    Attributes:
        embed_dim: Width of the shared space.
        sample_rate: Sample rate of the waveforms it takes, in Hz.
        window_seconds: Longest stretch of sound or video that it takes at once; what is longer is cut.
        frames_per_second: Moments of a video that it looks at per second; `prepare` takes an image for each.
        still: A frame of a video is the last one again where it differs from it by less than this: root mean square of
            pixels from 0 to 1.
        pools: Modality whose encoder of the same space takes its frames; it then has `pool`, and `prepare` takes what
            that encoder prepared. Empty: it takes images. See `embedspace.encoders.film.pooled`.
        views: Views of what moves in a video's window, at most, of one that pools; it then has `prepare_views`.
        min_side: Pictures may be decoded smaller than they are, as long as the shorter side keeps so many pixels;
            None: always in full.
        passage_words: Longest stretch of text that it takes at once, in words; see also `fits`.
        together: Segments that its networks take at once. Of a longer batch, threads encode such parts side by side,
            through `map_parts`; 0: a batch is never divided.
        may_halve: Its networks can compute in bfloat16.
        halved: They do, where they encode what is to be found; set by `embedspace.encoders.half`.
    """

    embed_dim: int
    sample_rate: int = 16_000
    window_seconds: float = 6.0
    frames_per_second: float = 4.0
    still: float = 0.0
    pools: str = ""
    views: int = 0
    min_side: int | None = None
    passage_words: int = 180
    together: int = 0
    may_halve: bool = False
    halved: bool = False

    @abstractmethod
    def prepare(self, media: Any) -> Any:  # noqa: ANN401 - each modality has its own decoded form
        """Turn one segment of decoded media into arrays or tensors."""

    @abstractmethod
    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) float32 unit rows for N prepared segments."""

    def encode_query(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of what is searched with; only some networks tell it from what is found."""
        return self.encode(prepared)

    def prepare_views(self, media: Any, images: Sequence[Any]) -> Any:  # noqa: ANN401
        """Add to a window that `prepare` made the views of what moves in its images; see `views`."""
        raise NotImplementedError(f"{type(self).__name__} takes no views")

    def pool(self, prepared: Sequence[Any], rows: Mapping[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of N windows whose frames another encoder encoded; see `pools`.

        Args:
            prepared: Windows of frames.
            rows: Identity of a frame -> its (embed_dim,) unit row.
        """
        raise NotImplementedError(f"{type(self).__name__} pools nothing")

    def join(self, encoders: Encoders) -> None:
        """Be told the encoders of its space once it is made, for one that stands on another."""
        del encoders

    def map_parts(self, encode: Callable[[list[Any]], Made], parts: Sequence[list[Any]]) -> list[Made]:
        """Return what `encode` makes of each part of a batch."""
        return [encode(part) for part in parts]

    def unknown(self, text: str) -> list[str]:
        """Return the parts of a text that the network does not know; none where it cannot say."""
        del text
        return []

    def fits(self, text: str) -> bool:
        """Return whether nothing of a text is cut off: passages are shortened until it is so."""
        del text
        return True

    def on_device(self, device: str) -> MediaEncoder:
        """Return the encoder that runs on a device: itself, or another of the same vectors.

        Args:
            device: "cpu", "cuda", "cuda:1", "mps".
        """
        del device
        return self


class Encoders:
    """The encoders of a space by modality, each made when it is first asked for."""

    def __init__(
        self, modalities: Iterable[str], get: Callable[[str], MediaEncoder], half: HalfPrecision | None = None
    ) -> None:
        """Name the modalities, say how an encoder is got, and what decides on half precision."""
        self._modalities = tuple(modalities)
        self._get = get
        self.half = half

    def __call__(self, modality: str) -> MediaEncoder:
        """Return the encoder of a modality.

        Raises:
            UnknownModalityError: If there is none.
            WeightsError: If its weights are missing or damaged.
        """
        return self._get(modality)

    def __contains__(self, modality: object) -> bool:
        """Whether there is an encoder of a modality."""
        return modality in self._modalities

    def __iter__(self) -> Iterator[str]:
        """Iterate over the modalities."""
        return iter(self._modalities)


def content_bytes(content: Any) -> int:  # noqa: ANN401
    """Return the memory that prepared content holds, tensors and arrays within tuples and lists included."""
    if isinstance(content, list | tuple):
        return sum(content_bytes(part) for part in content)
    return int(getattr(content, "nbytes", 8))
