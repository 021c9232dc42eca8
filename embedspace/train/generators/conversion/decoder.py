"""Train what draws frames in a reference's voice: a speaker's own frames, from their content and other recordings.

Each crop has a reference of its own, drawn from the speaker's other pieces: some seconds or most of a minute.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from embedspace.errors import ConfigError
from embedspace.files import write_text
from embedspace.generate.conversion.content import ContentEncoder
from embedspace.generate.conversion.decoder import DecoderConfig, VoiceDecoder
from embedspace.generate.conversion.frames import VoiceFrames, matched_envelope, reference_sums, warped
from embedspace.generate.spectrogram import SpectrogramConfig
from embedspace.train.generators.conversion.clips import read_recordings
from embedspace.train.generators.conversion.frames import Said, heard_frames, pieces_of
from embedspace.train.generators.conversion.recipe import ConversionRecipe
from embedspace.train.generators.conversion.vocoder import save_network
from embedspace.train.loop import FitConfig, FitProgress, fit

__all__ = ["train_decoder"]

_NOISE = 0.3
"""Deviation of the noise in the content, of which one phoneme's deviation is 1."""
_REFERENCES = (1, 2, 3, 5, 8)
"""Pieces that a crop's reference has."""
_WARPED, _WARPS = 0.5, (0.87, 1.15)
"""Share of the crops whose speaker, reference included, gets another throat and pitch: more speakers than there are."""
_THROATS = (0.86, 1.16)
"""How much shorter or longer the throat is whose envelope is given."""


