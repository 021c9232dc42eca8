from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from embedspace.errors import ConfigError
from embedspace.generate import Request, create_generator
from embedspace.generate.audio import AudioGenerator, _join
from embedspace.generate.families.flow import FlowConfig, FlowFamily
from embedspace.generate.latents.autoencoder import Autoencoder, AutoencoderConfig
from embedspace.generate.latents.files import FamilyNetwork, LatentParts
from embedspace.generate.latents.neighbours import Neighbours
from embedspace.generate.spectrogram import LEVEL, SpectrogramConfig, griffin_lim, to_spectrogram, to_waveform
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace
from embedspace.train.generators.audio import _views
from embedspace.train.generators.recipe import AudioGeneratorRecipe
from embedspace.train.generators.run import train_generator
from tests.train.test_generator import recipe, store, vector_of

SMALL = SpectrogramConfig(sample_rate=8000, n_mels=16, n_fft=256, hop_length=64, frames=16)


def _tone(frequency: float, config: SpectrogramConfig) -> torch.Tensor:
    time = torch.arange(config.samples) / config.sample_rate
    return 0.5 * torch.sin(2 * torch.pi * frequency * time)[None]


@pytest.mark.parametrize("frequency", [300.0, 1200.0])
def test_a_tone_survives_the_spectrogram(frequency: float) -> None:
    config = SpectrogramConfig(frames=64)
    spectrogram = to_spectrogram(_tone(frequency, config), config)
    assert spectrogram.shape == (1, 64, 64)
    assert float(spectrogram.max()) <= 1.0
    back = to_waveform(spectrogram, config, torch.Generator().manual_seed(0))[0]
    assert len(back) == config.samples
    peak = float(torch.fft.rfft(back).abs().argmax()) * config.sample_rate / len(back)
    assert peak == pytest.approx(frequency, rel=0.06, abs=46)  # a filter's width
    assert 0.1 < float(back.abs().max()) < 1.0  # the filters spread a tone, whose phases then do not quite agree


def test_silence_stays_silent() -> None:
    spectrogram = to_spectrogram(torch.zeros(1, SMALL.samples), SMALL)
    assert float(spectrogram.max()) == -1.0
    assert float(to_waveform(spectrogram, SMALL).abs().max()) < 1e-6


def test_griffin_lim_gets_closer_with_steps() -> None:
    torch.manual_seed(0)
    waveform = torch.randn(1, SMALL.samples) * 0.1
    window = torch.hann_window(SMALL.n_fft)

    def magnitude(x: torch.Tensor) -> torch.Tensor:
        return torch.stft(x, SMALL.n_fft, SMALL.hop_length, window=window, return_complex=True).abs()

    wanted = magnitude(waveform)

    def error(steps: int) -> float:
        made = griffin_lim(wanted[:, :, :-1], SMALL, torch.Generator().manual_seed(1), steps)
        return float((magnitude(made) - wanted)[:, :, :-2].norm() / wanted.norm())

    assert error(32) < 0.6 * error(0)


def test_join_fades_with_equal_power() -> None:
    parts = [np.ones(10, np.float32), np.ones(10, np.float32)]
    joined = _join(parts, 4)
    assert len(joined) == 16
    np.testing.assert_allclose(joined[:6], 1)
    np.testing.assert_allclose(joined[[6, 9]], 1, atol=1e-6)
    assert joined[7:9].max() <= 2**0.5 + 1e-6


def _head() -> AudioGenerator:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    keys = F.normalize(torch.randn(4, 8, generator=generator), dim=1)
    items = Neighbours(keys, torch.randn(4, 2, 2, 2, generator=generator), list("abcd"), list("ABCD"))
    autoencoder = Autoencoder(AutoencoderConfig(1, 8, (1, 1, 1), 2, 1))
    config = FlowConfig(neighbours=2, channels=16, multiples=(1,), blocks=1)
    network = FamilyNetwork(FlowFamily(), config, FlowFamily().build(config, (2, 2, 2), 8))
    parts = LatentParts(autoencoder, {"flow": network}, items, {"text": 0.0})
    return AudioGenerator(parts, SMALL).eval()


@pytest.mark.parametrize("seconds", [None, 0.05, 0.3])
def test_sounds_have_the_length_that_is_asked_for(seconds: float | None) -> None:
    vector = F.normalize(torch.ones(1, 8)).numpy()
    # 0.05 s is less than a request may ask for, and as good for the arithmetic
    request = Request(2, num_steps=1)
    object.__setattr__(request, "seconds", seconds)
    (samples,) = _head().generate(vector, np.zeros(1, np.float32), request)
    wanted = SMALL.samples if seconds is None else round(seconds * SMALL.sample_rate)
    assert [len(sample.content) for sample in samples] == [wanted] * 2
    assert samples[0].sample_rate == SMALL.sample_rate
    assert [sample.seed for sample in samples] == [0, 1]


