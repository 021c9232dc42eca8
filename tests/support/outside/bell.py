"""A target that another package brings: bells, whose generator takes an option of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from embedspace.generate import Generator, Option, Request, Sample, Target, register_generator, register_target
from embedspace.generate import registry as types
from embedspace.generate import targets as known
from embedspace.generate.targets import SECONDS

__all__ = ["Bell", "registered_bell", "write_bell"]


class Bell(Generator):
    """A generator of tones of 8,000 Hz that go on for half a second."""

    modality = "bell"
    options = frozenset({"seconds", "pitch"})
    sigma: Mapping[str, float] = {"text": 0.25}

    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        waveform = 0.5 * np.sin(np.arange(4000) * request.extra.get("pitch", 440.0) / 8000).astype(np.float32)
        seeds = range(request.seed, request.seed + request.num_samples)
        return [[Sample("bell", waveform, seed, 8000) for seed in seeds] for _ in vectors]


@contextlib.contextmanager
def registered_bell() -> Iterator[Target]:
    """Register what another package would, until the block ends."""
    with (
        mock.patch.object(known._TARGETS, "found", dict(known._TARGETS.found)),
        mock.patch.object(types._TYPES, "found", dict(types._TYPES.found)),
    ):
        register_generator("bell")(lambda config, folder, space: Bell())
        pitch = Option("pitch", float, "hertz of the strike note", least=20, most=4000)
        yield register_target(Target("bell", "bells", "audio", (SECONDS, pitch)))


def write_bell(folder: Path) -> None:
    """Write its generator's configuration beside the weights of a space in a folder."""
    own = folder / "heads" / "bell"
    own.mkdir(parents=True)
    (own / "config.json").write_text(json.dumps({"format": 1, "type": "bell"}))