class _Speakers:
    """Pieces by speaker, of those who have two at least."""

    def __init__(self, said: Sequence[Said], weights: Mapping[str, float]) -> None:
        by_speaker: dict[str, list[Said]] = {}
        for one in said:
            by_speaker.setdefault(one.speaker, []).append(one)
        self.own = [pieces for pieces in by_speaker.values() if len(pieces) > 1]
        kinds = [pieces[0].speaker.split(":")[0] for pieces in self.own]
        chances = np.array([weights.get(kind, 0.1) / kinds.count(kind) for kind in kinds])
        self.chances = chances / chances.sum() if len(chances) else chances

    def draw(
        self, count: int, frames: int, decoder: VoiceDecoder, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs (count, inputs, frames), sums of the references, and the frames that are wanted."""
        random = np.random.default_rng(int(torch.randint(1 << 62, (1,), generator=generator)))
        rows = [self._crop(frames, decoder, random) for _ in range(count)]
        inputs, sums, wanted = zip(*rows, strict=True)
        return torch.stack(inputs), torch.stack(sums), torch.stack(wanted)

    def _crop(self, frames: int, decoder: VoiceDecoder, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        pieces = self.own[random.choice(len(self.own), p=self.chances)]
        order = random.permutation(len(pieces))
        one, others = pieces[order[0]], [pieces[k] for k in order[1:]][: int(random.choice(_REFERENCES))]
        warp = float(random.uniform(*_WARPS)) if random.random() < _WARPED else 1.0
        reference = warped(joined([other.frames for other in others]), warp)
        own = warped(one.frames, warp)
        envelope = matched_envelope(one.frames, reference, warp * float(random.uniform(*_THROATS)))
        first = int(random.integers(max(1, len(own) - frames + 1)))
        span = slice(first, first + frames)
        content = (one.other if random.random() < 0.5 else own.content)[span]
        noise = torch.from_numpy(random.standard_normal(content.shape).astype(np.float32)) * _NOISE
        inputs = decoder.inputs(content + noise, own.pitch[span], own.loudness[span], envelope[span], reference)
        missing = frames - inputs.shape[1]
        wanted = nn.functional.pad(own.mel[span].T, (0, missing), value=-1.0)
        return nn.functional.pad(inputs, (0, missing)), reference_sums(reference), wanted


def joined(parts: Sequence[VoiceFrames]) -> VoiceFrames:
    """Return frames one after the other."""
    return VoiceFrames(
        torch.cat([one.mel for one in parts]),
        torch.cat([one.content for one in parts]),
        np.concatenate([one.pitch for one in parts]),
        torch.cat([one.loudness for one in parts]),
    )


def decoder_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Return how far frames (B, n_mels, T) are from those wanted, and their changes in time and between bands."""
    along = (made.diff(dim=2) - wanted.diff(dim=2)).abs().mean()
    across = (made.diff(dim=1) - wanted.diff(dim=1)).abs().mean()
    return (made - wanted).abs().mean() + 0.5 * along + 0.5 * across


def train_decoder(
    recipe: ConversionRecipe,
    corpora: Path,
    out: Path,
    *,
    seed: int = 0,
    minutes: float | None = None,
    resume: bool = False,
    tell: Callable[[FitProgress], None] = lambda progress: None,
) -> Path:
    """Train, and write decoder, map of the content and vocoder into `out / "generator"`.

    Args:
        recipe: How.
        corpora: Folder of the built corpora.
        out: Folder of the run, with its checkpoint.
        seed: Of everything.
        minutes: Wall-time budget of the training, hearing the recordings apart; None for no limit.
        resume: Go on from the checkpoint.
        tell: Told of progress.

    Returns:
        The folder of the converter.

    Raises:
        ConfigError: If there is nothing to learn from, or no vocoder.
    """
    vocoder = Path(recipe.vocoder)
    if not (vocoder / "vocoder.safetensors").exists():
        raise ConfigError(f"vocoder {vocoder}: is no trained vocoder; train recipes/generators/vocoder.toml first")
    size = SpectrogramConfig()
    encoder = ContentEncoder(recipe.content)
    train, held = _read(recipe, corpora, encoder, out / "heard.pt", seed, tell)
    torch.manual_seed(seed)
    network = VoiceDecoder(DecoderConfig(recipe.content, recipe.channels, recipe.hidden, recipe.blocks), size)
    batch = held.draw(64, recipe.frames, network, torch.Generator().manual_seed(1)) if held.own else None

    def loss_of_step(model: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(model, VoiceDecoder)
        inputs, sums, wanted = train.draw(recipe.batch_size, recipe.frames, model, generator)
        return decoder_loss(model(inputs, sums), wanted)

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        if batch is None:
            return {}
        inputs, sums, wanted = batch
        made, envelope = model(inputs, sums), inputs[:, : size.n_mels]
        return {"val_loss": float(decoder_loss(made, wanted)), "val_envelope": float(decoder_loss(envelope, wanted))}

    config = FitConfig(
        steps=recipe.steps, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, warmup_steps=100,
        minutes=minutes, seed=seed, cooldown=0.25, evaluate_every=250,
    )  # fmt: skip
    fit(
        network, loss_of_step, config, stage="conversion", checkpoint=out / "decoder.ckpt", resume=resume,
        recipe=_digest(recipe), evaluate=evaluate, callback=tell,
    )  # fmt: skip
    return _write(network, encoder, vocoder, out / "generator", recipe)


def _read(
    recipe: ConversionRecipe,
    corpora: Path,
    encoder: ContentEncoder,
    cache: Path,
    seed: int,
    tell: Callable[[FitProgress], None],
) -> tuple[_Speakers, _Speakers]:
    """Return the speakers of training and of validation, with the encoder's map fitted on the former.

    Raises:
        ConfigError: If there is nobody to learn from.
    """
    recordings = [one for one in read_recordings(corpora, [recipe.speech]) if one.split in ("train", "val")]
    pieces = pieces_of(recordings, recipe.seconds, seed)
    said = heard_frames(
        pieces, encoder, SpectrogramConfig(), cache, lambda done, all_: tell(FitProgress("heard", done, all_, 0.0, {}))
    )
    train, held = (_Speakers([one for one in said if one.split == split], recipe.weights) for split in ("train", "val"))
    if not train.own:
        raise ConfigError(f"{corpora}/{recipe.speech}: no speaker of the training split has two pieces of speech")
    return train, held


def _write(
    network: VoiceDecoder, encoder: ContentEncoder, vocoder: Path, folder: Path, recipe: ConversionRecipe
) -> Path:
    save_network(network, folder / "decoder.safetensors")
    save_network(encoder, folder / "content.safetensors")
    config = json.loads((vocoder / "config.json").read_text("utf-8"))
    shutil.copyfile(vocoder / "vocoder.safetensors", folder / "vocoder.safetensors")
    config |= {"decoder": dataclasses.asdict(network.config), "about": recipe.about}
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    return folder


def _digest(recipe: ConversionRecipe) -> str:
    """Return what a checkpoint is bound to: all of the recipe but how long it trains."""
    kept = {
        name: value for name, value in dataclasses.asdict(recipe).items() if name not in ("steps", "about", "vocoder")
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
