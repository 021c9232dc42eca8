"""Make one space of several pretrained towers: the anchor as it is, each other connected to it by texts."""

from __future__ import annotations

import dataclasses
import glob
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.batch import encode_items
from embedspace.encoders.carrier import Carrier
from embedspace.encoders.connectors import Connector, load_connector, save_connector
from embedspace.encoders.contract import Encoders
from embedspace.encoders.film.pooled import POOLED_SECTION
from embedspace.encoders.tower import TowerEncoder
from embedspace.encoders.towers.base import Tower
from embedspace.encoders.towers.registry import create_tower
from embedspace.errors import ConfigError, InputError, MediaError
from embedspace.modality import Modality, holds_several, kind_of, kind_of_modality, modality_spec
from embedspace.space.config import write_config
from embedspace.space.devices import require_device
from embedspace.space.recipe import ComposeRecipe, ConnectRecipe
from embedspace.vocabulary import SHIPPED_GENERATORS, load_vocabulary

if TYPE_CHECKING:
    from embedspace.calibration.model import Calibration
    from embedspace.space.encoding import EncodingSpace
    from embedspace.train.connect import ConnectSettings

__all__ = ["Told", "calibration_of", "compose_into"]

Told = Callable[[str], None]
"""Told, in a few words, what is being done."""

_MOST_TEXTS = 20_000
_MOST_MEDIA = 1_000
_BATCH = 64
_TEXT = Modality.TEXT.value


@dataclass(frozen=True)
class _Parts:
    """What the recipe's names stand for: towers, and modality -> name of the tower that serves it."""

    towers: dict[str, Tower]
    serves: dict[str, str]


@dataclass(frozen=True)
class _Plan:
    """How a tower is to be connected, and by which texts."""

    settings: ConnectSettings
    texts: list[str]


def compose_into(
    recipe: ComposeRecipe, target: Path, *, download: bool = False, device: str = "cpu", told: Told | None = None
) -> dict[str, Tower]:
    """Write a composed space into a folder, without its calibration.

    Args:
        recipe: What it is made of.
        target: An empty folder.
        download: Whether libraries may fetch what is not on this machine.
        device: Where the towers run while connectors are fitted.
        told: Told what is being done.

    Returns:
        Name -> tower, so that none is loaded again.

    Raises:
        ArgumentError: If there is no such device.
        ConfigError: If a tower or an option is unknown, two serve one modality, or one is not connected.
        WeightsError: If weights are missing or damaged, or would have to be downloaded.
        InputError: If there are too few texts or media to fit a connector.
    """
    require_device(device)
    plans = {name: _planned(recipe, name) for name, how in recipe.connect.items() if not how.fitted}
    parts = _make_towers(recipe, download, device, told or (lambda doing: None))
    anchor = parts.towers[recipe.anchor]
    sections: dict[str, Any] = {}
    reports: dict[str, Any] = {}
    for name in dict.fromkeys(parts.serves.values()):
        own = [modality for modality, server in parts.serves.items() if server == name]
        stem = ""
        if name != recipe.anchor:
            if told is not None:
                told(f"connect {name} to {recipe.anchor}")
            connector, reports[name] = _connected(recipe, plans, parts, name)
            save_connector(connector, target / "connectors", name)
            stem = f"connectors/{name}"
        seconds = recipe.towers[name].window_seconds
        for modality in own:
            sections[modality] = {"type": "tower", "tower": name, **({"connector": stem} if stem else {})}
            if seconds is not None and kind_of_modality(modality) == Modality.AUDIO:
                sections[modality]["window_seconds"] = seconds
    if Modality.IMAGE in sections and Modality.VIDEO not in sections:
        sections[Modality.VIDEO.value] = dict(POOLED_SECTION)
    references = {name: _reference(parts.towers[name], recipe, name) for name in dict.fromkeys(parts.serves.values())}
    write_config(target, sections, anchor.feature_dim(_TEXT), references)
    _write_heads(recipe, target)
    made = {"recipe": recipe.plain(), "connectors": reports}
    (target / "composed.json").write_text(json.dumps(made, indent=1, default=str) + "\n", "utf-8")
    return parts.towers


