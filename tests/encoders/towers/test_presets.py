"""The presets of composed spaces: their references are real, and what they cost is said."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import embedspace
from embedspace.encoders.towers import create_tower, tower_prefixes
from embedspace.errors import WeightsError

FOLDER = Path(embedspace.__file__).parent / "spaces"
PRESETS = sorted(FOLDER.glob("*.toml"))


def test_the_presets_are_there() -> None:
    assert [path.stem for path in PRESETS] == ["clip-clap", "clip-h-clap", "mobileclip2-clap", "pe-av", "siglip2-clap"]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_says_what_it_costs_and_how_its_towers_meet(path: Path) -> None:
    preset = tomllib.loads(path.read_text("utf-8"))
    assert preset.keys() == {"anchor", "towers", "connect", "about"}
    assert "text" in preset["towers"][preset["anchor"]]["modalities"]
    assert preset["connect"].keys() == preset["towers"].keys() - {preset["anchor"]}
    served = [m for tower in preset["towers"].values() for m in tower["modalities"] if m != "text"]
    assert sorted(served) == ["audio", "image", "speech"]
    about = preset["about"]
    assert about.keys() == {"title", "download", "extras", "licences", "published"}
    assert about["licences"].keys() == preset["towers"].keys()
    for tower in preset["towers"].values():
        assert tower["model"].partition(":")[0] in tower_prefixes()


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_downloads_nothing_unless_asked(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every reference is read by its library up to the point where the weights are missing."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for tower in tomllib.loads(path.read_text("utf-8"))["towers"].values():
        options = {"modalities": tower["modalities"], **tower.get("options", {})}
        if tower["model"] == "embedspace:default":
            assert create_tower(tower["model"], options=options).modalities == ("text", "speech")
        else:
            with pytest.raises(WeightsError, match=r"not on this machine.*download=True \(--download\)"):
                create_tower(tower["model"], options=options)
