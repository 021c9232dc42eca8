"""Whole pipelines, small and random, driven by vectors of a space; nothing here says anything of quality."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from embedspace import EmbeddingSpace
from embedspace.errors import ArgumentError, ConfigError, MissingExtraError, WeightsError
from embedspace.generate import Head, Request, Sample, generate
from embedspace.generate.pretrained import pipelines
from embedspace.generate.pretrained.pipelines import register_pipeline
from embedspace.generate.pretrained.stable_unclip import StableUnclip
from tests.support import towers

if TYPE_CHECKING:
    from tests.generate.pretrained.conftest import Workshop


def made(space: EmbeddingSpace, vector: Any, head: Head | str, to: str = "image", **asked: Any) -> list[Sample]:
    modality, words = asked.pop("modality", "text"), asked.pop("words", "")
    request = Request(**{"num_steps": 2, **asked})
    options: dict[str, Any] = {"to": to, "modality": modality, "request": request, "head": head}
    return generate(space, vector, texts=[words], **options)[0]


def differ(a: Sample, b: Sample) -> bool:
    return not np.array_equal(np.asarray(a.content), np.asarray(b.content))


@pytest.fixture
def unclip(workshop: Workshop) -> str:
    return f"diffusers:{workshop.unclip}"


def test_unclip_draws_by_seed_whatever_the_batch(workshop: Workshop, unclip: str, text: Any, photo: Any) -> None:
    space = workshop.by_clip
    head = space.generators.of("image", unclip)
    four = made(space, text, unclip, num_samples=4, seed=7)
    assert [sample.seed for sample in four] == [7, 8, 9, 10]
    assert {np.asarray(sample.content).shape for sample in four} == {(16, 16, 3)}
    assert np.asarray(four[0].content).dtype == np.uint8
    (alone,) = made(space, text, unclip, seed=9)
    assert not differ(alone, four[2]) and differ(four[0], four[1])
    head.batch, before = 3, head.batch
    try:
        rows = np.concatenate([text, photo])
        two = generate(
            space, rows, to="image", modality=["text", "image"], head=unclip, request=Request(2, 8, num_steps=2)
        )
    finally:
        head.batch = before
    for one, other in zip([*two[0]], four[1:3], strict=True):  # a batch rounds otherwise, by a level at most
        assert np.abs(np.asarray(one.content, int) - np.asarray(other.content, int)).max() <= 1
    assert [sample.provenance["vector"] for row in two for sample in row] == ["means", "means", "picture", "picture"]


def test_unclip_says_where_a_picture_comes_from(workshop: Workshop, unclip: str, text: Any) -> None:
    (sample,) = made(workshop.by_clip, text, unclip, seed=3, words="a dog", size=32)
    about = dict(sample.provenance)
    assert np.asarray(sample.content).shape == (32, 32, 3)
    assert len(about.pop("weights")) == 64
    assert about == {
        "head": unclip, "kind": "StableUnCLIPImg2ImgPipeline", "licence": "openrail++", "family": "", "seed": 3,
        "source_modality": "text", "num_steps": 2, "guidance_scale": 10.0, "size": 32, "tower": "transformers:clip",
        "tower_agreement": 1.0, "vector": "means", "prompt": "a dog",
    }  # fmt: skip
    json.dumps(about)


def test_unclip_options_act(workshop: Workshop, unclip: str, text: Any, photo: Any) -> None:
    space = workshop.by_clip
    (plain,) = made(space, text, unclip)
    assert differ(plain, made(space, text, unclip, guidance_scale=1.0)[0])
    assert differ(plain, made(space, text, unclip, num_steps=3)[0])
    assert differ(plain, made(space, text, unclip, words="rain on a roof")[0])
    assert differ(plain, made(space, photo, unclip, modality="image")[0])
    assert differ(plain, made(space, text, Head(unclip, {"noise_level": "900"}))[0])
    with pytest.raises(ArgumentError, match=r"^size 20: must be a multiple of 8 for this head$"):
        made(space, text, unclip, size=20)
    with pytest.raises(ArgumentError, match="candidates 4: a generator of image does not take it; it takes: num_steps"):
        made(space, text, unclip, candidates=4)


def test_a_connected_tower_is_reached_through_its_connector(workshop: Workshop, unclip: str) -> None:
    vector = workshop.by_clap.encode_text(["a dog"])
    about = made(workshop.by_clap, vector, unclip)[0].provenance
    assert (about["vector"], about["tower"], about["tower_agreement"]) == ("connector", "transformers:clip", 1.0)


def test_a_prior_takes_the_place_of_means(workshop: Workshop, unclip: str, text: Any, photo: Any) -> None:
    space, head = workshop.by_clip, Head(unclip, {"prior": str(workshop.prior)})
    first, second = made(space, text, head, num_samples=2)
    assert first.provenance["vector"] == "prior" and first.provenance["head_prior"] == str(workshop.prior)
    assert differ(first, second) and differ(first, made(space, text, unclip)[0])
    assert not differ(second, made(space, text, head, seed=1)[0])
    assert not differ(made(space, photo, head, modality="image")[0], made(space, photo, unclip, modality="image")[0])
    with pytest.raises(ConfigError, match="a StableUnCLIPImg2ImgPipeline holds no prior; known: KandinskyV22Prior"):
        made(space, text, Head(unclip, {"prior": str(workshop.unclip)}))


def test_kandinsky_needs_its_prior(workshop: Workshop, text: Any, photo: Any) -> None:
    space, reference = workshop.by_clip, f"diffusers:{workshop.kandinsky}"
    with pytest.raises(ConfigError, match=r"needs the prior .*--head-option prior=<folder or name>"):
        made(space, text, reference)
    head = Head(reference, {"prior": str(workshop.prior)})
    first, second = made(space, text, head, num_samples=2)
    assert np.asarray(first.content).shape == (16, 16, 3) and differ(first, second)
    assert not differ(second, made(space, text, head, seed=1)[0])
    assert differ(first, made(space, text, head, guidance_scale=1.0)[0])
    assert differ(first, made(space, photo, head, modality="image")[0])
    assert first.provenance["tower_agreement"] == 1.0


def test_an_ip_adapter_lets_stable_diffusion_take_vectors(workshop: Workshop, text: Any, photo: Any) -> None:
    space, reference = workshop.by_clip, f"diffusers:{workshop.diffusion}"
    with pytest.raises(ConfigError, match=r"takes words alone; .*--head-option adapter="):
        made(space, text, reference)
    head = Head(reference, {"adapter": str(workshop.adapter)})
    (from_text,), (from_photo,) = made(space, text, head), made(space, photo, head, modality="image")
    assert differ(from_text, from_photo) and np.asarray(from_text.content).shape == (16, 16, 3)
    mute = Head(reference, {"adapter": str(workshop.adapter), "scale": "0"})
    assert not differ(made(space, text, mute)[0], made(space, photo, mute, modality="image")[0])
    with pytest.raises(WeightsError, match=r"holds no models/plus\.safetensors; name its file by weights="):
        made(space, text, Head(reference, {"adapter": str(workshop.adapter), "weights": "models/plus.safetensors"}))
    with pytest.raises(ConfigError, match="scale much, must be 0 to 2"):
        made(space, text, Head(reference, {"adapter": str(workshop.adapter), "scale": "much"}))


def test_audioldm_sounds_by_clap(workshop: Workshop, text: Any) -> None:
    head = f"diffusers:{workshop.audioldm}"
    asked: dict[str, Any] = {"to": "audio", "seconds": 0.25}
    own = workshop.by_clap.encode_text(["a dog"])
    first, second = made(workshop.by_clap, own, head, num_samples=2, **asked)
    assert (np.asarray(first.content).shape, first.sample_rate) == ((4000,), 16_000)
    assert np.abs(np.asarray(first.content)).max() <= 1 and differ(first, second)
    assert not differ(second, made(workshop.by_clap, own, head, seed=1, **asked)[0])
    (carried,) = made(workshop.by_clip, text, head, **asked)
    assert (carried.provenance["tower"], carried.provenance["tower_agreement"]) == ("transformers:clap", 1.0)
    assert differ(first, carried)
    with pytest.raises(ArgumentError, match="makes audio, not image"):
        made(workshop.by_clap, own, head)
    with pytest.raises(ArgumentError, match="size 32: a generator of audio does not take it"):
        made(workshop.by_clap, own, head, "audio", size=32)


def test_a_space_of_other_towers_is_refused(workshop: Workshop, unclip: str, tmp_path: Path) -> None:
    other = towers.tiny_clip(tmp_path / "other", 16, seed=9)
    recipe = {"anchor": "clip", "towers": {"clip": {"model": f"transformers:{other}"}}}
    space = EmbeddingSpace.compose(recipe)
    with pytest.raises(
        ConfigError,
        match=r"takes vectors 16 wide of its CLIP .*; this space is of transformers:other \(cosine -?0\.\d+",
    ):
        made(space, space.encode_text(["a dog"]), unclip)
    sounds = EmbeddingSpace.compose(workshop.recipe("clap"))
    with pytest.raises(ConfigError, match=r"this space is of transformers:clap \(its vectors are 16 wide\)"):
        made(sounds, sounds.encode_text(["a dog"]), unclip)
    narrow = EmbeddingSpace.from_towers(text=lambda texts: np.ones((len(texts), 8)))
    with pytest.raises(ConfigError, match=r"takes vectors 16 wide .*\(its vectors are 8 wide\): compose a space"):
        made(narrow, np.ones((1, 8), np.float32), unclip)


def test_what_is_no_pipeline_is_refused(workshop: Workshop, text: Any, tmp_path: Path) -> None:
    space = workshop.by_clip
    for head, error, what in (
        (f"diffusers:{workshop.clip}", WeightsError, "holds no model_index.json: it is no pipeline of diffusers"),
        (f"diffusers:{tmp_path / 'none'}", WeightsError, "there is no folder"),
        ("diffusers:somebody/pipeline", WeightsError, r"^head 'diffusers:somebody/pipeline': .*\(--download\)"),
        (
            "painter:picture",
            ArgumentError,
            "^head painter:picture: is no pretrained head; write one of: clipcap:.*diffusers:<",
        ),
        ("diffusers:", ArgumentError, "is no pretrained head"),
        (
            f"diffusers:{workshop.prior}",
            ConfigError,
            "holds a KandinskyV22PriorPipeline, which no adapter knows; known",
        ),
        (
            Head(f"diffusers:{workshop.unclip}", {"colour": "red"}),
            ConfigError,
            "unknown option colour; known: dtype, p",
        ),
        (Head(f"diffusers:{workshop.unclip}", {"dtype": "int8"}), ConfigError, "dtype 'int8', must be one of float32"),
        (Head(f"diffusers:{workshop.unclip}", {"noise_level": "9999"}), ConfigError, "noise_level 9999, must be 0 to"),
    ):
        with pytest.raises(error, match=what):
            made(space, text, head)
    broken = shutil.copytree(workshop.unclip, tmp_path / "broken")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="diffusers could not load"):
        made(space, text, f"diffusers:{broken}")


def test_diffusers_may_be_missing(workshop: Workshop, text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"needs diffusers .*pip install embedspace\[diffusers\]"):
        made(workshop.by_clip, text, f"diffusers:{workshop.unclip}@main")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Leave this process a few megabytes beyond what it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (16 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_memory_that_runs_out_is_one_line(workshop: Workshop, unclip: str, text: Any, request: Any) -> None:
    space = workshop.by_clip
    head = space.generators.of("image", unclip)
    made(space, text, unclip)
    head.batch = 2
    request.getfixturevalue("little_memory")
    with pytest.raises(ArgumentError, match=r"^size 2048: a sample does not fit into the memory of cpu; ask for less$"):
        made(space, text, unclip, size=2048, num_samples=2)
    assert head.batch == 1  # fewer at a time from now on


def test_a_recipe_gives_a_space_a_head_for_good(workshop: Workshop, tmp_path: Path) -> None:
    recipe = workshop.recipe("clip", generators={"image": {"head": f"diffusers:{workshop.unclip}"}})
    EmbeddingSpace.compose(recipe).save(tmp_path / "space")
    space = EmbeddingSpace.from_pretrained(tmp_path / "space")
    assert space.generators.targets == ["image"]  # which HTTP and assistants offer
    (sample,) = space.generate(space.encode_text(["a dog"]), to="image", num_steps=2)[0]
    assert sample.provenance["kind"] == "StableUnCLIPImg2ImgPipeline"
    with pytest.raises(ConfigError, match=r"generators\.smell: unknown target; known: image, audio"):
        EmbeddingSpace.compose(workshop.recipe("clip", generators={"smell": {"head": "diffusers:a"}}))


def test_another_package_registers_a_pipeline(
    workshop: Workshop, text: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines._PIPELINES, "found", dict(pipelines._PIPELINES.found))

    @register_pipeline("KandinskyV22PriorPipeline")
    class Quick(StableUnclip):
        steps = 1

        def __init__(self, opened: Any, pipeline: Any) -> None:
            assert type(pipeline).__name__ == "KandinskyV22PriorPipeline"
            import diffusers

            decoder = diffusers.StableUnCLIPImg2ImgPipeline.from_pretrained(workshop.unclip)
            super().__init__(opened, decoder)

    (sample,) = made(workshop.by_clip, text, f"diffusers:{workshop.prior}", num_steps=None)
    assert (sample.provenance["kind"], sample.provenance["num_steps"]) == ("KandinskyV22PriorPipeline", 1)


def test_the_command_line_makes_a_picture_of_a_sound(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedspace.cli import main

    monkeypatch.chdir(tmp_path)
    workshop.by_clip.save("space")
    with wave.open("bark.wav", "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes((towers.noise(3, 1.0) * 20_000).astype(np.int16).tobytes())
    command = ["generate", "--from", "bark.wav", "--to", "image", "--space", "space", "--steps", "2", "-n", "2"]
    code = main([*command, "--head", f"diffusers:{workshop.unclip}", "--head-option", f"prior={workshop.prior}"])
    out, err = capsys.readouterr()
    assert (code, out.split()) == (0, ["bark.image-1.png", "bark.image-2.png"]), err
    with Image.open("bark.image-2.png") as picture:
        about = json.loads(picture.info["embedspace"])
    assert (about["source_modality"], about["vector"], about["seed"]) == ("audio", "prior", 1)
    assert main([*command, "--overwrite"]) == 2
    assert "this space has no generator of image" in capsys.readouterr().err
    assert main([*command, "--head-option", "prior=x"]) == 2
    assert capsys.readouterr().err == "embedspace: --head-option prior=x: goes with --head\n"
