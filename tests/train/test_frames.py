from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from embedspace.errors import ConfigError, InputError, WeightsError
from embedspace.generate.latents.autoencoder import Autoencoder, AutoencoderConfig
from embedspace.generate.translation.frames import FrameConfig, FrameNetwork, FramePredictor, load_predictor
from embedspace.train.generators.frames.recipe import FrameRecipe
from embedspace.train.generators.frames.run import drawn, frame_loss, frames_of_film
from embedspace.train.generators.recipe import load_generator_recipe
from embedspace.train.generators.run import train_generator
from tests.support.generators import write_latent_generator

SIDE, FRAMES = 32, 12


def _film(path: Path, speed: int, frames: int = FRAMES) -> Path:
    """Write a film of a bright square that moves to the right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=10)
        track.width = track.height = SIDE
        track.pix_fmt = "yuv420p"
        for number in range(frames):
            pixels = np.full((SIDE, SIDE, 3), 30, np.uint8)
            left = (number * speed) % (SIDE - 8)
            pixels[12:20, left : left + 8] = 230
            for packet in track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in track.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("frames")
    write_latent_generator(found / "heads", "image")
    for speed in (1, 2, 3):
        _film(found / "films" / f"{speed}.mp4", speed)
    return found


def _recipe(folder: Path, **settings: Any) -> Path:
    table = {"generator": str(folder / "heads" / "image"), "channels": 8, "blocks": 1, "batch_size": 8, **settings}
    path = folder / "next.toml"
    path.write_text("\n".join(['kind = "frames"', "[frames]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]))
    return path


def _predictor(**sizes: int) -> FramePredictor:
    torch.manual_seed(0)
    config = FrameConfig(2, 8, 1)
    return FramePredictor(
        Autoencoder(AutoencoderConfig(3, 8, latent_dim=2)).eval(), FrameNetwork(config).eval(), config
    )


def test_a_new_network_draws_the_last_frame_again() -> None:
    rng = np.random.default_rng(0)
    before, last = rng.integers(0, 255, (2, 20, 36, 3), dtype=np.uint8)
    np.testing.assert_array_equal(_predictor().next_frame(before, last), last)


def test_what_does_not_change_in_latents_does_not_change_in_pixels() -> None:
    predictor, rng = _predictor(), np.random.default_rng(0)
    last, wanted = rng.integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    latents = predictor.latents([last, wanted])
    assert latents.shape == (2, 2, 2, 2)
    np.testing.assert_array_equal(predictor.moved(last, latents[:1], latents[:1]), last)
    assert (predictor.moved(last, latents[:1], latents[1:]) != last).any()


@pytest.mark.parametrize("shapes", [((16, 16, 3), (16, 24, 3)), ((16, 16), (16, 16)), ((16, 16, 4), (16, 16, 4))])
def test_frames_of_other_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(InputError, match="one size"):
        _predictor().next_frame(*(np.zeros(shape, np.uint8) for shape in shapes))


def test_it_learns_from_a_folder_of_films_which_way_things_go(folder: Path) -> None:
    made = train_generator(
        _recipe(folder, steps=120, learning_rate=3e-3, films=0), out=folder / "run", videos=folder / "films"
    )
    predictor = load_predictor(made)
    frames = frames_of_film(folder / "films" / "2.mp4", FrameRecipe())
    latents = predictor.latents(frames)
    with torch.inference_mode():
        told, again = (
            float((guess - latents[2:]).abs().mean())
            for guess in (predictor.network(latents[:-2], latents[1:-1]), latents[1:-1])
        )
    assert told < 0.8 * again
    assert json.loads((made / "recipe.json").read_text())["kind"] == "frames"


def test_triples_are_three_frames_in_a_row_either_way() -> None:
    films = [torch.arange(6.0)[:, None, None, None].expand(-1, 1, 2, 2), torch.zeros(5, 1, 3, 3)]
    for seed in range(6):
        before, last, wanted = drawn(films, 16, torch.Generator().manual_seed(seed))
        if before.shape[-1] == 2:
            assert (last - before).unique().tolist() in ([-1.0, 1.0], [1.0], [-1.0])
            torch.testing.assert_close(wanted - last, last - before)


def test_what_changes_weighs_more() -> None:
    frames = torch.zeros(3, 1, 1, 2, 2)
    frames[2, 0, 0, 0, 0] = 1.0
    still = torch.nn.Identity()
    plain, heavy = (float(frame_loss(lambda before, last: still(last), frames, moving)) for moving in (0.0, 4.0))  # type: ignore[arg-type]
    assert plain == pytest.approx(0.25)
    assert heavy == pytest.approx(0.25 * (1 + 4.0 * 4.0))


def test_films_that_cannot_be_learnt_from_are_named(folder: Path, tmp_path: Path) -> None:
    recipe = _recipe(folder, steps=1)
    with pytest.raises(ConfigError, match="no films"):
        train_generator(recipe, out=tmp_path / "run", videos=tmp_path)
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "broken.mp4").write_bytes(b"no film")
    _film(tmp_path / "films" / "short.mp4", 1, frames=2)
    with pytest.raises(ConfigError, match="none of 2 films"):
        train_generator(recipe, out=tmp_path / "run", videos=tmp_path / "films")
    (tmp_path / "corpora" / "drawn").mkdir(parents=True)
    (tmp_path / "corpora" / "drawn" / "manifest.jsonl").write_text('{"id": "drawn/1", "modality": "image"}\n')
    elsewhere = tmp_path / "elsewhere.toml"
    elsewhere.write_text(f"corpora = {json.dumps(str(tmp_path / 'corpora'))}\n{recipe.read_text()}")
    with pytest.raises(ConfigError, match="build the corpus"):
        train_generator(elsewhere, out=tmp_path / "run")


def test_a_damaged_predictor_is_refused(folder: Path, tmp_path: Path) -> None:
    made = train_generator(_recipe(folder, steps=1), out=tmp_path / "run", videos=folder / "films")
    (made / "frames.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="do not fit"):
        load_predictor(made)
    about = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**about, "network": {"depth": 3}}))
    with pytest.raises(ConfigError, match="unknown or missing"):
        load_predictor(made)


def test_the_recipe_that_ships_is_read() -> None:
    assert load_generator_recipe("training/recipes/generators/next_frame.toml").frames == FrameRecipe()
