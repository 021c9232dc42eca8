"""A space's config.json: what it must hold, the checksums of the weights, and the fingerprints that follow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedspace.encoders.registry import encoder_type
from embedspace.errors import ConfigError, WeightsError
from embedspace.modality import Modality, is_modality, modality_names

__all__ = [
    "DEFAULT_WEIGHTS",
    "checksums",
    "compare_files",
    "fingerprint",
    "read_config",
    "timed_config",
    "voiced_config",
    "write_config",
]

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "default"
"""The space that ships with the package."""

FORMAT = 2
"""Of a space's folder. Before 2 the sounds were heard by another tagger, whose weights are gone."""
MAX_EMBED_DIM = 65_536
PREPROCESSING = 2
"""Raised when decoding, resampling, cropping or windows change what the encoders see: old vectors then do not fit."""
_VOICE_SECTION = {
    "type": "voice",
    "backbone": "resemblyzer",
    "window_seconds": 12.0,
    "likeness": 0.6,
    "shortest": 1.2,
}
VOICE_NUMBERS = 256
"""Width of what the encoder of voices says of one."""
TIMING_NUMBERS = 64
"""Width of what the encoders of timing say of a window."""
_BACKBONES = "backbones/"


def write_config(
    folder: Path, sections: Mapping[str, Any], embed_dim: int, towers: Mapping[str, Any] | None = None
) -> None:
    """Write config.json of a space: its sections and the checksum of every weights file they use.

    Args:
        folder: Holds the weights.
        sections: Modality -> the encoder's configuration.
        embed_dim: Width of the space.
        towers: Name -> reference of the towers that sections name; none for the default space.
    """
    path = folder / "config.json"
    names = {p.name for p in folder.glob("*.safetensors")}
    shared: set[str] = set()
    for modality, section in sections.items():
        found = encoder_type(section, modality, path)
        names |= {name for name in found.files(section) if (folder / name).is_file()}
        shared |= {f"{_BACKBONES}{name}" for name in found.backbones(section)}
    files = {name: _sha256(folder / name) for name in sorted(names)}
    files |= {name: _sha256(where) for name in sorted(shared) if (where := _path_of(folder, name)).is_file()}
    config: dict[str, Any] = {"format": FORMAT, "embed_dim": embed_dim, "sections": dict(sections), "files": files}
    if towers:
        config["towers"] = dict(towers)
    path.write_text(json.dumps(config, indent=1) + "\n", "utf-8")


