"""Pictures that are drawn anew in a style: the way there, what is the context, what stays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from embedspace.cli.shared.targets import edited_source
from embedspace.errors import ArgumentError
from embedspace.generate.base import Request
from embedspace.generate.conditioning import Condition
from embedspace.generate.editing import Edit, edit_of_picture
from embedspace.generate.families.base import SampleOptions
from embedspace.generate.families.flow import FlowFamily
from embedspace.generate.image import ImageGenerator
from embedspace.generate.latents.edits import (
    DEFAULT_STRENGTH,
    EDIT_GUIDANCE,
    STYLE_GUIDANCE,
    STYLE_STRENGTH,
    draws_anew,
    options_for,
)
from tests.generate.test_told import STYLES, _space
from tests.support.cli_space import vector_of
from tests.support.generators import WORDS

SHAPE = (2, 4, 4)
NONE = np.zeros(1, np.float32)


class Leaning:
    """A velocity that pulls towards nothing, and by one for each number of a style."""

    shape = SHAPE

    def __call__(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        style = torch.zeros(len(latents)) if condition.style is None else condition.style.float()
        return style[:, None, None, None] - latents


def _carried(style: int, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
    init = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(7))
    given = Condition(torch.ones(2, 8) / 8**0.5, torch.zeros(2))
    wanted = dataclasses.replace(given, style=torch.full((2,), style))
    options = dataclasses.replace(SampleOptions(4, init=init, given=given), **changes)
    sources = [torch.Generator().manual_seed(k) for k in range(2)]
    network: Any = Leaning()
    return FlowFamily().sample(network, wanted, sources, options), init


def test_nothing_moves_where_nothing_else_is_wanted() -> None:
    for guidance in (1.0, 6.0):
        made, init = _carried(0, guidance_scale=guidance)
        torch.testing.assert_close(made, init)


def test_what_is_said_differently_moves_it_by_its_weight() -> None:
    """Each step of h adds h (s - z) to what has changed so far: z = s (1 - (1 - h)^n)."""
    for guidance, start in ((1.0, 0.0), (6.0, 0.0), (6.0, 0.5)):
        made, init = _carried(1, guidance_scale=guidance, start=start)
        way = guidance * (1 - (1 - (1 - start) / 4) ** 4)
        torch.testing.assert_close(made - init, torch.full_like(init, way), atol=1e-5, rtol=1e-5)


def test_where_it_stays_it_stays_exactly() -> None:
    keep = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    keep[:, :, 1:] = True
    made, init = _carried(2, keep=keep)
    assert torch.equal(made[:, :, 1:], init[:, :, 1:])
    assert float((made - init)[:, :, 0].min()) > 0.5


@pytest.fixture
def generator(tmp_path: Path) -> Any:
    return _space(tmp_path, styles=list(STYLES)).generators["image"]


def _picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def _redrawn(generator: Any, vector: np.ndarray, **settings: Any) -> Any:
    style, candidates = settings.pop("style", "paint"), settings.pop("candidates", None)
    request = Request(style=style, candidates=candidates, edit=edit_of_picture(_picture(), **settings))
    generator.check(request)
    ((sample,),) = generator.generate(vector[None], NONE, request)
    return sample


def test_a_picture_is_its_own_context_and_goes_from_what_it_is(generator: Any, monkeypatch: Any) -> None:
    seen: list[tuple[Condition, SampleOptions]] = []
    sample = FlowFamily.sample

    def spy(self: Any, module: Any, condition: Condition, sources: Any, options: SampleOptions) -> torch.Tensor:
        seen.append((condition, options))
        return sample(self, module, condition, sources, options)

    monkeypatch.setattr(FlowFamily, "sample", spy)
    made = _redrawn(generator, vector_of(WORDS[0]))
    ((condition, options),) = seen
    assert options.init is not None and options.given is not None and condition.context is not None
    assert torch.equal(condition.context[:, 1], options.init) and condition.context.shape[1] == 2
    assert condition.style is not None and condition.style.tolist() == [2] and options.given.style is None
    assert options.guidance_scale == STYLE_GUIDANCE and options.start == pytest.approx(1 - STYLE_STRENGTH)
    own, _ = generator.own_condition(edit_of_picture(_picture()))
    np.testing.assert_allclose(options.given.vector[0], own, rtol=1e-5)
    assert made.provenance["context"] == []  # no training item is one


def test_a_picture_of_which_all_may_change_is_drawn_anew_towards_what_is_asked_for(generator: Any) -> None:
    network, picture = generator.networks["flow"], _picture()
    whole = Request(edit=edit_of_picture(picture))
    options = options_for(whole, network, generator.sampling)
    assert draws_anew(whole, network)
    assert options.guidance_scale == EDIT_GUIDANCE and options.start == pytest.approx(1 - DEFAULT_STRENGTH)
    assert options_for(dataclasses.replace(whole, guidance_scale=9.0), network, generator.sampling).guidance_scale == 9
    others = [
        Request(edit=edit_of_picture(picture, mask="auto")),
        Request(edit=edit_of_picture(picture, strength=0.8, mask="0,0,8,16")),
        Request(edit=Edit(np.ones(16_000, np.float32), strength=0.5)),
        Request(),
    ]
    assert not any(draws_anew(other, network) for other in others)
    one, other = (np.asarray(_redrawn(generator, vector_of(word), style=None).content) for word in WORDS[:2])
    assert (one != other).any() and (one != picture).any()


def test_the_style_and_the_strength_say_where_it_goes(generator: Any) -> None:
    vector = vector_of(WORDS[0])
    paint, ink, little = (
        np.asarray(_redrawn(generator, vector, **asked).content, np.float32)
        for asked in ({}, {"style": "ink"}, {"strength": 0.05})
    )
    same = np.asarray(_redrawn(generator, vector, strength=0.0).content)
    np.testing.assert_array_equal(same, _picture())
    assert float(np.abs(paint - ink).mean()) > 1
    whole = generator.autoencoder.decode(generator.autoencoder.encode(generator.to_input(edit_of_picture(_picture()))))
    ((kept, _),) = generator.to_media(whole.detach(), Request())
    assert float(np.abs(little - kept).mean()) < float(np.abs(paint - kept).mean())


@pytest.mark.parametrize(("side", "longer"), [(10, 16), (40, 40), (200, 64)])
def test_it_is_as_large_as_it_was_within_what_can_be_drawn(generator: Any, side: int, longer: int) -> None:
    edit = edit_of_picture(np.full((side, side // 2, 3), 200, np.uint8))
    ((sample,),) = generator.generate(vector_of(WORDS[0])[None], NONE, Request(style="ink", edit=edit))
    assert np.asarray(sample.content).shape == (longer, longer // 2, 3)
    ((plain,),) = generator.generate(vector_of(WORDS[0])[None], NONE, Request(edit=edit))
    assert np.asarray(plain.content).shape == (longer, longer // 2, 3)
    by_vae = Request(family="vae", style=None, edit=edit_of_picture(edit.content, strength=0.0))
    assert not draws_anew(by_vae, generator.networks["vae"])


def test_a_mask_says_which_part_is_redrawn(generator: Any) -> None:
    made = np.asarray(_redrawn(generator, vector_of(WORDS[0]), mask="0,0,8,16").content)
    np.testing.assert_array_equal(made[:, 8:], _picture()[:, 8:])
    assert (made[:, :8] != _picture()[:, :8]).any()


def test_the_best_of_several_is_the_one_most_like_what_was_asked(generator: Any, monkeypatch: Any) -> None:
    aims: list[np.ndarray] = []
    fits = ImageGenerator.fits

    def spy(self: ImageGenerator, vector: np.ndarray, samples: Any) -> list[float]:
        aims.append(vector)
        return fits(self, vector, samples)

    monkeypatch.setattr(ImageGenerator, "fits", spy)
    monkeypatch.setattr(generator, "conditions", lambda vectors, sigma: (vectors[:, ::-1].copy(), sigma))
    vector = vector_of(WORDS[1])
    _redrawn(generator, vector, candidates=3)
    np.testing.assert_array_equal(aims[0], vector)  # not what it was projected to


def test_one_picture_is_redrawn_itself_in_every_style_that_is_known(generator: Any, tmp_path: Path) -> None:
    Image.fromarray(_picture()).save(tmp_path / "fox.png")
    asked = Request(style="ink")
    styles = generator.redrawn_styles(asked)
    assert styles == list(STYLES) and list(generator.redrawn_styles(Request(family="vae"))) == []
    assert edited_source(asked, str(tmp_path / "fox.png"), 1, styles).edit is not None
    assert edited_source(asked, "a fox", 1, styles).edit is None
    with pytest.raises(ArgumentError, match=r"^style 'oils': the family 'flow' was trained on the styles ink, paint$"):
        _redrawn(generator, vector_of(WORDS[0]), style="oils")


def test_a_generator_that_cannot_tell_what_a_picture_is_says_so(generator: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(generator, "space", None)
    with pytest.raises(ArgumentError, match=r"^init the generator of image cannot tell what it is: name a mask"):
        _redrawn(generator, vector_of(WORDS[0]))
