"""What is exported, and what a wheel holds."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import types
import zipfile
from pathlib import Path

import pytest

import embedspace

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WEIGHTS = ROOT / "embedspace" / "weights"
PACKAGING = [WEIGHTS / name for name in ("pyproject.toml", "LICENSE", "NOTICE")]
"""What makes the wheel of the weights, and is in no wheel."""
MODULES = sorted(found.name for found in pkgutil.walk_packages(embedspace.__path__, "embedspace."))


def test_version_is_that_of_the_project() -> None:
    assert embedspace.__version__ == PROJECT["version"]


def test_all_is_sorted_and_every_name_can_be_had() -> None:
    assert sorted(embedspace.__all__) == embedspace.__all__
    for name in embedspace.__all__:
        assert getattr(embedspace, name) is not None
    assert set(embedspace.__all__) <= set(dir(embedspace))
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = embedspace.Nonsense


def test_all_is_what_is_exported() -> None:
    for name in embedspace.__all__:
        getattr(embedspace, name)
    public = {
        name
        for name, value in vars(embedspace).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    } - {"annotations", "TYPE_CHECKING", "Any"}
    assert public == set(embedspace.__all__) - {"__version__"}


def test_every_error_is_exported() -> None:
    errors = importlib.import_module("embedspace.errors")
    assert set(errors.__all__) <= set(embedspace.__all__)
    assert all(issubclass(getattr(errors, name), errors.EmbedspaceError) for name in errors.__all__)


@pytest.mark.parametrize("module_name", MODULES)
def test_every_modules_all_exists(module_name: str) -> None:
    module = importlib.import_module(module_name)
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), f"{module_name}.__all__ names {name}"


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "embedspace").rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_shipped_weights_are_small_and_need_no_pickle() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file() and path not in PACKAGING]
    heads = [path for path in files if "heads" in path.parts]
    assert sum(path.stat().st_size for path in files if path not in heads) <= 130 * 1000 * 1000
    assert sum(path.stat().st_size for path in heads) <= 60 * 1000 * 1000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt"}
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


def _link_or_stub(source: str, target: str) -> str:
    """Copy a file; of large weights only the name matters here."""
    if Path(source).stat().st_size > 1_000_000:
        Path(target).touch()
        return target
    return shutil.copy(source, target)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build both wheels from a copy, so that nothing is written into the checkout."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    for name in ("embedspace", "training", "eval", "indexes", "tests"):
        shutil.copytree(
            ROOT / name,
            copy / name,
            copy_function=_link_or_stub,
            ignore=shutil.ignore_patterns("__pycache__", "results", "*.png"),
        )
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out"]
    subprocess.run([*command, ".", "./embedspace/weights"], cwd=copy, check=True, capture_output=True)
    return {path.name.split("-")[0]: path for path in (copy / "out").glob("*.whl")}


def test_the_wheels_hold_the_package_its_weights_and_nothing_else(wheels: dict[str, Path]) -> None:
    held: list[str] = []
    for name, wheel in wheels.items():
        inside = [entry for entry in zipfile.ZipFile(wheel).namelist() if not entry.endswith("/")]
        assert {entry.split("/")[0] for entry in inside} == {"embedspace", f"{name}-{PROJECT['version']}.dist-info"}
        held += [entry for entry in inside if entry.startswith("embedspace/")]
        assert sum((ROOT / entry).stat().st_size for entry in held if entry in inside) < 100 * 1000 * 1000
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "embedspace").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path not in PACKAGING
    }
    assert sorted(held) == sorted(expected)  # no file in both


def test_the_package_asks_for_the_weights_of_its_own_version() -> None:
    weights = tomllib.loads((WEIGHTS / "pyproject.toml").read_text())["project"]
    assert weights["version"] == PROJECT["version"]
    assert f"embedspace-weights=={weights['version']}" in PROJECT["dependencies"]


def test_wheels_carry_licence_notice_and_command(wheels: dict[str, Path]) -> None:
    info = f"embedspace-{PROJECT['version']}.dist-info"
    archive = zipfile.ZipFile(wheels["embedspace_weights"])
    assert "MiniLM" in archive.read(f"embedspace_weights-{PROJECT['version']}.dist-info/licenses/NOTICE").decode()
    archive = zipfile.ZipFile(wheels["embedspace"])
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert "MiniLM" in archive.read(f"{info}/licenses/NOTICE").decode()
    assert "embedspace = embedspace.__main__:main" in archive.read(f"{info}/entry_points.txt").decode()


def test_lock_pins_every_declared_dependency() -> None:
    locks = (ROOT / "requirements.lock", ROOT / "requirements-dev.lock")
    lines = [line for path in locks for line in path.read_text().splitlines()]
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", pin) for pin in pins), "only name==version"
    pinned = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(line for group in extras.values() for line in group)]
    names = {re.split(r"[<>=\[]", line)[0].lower() for line in wanted} - {"embedspace", "embedspace-weights"}
    assert names <= pinned
    assert {"torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"} <= set(pins)


def test_documents_are_there() -> None:
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "NOTICE", "Makefile", ".ci/run"):
        assert (ROOT / name).stat().st_size > 0
    assert f"[{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()
    readme = (ROOT / "README.md").read_text()
    assert readme.index("<!-- figures:start -->") < readme.index("<!-- figures:end -->")
    targets = re.findall(r"(?m)(?:`|^)make ([a-z]+)", readme + (ROOT / "CONTRIBUTING.md").read_text())
    makefile = (ROOT / "Makefile").read_text()
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