def _write_heads(recipe: ComposeRecipe, target: Path) -> None:
    """Write the configurations of the published generators that the space is to have."""
    for name, entry in recipe.generators.items():
        folder = target / "heads" / name
        folder.mkdir(parents=True)
        stored = {"format": 1, "type": "pretrained", **dataclasses.asdict(entry), "folder": str(recipe.folder)}
        (folder / "config.json").write_text(json.dumps(stored, indent=1) + "\n", "utf-8")


def _make_towers(recipe: ComposeRecipe, download: bool, device: str, told: Told) -> _Parts:
    towers: dict[str, Tower] = {}
    serves: dict[str, str] = {}
    for name, entry in recipe.towers.items():
        told(f"load {entry.model}")
        options = _options(recipe, name)
        towers[name] = create_tower(entry.model, download=download, folder=recipe.folder, options=options).to(device)
        for modality in entry.modalities or towers[name].modalities:
            towers[name].require(modality)
            if modality == _TEXT and name != recipe.anchor:
                continue  # it is connected by its texts; the space's are the anchor's
            if modality in serves:
                raise ConfigError(
                    f"{modality} is served by two towers, {serves[modality]!r} and {name!r}; say which by `modalities`"
                )
            serves[modality] = name
    if serves.get(_TEXT) != recipe.anchor:
        raise ConfigError(f"anchor {recipe.anchor!r}: its tower must take text, as all others are connected by texts")
    return _Parts(towers, serves)


def _options(recipe: ComposeRecipe, name: str) -> dict[str, Any]:
    entry = recipe.towers[name]
    options = dict(entry.options)
    if entry.modalities and ":" in entry.model:  # a bundled network is for one modality in any case
        options["modalities"] = list(entry.modalities)
    return options


def _reference(tower: Tower, recipe: ComposeRecipe, name: str) -> dict[str, Any]:
    return {**tower.reference(), "options": _options(recipe, name), "folder": str(recipe.folder)}


def _planned(recipe: ComposeRecipe, name: str) -> _Plan:
    """Read how a tower is to be connected, before any network is loaded."""
    from embedspace.train.connect import ConnectSettings

    how = recipe.connect[name]
    try:
        settings = ConnectSettings(**{"method": how.method, "seed": recipe.seed, **how.settings})
    except (TypeError, ConfigError) as error:
        raise ConfigError(f"connect.{name}: {error}") from None
    return _Plan(settings, _texts(recipe, how))


def _connected(
    recipe: ComposeRecipe, plans: Mapping[str, _Plan], parts: _Parts, name: str
) -> tuple[Connector, dict[str, Any]]:
    """Fit the connector of a tower, or read the fitted one; returns it and the report on held-out texts."""
    how, tower, anchor = recipe.connect.get(name), parts.towers[name], parts.towers[recipe.anchor]
    if how is None:
        raise ConfigError(
            f"tower {name!r} is not connected to the anchor {recipe.anchor!r}: add a table connect.{name}, "
            'such as { method = "blend" }'
        )
    modalities = [modality for modality, server in parts.serves.items() if server == name]
    if how.fitted:
        stem = recipe.folder / how.fitted
        connector = load_connector(stem.parent, stem.name)
        for modality in modalities:  # checks the widths
            Carrier(tower.feature_dim(modality), modality, connector=connector, whose=f"tower {tower.name!r}")
        return connector, {}
    from embedspace.train.connect import fit_connector

    own, other = TowerEncoder(tower, _TEXT), TowerEncoder(anchor, _TEXT)
    texts = [text for text in plans[name].texts if own.fits(text) and other.fits(text)]
    seconds = recipe.towers[name].window_seconds
    heard = {modality: TowerEncoder(tower, modality, window_seconds=seconds) for modality in modalities}
    media = {modality: _media_rows(recipe, how, encoder) for modality, encoder in heard.items()} if how.centre else {}
    fitted = fit_connector(_encode_texts(own, texts), _encode_texts(other, texts), plans[name].settings, media=media)
    return fitted.connector, dataclasses.asdict(fitted.report)


