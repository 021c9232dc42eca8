"""Write a space into a folder that opens again, with copies of its towers if wanted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.errors import ConfigError
from embedspace.files import replacing

if TYPE_CHECKING:
    from embedspace.encoders.towers.base import Tower
    from embedspace.space.core import SpaceCore

__all__ = ["save_space"]

_SUFFIXES = (".safetensors", ".json")
_SUBFOLDERS = ("heads", "connectors", "towers")
"""Below a space's folder; what else lies there is not the space's."""
_LOCAL = {
    "open_clip": "open_clip:local-dir:{folder}",
    "sentence-transformers": "sentence-transformers:{folder}",
    "transformers": "transformers:{folder}",
    "torchscript": "torchscript:{file}",
    "onnx": "onnx:{file}",
}
"""Prefix -> how a tower of it is named once its files lie in a folder."""
_SHIPPED = ("embedspace:default", "minilm_l6", "efficientnet_lite0", "efficientnet_lite2", "yamnet", "whisper_base")


def save_space(space: SpaceCore, target: Path, *, copy_towers: bool) -> None:
    """Write what `EmbeddingSpace.save` says."""
    from embedspace.encoders.tower import LIVE

    towers = dict(space.config.get("towers", {}))
    for name, stored in towers.items():
        if str(stored.get("name", "")).startswith(LIVE):
            raise ConfigError(
                f"this space cannot be saved: its tower {name!r} is a module in memory, {stored['name']}; register an "
                "adapter for it (embedspace.encoders.towers.register_tower) and compose the space of references"
            )
    target.mkdir(parents=True, exist_ok=True)
    _copy_files(space.folder, target, set(space.config["files"]))
    if copy_towers:
        for name in towers:
            tower = space.tower(name)
            if tower.name not in _SHIPPED:
                towers[name] = _copied(tower, towers[name], name, target)
    config = {**space.config, **({"towers": towers} if towers else {})}
    _write(target / "config.json", json.dumps(config, indent=1))
    if space.calibration.pairs and not (target / "calibration.json").is_file():
        _write(target / "calibration.json", space.calibration.to_json())


def _copy_files(source: Path, target: Path, named: set[str]) -> None:
    if not source.is_dir() or source.resolve() == target.resolve():
        return
    files = [path for path in sorted(source.iterdir()) if path.is_file() and path.suffix in _SUFFIXES]
    files += [source / name for name in sorted(named) if (source / name).is_file()]
    for folder in _SUBFOLDERS:
        files += [path for path in sorted((source / folder).rglob("*")) if path.is_file()]
    for path in dict.fromkeys(files):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _copied(tower: Tower, stored: dict[str, Any], name: str, target: Path) -> dict[str, Any]:
    """Copy a tower's files below the space's folder; returns what the configuration then stores of it."""
    from embedspace.encoders.towers.base import require_same
    from embedspace.encoders.towers.registry import create_tower

    form = _LOCAL.get(tower.name.partition(":")[0])
    if form is None or not tower.files:
        raise ConfigError(
            f"tower {name!r} ({tower.name}) cannot be copied; leave copy_towers away: the space then names it"
        )
    folder = f"towers/{name}"
    for inside, path in tower.files.items():
        place = target / folder / inside
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    reference = form.format(folder=folder, file=f"{folder}/{next(iter(tower.files))}")
    options = {key: value for key, value in stored.get("options", {}).items() if key not in ("revision", "tag")}
    again = create_tower(reference, folder=target, options=options)
    require_same(again, stored)  # nothing that decides a vector was left behind
    kept = {key: value for key, value in stored.items() if key != "folder"}
    return {**kept, "name": reference, "options": options}


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text + "\n", "utf-8")
