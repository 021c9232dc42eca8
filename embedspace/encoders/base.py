"""The one contract of every encoder, and how weights are read and written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from embedspace.encoders.quantize import from_rows, to_rows8
from embedspace.errors import WeightsError
from embedspace.files import replacing
from embedspace.media.source import one_line

__all__ = ["Encoder", "Encoders", "Piece", "load_strict", "save_tensors", "to_rows"]


@dataclass(slots=True)
class Piece:
    """One segment of a decoded item, ready for its encoder.

    Attributes:
        modality: Value of the `Modality` whose encoder takes it.
        content: What `Encoder.prepare` returned: tensors, no model was run.
        start: Seconds or characters from the start of the item; None for a whole image.
        end: As `start`.
        text: What it says, where that is known.
        label: The field it comes from.
        optional: Encode it only if the router hears speech in the span.
    """

    modality: str
    content: Any
    start: float | None = None
    end: float | None = None
    text: str = ""
    label: str = ""
    optional: bool = False


class Encoder(nn.Module, ABC):
    """Media of one modality in, one unit row of the shared space a segment out: usually a tower and a projection.

    `prepare` is pure CPU work on decoded media and safe in threads; `encode` runs the networks. The vector of a
    segment does not depend on what is encoded beside it (within 1e-5). What an encoder says of itself decides how
    media are decoded and cut for it; a subclass sets what differs.

    An encoder of sound may also have `encode_and_route(prepared)`, which returns the rows and the probability (N,)
    that somebody speaks in each window; one of speech `encode_and_transcribe(prepared)`, which returns the rows and
    what is said, "" where nothing is recognised.

    Attributes:
        embed_dim: Width of the shared space.
        sample_rate: Of the waveforms it takes, in Hz.
        window_seconds: Longest stretch of sound that it takes at once; longer recordings are cut.
        min_side: Pictures may be decoded smaller than they are, as long as the shorter side keeps so many pixels;
            None: always in full.
        passage_words: Longest stretch of text that it takes at once, in words; see also `fits`.
    """

    embed_dim: int
    sample_rate: int = 16_000
    window_seconds: float = 6.0
    min_side: int | None = None
    passage_words: int = 180

    @abstractmethod
    def prepare(self, media: Any) -> Any:  # noqa: ANN401 - each modality has its own decoded form
        """Turn one segment of decoded media into tensors."""

    @abstractmethod
    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) float32 unit rows for N prepared segments."""

    def encode_query(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return the rows of what is searched with, where the network makes a difference; as `encode` if not."""
        return self.encode(prepared)

    def unknown(self, text: str) -> list[str]:
        """Return the parts of a text that the network does not know; none where it cannot say."""
        del text
        return []

    def fits(self, text: str) -> bool:
        """Return whether nothing of a text is cut off: passages are shortened until it is so."""
        del text
        return True


class Encoders:
    """The encoders of a space by modality, each made when it is first asked for."""

    def __init__(self, modalities: Iterable[str], get: Callable[[str], Encoder]) -> None:
        """Name the modalities, and say how an encoder is got."""
        self._modalities = tuple(modalities)
        self._get = get

    def __call__(self, modality: str) -> Encoder:
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


def load_strict(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into a module, cast to float32, every tensor accounted for.

    Raises:
        WeightsError: If the file is missing, corrupt, or holds other tensors than the module.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights; name a folder that EmbeddingSpace.save wrote")
    try:
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in from_rows(load_file(path)).items()}
        module.load_state_dict(tensors, strict=True, assign=True)
    except (SafetensorError, RuntimeError, KeyError, OSError) as error:
        raise WeightsError(
            f"{path}: these weights do not fit the configuration beside them: {one_line(error)}"
        ) from error
    module.requires_grad_(False).eval()


def save_tensors(
    module: nn.Module, path: Path, pack: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = to_rows8
) -> None:
    """Write a module's tensors to a safetensors file, atomically: as `pack` stores them, by default in 8-bit rows."""
    tensors = {k: v.clone() for k, v in pack({k: v.detach() for k, v in module.state_dict().items()}).items()}
    with replacing(path) as partial:
        save_file(tensors, partial)
        partial.chmod(0o644)


def to_rows(vectors: torch.Tensor) -> NDArray[np.float32]:
    """Return a tensor of unit rows as a float32 array."""
    rows: NDArray[np.float32] = vectors.detach().cpu().numpy().astype(np.float32, copy=False)
    return rows
