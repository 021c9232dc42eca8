"""Where drawing begins: at noise, at a neighbour, and what cannot be asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from embedspace.encoders.quantize import to_rows8
from embedspace.errors import ArgumentError
from embedspace.generate import Request, generate
from embedspace.generate.candidates.looks import FILE
from embedspace.generate.conditioning import Condition
from embedspace.generate.editing import edit_of_picture
from embedspace.generate.families import flow
from embedspace.generate.families.base import SampleOptions
from embedspace.generate.latents.edits import options_for
from tests.support.cli_space import vector_of
from tests.support.generators import WORDS, SpaceWithGenerators, write_latent_generator

OPTIONS = {"num_steps": 6, "guidance_scale": 2.0, "start": 0.4, "pool": 8, "redraws": 0}


class _Watched(flow.FlowFamily):
    """A flow that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[SampleOptions, Condition]] = []

    def sample(self, module: Any, condition: Condition, generators: Any, options: SampleOptions) -> torch.Tensor:
        self.asked.append((options, condition))
        return super().sample(module, condition, generators, options)


@pytest.fixture
def space(tmp_path: Path) -> SpaceWithGenerators:
    own = write_latent_generator(tmp_path / "space" / "heads", "image", options=OPTIONS)
    (own / FILE).parent.mkdir()
    looks = torch.from_numpy(np.stack([vector_of(text) for text in (*WORDS[1:], WORDS[0])]))  # as the next one is named
    save_file(to_rows8({"looks": looks}), own / FILE)
    return SpaceWithGenerators(tmp_path / "space")


@pytest.fixture
def watched(space: SpaceWithGenerators) -> _Watched:
    head: Any = space.generators["image"]
    family = _Watched()
    head.networks = {**head.networks, "flow": dataclasses.replace(head.networks["flow"], family=family)}
    return family


def _made(space: SpaceWithGenerators, **asked: Any) -> Any:
    return generate(space, vector_of(WORDS[3]), to="image", request=Request(seed=2, **asked), force=True)[0][0]


def test_a_picture_of_its_own_owes_nothing_to_where_its_neighbour_lies(
    space: SpaceWithGenerators, watched: _Watched
) -> None:
    head: Any = space.generators["image"]
    usual, own = _made(space), _made(space, start=0.0)
    module = head.networks["flow"].module
    module.eval()
    with torch.inference_mode():
        module.out.weight.zero_()  # a network that goes nowhere shows where it began
        module.out.bias.zero_()
    began = {start: np.asarray(_made(space, start=start).content) for start in (0.0, 0.3, None)}
    head.neighbours.latents = head.neighbours.latents + 2.0
    np.testing.assert_array_equal(np.asarray(_made(space, start=0.0).content), began[0.0])
    assert (np.asarray(_made(space, start=0.3).content) != began[0.3]).any()
    assert (began[0.3] != began[None]).any()
    assert own.provenance["start"] == 0.0
    assert "start" not in usual.provenance


def test_noise_has_steps_and_guidance_of_its_own(space: SpaceWithGenerators, watched: _Watched) -> None:
    head: Any = space.generators["image"]
    for asked in ({}, {"start": 0.2}, {"start": 0.0}, {"start": 0.0, "num_steps": 2, "guidance_scale": 4.0}):
        _made(space, **asked)
    told = [
        (options.start, options.num_steps, options.guidance_scale, options.guided_times) for options, _ in watched.asked
    ]
    steps, scale, times = head.sampling.noise_steps, head.sampling.noise_guidance, head.sampling.noise_times
    always = (0.0, 1.0)
    assert times != always
    assert told == [(0.4, 6, 2.0, always), (0.2, 6, 2.0, always), (0.0, steps, scale, times), (0.0, 2, 4.0, times)]
    several = [
        options_for(Request(start=start, candidates=4), head.networks["flow"], head.sampling).num_steps
        for start in (0.0, 0.2)
    ]
    assert several == [steps, head.sampling.candidate_steps]  # fewer are enough for what begins at a neighbour only


def test_several_from_noise_know_the_neighbours_that_one_knows(space: SpaceWithGenerators) -> None:
    space.encode_image = lambda pictures: np.eye(len(pictures), space.embed_dim, dtype=np.float32)  # type: ignore[attr-defined]
    nearest = {
        (start, several): _made(space, start=start, candidates=several).provenance["context"][0]
        for start in (0.0, 0.2)
        for several in (1, 2)
    }
    named, looking = "tiny/3", "tiny/2"
    assert nearest == {(0.0, 1): named, (0.0, 2): named, (0.2, 1): named, (0.2, 2): looking}


def test_a_family_that_always_begins_at_noise_samples_as_it_is_set(tmp_path: Path) -> None:
    write_latent_generator(tmp_path / "heads", "image", options={**OPTIONS, "start": 0.0})
    head: Any = SpaceWithGenerators(tmp_path).generators["image"]
    assert options_for(Request(start=0.0), head.networks["flow"], head.sampling) == options_for(
        Request(), head.networks["flow"], head.sampling
    )


def test_what_cannot_begin_there_is_refused(space: SpaceWithGenerators) -> None:
    head: Any = space.generators["image"]
    for start in (-0.1, 1.0, float("nan")):
        with pytest.raises(ArgumentError, match=r"start .*must be 0 to 0\.95"):
            Request(start=start)
    with pytest.raises(ArgumentError, match=r"start 0\.3: an edit begins at what is edited"):
        Request(start=0.3, edit=edit_of_picture(np.zeros((8, 8, 3), np.uint8), strength=0.5))
    with pytest.raises(ArgumentError, match=r"start 0\.3: the family 'vae' has no start .*that do: flow"):
        _made(space, family="vae", start=0.3)
    assert _made(space, family="vae", start=0.0).content.shape == (16, 16, 3)  # it begins at noise anyway
    later = dataclasses.replace(head.networks["flow"].config, first_time=0.3)
    head.networks = {**head.networks, "flow": dataclasses.replace(head.networks["flow"], config=later)}
    with pytest.raises(ArgumentError, match=r"start 0: the family 'flow' was trained from 0\.3 on"):
        _made(space, start=0.0)
