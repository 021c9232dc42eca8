from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from embedspace.cli import main
from embedspace.cli.shared.targets import edited_source
from embedspace.errors import ArgumentError, ConfigError, WeightsError
from embedspace.generate import Request, create_generator
from embedspace.generate.editing import edit_of_picture
from embedspace.train.generators.recipe import load_generator_recipe
from embedspace.train.generators.run import train_generator
from embedspace.train.generators.styles.recipe import StyleRecipe
from embedspace.train.generators.styles.run import Translation, critic_loss, latents_of_folder, translator_loss
from tests.support.cli_space import vector_of
from tests.support.generators import SpaceWithGenerators, write_latent_generator

COUNT = 20
RED, BLUE = (200, 60, 60), (60, 60, 200)


def _folder(path: Path, colour: tuple[int, int, int], count: int = COUNT) -> Path:
    path.mkdir(parents=True)
    rng = np.random.default_rng(len(path.name))
    for number in range(count):
        pixels = np.full((16, 16, 3), colour, np.uint8)
        left = int(rng.integers(12))
        pixels[:, left : left + 4] = 20  # something to be kept
        Image.fromarray(pixels).save(path / f"{number}.png")
    return path


def _recipe(folder: Path, generator: Path, **settings: Any) -> Path:
    table = {
        "generator": str(generator),
        "channels": 16,
        "blocks": 1,
        "critic_channels": 8,
        "batch_size": 16,
        **settings,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    path = folder / "blue.toml"
    path.write_text("\n".join(['kind = "style"', "[style]", *lines]))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two colours, a generator, and the style that was learnt for it."""
    folder = tmp_path_factory.mktemp("style")
    generator = write_latent_generator(folder / "space" / "heads", "image")
    red, blue = _folder(folder / "red", RED), _folder(folder / "blue", BLUE)
    recipe = _recipe(folder, generator, steps=150, learning_rate=2e-3, cycle=2.0, identity=0.5)
    made = train_generator(recipe, out=folder / "run", folders=(red, blue))
    (generator / "styles").mkdir()
    for name in ("blue.json", "blue.safetensors", "recipe.json"):
        shutil.copy(made / name, generator / "styles" / name)
    return folder


def _generator(folder: Path) -> Any:
    return create_generator("image", folder / "space" / "heads", SpaceWithGenerators(folder / "space"))


def test_what_is_translated_comes_nearer_to_the_other_kind(trained: Path) -> None:
    generator = _generator(trained)
    red, blue = (
        latents_of_folder(trained / name, generator.autoencoder, 16, False, lambda _: None)[0]
        for name in ("red", "blue")
    )
    with torch.inference_mode():
        translated = generator.translators["blue"](red)
    before, after = ((one.mean(dim=0) - blue.mean(dim=0)).norm() for one in (red, translated))
    assert after < 0.5 * before


def test_a_picture_is_redrawn_so_far_as_strength_and_mask_say(trained: Path) -> None:
    generator = _generator(trained)
    picture = np.asarray(Image.open(next((trained / "red").iterdir())))
    vectors, none = vector_of("a dog")[None], np.zeros(1, np.float32)

    def redrawn(**settings: Any) -> np.ndarray:
        edit = edit_of_picture(picture, **settings)
        ((sample,),) = generator.generate(vectors, none, Request(style="blue", edit=edit))
        return np.asarray(sample.content, int)

    whole, none_of_it, half = redrawn(), redrawn(strength=0.0), redrawn(mask="0,0,8,16")
    ((kept,),) = generator.generate(vectors, none, Request(edit=edit_of_picture(picture, strength=0.0)))
    assert np.abs(whole - none_of_it).max() > 3
    assert kept.content.shape == picture.shape  # the plain way of strength 0 is still there
    np.testing.assert_array_equal(half[:, 8:], picture[:, 8:])
    assert (half[:, :8] != picture[:, :8]).any()
    with pytest.raises(ArgumentError, match="draws all of it anew"):
        redrawn(mask="auto")


def test_words_are_drawn_and_then_translated(trained: Path) -> None:
    generator = _generator(trained)
    decoded: list[torch.Tensor] = []
    decode = generator.autoencoder.decode
    generator.autoencoder.decode = lambda latents: decoded.append(latents) or decode(latents)
    vectors, none = vector_of("a dog")[None], np.zeros(1, np.float32)
    generator.generate(vectors, none, Request(seed=3))
    ((sample,),) = generator.generate(vectors, none, Request(seed=3, style="blue"))
    with torch.inference_mode():
        torch.testing.assert_close(decoded[1], generator.translators["blue"](decoded[0]))
    assert sample.seed == 3
    with pytest.raises(ArgumentError, match=r"'green'.*blue"):
        generator.check(Request(style="green"))


def test_the_source_itself_is_redrawn_where_it_is_one_picture(trained: Path) -> None:
    picture = str(next((trained / "red").iterdir()))
    asked = Request(style="blue")
    assert edited_source(asked, picture, 1, ["blue"]).edit is not None
    for other in (
        edited_source(asked, "a dog", 1, ["blue"]),
        edited_source(asked, picture, 2, ["blue"]),
        edited_source(asked, picture, 1, ["green"]),
        edited_source(asked, str(trained / "none.png"), 1, ["blue"]),
    ):
        assert other.edit is None


def test_a_style_of_another_autoencoder_is_refused(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "space"
    shutil.copytree(trained / "space", other)
    own = other / "heads" / "image"
    about = json.loads((own / "styles" / "blue.json").read_text())
    (own / "styles" / "blue.json").write_text(json.dumps({**about, "autoencoder": "0" * 64}))
    with pytest.raises(WeightsError, match="another autoencoder"):
        _generator(tmp_path)
    (own / "styles" / "blue.json").write_text(json.dumps({**about, "network": {"width": 3}}))
    with pytest.raises(ConfigError, match="unknown or missing"):
        _generator(tmp_path)


def test_training_goes_on_from_its_checkpoint(trained: Path, tmp_path: Path) -> None:
    generator = trained / "space" / "heads" / "image"
    folders = (trained / "red", trained / "blue")
    short = _recipe(tmp_path, generator, steps=4)
    whole = (train_generator(short, out=tmp_path / "whole", folders=folders) / "blue.safetensors").read_bytes()
    train_generator(short, out=tmp_path / "parts", folders=folders, minutes=0.0)
    resumed = train_generator(short, out=tmp_path / "parts", folders=folders, resume=True)
    assert (resumed / "blue.safetensors").read_bytes() == whole


def test_what_cannot_be_learnt_from_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = trained / "space" / "heads" / "image"
    recipe = _recipe(tmp_path, generator, steps=1)
    few = _folder(tmp_path / "few", RED, 3)
    (few / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="few: 3 pictures"):
        train_generator(recipe, out=tmp_path / "run", folders=(few, trained / "blue"))
    with pytest.raises(ConfigError, match="two folders"):
        train_generator(recipe, out=tmp_path / "run")
    sounds = write_latent_generator(tmp_path / "heads", "audio")
    with pytest.raises(ConfigError, match="makes no pictures"):
        train_generator(_recipe(tmp_path, sounds), out=tmp_path / "run", folders=(trained / "red", trained / "blue"))
    for arguments, message in (
        (["--from", str(few)], "go together"),
        (["--from", str(few), "--to", str(tmp_path / "nowhere")], "no such folder"),
    ):
        assert main(["train", "generator", str(recipe), *arguments]) == 2
        assert message in capsys.readouterr().err
    text = tmp_path / "text.toml"
    text.write_text('kind = "text"\n')
    with pytest.raises(ConfigError, match="no two folders"):
        train_generator(text, folders=(few, few))


def test_adversaries_pull_against_each_other() -> None:
    recipe = StyleRecipe(channels=16, blocks=1, critic_channels=8)
    torch.manual_seed(0)
    model = Translation(recipe, 2)
    one, other = torch.randn(4, 2, 4, 4), torch.randn(4, 2, 4, 4)
    critic_loss(model, one, other).backward()
    slopes = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert slopes
    assert all(name.startswith("critics.") for name in slopes)
    nothing = dataclasses.replace(recipe, cycle=0.0, identity=0.0)
    model.eval()  # else every look changes what the spectral norm knows
    with torch.no_grad():
        plain = translator_loss(model, one, other, nothing)
        torch.testing.assert_close(translator_loss(model, one, other, recipe), plain)  # new ones change nothing
        torch.nn.init.ones_(model.there.out.bias)
        moved = translator_loss(model, one, other, dataclasses.replace(nothing, cycle=1.0))
        assert float(moved - translator_loss(model, one, other, nothing)) == pytest.approx(2.0, abs=1e-4)


def test_the_recipe_that_ships_is_read() -> None:
    recipe = load_generator_recipe("training/recipes/generators/unpaired.toml")
    assert recipe.kind == "style"
    assert recipe.style == StyleRecipe()