def test_a_linear_autoencoder_keeps_what_varies_most() -> None:
    generator = torch.Generator().manual_seed(0)
    strength = torch.linspace(0.1, 1, 64).square()  # of the 64 values of a patch
    patches = torch.randn(64, 64, 2, 4, generator=generator) * strength[:, None, None] * 0.2
    x = F.pixel_shuffle(patches, 8)  # (64, 1, 16, 32)
    errors = []
    for size in (8, 32, 64):
        network = Autoencoder(AutoencoderConfig(1, latent_dim=size, linear=True)).requires_grad_(False)
        network.set_principal(x)
        network.standardise(network.posterior(x)[0])
        latents = network.encode(x)
        assert latents.shape == (64, size, 2, 4)
        torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(size), atol=1e-3, rtol=0)
        errors.append(float((network.decode(latents) - x).square().mean()))
    assert errors[0] > 4 * errors[1] > 0
    assert errors[2] < 1e-8


BODY = """[audio]
licences = ["CC0-1.0"]
views = 2
n_mels = 16
seconds = 0.512
[audio.sources]
beeps = 1.0
[audio.autoencoder]
channels = 8
latent_dim = 4
perceptual = 0.0
steps = 2
batch_size = 4
[audio.flow]
width = 16
mirror = false
steps = 2
steps_vae = 2
batch_size = 4
"""


@pytest.mark.parametrize("kind", ["network", "linear"])
def test_audio_head_is_written_and_sounds(kind: str, tmp_path: Path) -> None:
    body = BODY.replace("perceptual = 0.0", "linear = true") if kind == "linear" else BODY
    folder = tmp_path / "corpora" / "beeps"
    folder.mkdir(parents=True)
    rows = []
    for number in range(12):
        name = f"beep {number}"
        soundfile.write(folder / f"{number}.wav", 0.3 * np.sin(np.arange(6000 + number) * (number + 2) / 30), 16_000)
        row = {"id": f"beeps/{number}", "modality": "audio", "path": f"beeps/{number}.wav", "source": "beeps"}
        licence = "GPL-2.0-only" if number == 5 else "CC0-1.0"
        names = {"captions": [name], "concept": f"beeping {number}", "licence": licence}
        rows.append({**row, **names, "split": "test" if number == 11 else "train"})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names = [row["captions"][0] for row in rows]
    fingerprint = EmbeddingSpace.from_pretrained().fingerprints()["text"]
    store(tmp_path / "features/vectors/text/texts.npz", names, [vector_of(name) for name in names], fingerprint)
    heads = tmp_path / "heads"
    heads.mkdir()
    train_generator(recipe(tmp_path, "audio", body), out=tmp_path / "run").rename(heads / "audio")
    head = create_generator(Modality.AUDIO, heads, EmbeddingSpace.from_pretrained())
    assert isinstance(head, AudioGenerator)
    assert "beeps/11" not in head.neighbours.items  # a test item
    assert "beeps/5" not in head.neighbours.items  # its licence asks to share alike
    assert len(set(head.neighbours.items)) == len(head.neighbours.items) == 10  # one view of each
    (samples,) = head.generate(vector_of("beep 3")[None], np.zeros(1, np.float32), Request(1, num_steps=1))
    assert len(samples[0].content) == head.spectrogram.samples == 8192
    with pytest.raises(ConfigError, match="no sounds of whistles"):
        train_generator(recipe(tmp_path, "audio", BODY.replace("beeps = 1.0", "whistles = 1.0")), out=tmp_path / "run2")
    with pytest.raises(ConfigError, match="licences that may ship"):
        train_generator(recipe(tmp_path, "audio", BODY.replace("CC0-1.0", "MIT")), out=tmp_path / "run3")


def test_views_differ_and_begin_with_the_clip_itself() -> None:
    size = SpectrogramConfig(frames=16)
    samples = torch.sin(torch.arange(size.samples * 2) / 9)
    short = samples[: size.samples // 2]
    for clip in (samples, short):
        views = list(_views(clip, size, "beeps/1", AudioGeneratorRecipe(views=3)))
        assert [view.shape for view in views] == [(size.samples,)] * 3
        plain = clip[: size.samples] * (LEVEL / clip.abs().max())
        torch.testing.assert_close(views[0][: len(plain)], plain)
        assert all(float(view.abs().max()) == pytest.approx(LEVEL, abs=1e-3) for view in views)
        assert float((views[1] - views[2]).abs().max()) > 0.1
    again = list(_views(short, size, "beeps/1", AudioGeneratorRecipe(views=3)))
    assert torch.equal(again[2], views[2])


def test_media_have_the_level_of_the_training_sounds() -> None:
    head = _head()
    loud = torch.full((1, 1, SMALL.n_mels, SMALL.frames), 0.3)
    silent = torch.full_like(loud, -1.0)
    (made, rate), (nothing, _) = head.to_media(torch.cat([loud, silent]), Request())
    assert rate == SMALL.sample_rate
    assert float(np.abs(made).max()) == pytest.approx(LEVEL)
    assert float(np.abs(nothing).max()) < 1e-6
