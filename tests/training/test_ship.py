"""A family that was trained apart goes into the generator that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from embedspace.errors import WeightsError
from embedspace.generate.families.base import SampleOptions
from tests.support.generators import SpaceWithGenerators, write_latent_generator
from training.generators.ship import ship


def _generators(folder: Path) -> tuple[Path, Path]:
    found = []
    for name in ("shipped", "trained"):
        own = write_latent_generator(folder / name / "heads", "image")
        (own / "recipe.json").write_text(json.dumps({"name": name}))
        found.append(own)
    shipped, trained = found
    about = json.loads((trained / "config.json").read_text())
    about["families"] = {"flow": about["families"]["flow"]}
    (trained / "config.json").write_text(json.dumps(about))
    about = json.loads((shipped / "config.json").read_text())
    about["families"] = {"vae": about["families"]["vae"], "flow": about["families"]["flow"]}
    (shipped / "config.json").write_text(json.dumps(about))
    (trained / "vae.safetensors").unlink()
    return shipped, trained


def test_weights_and_its_own_way_of_sampling_are_taken_over(tmp_path: Path) -> None:
    shipped, trained = _generators(tmp_path)
    weights = load_file(trained / "flow.safetensors")
    weights["out.bias"] += 1
    save_file(weights, trained / "flow.safetensors")
    recipe = tmp_path / "recipe.toml"
    settings = ["num_steps = 7", "guidance_scale = 2.5", "guided_times = [0.2, 0.8]", "start = 0.0"]
    recipe.write_text("\n".join(['kind = "image"', "[image.families.flow]", *settings]))
    ship(trained, recipe, "flow", shipped)
    assert (shipped / "flow.safetensors").read_bytes() == (trained / "flow.safetensors").read_bytes()
    generator = SpaceWithGenerators(tmp_path / "shipped").generators["image"]
    assert generator.families == ("flow", "vae")
    drawn = {name: generator.networks[name].options(generator.sampling) for name in generator.families}
    assert drawn["flow"] == SampleOptions(7, 2.5, guided_times=(0.2, 0.8))
    assert drawn["vae"] == SampleOptions(2, 2.0)  # as before
    for _ in range(2):  # what was before stays known
        assert json.loads((shipped / "recipe.json").read_text()) == {"name": "trained", "before": {"name": "shipped"}}
        ship(trained, recipe, "flow", shipped)


def test_latents_of_another_autoencoder_are_refused(tmp_path: Path) -> None:
    shipped, trained = _generators(tmp_path)
    with pytest.raises(WeightsError, match="no family 'gan' there; it has flow"):
        ship(trained, tmp_path / "recipe.toml", "gan", shipped)
    (trained / "autoencoder.safetensors").write_bytes(b"another")
    before = (shipped / "config.json").read_bytes()
    with pytest.raises(WeightsError, match=r"its autoencoder\.safetensors is not that of"):
        ship(trained, tmp_path / "recipe.toml", "flow", shipped)
    assert (shipped / "config.json").read_bytes() == before