def voiced_config(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration of a space with an encoder of voices beside those that it has.

    Raises:
        ConfigError: If it has no encoder of speech, or its rows have no room for a voice.
    """
    sections, width = config["sections"], int(config["embed_dim"])
    if Modality.SPEECH not in sections:
        raise ConfigError(
            f"{folder}: no encoder of speech, beside which voices are kept; it has: {', '.join(sections)}"
        )
    if width < VOICE_NUMBERS:
        raise ConfigError(f"{folder}: rows of {width} numbers have no room for a voice, which has {VOICE_NUMBERS}")
    return _with_sections(config, folder, {"voice": {**_VOICE_SECTION, "embed_dim": width}})


def timed_config(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration of a space with encoders of timing beside those that it has.

    Raises:
        ConfigError: If it has no encoder of videos or none of sounds, or its rows have no room for timing.
    """
    sections, width = config["sections"], int(config["embed_dim"])
    lacking = [name for name in (Modality.VIDEO, Modality.AUDIO) if name not in sections]
    if lacking:
        raise ConfigError(
            f"{folder}: no encoder of {lacking[0]}, beside which timing is kept; it has: {', '.join(sections)}"
        )
    if width < TIMING_NUMBERS:
        raise ConfigError(f"{folder}: rows of {width} numbers have no room for timing, which has {TIMING_NUMBERS}")
    section = {"type": "timing", "backbone": "timing", "embed_dim": width}
    return _with_sections(config, folder, {"motion": section, "onset": dict(section)})


def _with_sections(config: Mapping[str, Any], folder: Path, added: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with more sections, whose networks are of the package."""
    files = dict(config["files"])
    for name, section in added.items():
        found = encoder_type(section, name, folder / "config.json")
        places = [f"{_BACKBONES}{backbone}" for backbone in found.backbones(section)]
        files |= {place: _sha256(where) for place in places if (where := _path_of(folder, place)).is_file()}
    return {**config, "sections": {**config["sections"], **added}, "files": files}


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check config.json of a space.

    Raises:
        WeightsError: If there is no space in the folder, or one of another format.
        ConfigError: If a section is of an unknown modality or type, or names an unknown tower.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder}: no space there (config.json is missing); name a folder that training wrote")
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
        _check_format(config, folder)
        unknown = [name for name in config["sections"] if not is_modality(name)]
        if unknown:
            known = ", ".join(modality_names())
            raise ConfigError(f"{path}: unknown modality {', '.join(sorted(unknown))}; known: {known}")
        config["files"].items()
        if type(config["embed_dim"]) is not int or not 1 <= config["embed_dim"] <= MAX_EMBED_DIM:
            raise WeightsError(
                f"{path}: not the configuration of a space: embed_dim {config['embed_dim']!r}, must be 1 to "
                f"{MAX_EMBED_DIM:,}"
            )
        config.get("towers", {}).items()
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise WeightsError(f"{path}: not the configuration of a space: {error!r}") from error
    for modality, section in config["sections"].items():
        lacking = set(encoder_type(section, modality, path).towers(section)) - set(config.get("towers", {}))
        if lacking:
            has = ", ".join(config.get("towers", {})) or "none"
            raise ConfigError(f"{path}: section {modality!r}: no tower {lacking.pop()!r}; it has: {has}")
        for other in encoder_type(section, modality, path).others(section):
            if other == modality or other not in config["sections"]:
                raise ConfigError(
                    f"{path}: section {modality!r} pools {other!r}, which is no other section; "
                    f"it has: {', '.join(config['sections'])}"
                )
    return config


def _check_format(config: Mapping[str, Any], folder: Path) -> None:
    if config["format"] > FORMAT:
        raise WeightsError(f"{folder}: format {config['format']}, this version reads up to {FORMAT}; update embedspace")
    if config["format"] < FORMAT:
        raise WeightsError(
            f"{folder}: format {config['format']}, trained by an earlier version, whose sounds were heard by "
            f"other networks; train it again with this one (format {FORMAT})"
        )


def fingerprint(config: Mapping[str, Any], modality: str, folder: Path) -> str:
    """Return the hex digest of all that decides a modality's vectors: weights, configuration, preprocessing, tower."""
    section = config["sections"][modality]
    what = {"preprocessing": PREPROCESSING, "section": section, "files": checksums(config, modality, folder)}
    found = encoder_type(section, modality, folder / "config.json")
    if used := found.towers(section):
        what["towers"] = {name: config.get("towers", {}).get(name, {}).get("digest", "") for name in used}
    if others := found.others(section):
        what["others"] = {name: fingerprint(config, name, folder) for name in others}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def checksums(config: Mapping[str, Any], modality: str, folder: Path) -> dict[str, str]:
    """Return name -> SHA-256, as the configuration has it, of the files that a modality's vectors depend on."""
    section, files = config["sections"][modality], config["files"]
    found = encoder_type(section, modality, folder / "config.json")
    names = [*found.files(section), *(f"{_BACKBONES}{name}" for name in found.backbones(section))]
    return {name: files[name] for name in names if name in files}


def compare_files(config: Mapping[str, Any], modality: str, folder: Path) -> None:
    """Refuse weights other than those that the fingerprint stands for: their vectors fit no catalog.

    The shipped space comes in one package with its backbones; a test compares those.

    Raises:
        WeightsError: If a file has another checksum than the configuration says.
    """
    if folder == DEFAULT_WEIGHTS:
        return
    for name, expected in checksums(config, modality, folder).items():
        path = _path_of(folder, name)
        if path.is_file() and _sha256(path) != expected:
            raise WeightsError(
                f"{path}: its checksum is not the one in {folder / 'config.json'}; restore the file, or the "
                "version of embedspace that the space was trained with, or train the space again"
            )


def _path_of(folder: Path, name: str) -> Path:
    if not name.startswith(_BACKBONES):
        return folder / name
    from embedspace.encoders.backbones import WEIGHTS

    return WEIGHTS / f"{name.removeprefix(_BACKBONES)}.safetensors"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
