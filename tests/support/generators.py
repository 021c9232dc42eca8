"""Tiny generators with random weights for tests, and a stand-in for a space that knows words only."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedspace.calibration.model import Calibration
from embedspace.encoders.base import save_tensors
from embedspace.generate.api import Generators
from embedspace.generate.captions.decoder import CaptionDecoder, DecoderConfig
from embedspace.generate.families.base import FamilyConfig
from embedspace.generate.families.registry import family_of
from embedspace.generate.latents.autoencoder import Autoencoder, AutoencoderConfig
from embedspace.generate.latents.neighbours import Neighbours
from embedspace.generate.spectrogram import SpectrogramConfig
from embedspace.train.generators.captions import make_vocabulary
from embedspace.vocabulary import Vocabulary
from tests.support.cli_space import DIM, CliSpace, vector_of

WORDS = ("a dog", "a cat", "a barking dog", "rain on a roof", "a violin", "a red flower", "a house", "grass")


class SpaceWithGenerators(CliSpace):
    """The command line's fake space with a folder for generators."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.config = {"files": {"text.safetensors": "abc"}}
        self.calibration = Calibration({name: np.zeros(DIM, np.float32) for name in self.modalities})

    @functools.cached_property
    def generators(self) -> Generators:
        return Generators(self)  # type: ignore[arg-type]

    def encode_text(self, texts: Sequence[str], **options: Any) -> np.ndarray:
        return np.stack([vector_of(text) for text in texts])

    def encode_image(self, pictures: Sequence[Any], **options: Any) -> np.ndarray:
        return np.stack([vector_of(np.asarray(one).tobytes()) for one in pictures])


def write_vocabulary(folder: Path, threshold: float = 0.5) -> Vocabulary:
    """Write a vocabulary of `WORDS`; vectors below `threshold` from all of them are unknown."""
    vectors = np.stack([vector_of(text) for text in WORDS])
    known = {"text": threshold, "image": threshold}
    vocabulary = Vocabulary(vectors, WORDS, [f"tiny/{n}" for n in range(len(WORDS))], known)
    vocabulary.save(folder, "abc")
    return vocabulary


def write_text_generator(folder: Path, text_head: str = "abc", **config: Any) -> Path:
    """Write a generator of captions of a few thousand weights."""
    own = folder / "text"
    own.mkdir(parents=True, exist_ok=True)
    tokenizer = make_vocabulary(list(WORDS), 64)
    tokenizer.save(str(own / "tokenizer.json"))
    size = DecoderConfig(
        embed_dim=DIM, vocabulary=tokenizer.get_vocab_size(), width=16, layers=1, heads=2, prefix=2, max_pieces=8
    )
    torch.manual_seed(0)
    save_tensors(CaptionDecoder(size), own / "decoder.safetensors")
    about = {
        "format": 1,
        "text_head": text_head,
        "decoder": dataclasses.asdict(size),
        "sigma": {"text": 0.0, "image": 1.0},
    }
    (own / "config.json").write_text(json.dumps({**about, **config}))
    return own


def write_speech_generator(folder: Path) -> None:
    """Write a generator of speech, which is that of captions and an installed voice."""
    own = folder / "speech"
    own.mkdir(parents=True, exist_ok=True)
    (own / "config.json").write_text(json.dumps({"format": 1, "text_head": "abc"}))


def write_latent_generator(folder: Path, modality: str, **config: Any) -> Path:
    """Write a generator of pictures of 16 x 16, or of sounds of 16 frames: a flow and a VAE of few weights."""
    own = folder / modality
    own.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    sounds = SpectrogramConfig(n_mels=16, frames=16)
    height, width, channels = (2, 2, 3) if modality == "image" else (2, 2, 1)
    size = AutoencoderConfig(channels, 8, latent_dim=2, decoder_blocks=1)
    save_tensors(Autoencoder(size), own / "autoencoder.safetensors")
    families: dict[str, FamilyConfig] = {
        "flow": family_of("flow").Config(neighbours=2, channels=8, multiples=(1,), blocks=1),
        "vae": family_of("vae").Config(code_dim=4, channels=8),
    }
    for name, settings in families.items():
        save_tensors(family_of(name).build(settings, (2, height, width), DIM), own / f"{name}.safetensors")
    keys = torch.from_numpy(np.stack([vector_of(text) for text in WORDS]))
    latents = torch.randn(len(WORDS), 2, height, width, generator=torch.Generator().manual_seed(1))
    Neighbours(keys, latents, [f"tiny/{n}" for n in range(len(WORDS))], WORDS).save(own)
    about = {
        "format": 1,
        "text_head": "abc",
        "autoencoder": dataclasses.asdict(size),
        "families": {name: dataclasses.asdict(settings) for name, settings in families.items()},
        "sigma": {"text": 0.0, "image": 1.0},
        "options": {"num_steps": 2},
        **({"spectrogram": dataclasses.asdict(sounds)} if modality == "audio" else {}),
    }
    (own / "config.json").write_text(json.dumps({**about, **config}))
    return own
