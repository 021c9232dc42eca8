"""Where the files of a tower are: a folder on this machine, or a repository of the Hugging Face hub.

Nothing is downloaded unless the request allows it. What a hub holds is first brought into the hub's own cache, then
read from there as any folder is, so that one code path serves both.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedspace.encoders.towers.base import Tower, TowerRequest
from embedspace.errors import ConfigError, InputError, MissingExtraError, UnknownModalityError, WeightsError
from embedspace.media.source import one_line

__all__ = [
    "WEIGHTS",
    "chosen_modalities",
    "find_folder",
    "hub_folder",
    "library",
    "loading",
    "model_files",
    "offline",
    "plain",
    "require_length",
    "require_picture",
]

WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
_BESIDE = (".json", ".txt", ".model", ".spm", ".jinja")
_OTHER_RUNTIMES = ("onnx", "openvino", "coreml", "tf", "flax")
_LOCK = threading.RLock()
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MISSING = re.compile(r"^\s*(\S+)\s*\|\s*MISSING", re.MULTILINE)


def library(name: str, extra: str, label: str, load: Callable[[], Any]) -> Any:  # noqa: ANN401 - a module
    """Import an optional library.

    Args:
        name: Name for people.
        extra: Extra of embedspace that installs it.
        label: What needs it, for the message.
        load: Imports it.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return load()
    except ImportError as error:
        raise MissingExtraError(f"{label} needs {name} ({one_line(error)}): pip install embedspace[{extra}]") from error


@contextmanager
def offline(wanted: bool) -> Iterator[None]:
    """Within this context the Hugging Face libraries reach no network, whatever they try.

    They read the switch at every request; it holds for the process, so loading is done by one thread at a time.
    """
    if not wanted:
        yield
        return
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    with _LOCK:
        before = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


@contextmanager
def loading(request: TowerRequest, what: str) -> Iterator[None]:
    """Turn whatever a library raises while it loads into one line, and weights that it would make up into an error.

    Args:
        request: What was asked for; without `download` the network stays out of reach.
        what: Library and place, for the message.

    Raises:
        WeightsError: If the library fails, or starts a part of the network from random numbers.
    """
    report = _LoadReport()
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.addFilter(report)
    logger.setLevel(logging.WARNING - 1)  # at WARNING itself the library prints a list of layers
    try:
        with offline(not request.download), _without_bars():
            yield
    except (ConfigError, WeightsError, MissingExtraError, InputError):
        raise
    except Exception as error:  # the libraries raise many kinds: of the hub, of torch, their own
        raise WeightsError(f"{request.label}: {what}: {one_line(error)}") from error
    finally:
        logger.removeFilter(report)
        logger.setLevel(level)
    if report.missing:
        more = f" and {len(report.missing) - 3} more" if len(report.missing) > 3 else ""
        raise WeightsError(
            f"{request.label}: {what}: weights are missing: {', '.join(report.missing[:3])}{more}; "
            "the library would start them from random numbers"
        )


@contextmanager
def _without_bars() -> Iterator[None]:
    """Within this context transformers draws no progress bar: only the command line draws."""
    bars: Any = sys.modules.get("transformers.utils.logging")
    drawn = bars is not None and bars.is_progress_bar_enabled()
    if drawn:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            bars.enable_progress_bar()


class _LoadReport(logging.Filter):
    """Reads what transformers only remarks on: parameters that no file held."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the names of missing parameters; the report itself is not shown."""
        text = _COLOURS.sub("", record.getMessage())
        if "LOAD REPORT" not in text:
            return True
        found = _MISSING.findall(text)
        self.missing += [name for name in found if not name.startswith("pooler.")]  # which no embedder makes use of
        return False


def find_folder(request: TowerRequest, place: str) -> tuple[Path, str | None]:
    """Return the folder of a model and, if it is from the hub, its revision.

    Args:
        request: What was asked for.
        place: A folder, relative to the request's, or the name of a hub's repository.

    Raises:
        WeightsError: If there is neither, or it would have to be downloaded.
    """
    own = Path(place).expanduser()
    own = own if request.folder is None or own.is_absolute() else request.folder / own
    if own.is_dir():
        return own, None
    if own.exists() or place.startswith((".", "/", "~")) or place.count("/") > 1:
        raise WeightsError(f"{request.label}: there is no folder {own}")
    return hub_folder(request, place)


