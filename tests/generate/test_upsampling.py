"""Pictures at more than the decoder's side."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embedspace.encoders.base import save_tensors
from embedspace.errors import WeightsError
from embedspace.generate.base import Request
from embedspace.generate.editing import edit_of_picture
from embedspace.generate.upsampling import FACTOR, Upsampler, UpsamplerConfig, resized
from tests.support.cli_space import vector_of
from tests.support.generators import WORDS, SpaceWithGenerators, write_latent_generator

SMALL = UpsamplerConfig(channels=8, blocks=2)


def _network(seed: int = 0) -> Upsampler:
    torch.manual_seed(seed)
    network = Upsampler(SMALL).eval()
    torch.nn.init.normal_(network.leave.weight, std=0.05)
    return network


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_new_network_interpolates() -> None:
    picture = torch.rand(1, 3, 6, 5) * 2 - 1
    plain = torch.nn.functional.interpolate(picture, scale_factor=FACTOR, mode="bicubic", align_corners=False)
    torch.testing.assert_close(Upsampler(SMALL)(picture), plain)


@pytest.mark.parametrize("shape", [(20, 30), (1, 200), (150, 140)])
def test_tiles_leave_no_seams(shape: tuple[int, int]) -> None:
    network, picture = _network(), _picture(*shape)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        whole = ((network(pixels)[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    made = network.enlarge(picture)
    assert made.shape == (shape[0] * FACTOR, shape[1] * FACTOR, 3)
    assert int(np.abs(made.astype(int) - whole).max()) <= 1


def test_only_what_grows_is_drawn() -> None:
    network, picture = _network(), _picture(24, 12)
    assert resized(picture, 24, network) is picture
    np.testing.assert_array_equal(resized(picture, 12, network), resized(picture, 12, None))
    drawn = resized(picture, 60, network)
    assert drawn.shape == (60, 30, 3)
    assert not np.array_equal(drawn, resized(picture, 60, None))


def _space(folder: Path) -> SpaceWithGenerators:
    own = write_latent_generator(folder / "heads", "image", upsampler=dataclasses.asdict(SMALL))
    save_tensors(_network(), own / "upsampler.safetensors")
    return SpaceWithGenerators(folder)


def test_a_generator_draws_larger_pictures_with_it(tmp_path: Path) -> None:
    generator = _space(tmp_path / "with").generators["image"]
    plain = SpaceWithGenerators(write_latent_generator(tmp_path / "without/heads", "image").parents[1])

    def made(one: object, **asked: object) -> np.ndarray:
        request = Request(**asked)
        return one.generate(vector_of(WORDS[0])[None], np.zeros(1, np.float32), request)[0][0].content

    small = made(generator)
    np.testing.assert_array_equal(small, made(plain.generators["image"]))
    large = made(generator, size=64)
    np.testing.assert_array_equal(large, generator.upsampler.enlarge(small))
    assert not np.array_equal(large, made(plain.generators["image"], size=64))
    half = np.asarray(Image.fromarray(large).resize((40, 40), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(made(generator, size=40), half)


def test_an_edit_of_strength_0_is_the_picture_itself_larger(tmp_path: Path) -> None:
    generator, picture = _space(tmp_path).generators["image"], _picture(30, 20)
    for size, expected in ((None, picture), (120, generator.upsampler.enlarge(picture))):
        request = Request(2, edit=edit_of_picture(picture, strength=0.0), size=size)
        first, second = generator.generate(vector_of(WORDS[0])[None], np.zeros(1, np.float32), request)[0]
        np.testing.assert_array_equal(first.content, expected)
        np.testing.assert_array_equal(second.content, expected)
        assert "nearest_output" not in first.provenance


def test_a_mask_keeps_the_original_at_any_size(tmp_path: Path) -> None:
    generator, picture = _space(tmp_path).generators["image"], _picture(60, 40)
    request = Request(edit=edit_of_picture(picture, mask="0,0,40,24"))
    made = np.asarray(generator.generate(vector_of(WORDS[0])[None], np.zeros(1, np.float32), request)[0][0].content)
    assert made.shape == picture.shape
    np.testing.assert_array_equal(made[24:], picture[24:])


def test_a_missing_upsampler_is_one_line(tmp_path: Path) -> None:
    space = _space(tmp_path)
    (tmp_path / "heads/image/upsampler.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"upsampler\.safetensors: no such weights"):
        _ = space.generators["image"]
    about = json.loads((tmp_path / "heads/image/config.json").read_text())
    assert about["upsampler"] == {"channels": 8, "blocks": 2}
