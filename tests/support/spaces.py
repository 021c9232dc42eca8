"""A tiny space for tests: heads with random weights on the real backbones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.base import save_tensors
from embedspace.encoders.projections import LinearProjection
from embedspace.encoders.shipped.audio import AudioConfig, AudioProjections
from embedspace.encoders.shipped.image import ImageConfig, ImageProjections
from embedspace.encoders.shipped.speech import SpeechConfig, SpeechProjections
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite, EfficientNetTail
from embedspace.segment import Segment
from embedspace.space import EmbeddingSpace, write_config

EMBED_DIM = 16
IMAGE_DIM, TAIL_DIM, AUDIO_DIM, SPEECH_DIM, TEXT_DIM = 3606, 1280, 5299, 512, 384
"""Widths of the real front ends."""
BACKBONES = ("efficientnet_lite0", "efficientnet_lite2")
TEXT_SECTION = {"feature_dim": TEXT_DIM, "embed_dim": EMBED_DIM, "hidden_dim": 8}


def write_head(folder: Path, modality: str, seed: int = 0, tail: bool = False) -> dict[str, Any]:
    """Write `<modality>.safetensors` with random weights; returns its section of config.json."""
    torch.manual_seed(seed)
    section: dict[str, Any]
    heads: torch.nn.Module
    if modality == "text":
        heads = LinearProjection(TEXT_DIM, EMBED_DIM, 8)
        section = {"backbone": "minilm_l6", "head": dict(TEXT_SECTION)}
    elif modality == "image":
        image = ImageConfig(BACKBONES, IMAGE_DIM + TAIL_DIM * tail, EMBED_DIM, 8, 2)
        heads, section = ImageProjections(image), dataclasses.asdict(image)
        heads.classes.copy_(F.normalize(torch.randn(1000, EMBED_DIM), dim=1))
    elif modality == "audio":
        audio = AudioConfig(("yamnet", "whisper_base"), AUDIO_DIM, EMBED_DIM, 8, 2, 521)
        heads, section = AudioProjections(audio), dataclasses.asdict(audio)
        heads.classes.copy_(F.normalize(torch.randn(audio.classes, EMBED_DIM), dim=1))
        heads.router.weight.data.zero_()
        heads.router.bias.data.fill_(-9.0)  # hears no speech anywhere
    else:
        speech = SpeechConfig("whisper_base", SPEECH_DIM, TEXT_DIM, 16, 1, 1)
        heads = SpeechProjections(speech)
        section = {**dataclasses.asdict(speech), "text_head": dict(TEXT_SECTION)}
    save_tensors(heads, folder / f"{modality}.safetensors")
    if modality == "image" and tail:
        network = create_backbone(BACKBONES[0])
        assert isinstance(network, EfficientNetLite)
        save_tensors(EfficientNetTail(network), folder / "image_tail.safetensors")
    return section


def write_space(folder: Path, *, seed: int = 0, tail: bool = False) -> Path:
    """Write a whole space of four modalities into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("text", "image", "audio", "speech")
    write_config(folder, {kind: write_head(folder, kind, seed + k, tail) for k, kind in enumerate(kinds)}, EMBED_DIM)
    return folder


def noise(seconds: float, sample_rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """(T,) white noise, peak about 0.4."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(max(1, round(seconds * sample_rate)))).astype(np.float32)


def pictures(count: int) -> list[Image.Image]:
    """Pictures of noise, each of another size."""
    rng = np.random.default_rng(0)
    sizes = [(40 + 30 * k, 64 + 7 * k, 3) for k in range(count)]
    return [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in sizes]


def check_rows(rows: Any, count: int) -> None:
    """Assert `count` unit rows."""
    assert rows.shape == (count, EMBED_DIM)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def segments_of(space: EmbeddingSpace, source: Any, kind: str = "audio", wanted: str | None = None) -> list[Segment]:
    """Decode and encode one item; its segments."""
    found = space.encode_decoded([space.decode(source, kind, as_modality=wanted)])[0]
    check_rows(np.stack([s.vector for s in found]), len(found))
    return found


def spans(segments: list[Segment], modality: str) -> list[tuple[float, float]]:
    """(start, end) of the segments of a modality."""
    return [(round(s.start or 0, 2), round(s.end or 0, 2)) for s in segments if s.modality == modality]
