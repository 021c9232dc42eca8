"""Edits: what is read, what stays, what a family is given."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from embedspace.errors import ArgumentError, MediaError
from embedspace.generate.base import Request, Sample, request_of
from embedspace.generate.conditioning import Condition
from embedspace.generate.editing import MAX_SIDE, Edit, edit_of_picture, edit_of_sound
from embedspace.generate.families.base import SampleOptions
from embedspace.generate.families.registry import families_that, family_of
from embedspace.generate.latents.edits import picture_without_padding, soft_edges
from tests.generate.families.test_every_family import DIM, SHAPE, small
from tests.support.cli_space import vector_of
from tests.support.generators import WORDS, SpaceWithGenerators, write_latent_generator


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> SpaceWithGenerators:
    folder = tmp_path_factory.mktemp("space")
    write_latent_generator(folder / "heads", "image")
    write_latent_generator(folder / "heads", "audio")
    return SpaceWithGenerators(folder)


def pixels(height: int = 30, width: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def made(space: SpaceWithGenerators, to: str, edit: Edit, **asked: Any) -> Sample:
    generator = space.generators[to]
    request = Request(edit=edit, **asked)
    generator.check(request)
    return generator.generate(vector_of(WORDS[0])[None], np.zeros(1, np.float32), request)[0][0]


def test_a_masked_picture_keeps_every_pixel_outside(space: SpaceWithGenerators) -> None:
    picture = pixels()
    result = np.asarray(made(space, "image", edit_of_picture(picture, mask="0,0,20,12")).content)
    assert result.shape == picture.shape
    np.testing.assert_array_equal(result[12:], picture[12:])
    assert float(np.abs(result[:10].astype(int) - picture[:10]).mean()) > 5


def test_a_mask_can_be_a_file_of_the_picture_s_size(space: SpaceWithGenerators, tmp_path: Path) -> None:
    Image.fromarray(pixels()).save(tmp_path / "house.png")
    mask = np.zeros((30, 20), np.uint8)
    mask[:, 10:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edit = edit_of_picture(tmp_path / "house.png", mask=str(tmp_path / "mask.png"))
    sample = made(space, "image", edit, size=60)
    result = np.asarray(sample.content)
    assert result.shape == (60, 40, 3)
    whole = np.asarray(Image.fromarray(pixels()).resize((40, 60), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(result[:, :20], whole[:, :20])
    assert edit.asked["init"] == "house.png" and edit.asked["mask"] == "mask.png"
    assert len(edit.asked["init_sha256"]) == 64


def test_strength_says_how_far_it_goes(space: SpaceWithGenerators) -> None:
    picture = np.full((16, 16, 3), 128, np.uint8)
    np.testing.assert_array_equal(made(space, "image", edit_of_picture(picture, strength=0.0)).content, picture)
    edits = [edit_of_picture(picture, strength=strength, mask="0,0,16,8") for strength in (0.0, 0.3, 1.0)]
    least, little, much = (np.asarray(made(space, "image", edit, num_steps=4).content, np.float32) for edit in edits)
    assert float(np.abs(little - least).mean()) < float(np.abs(much - least).mean())


def test_a_large_picture_is_made_smaller_with_its_mask() -> None:
    edit = edit_of_picture(np.zeros((100, 2 * MAX_SIDE, 3), np.uint8), mask=f"0,0,{MAX_SIDE},100")
    assert edit.content.shape == (50, MAX_SIDE, 3)
    assert edit.mask is not None
    assert edit.mask[:, : MAX_SIDE // 2 - 2].all() and not edit.mask[:, MAX_SIDE // 2 + 2 :].any()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("5,5,5,9", "no box left,top,right,bottom"),
        ("25,0,30,9", "which has 20 x 30"),
        ("0,0,20,30", "keeps nothing"),
        ("nowhere.png", "nowhere.png: no such file; a mask is a picture, auto, or left,top,right,bottom"),
        (np.zeros((30, 20, 3), np.uint8), "keeps everything"),
        (np.zeros((10, 20, 3), np.uint8), "20 x 10 pixels, but the picture has 20 x 30"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(said)):
        edit_of_picture(pixels(), mask=mask)


def test_what_cannot_be_edited_is_refused(space: SpaceWithGenerators, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(MediaError, match=r"no\.png"):
        edit_of_picture(tmp_path / "no.png")
    with pytest.raises(ArgumentError, match="must be 0 to 1"):
        edit_of_picture(pixels(), strength=1.5)
    with pytest.raises(ArgumentError, match="name its file as init"):
        request_of({"mask": "auto"})
    with pytest.raises(ArgumentError, match="'vae' has no start from what is there; families that do: flow"):
        made(space, "image", edit_of_picture(pixels(), strength=0.5), family="vae")
    with pytest.raises(ArgumentError, match="'vae' has no masks; families that do: flow"):
        made(space, "image", edit_of_picture(pixels(), mask="0,0,5,5"), family="vae")


def test_a_gap_in_a_sound_is_filled_and_all_else_stays(space: SpaceWithGenerators, tmp_path: Path) -> None:
    tone = (0.3 * np.sin(np.arange(5000) / 7)).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", tone, 16_000, subtype="FLOAT")
    sample = made(space, "audio", edit_of_sound(tmp_path / "tone.wav", mask="0.1-0.2"))
    result = np.asarray(sample.content)
    assert sample.sample_rate == 16_000 and len(result) == 5000
    np.testing.assert_array_equal(result[:1600], tone[:1600])
    np.testing.assert_array_equal(result[3200:], tone[3200:])
    assert float(np.abs(result[2000:2800] - tone[2000:2800]).mean()) > 0.01


def test_sounds_that_are_too_long_or_masks_that_are_none_are_refused(
    space: SpaceWithGenerators, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(np.arange(16_000) / 7), 16_000)
    long = tmp_path / "tone.wav"
    with pytest.raises(ArgumentError, match=r"without a mask at most 0\.3 s"):
        made(space, "audio", edit_of_sound(long))
    with pytest.raises(ArgumentError, match=r"at most 0\.2 s can be made anew"):
        made(space, "audio", edit_of_sound(long, mask="0.1-0.6"))
    with pytest.raises(ArgumentError, match=r"which is 1\.00 s long"):
        edit_of_sound(long, mask="2-3")
    with pytest.raises(ArgumentError, match=r"such as 1\.5-2"):
        edit_of_sound(long, mask="auto")
    with pytest.raises(ArgumentError, match="as long as what is edited"):
        made(space, "audio", edit_of_sound(long, mask="0.1-0.2"), seconds=2.0)


def test_edges_are_soft_only_within_the_mask() -> None:
    mask = np.zeros((100, 100), bool)
    mask[20:60, 20:60] = True
    share = np.asarray(soft_edges(mask, (200, 200)))
    assert share[80, 80] == 255
    assert 0 < share[41, 80] < 255
    assert share[:40].max() == 0 and share[121:].max() == 0


def test_padding_comes_off_as_it_went_on() -> None:
    from embedspace.encoders.towers.efficientnet_lite import resize_padded

    square = resize_padded(np.zeros((50, 200, 3), np.uint8), 96)
    assert picture_without_padding(square, (50, 200, 3)).max() == 0
    assert picture_without_padding(square, (50, 200, 3)).shape == (24, 96, 3)


@pytest.mark.parametrize("name", families_that("mask"))
def test_families_with_masks_keep_latents_exactly_and_make_the_rest(name: str) -> None:
    torch.manual_seed(0)
    config = small(name).config
    family = family_of(name)
    module = family.build(config, SHAPE, DIM).eval()
    keep = torch.zeros(2, 1, *SHAPE[1:], dtype=torch.bool)
    keep[:, :, :2] = True
    init = torch.randn(2, *SHAPE)
    condition = Condition(
        torch.nn.functional.normalize(torch.randn(2, DIM), dim=1), torch.zeros(2), torch.randn(2, 2, *SHAPE)
    )
    options = SampleOptions(4, init=init, keep=keep)

    def drawn(*seeds: int, **changes: Any) -> torch.Tensor:
        return family.sample(
            module,
            condition,
            [torch.Generator().manual_seed(seed) for seed in seeds],
            dataclasses.replace(options, **changes),
        )

    both = drawn(1, 2)
    assert torch.equal(both[:, :, :2], init[:, :, :2])
    assert not torch.allclose(both[:, :, 2:], init[:, :, 2:], atol=0.1)
    torch.testing.assert_close(drawn(5, 2)[1], both[1], atol=1e-4, rtol=1e-3)
    if "start" in family.can:  # what is around is looked at more often
        assert not torch.allclose(drawn(1, 2, resamplings=1), both)


@pytest.mark.parametrize("name", families_that("difference"))
def test_a_difference_is_where_a_condition_acts(name: str) -> None:
    """Networks that see the condition in one half only differ there."""

    class Half(torch.nn.Module):
        def forward(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
            out = torch.zeros_like(latents)
            out[:, :, :, 2:] = condition.vector[:, :1, None, None]
            return out

    given, wanted = (Condition(torch.full((3, DIM), value), torch.zeros(3)) for value in (1.0, 0.0))
    found = family_of(name).difference(Half(), torch.randn(3, *SHAPE), given, wanted)
    assert found.shape == (3, *SHAPE[1:])
    assert float(found[:, :, :2].max()) == 0
    torch.testing.assert_close(found[:, :, 2:], torch.ones(3, SHAPE[1], 2))
