"""Make samples for an evaluation and keep them, so that a run that is killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.evaluate.encode import Progress
from embedspace.evaluate.generation.media.medium import Content, Medium
from embedspace.files import replacing
from embedspace.generate import Request, generate
from embedspace.generate.candidates.looks import FILE
from embedspace.generate.latents.generator import LatentGenerator
from embedspace.space import EmbeddingSpace

__all__ = ["SampleCache", "networks_digest"]

_BATCH = 4  # vectors at once


@dataclass
class SampleCache:
    """Samples of one generator of a space, made where they are not kept.

    Attributes:
        space: The space.
        to: Target modality.
        medium: What the generator makes.
        seeds: Seeds of every prompt's samples, one after the other.
        candidates: Drawn for each sample; None for the generator's own number.
        start: The time that they begin at; None for the generator's own.
        cache: Folder that keeps samples; None to keep none.
        tell: Told of progress.
        seconds: Wall seconds spent on samples that were made now, not read.
        count: How many those are.
        of_family: The same two of each family.
    """

    space: EmbeddingSpace
    to: str
    medium: Medium
    seeds: tuple[int, ...]
    cache: Path | None
    tell: Progress
    candidates: int | None = None
    start: float | None = None
    seconds: float = 0.0
    count: int = 0
    of_family: dict[str, tuple[float, int]] = field(default_factory=dict)
    _digest: str = field(default="", init=False)

    def of(
        self,
        vectors: NDArray[np.float32],
        modality: str,
        doing: str,
        *,
        family: str | None = None,
        guidance_scale: float | None = None,
        alone: bool = False,
    ) -> list[list[Content]]:
        """Return for each vector a sample of every seed.

        Args:
            vectors: (N, embed_dim) rows of the space.
            modality: What encoded them.
            doing: What the callback is told.
            family: Which of the generator's; its first by default.
            guidance_scale: The generator's own by default.
            alone: Whether one candidate of each is drawn, however many `candidates` there are.
        """
        request = Request(
            num_samples=len(self.seeds),
            seed=self.seeds[0],
            family=family,
            guidance_scale=guidance_scale,
            candidates=1 if alone else self.candidates,
            start=self.start,
        )
        paths = self._paths(vectors, modality, request)
        kept = [self._kept(path) for path in paths]
        missing = [number for number, own in enumerate(kept) if own is None]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            for number, own in zip(batch, self._fresh(vectors[batch], modality, request), strict=True):
                self._keep(paths[number], own)
                kept[number] = own
            self.tell(doing, min(start + _BATCH, len(missing)), len(missing))
        return [[self.medium.restored(content) for content in own or ()] for own in kept]

    def _fresh(self, vectors: NDArray[np.float32], modality: str, request: Request) -> list[list[Content]]:
        """Return samples as a file would hold them."""
        started = time.monotonic()
        found = generate(self.space, vectors, to=self.to, modality=modality, request=request, force=True)
        seconds, count = time.monotonic() - started, len(found) * len(self.seeds)
        if request.candidates == self.candidates:  # not of one candidate beside several: it would be no family's time
            self.seconds, self.count = self.seconds + seconds, self.count + count
            before = self.of_family.get(request.family or "", (0.0, 0))
            self.of_family[request.family or ""] = (before[0] + seconds, before[1] + count)
        return [[self.medium.rounded(np.asarray(sample.content)) for sample in own] for own in found]

    def _paths(self, vectors: NDArray[np.float32], modality: str, request: Request) -> list[Path | None]:
        """Return where each vector's samples are kept: by what the networks are given, and by what they are.

        So new encoders, other noise or thresholds make only those samples anew whose condition they change.
        """
        if self.cache is None:
            return [None] * len(vectors)
        generator = self.space.generators[self.to]
        if not self._digest:
            self._digest = networks_digest(self.space.generators.folder / self.to)
            # several are chosen from by the encoder of what is made; looks tell neighbours, options how it is drawn
            if (request.candidates or 1) > 1 or request.start is not None:
                looks = self.space.generators.folder / self.to / FILE
                seen = hashlib.sha256(looks.read_bytes()).hexdigest() if looks.is_file() else ""
                self._digest += f"{self.space.fingerprints()[self.to]}{seen}{getattr(generator, 'sampling', '')}"
        rows = centre(vectors, modality, self.space.calibration.means)
        noise = np.full(len(rows), generator.noise_of(modality), np.float32)
        if isinstance(generator, LatentGenerator):
            rows, noise = generator.conditions(rows, noise)
        asked = f"{request}" if request.start is None else f"{request} from {request.start:g}"
        keys = [
            hashlib.sha256(f"{self._digest} {size:.6f} {asked}".encode() + row.tobytes()).hexdigest()[:32]
            for row, size in zip(np.ascontiguousarray(rows, np.float32), noise.tolist(), strict=True)
        ]
        return [self.cache / "made" / self.to / key[:2] / f"{key}.npz" for key in keys]

    def _kept(self, path: Path | None) -> list[Content] | None:
        if path is None:
            return None
        try:
            with np.load(path) as stored:
                return [stored[str(n)] for n in range(len(self.seeds))]
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None  # not there, or torn

    def _keep(self, path: Path | None, contents: list[Content]) -> None:
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{str(n): own for n, own in enumerate(contents)})


def networks_digest(folder: Path) -> str:
    """Return the hex digest of a generator's files but for the noise it assumes, which is part of the condition."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json")):
        content = path.read_bytes()
        if path.name == "config.json":
            config = {name: value for name, value in json.loads(content).items() if name != "sigma"}
            content = json.dumps(config, sort_keys=True).encode()
        total.update(f"{path.name}\0{hashlib.sha256(content).hexdigest()}\0".encode())
    return total.hexdigest()
