"""Training a vocoder and a decoder of voices: they learn, go on where they were, and hear no speaker of the test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedspace.errors import ConfigError, WeightsError
from embedspace.generate.conversion import VoiceConverter
from embedspace.generate.conversion.content import ContentEncoder
from embedspace.generate.conversion.converter import load_vocoder
from embedspace.generate.spectrogram import SpectrogramConfig
from embedspace.train.generators.conversion.clips import Recording, read_recordings
from embedspace.train.generators.conversion.decoder import train_decoder
from embedspace.train.generators.conversion.frames import heard_frames, pieces_of
from embedspace.train.generators.conversion.recipe import ConversionRecipe, VocoderRecipe
from embedspace.train.generators.conversion.vocoder import stft_loss, train_vocoder
from embedspace.train.generators.run import train_generator
from embedspace.train.loop import FitProgress
from training.corpora.video.phonemes import speak_phonemes

RATE = 16_000
VOICES = ("flite:slt", "flite:kal", "flite:awb")
"""Not of espeak-ng: its library keeps something of what it said, which another test would hear."""
TEXTS = (
    "the quick brown fox jumps over the lazy dog", "she sells sea shells on the shore", "joy and beige treasure",
    "how now brown cow", "they think that youth is full of hope", "we measure rich cake by the inch",
)  # fmt: skip
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs a voice")


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Three voices that say some sentences: two of the training split, one of validation; and one of the test."""
    rows: list[dict[str, Any]] = []
    folder = tmp_path / "corpora" / "speakers"
    folder.mkdir(parents=True)
    for voice, split in zip(VOICES, ("train", "train", "val"), strict=True):
        shard, at = [], 0
        stem = voice.replace(":", "_").replace("+", "_")
        for number, text in enumerate(TEXTS):
            wave, phonemes = speak_phonemes(text, voice)
            shard.append(np.round(wave * 32_767).astype(np.int16))
            extra = {"seconds": len(wave) / RATE, "phonemes": phonemes}
            rows.append(row(f"{stem}/{number}", f"speakers/{stem}.npy#{at}:{at + len(wave)}", voice, split, extra))
            at += len(wave)
        np.save(folder / f"{stem}.npy", np.concatenate(shard))
    rows.append(row("nobody", "speakers/not-there.npy#0:99999", "human:test", "test", {"seconds": 6.0}))
    (folder / "people.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return tmp_path / "corpora"


def row(stem: str, path: str, speaker: str, split: str, extra: dict[str, Any]) -> dict[str, Any]:
    return {"id": stem, "modality": "speech", "path": path, "speaker": speaker, "split": split, "extra": extra}


def vocoder_recipe(**changes: Any) -> VocoderRecipe:
    sizes: dict[str, Any] = {"sounds": (), "frames": 16, "channels": 24, "hidden": 32, "blocks": 2, "batch_size": 4}
    return VocoderRecipe(**{**sizes, "steps": 20, "learning_rate": 3e-3, **changes})


def recipe(vocoder: Path, **changes: Any) -> ConversionRecipe:
    sizes: dict[str, Any] = {"frames": 32, "channels": 24, "hidden": 32, "blocks": 2, "batch_size": 4, "content": 16}
    return ConversionRecipe(vocoder=str(vocoder), **{**sizes, "steps": 12, **changes})


@needs_flite
def test_both_learn_go_on_and_hear_nobody_of_the_test(corpora: Path, tmp_path: Path) -> None:
    # the recording of the test split is not there: whatever reads it fails
    told: list[FitProgress] = []
    out = tmp_path / "vocoder"
    folder = train_vocoder(vocoder_recipe(), corpora, out, tell=told.append)
    first = next(one.scalars["val_loss"] for one in told if "val_loss" in one.scalars)
    longer: list[FitProgress] = []
    train_vocoder(vocoder_recipe(steps=120), corpora, out, resume=True, tell=longer.append)
    assert longer[-1].step == 120 and longer[-1].scalars["val_loss"] < first
    assert load_vocoder(folder).config.channels == 24
    with pytest.raises(WeightsError, match="checkpoint"):
        train_vocoder(vocoder_recipe(blocks=1), corpora, out, resume=True)

    heard: list[FitProgress] = []
    run = tmp_path / "conversion"
    made = train_decoder(recipe(folder, about="a test"), corpora, run, tell=heard.append)
    converter = VoiceConverter.from_pretrained(made)
    assert converter.about == "a test" and len(converter.digest) == 64
    assert heard[-1].scalars["val_loss"] < heard[-1].scalars["val_envelope"]
    speech = read_recordings(corpora, ["speakers/people.jsonl"])[0].samples()
    voice = converter.reference(np.concatenate([speech, speech]), checked=False)
    assert len(converter.convert(speech, voice, checked=False)) == len(speech) // 256 * 256
    (made / "decoder.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"decoder\.safetensors"):
        VoiceConverter.from_pretrained(made)


@needs_flite
def test_content_tells_phonemes_of_another_voice_apart(corpora: Path, tmp_path: Path) -> None:
    recordings = [one for one in read_recordings(corpora, ["speakers/people.jsonl"]) if one.split != "test"]
    pieces = pieces_of(recordings, {"flite": 60.0}, 0)
    encoder = ContentEncoder(16)
    said = heard_frames(pieces, encoder, SpectrogramConfig(), tmp_path / "heard.pt", lambda done, total: None)
    by_phoneme: dict[tuple[str, bool], list[torch.Tensor]] = {}
    for piece, one in zip(pieces, said, strict=True):
        for name, start, end in piece.phonemes:
            frames = one.frames.content[round(start * 62.5) : round(end * 62.5)]
            if len(frames):
                by_phoneme.setdefault((name.strip("ˈˌː"), piece.split == "val"), []).append(frames.mean(dim=0))
    known = {name: torch.stack(rows).mean(dim=0) for (name, held), rows in by_phoneme.items() if not held}
    right = [
        max(known, key=lambda other: float(torch.cosine_similarity(known[other], middle, dim=0))) == name
        for (name, held), rows in by_phoneme.items()
        if held and name in known
        for middle in rows
    ]
    assert len(right) > 60 and np.mean(right) > 0.5  # chance is below 0.1
    assert (tmp_path / "heard.pt").exists()
    assert any(not torch.equal(one.frames.content, one.other) for one in said)


def test_a_transform_loss_sees_level_and_frequency() -> None:
    time = torch.arange(8000) / RATE
    one, other = (torch.sin(2 * torch.pi * pitch * time)[None] * 0.3 for pitch in (220.0, 440.0))
    assert float(stft_loss(one, one)) == pytest.approx(0.0, abs=1e-5)
    assert float(stft_loss(one * 0.5, one)) > 0.3
    assert float(stft_loss(other, one)) > 1.0
    late = torch.roll(one, 3, dims=1)  # where a wave begins is no difference
    assert float(stft_loss(late, one)) < 0.2 * float(stft_loss(other, one))


@needs_flite
def test_what_there_is_nothing_to_learn_from_is_refused(corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"people\.jsonl: not built"):
        train_vocoder(vocoder_recipe(), tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match="is no trained vocoder"):
        train_decoder(recipe(tmp_path / "nothing"), corpora, tmp_path / "out")
    path = corpora / "speakers" / "people.jsonl"
    path.write_text(path.read_text().replace('"split": "train"', '"split": "test"'))
    with pytest.raises(ConfigError, match="no speaker is of the training split"):
        train_vocoder(vocoder_recipe(), corpora, tmp_path / "out")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('kind = "vocoder"\n[vocoder]\nspeed = 2\n')
    with pytest.raises(ConfigError, match="speed"):
        train_generator(wrong, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="learns from no videos"):
        wrong.write_text('kind = "conversion"\n')
        train_generator(wrong, out=tmp_path / "run", videos=tmp_path)


def test_pieces_keep_to_the_seconds_of_a_speaker(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.full(40 * RATE, 1000, np.int16))
    clips = [
        Recording(f"{tmp_path}/one.npy#{k * 2 * RATE}:{(k + 1) * 2 * RATE}", speaker, "train", 2.0)
        for speaker in ("human:a", "human:b", "other:c")
        for k in range(20)
    ]
    pieces = pieces_of(clips, {"human": 14.0}, 0)
    assert {piece.speaker for piece in pieces} == {"human:a", "human:b"}
    for speaker in ("human:a", "human:b"):
        own = [len(piece.samples) / RATE for piece in pieces if piece.speaker == speaker]
        assert sum(own) == 14.0 and max(own) == 6.0
