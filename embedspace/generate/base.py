"""The one contract of every generator: what it is asked, what it returns, which options it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedspace.calibration.centring import MIXED
from embedspace.calibration.model import Calibration
from embedspace.errors import ArgumentError
from embedspace.generate.drawing import Drawing, drawing_of
from embedspace.generate.editing import Edit, edit_of
from embedspace.generate.targets import CANDIDATES, GUIDANCE, SECONDS, SIZE, START, STEPS, target_of
from embedspace.vocabulary import Neighbour

__all__ = [
    "OPTIONS",
    "Generator",
    "GeneratorSpace",
    "Neighbour",
    "Request",
    "Sample",
    "Sources",
    "random_sources",
    "request_of",
]

MAX_SAMPLES = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """How to sample. None means the generator's own default.

    Which of them a generator takes, beside the first two, its `options` say.

    Attributes:
        num_samples: Samples of each vector, 1 to 1,024.
        seed: Sample i of any vector is drawn with seed + i, so it depends on neither the batch nor the number.
        num_steps: Steps of the sampler, in the generator's sense: solver steps of a flow, pieces of a caption at most.
        guidance_scale: Weight of classifier-free guidance; 1 is none.
        family: Which of the generator's networks ("flow", "vae"); the first by default.
        size: Pictures: side in pixels.
        seconds: Sounds: length.
        voice: Speech: "engine:name".
        style: Pictures: name of a source whose style is wanted.
        candidates: Pictures: so many are drawn for each sample, and the one that fits best is kept.
        start: Pictures: the time that they begin at: 0 at noise, later ones at the nearest training item.
        edit: Pictures and sounds: what is edited, in place of beginning from noise; see `embedspace.generate.editing`.
        drawing: Pictures: what is to be drawn where; see `embedspace.generate.drawing`.
        extra: Options of generators from elsewhere: name -> value; their generator says what is in range.
    """

    num_samples: int = 1
    seed: int = 0
    num_steps: int | None = None
    guidance_scale: float | None = None
    family: str | None = None
    size: int | None = None
    seconds: float | None = None
    voice: str | None = None
    style: str | None = None
    candidates: int | None = None
    start: float | None = field(default=None, repr=False)  # so that keys of kept samples stay
    edit: Edit | None = field(default=None, repr=False)
    drawing: Drawing | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no generator can do.

        Raises:
            ArgumentError: If a value is out of range.
        """
        if not 1 <= self.num_samples <= MAX_SAMPLES:
            raise ArgumentError("num_samples", f"{self.num_samples}: make 1 to {MAX_SAMPLES} samples")
        for option in (STEPS, GUIDANCE, SIZE, CANDIDATES, START, SECONDS):
            option.check(getattr(self, option.name))
        if self.start is not None and self.edit is not None:
            raise ArgumentError("start", f"{self.start:g}: an edit begins at what is edited; say how far with strength")

    @property
    def asked(self) -> dict[str, Any]:
        """The options that are not left to the generator: name -> value, in the order above."""
        named = {name: value for name in _FIELDS if (value := getattr(self, name)) is not None}
        edit = self.edit.asked if self.edit is not None else {}
        edit |= self.drawing.about if self.drawing is not None else {}
        return named | edit | {name: value for name, value in self.extra.items() if value is not None}


_FIELDS = tuple(
    option.name for option in fields(Request) if option.name not in ("num_samples", "seed", "edit", "drawing", "extra")
)
OPTIONS = (*_FIELDS, "init", "strength", "mask", "map")
"""What of a `Request` a generator takes only where it says so: fields, those of an edit, and a drawing."""
_ABOUT_FILES = ("init_sha256", "map_sha256")


