"""What other distributions register is found through their entry points: they are built, installed and used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.test_guides import blocks, file_name

ROOT = Path(__file__).resolve().parents[1]
LETTERS = '''
"""A tower, a family and an index engine of another package."""
import numpy as np
import torch
from torch import nn

from embedspace.catalog.index.base import register_index
from embedspace.catalog.index.local import LocalIndex
from embedspace.encoders.towers import Tower, register_tower
from embedspace.generate import Family, FamilyConfig, register_family


class Letters(Tower):
    def feature_dim(self, modality):
        return 26

    def prepare(self, modality, media):
        return [1e-3 + media.casefold().count(chr(97 + n)) for n in range(26)]

    def encode(self, modality, prepared, *, role="document"):
        return torch.tensor(prepared)


@register_tower("letters")
def create(request):
    return Letters(request.reference, ("text",))


@register_family("still")
class Still(Family):
    Config = FamilyConfig
    about = "what does not move"

    def build(self, config, shape, embed_dim):
        return nn.Identity()

    def phases(self, config):
        return ()

    def sample(self, module, condition, generators, options):
        return condition.context[:, 0]


register_index("mine")(LocalIndex)
'''


def write_source(folder: Path, pyproject: str, modules: dict[str, str]) -> Path:
    """Write what a distribution is built from."""
    folder.mkdir(parents=True)
    for name, text in {"pyproject.toml": pyproject, **modules}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages: the guide's depth maps, a tower, and a package that is broken."""
    folder = tmp_path_factory.mktemp("plugins")
    pages = {file_name(text): text for _, text in blocks("add-a-modality.md") if file_name(text)}
    depth = {name: pages[name] for name in ("media_depth.py", "encoder_depth.py")}
    sources = [write_source(folder / "depth", pages["pyproject.toml"], depth)]
    table = '[project]\nname = "{0}"\nversion = "1"\n[tool.setuptools]\npy-modules = ["{0}"]\n'
    points = '[project.entry-points."embedspace.plugins"]\n{0} = "{0}"\n'
    broken = "raise ImportError('no module named numby')"
    for name, text in (("aaa_broken", broken), ("letters_tower", LETTERS)):
        sources.append(write_source(folder / name, (table + points).format(name), {f"{name}.py": text}))
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command += ["--disable-pip-version-check", "--target", str(folder / "site"), *map(str, sources)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder / "site"


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own that finds the installed packages."""
    path = os.pathsep.join([str(site), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=site)
    assert done.returncode == 0, done.stderr
    return done


def test_commands_know_what_installed_distributions_register(
    site: Path, tmp_path: Path, tiny_space_folder: Path
) -> None:
    """A modality of another package is indexed and searched; a broken package is one line, and stops nothing."""
    space, catalog = tmp_path / "space", str(tmp_path / "maps.catalog")
    shutil.copytree(tiny_space_folder, space)
    make = (
        "import sys; from pathlib import Path; from embedspace.space import EmbeddingSpace, write_config\n"
        "folder = Path(sys.argv[1]); sections = EmbeddingSpace.from_pretrained(folder).config['sections']\n"
        "write_config(folder, {**sections, 'depth': {'type': 'depth-guide', 'embed_dim': 16}}, 16)\n"
    )
    run(site, "-c", make, str(space))
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps" / "hill.npy", np.random.default_rng(0).random((24, 24)).astype(np.float32))
    cli = ("-m", "embedspace.cli")
    indexed = run(site, *cli, "index", str(tmp_path / "maps"), "--catalog", catalog, "--space", str(space))
    assert indexed.stdout.startswith("1 added")
    said = [line for line in indexed.stderr.splitlines() if "aaa_broken" in line]
    assert said == [
        "the plug-in 'aaa_broken' (aaa_broken) cannot be imported: no module named numby; repair or uninstall it"
    ]
    hill = str(tmp_path / "maps" / "hill.npy")
    found = run(site, *cli, "search", catalog, hill, "--space", str(space), "--json")
    assert "hill.npy" in found.stdout and '"modality": "depth"' in found.stdout


def test_towers_families_and_engines_of_installed_distributions_are_found_by_name(site: Path) -> None:
    ask = (
        "from embedspace.encoders.towers import create_tower\n"
        "from embedspace.generate.families.registry import family_of\n"
        "from embedspace.catalog.index.base import factory_of\n"
        "from embedspace.catalog import IndexSettings\n"
        "tower = create_tower('letters:all')\n"
        "row = tower.encode('text', [tower.prepare('text', 'a bad cab')])\n"
        "print(row.shape[1], round(float(row[0, 0])), type(family_of('still')).__name__)\n"
        "print(factory_of(IndexSettings(engine='mine')).__name__)\n"
    )
    assert run(site, "-c", ask).stdout.split() == ["26", "3", "Still", "LocalIndex"]
