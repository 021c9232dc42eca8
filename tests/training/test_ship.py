"""A family that was trained apart goes into the generator that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from embedspace.errors import WeightsError
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
    about["options"] = {"num_steps": 7, "start": 0.0, "guidance_scale": 2.5, "copy_similarity": 0.5}
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
    ship(trained, "flow", shipped)
    assert (shipped / "flow.safetensors").read_bytes() == (trained / "flow.safetensors").read_bytes()
    generator = SpaceWithGenerators(tmp_path / "shipped").generators["image"]
    assert generator.families == ("flow", "vae")
    drawn = {name: generator.networks[name].options(generator.sampling) for name in generator.families}
    assert (drawn["flow"].num_steps, drawn["flow"].guidance_scale, drawn["flow"].start) == (7, 2.5, 0.0)
    assert drawn["vae"].guidance_scale == 2.0 and generator.sampling.copy_similarity == 1.0  # as before
    for _ in range(2):  # what was before stays known
        assert json.loads((shipped / "recipe.json").read_text()) == {"name": "trained", "before": {"name": "shipped"}}
        ship(trained, "flow", shipped)


def test_latents_of_another_autoencoder_are_refused(tmp_path: Path) -> None:
    shipped, trained = _generators(tmp_path)
    with pytest.raises(WeightsError, match="no family 'gan' there; it has flow"):
        ship(trained, "gan", shipped)
    (trained / "autoencoder.safetensors").write_bytes(b"another")
    before = (shipped / "config.json").read_bytes()
    with pytest.raises(WeightsError, match=r"its autoencoder\.safetensors is not that of"):
        ship(trained, "flow", shipped)
    assert (shipped / "config.json").read_bytes() == before
