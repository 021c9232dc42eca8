"""A space without a model for the command line's tests: real decoding, vectors made of the decoded content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.calibration.model import Calibration, PairCalibration
from embedspace.media.audio import load_audio
from embedspace.media.image import flatten, load_image
from embedspace.media.text import read_text
from embedspace.segment import Decoded, Segment

DIM = 64


def vector_of(content: str | bytes, dim: int = DIM) -> np.ndarray:
    """Return the unit vector of some content."""
    raw = content.encode() if isinstance(content, str) else content
    seed = int.from_bytes(hashlib.sha256(raw).digest()[:8], "little")
    row = np.random.default_rng(seed).standard_normal(dim)
    return (row / np.linalg.norm(row)).astype(np.float32)


class CliSpace:
    """Equal content has equal vectors. A recording's speech is the content of the .txt file beside it."""

    modalities = ("image", "audio", "text", "speech")

    def __init__(self, version: str = "1", embed_dim: int = DIM) -> None:
        self.version, self.embed_dim = version, embed_dim
        pairs = {f"{a}>{b}": PairCalibration(0.0, 0.2, 40.0, -24.0) for a in self.modalities for b in self.modalities}
        self.calibration = Calibration({name: np.zeros(embed_dim, np.float32) for name in self.modalities}, pairs)

    def names(self, vectors: np.ndarray, modality: str) -> list[list[tuple[str, float]]]:
        return [[] for _ in vectors]

    def for_documents(self, vectors: np.ndarray, modality: str) -> np.ndarray:
        return vectors[:, None]

    def fingerprints(self) -> Mapping[str, str]:
        return {name: hashlib.sha256(f"{name}{self.version}".encode()).hexdigest() for name in self.modalities}

    def calibration_json(self) -> str:
        return self.calibration.to_json()

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:
        if isinstance(source, Mapping):
            return Decoded(kind, [("text", value, name) for name, value in source.items()])
        if kind == "text":
            return Decoded(kind, [("text", read_text(source) if isinstance(source, Path) else source, "")])
        if kind == "image":
            return Decoded(kind, [("image", flatten(load_image(source)).tobytes(), "")], {"width": 1})
        audio = load_audio(source, sample_rate=16000)
        beside = source.with_suffix(".words")
        inputs = [("audio", audio.waveform.tobytes(), "")] if as_modality != "speech" else []
        if as_modality != "audio" and beside.exists():
            inputs.append(("speech", beside.read_text(), ""))
        return Decoded(kind, inputs, {"duration": round(audio.waveform.size / audio.sample_rate, 3)})

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        return [
            [
                Segment(
                    modality,
                    vector_of(content, self.embed_dim),
                    0.0 if modality in ("audio", "speech") else None,
                    1.5 if modality in ("audio", "speech") else None,
                    content if modality == "text" else "",
                    label,
                )
                for modality, content, label in item.inputs
            ]
            for item in items
        ]
