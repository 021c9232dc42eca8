"""How a space comes to be: from a folder, from a preset, composed of towers, or from modules in memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from embedspace.calibration.model import Calibration
from embedspace.errors import InputError, UnknownModalityError, WeightsError
from embedspace.modality import is_modality, modality_names
from embedspace.space.config import DEFAULT_WEIGHTS, FORMAT, read_config
from embedspace.space.encoding import EncodingSpace
from embedspace.space.save import save_space

if TYPE_CHECKING:
    from embedspace.space.recipe import ComposeRecipe

try:
    import fcntl
except ImportError:  # Windows: two processes may compose the same at once, and both serve
    fcntl = None  # type: ignore[assignment]

__all__ = ["compose_space", "open_space", "preset_names", "space_of_towers"]

Space = TypeVar("Space", bound=EncodingSpace)

PRESETS = Path(__file__).resolve().parents[1] / "spaces"
"""Composed spaces that the package knows by name, one TOML file each."""

DEFAULT = "default"
"""What the space that ships is called, where no folder has this name."""


def preset_names() -> list[str]:
    """Return the names of the composed spaces that the package knows."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def open_space(cls: type[Space], name_or_path: str | Path | None, device: str, *, download: bool) -> Space:
    """Open a folder or a preset; see `EmbeddingSpace.from_pretrained`."""
    if name_or_path == DEFAULT and not Path(DEFAULT).exists():
        name_or_path = None
    folder = DEFAULT_WEIGHTS if name_or_path is None else Path(name_or_path)
    if isinstance(name_or_path, str) and not folder.exists() and name_or_path in preset_names():
        return _open_preset(cls, name_or_path, device, download=download)
    config = read_config(folder)
    stored = folder / "calibration.json"
    try:
        calibration = Calibration.from_json(stored.read_text("utf-8")) if stored.is_file() else Calibration()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{stored}: cannot read the calibration: {error}") from error
    space = cls(folder, config, calibration, device)
    space._download = download
    return space


def _open_preset(cls: type[Space], name: str, device: str, *, download: bool) -> Space:
    """Open what an earlier call composed and kept, or compose it now: connectors are fitted once."""
    recipe = PRESETS / f"{name}.toml"
    digest = hashlib.sha256(recipe.read_bytes()).hexdigest()[:16]
    kept = _cache() / f"{name}-{digest}"
    if not (kept / "config.json").is_file():
        with _composing(kept.parent, name) as may_keep:
            if not (kept / "config.json").is_file():  # nobody composed it while this process waited
                space = compose_space(cls, recipe, device, download=download)
                if may_keep:
                    _keep(space, kept, name)
                return space
    return open_space(cls, kept, device, download=download)


def _keep(space: EncodingSpace, kept: Path, name: str) -> None:
    """Save a composed space under its final name at once, or, where that cannot be written, not at all."""
    partial = kept.parent / f".{name}.partial"
    try:
        partial.mkdir()
        save_space(space, partial, copy_towers=False)
        partial.replace(kept)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _composing(folder: Path, name: str) -> Iterator[bool]:
    """Compose a preset in one process at a time; what a killed one left half-written is removed.

    Yields:
        Whether the result can be kept: not where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{name}.lock").open("a")
    except OSError:
        yield False
        return
    with lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel gives it back when a process is killed
            shutil.rmtree(folder / f".{name}.partial", ignore_errors=True)
        yield True


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedspace" / "spaces"


def compose_space(
    cls: type[Space],
    source: ComposeRecipe | Mapping[str, Any] | str | Path,
    device: str,
    *,
    download: bool,
    told: Callable[[str], None] | None = None,
) -> Space:
    """Compose a space; see `EmbeddingSpace.compose`. It lives in a temporary folder until it is saved."""
    from embedspace.space.compose import calibration_of, compose_into
    from embedspace.space.recipe import read_recipe

    recipe = read_recipe(source)
    keeper = _Temporary()
    towers = compose_into(recipe, keeper.folder, download=download, device=device, told=told)
    space = cls(keeper.folder, read_config(keeper.folder), Calibration(), device)
    space._towers, space._kept, space._download = towers, keeper, download
    if recipe.calibration is not None:
        if told is not None:
            told("fit probabilities on the validation pairs")
        space.calibration = calibration_of(space, recipe.folder / recipe.calibration.pairs, recipe.seed)
    return space


class _Temporary:
    """A folder that goes when nobody holds this any more."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="embedspace-"))
        self._gone = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def space_of_towers(cls: type[Space], given: Mapping[str, Any], calibration: Calibration | None, device: str) -> Space:
    """Make a space of modules in memory; see `EmbeddingSpace.from_towers`."""
    from embedspace.space.live import live_towers

    unknown = [name for name in given if not is_modality(name)]
    if unknown:
        raise UnknownModalityError(f"unknown modality {', '.join(unknown)}; known: {', '.join(modality_names())}")
    if not given:
        raise InputError("from_towers needs at least one tower, such as text=my_module")
    towers = live_towers(given)
    config = {
        "format": FORMAT,
        "embed_dim": next(iter(towers.values())).feature_dim(next(iter(towers))),
        "sections": {modality: {"type": "tower", "tower": modality} for modality in towers},
        "files": {},
        "towers": {modality: tower.reference() for modality, tower in towers.items()},
    }
    space = cls(Path("<modules in memory>"), config, calibration or Calibration(), device)
    space._towers = dict(towers)
    return space