def _texts(recipe: ComposeRecipe, how: ConnectRecipe) -> list[str]:
    """Return the shared texts, each once."""
    lines: list[str] = []
    for name in how.texts:
        path = recipe.folder / name
        try:
            lines += path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot read the texts to connect by: {error}") from None
    if not how.texts:
        lines = load_vocabulary(SHIPPED_GENERATORS).captions  # names of things
    found = [line.strip() for line in dict.fromkeys(lines) if line.strip()]
    if len(found) > _MOST_TEXTS:
        chosen = np.sort(np.random.default_rng(recipe.seed).permutation(len(found))[:_MOST_TEXTS])
        found = [found[k] for k in chosen]
    return found


def _encode_texts(encoder: TowerEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    rows = [
        encoder.encode([encoder.prepare(text) for text in texts[start : start + _BATCH]])
        for start in range(0, len(texts), _BATCH)
    ]
    return np.concatenate(rows) if rows else np.empty((0, encoder.embed_dim), np.float32)


def _media_rows(recipe: ComposeRecipe, how: ConnectRecipe, encoder: TowerEncoder) -> NDArray[np.float32]:
    """Return a tower's own unit rows of unlabelled media of a modality; unreadable files are left out."""
    modality = encoder.modality
    kind = kind_of_modality(modality)
    pattern = recipe.folder / Path(how.centre).expanduser()
    pattern = pattern / "**" if pattern.is_dir() else pattern
    found = sorted(map(Path, glob.iglob(str(pattern), recursive=True)))
    files = [path for path in found if path.is_file() and kind_of(path) == kind]
    if len(files) > _MOST_MEDIA:
        chosen = np.sort(np.random.default_rng(recipe.seed).permutation(len(files))[:_MOST_MEDIA])
        files = [files[k] for k in chosen]
    encoders = Encoders([modality], lambda name: encoder)
    decode = modality_spec(kind).decode()
    rows: list[NDArray[np.float32]] = []
    for path in files:
        try:
            assert decode is not None
            decoded = decode(path, encoders, modality if holds_several(kind) else None)
            rows += [segment.vector for segment in encode_items([decoded], encoders)[0]]
        except MediaError:
            continue
    if not rows:
        raise InputError(f"{recipe.folder / how.centre}: no {modality} there to take the centre of")
    return np.stack(rows)


def calibration_of(space: EncodingSpace, path: Path, seed: int) -> Calibration:
    """Fit probabilities on validation pairs.

    Args:
        space: Encodes them.
        path: JSON Lines; each line is one thing, as modality -> file (relative to this one's folder) or text.
        seed: Seed of the galleries that are drawn.

    Raises:
        InputError: If a line is not that, a file cannot be decoded, or there are too few pairs to fit anything.
    """
    from embedspace.train.calibrate import Anchored, calibrate

    items: dict[str, list[Any]] = {}
    concepts: dict[str, list[str]] = {}
    for number, row in enumerate(_lines(path), 1):
        concept = str(row.get("concept", number))
        for modality in space.modalities:
            if row.get(modality):
                items.setdefault(modality, []).append(_item(row[modality], modality, path.parent))
                concepts.setdefault(modality, []).append(concept)
    anchored = {
        modality: Anchored(space.encode(found, modality=modality), np.array(concepts[modality], dtype=str))
        for modality, found in items.items()
    }
    made = calibrate(anchored, seed)
    if not made.pairs:
        counted = ", ".join(f"{len(found)} {modality}" for modality, found in items.items()) or "nothing"
        raise InputError(f"{path}: too few pairs to fit probabilities on ({counted}); at least 20 of two modalities")
    return made


def _item(value: object, modality: str, folder: Path) -> Any:  # noqa: ANN401 - a path or a text
    return str(value) if modality == _TEXT else folder / str(value)


def _lines(path: Path) -> list[Mapping[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read the validation pairs: {error}") from None
    if not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f'{path}: each line must be a JSON object, such as {{"text": "a dog", "image": "a.png"}}')
    return rows