def hub_folder(request: TowerRequest, name: str, *, weights: bool = True) -> tuple[Path, str | None]:
    """Return the folder in which the hub's cache keeps a repository, and its commit.

    Args:
        request: What was asked for; its option `revision` picks a branch, tag or commit.
        name: "organisation/model".
        weights: False leaves the weights out: only the tokenizer is wanted.

    Raises:
        WeightsError: If it is not on this machine and may not be downloaded, or cannot be.
    """
    hub = library("huggingface_hub", "hub", request.label, lambda: importlib.import_module("huggingface_hub"))
    revision = request.options.get("revision")
    if not request.download:
        try:
            found = Path(hub.snapshot_download(name, revision=revision, local_files_only=True))
        except Exception as error:
            raise WeightsError(
                f"{request.label}: {name} is not on this machine, and nothing is downloaded unless asked; "
                "allow it with download=True (--download), or name a local folder"
            ) from error
        return found, found.name
    try:
        about = hub.HfApi().repo_info(name, revision=revision)
        names = _wanted([file.rfilename for file in about.siblings or ()], weights=weights)
        found = Path(hub.snapshot_download(name, revision=about.sha, allow_patterns=names))
    except Exception as error:  # of the network, of the hub
        raise WeightsError(f"{request.label}: {name} could not be downloaded: {one_line(error)}") from error
    return found, about.sha


def _wanted(names: Sequence[str], *, weights: bool) -> list[str]:
    """Return the files of a repository that a model in torch is read from; safetensors make pickles unnecessary."""
    safe = {name.rpartition("/")[0] for name in names if name.endswith(".safetensors")}
    kept = []
    for name in names:
        folder, suffix = name.rpartition("/")[0], Path(name).suffix
        if folder.split("/")[0] in _OTHER_RUNTIMES:
            continue
        pickled = suffix in WEIGHTS and suffix != ".safetensors" and folder in safe
        if suffix in _BESIDE or (weights and suffix in WEIGHTS and not pickled):
            kept.append(name)
    return kept


def model_files(folder: Path) -> dict[str, Path]:
    """Return name -> file of all that decides a model's vectors: weights, configuration, tokenizer."""
    names = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return {name: folder / name for name in _wanted(names, weights=True)}


def chosen_modalities(request: TowerRequest, offered: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities that a tower serves: the option `modalities`, or all that it offers.

    "speech" may be asked of any tower that takes sound.

    Raises:
        UnknownModalityError: If one is asked for that it does not take.
    """
    wanted = request.options.get("modalities")
    if wanted is None:
        return tuple(offered)
    able = {*offered, *(["speech"] if "audio" in offered else []), *(["audio"] if "speech" in offered else [])}
    lacking = [name for name in wanted if name not in able]
    if lacking:
        raise UnknownModalityError(
            f"{request.label} takes no {', '.join(lacking)}; it takes: {', '.join(offered) or 'nothing'}"
        )
    return tuple(wanted)


def require_length(tower: Tower, text: str, count: int) -> None:
    """Refuse a text that the network would cut without a word.

    Raises:
        InputError: If it takes more than `max_tokens`.
    """
    if tower.max_tokens is not None and count > tower.max_tokens:
        raise InputError(
            f"tower {tower.name!r} reads {tower.max_tokens} tokens, {text[:40]!r}… takes {count}: cut it into passages"
        )


def require_picture(media: Any) -> Any:  # noqa: ANN401 - an array or a PIL image
    """Return an RGB PIL image of an (H, W, 3) uint8 array or an image.

    Raises:
        InputError: If it is neither.
    """
    import numpy as np
    from PIL import Image

    if isinstance(media, Image.Image):
        if media.mode != "RGB":
            raise InputError(f"a picture must be RGB, got {media.mode}; convert it first")
        return media
    array = np.asarray(media)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        raise InputError(f"a picture must be (H, W, 3) uint8, got {array.shape} {array.dtype}")
    return Image.fromarray(array)


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever a configuration holds
    """Return a library's configuration as JSON has it; what JSON has not becomes its text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
