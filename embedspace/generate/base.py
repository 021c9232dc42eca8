"""The one contract of every generator head, and the registry that a target modality keys."""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embedspace.errors import ConfigError, InputError, WeightsError
from embedspace.modality import Modality

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = [
    "FORMAT",
    "GeneratorHead",
    "Neighbour",
    "Request",
    "Sample",
    "create_head",
    "digest_of",
    "generators_of",
    "read_config",
    "register_head",
]

FORMAT = 1
MAX_SAMPLES = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """How to sample. What is None is the head's own default.

    Attributes:
        num_samples: Samples of each vector, 1 to 1,024.
        seed: Sample i of any vector is drawn with seed + i, so it depends on neither the batch nor the number.
        num_steps: Steps of the sampler, in the head's sense: solver steps of a flow, pieces of a caption at most.
        guidance_scale: Weight of classifier-free guidance; 1 is none.
        family: Which of the head's networks ("flow", "vae"); the first by default.
        size: Pictures: side in pixels.
        seconds: Sounds: length.
        voice: Speech: "engine:name".
        candidates: Pictures: so many are drawn for each sample, and the one that fits best is kept.
    """

    num_samples: int = 1
    seed: int = 0
    num_steps: int | None = None
    guidance_scale: float | None = None
    family: str | None = None
    size: int | None = None
    seconds: float | None = None
    voice: str | None = None
    candidates: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no head can do.

        Raises:
            InputError: If a value is out of range.
        """
        if not 1 <= self.num_samples <= MAX_SAMPLES:
            raise InputError(f"-n {self.num_samples}: make 1 to {MAX_SAMPLES} samples")
        if self.num_steps is not None and not 1 <= self.num_steps <= 1000:
            raise InputError(f"--steps {self.num_steps}: must be 1 to 1000")
        if self.guidance_scale is not None and not 0.0 <= self.guidance_scale <= 30.0:
            raise InputError(f"--guidance {self.guidance_scale:g}: must be 0 to 30; 1 is none")
        if self.size is not None and not 16 <= self.size <= 2048:
            raise InputError(f"--size {self.size}: a picture's side is 16 to 2048 pixels")
        if self.candidates is not None and not 1 <= self.candidates <= 64:
            raise InputError(f"--candidates {self.candidates}: draw 1 to 64 for each picture")
        if self.seconds is not None and not 0.25 <= self.seconds <= 60.0:
            raise InputError(f"--seconds {self.seconds:g}: must be 0.25 to 60")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training item beside a sample.

    Attributes:
        item: Id in the training corpora.
        caption: What it is called.
        similarity: Cosine in the space (of the condition), or of the outputs themselves where `of` says so.
        of: "condition" or "output".
    """

    item: str
    caption: str
    similarity: float
    of: str = "condition"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One generated thing.

    Attributes:
        modality: Value of the `Modality` it is.
        content: (H, W, 3) uint8, (T,) float32 in [-1, 1], or a `str`.
        seed: It alone was drawn with this seed.
        sample_rate: Hz, of a sound.
        text: The words that are said, of speech; the caption itself, of text.
        score: Cosine of the result's own vector with the condition, where the head ranks by it; else NaN.
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


class GeneratorHead(nn.Module, ABC):
    """A trained generator of one modality.

    Attributes:
        digest: Hex digest of its weights and configuration.
        families: Its networks; the first is the default.
        sigma: Source modality -> size of the noise to be assumed in its centred vectors, measured on validation pairs.
    """

    modality: ClassVar[Modality]
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
            request: How; every field is within its range.

        Returns:
            For each row its `request.num_samples` samples, without provenance.

        Raises:
            InputError: If the head cannot do what is asked.
        """

    def noise_of(self, modality: str) -> float:
        """Return the noise assumed in centred vectors of a modality, that of the noisiest for an unknown one."""
        return self.sigma.get(modality, max(self.sigma.values(), default=0.0))

    def check_family(self, request: Request) -> str:
        """Return which of the networks is asked for.

        Raises:
            InputError: If there is no such.
        """
        family = request.family or self.families[0]
        if family not in self.families:
            raise InputError(f"--family {family!r}: the {self.modality} head has {', '.join(self.families)}")
        return family


Factory = Callable[[Mapping[str, Any], Path, "EmbeddingSpace"], GeneratorHead]
_FACTORIES: dict[Modality, Factory] = {}
_MODULES = {
    Modality.IMAGE: "embedspace.generate.image",
    Modality.AUDIO: "embedspace.generate.audio",
    Modality.TEXT: "embedspace.generate.captions.generator",
    Modality.SPEECH: "embedspace.generate.speech.generator",
}


def register_head(modality: Modality) -> Callable[[Factory], Factory]:
    """Register the factory `(config, folder, space) -> GeneratorHead` of a target modality."""

    def register(factory: Factory) -> Factory:
        _FACTORIES[modality] = factory
        return factory

    return register


def create_head(modality: Modality, folder: Path, space: EmbeddingSpace) -> GeneratorHead:
    """Make the head of a target modality with its weights.

    Args:
        modality: What it makes.
        folder: Folder of all heads; this one's lies in `<folder>/<modality>`.
        space: Whose vectors it is given; text heads rank their captions with it.

    Raises:
        WeightsError: If there is no head, it is damaged, or was trained on another space's text vectors.
        ConfigError: If its configuration has an unknown or missing key.
    """
    own = folder / modality.value
    path = own / "config.json"
    if not path.is_file():
        have = sorted(p.parent.name for p in folder.glob("*/config.json"))
        raise WeightsError(
            f"this space has no head that makes {modality}: {path} is missing; it makes: {', '.join(have) or 'nothing'}"
        )
    config = read_config(path)
    _check_space(config, space, path)
    if modality not in _FACTORIES:
        importlib.import_module(_MODULES[modality])
    try:
        head = _FACTORIES[modality](config, own, space)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{path}: does not fit the {modality} head: {error!r}") from error
    head.digest = digest_of(own)
    return head.requires_grad_(False).eval()


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration that training wrote.

    Raises:
        WeightsError: If it is missing, damaged or of a newer format.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
        newer = int(config["format"]) > FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not the configuration of a generator: {error!r}") from error
    if newer:
        raise WeightsError(f"{path}: format {config['format']}, this version reads up to {FORMAT}; update embedspace")
    return dict(config)


def _check_space(config: Mapping[str, Any], space: EmbeddingSpace, path: Path) -> None:
    """Heads are bound to the text head alone: everything else is aligned to it and may be replaced."""
    have = space.config["files"].get("text.safetensors", "")
    if config.get("text_head", have) != have:
        raise WeightsError(
            f"{path}: trained on vectors of another text head than this space's; train it again: embedspace train head"
        )


def digest_of(folder: Path) -> str:
    """Return the hex digest of a head's files, names included."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json")):
        with path.open("rb") as file:
            total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return total.hexdigest()


def generators_of(request: Request, first: int = 0, count: int | None = None) -> list[torch.Generator]:
    """Return a generator for each of samples `first` to `first + count`, seeded by the request."""
    number = request.num_samples - first if count is None else count
    return [torch.Generator().manual_seed(seed) for seed in seeds_of(request.seed, first, number)]


def seeds_of(seed: int, first: int, count: int) -> Sequence[int]:
    """Return the seeds of samples `first` to `first + count`."""
    return range(seed + first, seed + first + count)