def request_of(settings: Mapping[str, Any], num_samples: int = 1, seed: int = 0, content: str = "image") -> Request:
    """Return a request with options by name; those that are no fields of it become its `extra`.

    Args:
        settings: Name in Python -> value; None is left to the generator.
        num_samples: As in `Request`.
        seed: As in `Request`.
        content: What the target's samples hold, which an edit is read as.

    Raises:
        ArgumentError: If a value is out of range, or a strength or mask comes without what is edited.
        MediaError: If what is edited, or a map, cannot be read.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    editing = {name: given.pop(name) for name in ("init", "strength", "mask") if name in given}
    if editing and "init" not in editing:
        name, value = next(iter(editing.items()))
        raise ArgumentError(name, f"{value}: says how something is edited; name its file as init (--init)")
    drawing = drawing_of(given.pop("map")) if "map" in given else None
    extra = {name: given.pop(name) for name in [*given] if name not in OPTIONS}
    edit = edit_of(content, **editing) if editing else None
    return Request(num_samples, seed, **given, edit=edit, drawing=drawing, extra=extra)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One generated thing.

    Attributes:
        modality: What it is: the value of a `Modality`, or the name of another target.
        content: (H, W, 3) uint8, (T,) float32 in [-1, 1], or a `str`.
        seed: It alone was drawn with this seed.
        sample_rate: Hz, of a sound.
        text: The words that are said, of speech; the caption itself, of text.
        score: Cosine of the result's own vector with the condition, where the generator ranks by it; else NaN.
        alternatives: Captions that were ranked lower, with their scores, best first.
        provenance: What it was made by and from; goes into the file.
        neighbours: Nearest training items, if asked for.
    """

    modality: str
    content: NDArray[Any] | str
    seed: int
    sample_rate: int = 0
    text: str = ""
    score: float = float("nan")
    alternatives: tuple[tuple[str, float], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    neighbours: tuple[Neighbour, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What N things are made from.

    Attributes:
        vectors: (N, embed_dim) float32 unit rows as the encoders gave them; a mixed query's has no mean left in it.
        centred: (N, embed_dim) float32 unit rows without the modality means.
        sigma: (N,) noise assumed in the centred rows.
        modalities: Which encoder made each; "mixed" for a composed query.
        words: The words that each is of; "" where it is of something else.
    """

    vectors: NDArray[np.float32]
    centred: NDArray[np.float32]
    sigma: NDArray[np.float32]
    modalities: Sequence[str]
    words: Sequence[str]

    @classmethod
    def centred_only(cls, vectors: NDArray[np.float32], sigma: NDArray[np.float32]) -> Sources:
        """Return centred rows of which nothing else is known."""
        return cls(vectors, vectors, sigma, [MIXED] * len(vectors), [""] * len(vectors))


class GeneratorSpace(Protocol):
    """What generators need of an embedding space; `EmbeddingSpace` fulfils it."""

    @property
    def folder(self) -> Path:
        """Where its weights lie; its own generators lie beside them."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """Its configuration; "files" has the checksum of the text projection that generators are bound to."""
        ...

    @property
    def embed_dim(self) -> int:
        """Width of its vectors."""
        ...

    @property
    def calibration(self) -> Calibration:
        """Modality means, which centre every vector."""
        ...

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of texts; captions are ranked by them."""
        ...

    def encode_image(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of pictures; candidates are told apart by them."""
        ...


class Generator(nn.Module, ABC):
    """A trained generator of one modality.

    Attributes:
        modality: What it makes.
        options: Fields of a `Request` that it takes beside num_samples and seed; any other one is refused.
        digest: Hex digest of its weights and configuration.
        families: Its networks; the first is the default.
        sigma: Source modality -> size of the noise to be assumed in its centred vectors, measured on validation pairs.
        is_limited: Whether it knows no more than the names of the vocabulary; else no source is outside of it.
        batch: Samples of one source that are made together; what is finished is handed over before the next ones begin.
    """

    modality: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset()
    is_limited: ClassVar[bool] = True
    batch: int = 8
    digest: str = ""
    families: tuple[str, ...] = ()
    sigma: Mapping[str, float]

    @abstractmethod
    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Make samples.

        Args:
            vectors: (N, embed_dim) centred unit rows.
            sigma: (N,) noise assumed in each.
            request: How; every field is within its range, and one of `options` or None.

        Returns:
            For each row its `request.num_samples` samples, without provenance.

        Raises:
            InputError: If the generator cannot do what is asked.
        """

    def generate_from(self, sources: Sources, request: Request) -> list[list[Sample]]:
        """Make samples of all that is known of their sources: by default of the centred rows and their noise."""
        return self.generate(sources.centred, sources.sigma, request)

    def noise_of(self, modality: str) -> float:
        """Return the noise assumed in centred vectors of a modality, that of the noisiest for an unknown one."""
        return self.sigma.get(modality, max(self.sigma.values(), default=0.0))

    def check(self, request: Request) -> None:
        """Refuse an option that this generator does not take, a value out of range, and a family that it does not have.

        Raises:
            ArgumentError: If one is asked for.
        """
        target = target_of(str(self.modality))
        for option in target.options if target is not None else ():
            option.check(request.extra.get(option.name))
        for name, value in request.asked.items():
            if name not in self.options and name not in _ABOUT_FILES:
                known = [*OPTIONS, *sorted(self.options.difference(OPTIONS))]
                takes = ", ".join(option for option in known if option in self.options) or "no option"
                raise ArgumentError(
                    name, f"{value}: a generator of {self.modality} does not take it; it takes: {takes}"
                )
        self.family_of(request)

    def redrawn_styles(self, request: Request) -> Sequence[str]:
        """Return the styles in which what is edited is itself drawn anew; none unless a generator knows any."""
        del request
        return ()

    def family_of(self, request: Request) -> str:
        """Return which of the networks is asked for; "" where it has none to choose from.

        Raises:
            ArgumentError: If there is no such.
        """
        family = request.family or next(iter(self.families), "")
        if request.family and family not in self.families:
            raise ArgumentError(
                "family", f"{family!r}: the generator of {self.modality} has {', '.join(self.families)}"
            )
        return family


def random_sources(request: Request, first: int = 0, count: int | None = None) -> list[torch.Generator]:
    """Return a source of noise for each of samples `first` to `first + count`, seeded by the request."""
    number = request.num_samples - first if count is None else count
    return [torch.Generator().manual_seed(request.seed + first + k) for k in range(number)]
