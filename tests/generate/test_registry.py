"""A generator, a family and their options from outside the package."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.encoders.base import save_tensors
from embedspace.errors import ArgumentError, ConfigError, UnknownModalityError
from embedspace.generate import (
    Generator,
    Option,
    Request,
    Sample,
    Target,
    generate,
    register_generator,
    register_target,
)
from embedspace.generate.base import OPTIONS, GeneratorSpace
from embedspace.generate.drawing import Drawing
from embedspace.generate.editing import Edit
from embedspace.generate.families.base import network_for_sampling
from embedspace.generate.families.registry import family_names
from embedspace.generate.registry import create_generator
from embedspace.generate.targets import option_help, option_names, options_of, targets
from tests.support.cli_space import DIM, vector_of
from tests.support.generators import (
    SpaceWithGenerators,
    write_latent_generator,
    write_speech_generator,
    write_text_generator,
    write_vocabulary,
)
from tests.support.outside.bell import registered_bell
from tests.support.outside.even import EvenConfig, EvenFamily, registered_even


class Tone(Generator):
    """A generator of pitches: the largest entry of a vector, in hertz."""

    modality = "pitch"
    options = frozenset({"seconds"})
    sigma: Mapping[str, float] = {"text": 0.25}

    def __init__(self, hertz: float) -> None:
        super().__init__()
        self.hertz = hertz

    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        length = round((request.seconds or 1.0) * 100)
        return [
            [
                Sample("pitch", np.full(length, self.hertz * (1 + n) + noise, np.float32), request.seed + n)
                for n in range(request.num_samples)
            ]
            for noise in sigma
        ]


@register_generator("tone")
def _create_tone(config: Mapping[str, Any], folder: Path, space: GeneratorSpace) -> Tone:
    return Tone(**config)


def _space(tmp_path: Path, target: str, config: dict[str, Any]) -> SpaceWithGenerators:
    own = tmp_path / "heads" / target
    own.mkdir(parents=True)
    (own / "config.json").write_text(json.dumps({"format": 1, **config}))
    return SpaceWithGenerators(tmp_path)


def test_a_new_target_is_made_by_a_generator_from_outside(tmp_path: Path) -> None:
    space = _space(tmp_path, "pitch", {"type": "tone", "hertz": 440.0})
    assert space.generators.targets == ["pitch"]
    (samples,) = generate(space, vector_of("a dog"), to="pitch", request=Request(2, seed=5, seconds=0.5))
    assert [sample.seed for sample in samples] == [5, 6]
    np.testing.assert_allclose(np.asarray(samples[1].content), np.full(50, 880.25))
    assert samples[0].provenance["head"] == "pitch"
    assert samples[0].provenance["seconds"] == 0.5
    with pytest.raises(UnknownModalityError, match=r"unknown modality 'smell'.*pitch"):
        generate(space, vector_of("a dog"), to="smell")


def test_a_target_of_ours_may_be_made_by_another_type(tmp_path: Path) -> None:
    space = _space(tmp_path, "audio", {"type": "tone", "hertz": 220.0})
    assert isinstance(space.generators["audio"], Tone)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"type": "gong", "hertz": 1.0}, "unknown type 'gong'; known: audio, image, pretrained, speech, text, tone"),
        ({"type": "tone"}, "does not fit the generator of pitch"),
        ({"type": "tone", "hertz": 1.0, "loud": True}, "does not fit the generator of pitch"),
    ],
)
def test_a_configuration_that_no_type_can_read_is_refused(tmp_path: Path, config: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        _space(tmp_path, "pitch", config).generators["pitch"]


def test_a_target_is_never_a_path(tmp_path: Path) -> None:
    space = _space(tmp_path, "pitch", {"type": "tone", "hertz": 440.0})
    for name in ("../heads/pitch", "pitch/", "pitch/../pitch", ""):
        with pytest.raises(UnknownModalityError):
            space.generators[name]


@pytest.mark.parametrize("option", sorted(set(OPTIONS) - {"seconds", "family"}))
def test_an_option_that_a_generator_does_not_take_is_refused(tmp_path: Path, option: str) -> None:
    space = _space(tmp_path, "pitch", {"type": "tone", "hertz": 440.0})
    value: Any = "flite:slt" if option == "voice" else 32
    value = {"guidance_scale": 2.0, "start": 0.5}.get(option, value)
    asked: dict[str, Any] = {option: value}
    if option in ("init", "strength", "mask"):
        whole = option == "init"
        asked = {"edit": Edit(np.zeros((2, 2, 3), np.uint8), about={"init": "a.png"} if whole else {option: "1"})}
    if option == "map":
        asked = {"drawing": Drawing(np.eye(2, dtype=bool), {"map": "a.png"})}
    with pytest.raises(ArgumentError, match=f"^{option} .*a generator of pitch does not take it; it takes: seconds$"):
        generate(space, vector_of("a dog"), to="pitch", request=Request(**asked))


def test_pictures_take_no_seconds_and_sounds_no_size(tmp_path: Path) -> None:
    space = SpaceWithGenerators(tmp_path)
    for target in ("image", "audio"):
        write_latent_generator(tmp_path / "heads", target)
    with pytest.raises(ArgumentError, match=r"seconds 2\.0: a generator of image does not take it"):
        generate(space, vector_of("a dog"), to="image", request=Request(seconds=2.0))
    with pytest.raises(ArgumentError, match="candidates 4: a generator of audio does not take it"):
        generate(space, vector_of("a dog"), to="audio", request=Request(candidates=4))
    (sample,) = generate(space, vector_of("a dog"), to="image", request=Request(size=32))[0]
    assert np.asarray(sample.content).shape == (32, 32, 3)


@pytest.fixture
def constant_family() -> Iterator[None]:
    with registered_even("constant"):
        yield


@pytest.mark.usefixtures("constant_family")
def test_a_family_from_outside_draws_pictures(tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    own = write_latent_generator(heads, "image")
    write_vocabulary(heads)
    config = json.loads((own / "config.json").read_text())
    config["families"] = {"even": {"type": "constant", "level": 0.25}, "flow": config["families"]["flow"]}
    (own / "config.json").write_text(json.dumps(config))
    module = network_for_sampling(EvenFamily(), EvenConfig(level=0.25), (2, 2, 2), DIM)
    save_tensors(module, own / "even.safetensors")
    space = SpaceWithGenerators(tmp_path)
    assert space.generators["image"].families == ("even", "flow")
    first, second = generate(space, vector_of("a dog"), to="image", request=Request(2, num_steps=1))[0]
    np.testing.assert_array_equal(first.content, second.content)  # it draws no noise
    assert first.provenance["family"] == "even"
    with pytest.raises(ArgumentError, match=r"^guidance_scale 2: the family 'even' has no guidance; .* that do: flow$"):
        generate(space, vector_of("a dog"), to="image", request=Request(guidance_scale=2.0))
    with pytest.raises(ArgumentError, match=r"'vae': the generator of image has even, flow; .*--family vae"):
        generate(space, vector_of("a dog"), to="image", request=Request(family="vae"))
    config["families"]["even"]["type"] = "smoke"
    (own / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"families\.even: unknown family 'smoke'; known: constant, .*flow, .*vae"):
        create_generator("image", heads, space)


@pytest.mark.usefixtures("constant_family")
def test_the_help_of_family_lists_all_that_are_registered() -> None:
    (option,) = [option for option in options_of(targets()) if option.name == "family"]
    assert "constant" in family_names()
    assert option_help(option).endswith(f"families are {', '.join(family_names())}.")


def test_every_option_is_a_field_of_a_request_or_of_its_edit() -> None:
    names = {field.name for field in dataclasses.fields(Request)}
    of_files = {"init", "strength", "mask", "map"}
    assert set(OPTIONS) == names - {"num_samples", "seed", "edit", "drawing", "extra"} | of_files
    assert {option.name for option in options_of(targets())} == set(OPTIONS)


def test_what_ships_takes_what_its_target_says(tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    for modality in ("image", "audio"):
        write_latent_generator(heads, modality)
    write_text_generator(heads)
    write_speech_generator(heads)
    write_vocabulary(heads)
    space = SpaceWithGenerators(tmp_path)
    for target in targets():
        assert space.generators[target.name].options == option_names(target.name) != frozenset()


def test_options_of_another_target_are_not_mistaken_for_ours() -> None:
    with registered_bell() as bell:
        assert register_target(bell) is bell  # the same once more is no harm
        for option in (Option("seconds", str, "how long"), Option("loud", float, "loudness", "--pitch")):
            with pytest.raises(ConfigError, match=f"option '{option.name}'.*would be taken for"):
                register_target(Target("gong", "gongs", "audio", (option,)))
        for option in (Option("seed", int, "a seed"), Option("times", int, "how often", "--count")):
            with pytest.raises(ConfigError, match=f"option '{option.name}' is one of every target"):
                register_target(Target("gong", "gongs", "audio", (option,)))
        with pytest.raises(ConfigError, match="target 'bell' is registered twice"):
            register_target(Target("bell", "bells", "text"))
