"""Faces from voices: what is drawn depends on voice and seed alone, and what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from embedspace.encoders.base import save_tensors
from embedspace.errors import ArgumentError, ConfigError, WeightsError
from embedspace.generate.conditioning import Condition
from embedspace.generate.faces import FaceMaker
from embedspace.generate.faces.maker import VOICE_NUMBERS, is_face_maker, picture_parts, write_face_config
from embedspace.generate.families.base import SampleOptions, network_for_sampling
from embedspace.generate.families.registry import family_of
from embedspace.generate.upsampling import resized

SHAPE = (8, 12, 12)


def maker_in(folder: Path, **changes: object) -> Path:
    """Write what makes faces, untrained and small."""
    family = family_of("gan")
    config = family.Config(channels=8, critic_channels=8, noise_dim=4, neighbours=0)
    torch.manual_seed(0)
    save_tensors(network_for_sampling(family, config, SHAPE, VOICE_NUMBERS), folder / "network.safetensors")
    mean = np.full(VOICE_NUMBERS, 0.02, np.float32)
    about = {"about": "a test", "autoencoder": picture_parts().digest, **changes}
    write_face_config(folder, {"type": "gan", **asdict(config)}, SHAPE, mean, about)
    return folder


def voice(seed: int = 0, width: int = VOICE_NUMBERS) -> np.ndarray:
    row = np.zeros(width, np.float32)
    row[:VOICE_NUMBERS] = np.abs(np.random.default_rng(seed).normal(size=VOICE_NUMBERS))
    return row / np.linalg.norm(row)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> FaceMaker:
    return FaceMaker.from_pretrained(maker_in(tmp_path_factory.mktemp("faces")))


def test_a_face_is_told_by_voice_and_seed_alone(maker: FaceMaker) -> None:
    three = maker.make(voice(), 3, seed=5)
    assert [one.seed for one in three] == [5, 6, 7]
    assert three[0].content.shape == (96, 96, 3) and three[0].content.dtype == np.uint8
    alone = maker.make(voice(), 1, seed=7)[0]
    assert np.abs(alone.content.astype(int) - three[2].content).max() <= 1  # no sample depends on its batch
    assert (three[0].content != three[1].content).any()
    other = maker.make(voice(1), 1, seed=5)[0]
    assert (other.content != three[0].content).any()
    assert three[0].provenance["trained_on"] == "a test" and three[0].provenance["weights"] == maker.digest


def test_a_row_of_a_space_is_the_voice_in_front(maker: FaceMaker) -> None:
    plain, padded = maker.make(voice(), 1)[0], maker.make(voice(width=384), 1)[0]
    assert (plain.content == padded.content).all()
    louder = maker.make(3 * voice(), 1)[0]
    assert np.abs(louder.content.astype(int) - plain.content).max() <= 1


def test_the_mean_voice_is_taken_out(maker: FaceMaker) -> None:
    np.testing.assert_allclose(maker.mean, 0.02, atol=1e-6)
    own = voice() - maker.mean
    assert np.allclose(maker.condition(voice()).numpy(), own / np.linalg.norm(own), atol=1e-6)


def test_many_faces_have_a_seed_each(maker: FaceMaker) -> None:
    many = maker.make(voice(), 18, seed=2)
    assert [one.seed for one in many] == list(range(2, 20))
    alone = maker.make(voice(), 1, seed=19)[0]
    assert np.abs(alone.content.astype(int) - many[-1].content).max() <= 1


def test_pixels_beyond_white_and_black_stay_so(maker: FaceMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    bright = torch.tensor([-1.5, 0.0, 1.5])[None, :, None, None].expand(1, 3, 8, 8)
    monkeypatch.setattr(maker.parts.autoencoder, "decode", lambda latents: bright)
    (picture,) = maker.pictures(torch.zeros(1, *SHAPE))
    assert picture[0, 0].tolist() == [0, 128, 255]


def test_the_digest_tells_networks_apart(tmp_path: Path) -> None:
    first = FaceMaker.from_pretrained(maker_in(tmp_path))
    network = first.network.module
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    save_tensors(network, tmp_path / "network.safetensors")
    assert FaceMaker.from_pretrained(tmp_path).digest != first.digest


def test_a_larger_face_is_drawn(maker: FaceMaker) -> None:
    large = maker.make(voice(), 1, size=192)[0].content
    assert large.shape == (192, 192, 3)
    assert (large != resized(maker.make(voice(), 1)[0].content, 192, None)).any()  # and not only stretched


def test_faces_are_drawn_with_the_steps_and_the_guidance_that_were_learnt(maker: FaceMaker) -> None:
    asked: list[SampleOptions] = []

    class Network:
        config = SimpleNamespace(num_steps=7, guidance_scale=2.5, guided_times=(0.1, 0.9))

        def draw(self, condition: Condition, generators: object, options: SampleOptions) -> torch.Tensor:
            asked.append(options)
            return torch.zeros(1, *SHAPE)

    FaceMaker(Network(), maker.parts, maker.mean).latents(torch.zeros(1, 256), [torch.Generator()])  # type: ignore[arg-type]
    (options,) = asked
    assert (options.num_steps, options.guidance_scale, options.guided_times) == (7, 2.5, (0.1, 0.9))


@pytest.mark.parametrize("row", [np.ones(100), np.ones(300), np.zeros(256)])
def test_what_is_no_voice_is_refused(maker: FaceMaker, row: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="must be a voice"):
        maker.make(row)


def test_no_face_is_refused(maker: FaceMaker) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        maker.make(voice(), 0)


def test_latents_of_another_autoencoder_are_refused(tmp_path: Path) -> None:
    maker_in(tmp_path, autoencoder="0" * 64)
    with pytest.raises(WeightsError, match="another autoencoder"):
        FaceMaker.from_pretrained(tmp_path)


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    maker_in(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "family": {**config["family"], "colour": 1}}))
    with pytest.raises(ConfigError, match="colour"):
        FaceMaker.from_pretrained(tmp_path)
    del config["mean"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="'mean' is missing"):
        FaceMaker.from_pretrained(tmp_path)
    (tmp_path / "network.safetensors").write_bytes(b"x")
    assert is_face_maker(tmp_path) and not is_face_maker(tmp_path / "none")


def test_what_ships_draws_emoji_people_and_says_so() -> None:
    shipped = FaceMaker.from_pretrained()
    assert "emoji people" in shipped.about.casefold() and "no face of anybody" in shipped.about
    assert shipped.make(voice())[0].content.shape == (96, 96, 3)
    folder = Path(__file__).resolve().parents[2] / "embedspace" / "weights" / "faces"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
