"""The contract of a pretrained head: which tower's vectors it takes, how it draws, and what it says of itself.

    unit rows of the space ──fitting──▶ rows of the head's tower ──vectors, prior──▶ what it was trained on ──▶ draw

A head is frozen, and was trained on vectors of one tower before the space was thought of. It is refused where the space
has no such tower, and draws few samples at once, so that those that are finished are kept when memory runs out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedspace.encoders.towers.base import Tower
from embedspace.errors import ArgumentError, InputError
from embedspace.generate.base import Generator, GeneratorSpace, Request, Sample, Sources, random_sources
from embedspace.generate.memory import ran_out
from embedspace.generate.pretrained.files import HeadRequest, digest_of_files, licence_of
from embedspace.media.source import one_line

__all__ = ["Asked", "Content", "HeadSpace", "Opened", "PretrainedGenerator", "Wanted"]

Content = NDArray[Any] | str
"""(H, W, 3) uint8, (T,) float32 in [-1, 1], or words."""


class HeadSpace(GeneratorSpace, Protocol):
    """What heads need of a space beside what every generator needs; `EmbeddingSpace` fulfils it."""

    @property
    def device(self) -> str:
        """Where its networks run, and the head's."""
        ...

    @property
    def may_download(self) -> bool:
        """Whether libraries may fetch what is not on this machine."""
        ...

    def supports(self, modality: str) -> bool:
        """Return whether it encodes a modality."""
        ...

    def tower(self, name: str) -> Tower:
        """Return one of its towers by its name in the configuration."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """The vectors that a head was trained on.

    Attributes:
        width: Their width.
        modality: Whose they are: "image", "audio" or "text".
        tower: The tower that made them, for people.
        probe: Media by which its tower is told from another: "image" or "text".
        encode: The head's own copy of that tower: N probes to (N, width) rows of any length; None where it has none,
            so that the width alone is compared.
    """

    width: int
    modality: str
    tower: str
    probe: str = "image"
    encode: Callable[[Sequence[Any]], Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """Where a head came from.

    Attributes:
        request: What was asked for.
        folder: Its files.
        revision: Commit of the hub's repository, where there is one.
        kind: What it is: a pipeline's class.
        space: Whose vectors it takes.
    """

    request: HeadRequest
    folder: Path
    revision: str | None
    kind: str
    space: HeadSpace


@dataclass(frozen=True, slots=True)
class Asked:
    """What one call of `draw` is given.

    Attributes:
        vectors: (B, embed_dim) float32 unit rows of the space.
        modalities: Which encoder made each.
        words: The words that each is of; "" where it is of something else.
        generators: B sources of noise, one for each sample.
        request: How.
    """

    vectors: NDArray[np.float32]
    modalities: Sequence[str]
    words: Sequence[str]
    generators: list[torch.Generator]
    request: Request


class PretrainedGenerator(Generator):
    """A head with what every one of them does: batches, memory, provenance.

    Attributes:
        grows: The option that memory grows with, named where it runs out.
        settings: Options of its reference that an adapter takes.
        batch: Samples drawn together.
    """

    grows: ClassVar[str] = "size"
    settings: ClassVar[tuple[str, ...]] = ()
    is_limited = False
    sigma: Mapping[str, float] = {}

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self.opened = opened
        self.batch = 1 if opened.space.device == "cpu" else 4
        self.digest = digest_of_files(opened.folder)
        self.licence = licence_of(opened.folder)

    @abstractmethod
    def draw(self, asked: Asked) -> list[tuple[Content, dict[str, Any]]]:
        """Make one sample of each row, and say what is known of it beside its content.

        Raises:
            InputError: If what is asked for cannot be done.
        """

    @abstractmethod
    def resolved(self, request: Request) -> dict[str, Any]:
        """Return the options as they are used: those that are left to the head have its own values.

        Raises:
            ArgumentError: If one is out of the head's range.
        """

    def sample_of(self, content: Content, seed: int, about: Mapping[str, Any]) -> Sample:
        """Return a sample of what was drawn."""
        return Sample(str(self.modality), content, seed, provenance=about)

    def check(self, request: Request) -> None:
        """Refuse what no head takes, and what this one cannot do; see `Generator.check`."""
        super().check(request)
        self.resolved(request)

    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Make samples of rows of which nothing else is known; see `generate_from`."""
        return self.generate_from(Sources.centred_only(vectors, sigma), request)

    def generate_from(self, sources: Sources, request: Request) -> list[list[Sample]]:
        """Make samples a few at a time; where memory runs out, fewer at a time.

        Raises:
            ArgumentError: If the memory does not hold a single one of the size that is asked for.
        """
        about = {**self.about(), **self.resolved(request)}
        rows = [row for row in range(len(sources.vectors)) for _ in range(request.num_samples)]
        noise = [one for _ in sources.vectors for one in random_sources(request)]
        samples: list[Sample] = []
        for part in self._parts(len(rows)):
            drawn = self._drawn(sources, rows[part], noise[part], request)
            for number, (content, extra) in enumerate(drawn, part.start):
                seed = request.seed + number % request.num_samples
                samples.append(self.sample_of(content, seed, {**about, **extra}))
        count = request.num_samples
        return [samples[start : start + count] for start in range(0, len(samples), count)]

    def about(self) -> dict[str, Any]:
        """Return what a sample's record says of the head."""
        opened = self.opened
        return {
            "head": opened.request.reference,
            "kind": opened.kind,
            **({"revision": opened.revision} if opened.revision else {}),
            **({"licence": self.licence} if self.licence else {}),
            **{f"head_{name}": str(value) for name, value in opened.request.options.items()},
        }

    def _parts(self, count: int) -> Iterator[slice]:
        start = 0
        while start < count:
            size = self.batch  # smaller by now, if memory ran out
            yield slice(start, min(start + size, count))
            start += size

    def _drawn(
        self, sources: Sources, rows: list[int], noise: list[torch.Generator], request: Request
    ) -> list[tuple[Content, dict[str, Any]]]:
        """Draw a batch; where memory runs out, in halves from now on."""
        states = [one.get_state() for one in noise]
        asked = Asked(
            sources.vectors[rows],
            [sources.modalities[row] for row in rows],
            [sources.words[row] for row in rows],
            noise,
            request,
        )
        try:
            with torch.inference_mode():
                return self.draw(asked)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                what = f"{self.opened.request.label}: {self.opened.kind} failed: {one_line(error)}"
                raise InputError(what) from error
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(rows) == 1:
            size = self.resolved(request).get(self.grows)
            raise ArgumentError(
                self.grows, f"{size}: a sample does not fit into the memory of {self.opened.space.device}; ask for less"
            )
        self.batch = max(1, len(rows) // 2)
        for one, state in zip(noise, states, strict=True):
            one.set_state(state)
        drawn: list[tuple[Content, dict[str, Any]]] = []
        for part in (slice(0, self.batch), slice(self.batch, len(rows))):
            drawn += self._drawn(sources, rows[part], noise[part], request)
        return drawn
