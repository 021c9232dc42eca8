"""The one place where the command line gets its embedding space; tests replace `load_space`."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from embedspace.errors import InputError

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["keep_space", "kept_spaces", "load_set_space", "load_space", "quick_start"]

_KEPT: dict[tuple[str, str, bool], EmbeddingSpace] = {}
"""Spaces that this process keeps open for the commands that it runs."""
_keeping = False
"""Whether every space that is opened is kept."""


def load_space(name: str | Path | None = None, device: str = "cpu", download: bool = False) -> EmbeddingSpace:
    """Return the space of a folder, a TOML file or a preset; the shipped one for None and for "default".

    Of a folder only configuration and calibration are read: an encoder's weights load when it is first used.

    Raises:
        ArgumentError: If there is no such device.
        InputError: If there is nothing of this name.
        WeightsError: If the weights are missing or damaged, or would have to be downloaded.
    """
    if (kept := _KEPT.get(_key(name, device, download))) is not None:
        return kept
    space = _opened(name, device, download)
    if _keeping:
        _KEPT[_key(name, device, download)] = space
    return space


def load_set_space(
    name: str | Path | None = None,
    device: str = "cpu",
    download: bool = False,
    recogniser: bool = True,
    half: bool = False,
) -> EmbeddingSpace:
    """Return the space as `load_space`, with its recogniser of speech or without, in full precision or in half.

    Raises:
        ConfigError: If there is no recogniser that could be left out.
        InputError: As `load_space`.
        WeightsError: As `load_space`.
    """
    space = load_space(name, device, download)
    space = space if recogniser else space.without_recogniser()
    return space.in_half_precision() if half else space


def _opened(name: str | Path | None, device: str, download: bool) -> EmbeddingSpace:
    from embedspace.space import EmbeddingSpace
    from embedspace.space.devices import require_device

    require_device(device)
    if name is not None and Path(name).suffix == ".toml":
        return EmbeddingSpace.compose(name, device=device, download=download)
    if name is not None and not Path(name).exists():
        from embedspace.space.open import DEFAULT, preset_names

        known = [DEFAULT, *preset_names()]
        if str(name) not in known:
            raise InputError(f"--space {name}: no such folder, and no space of this name; known: {', '.join(known)}")
    return EmbeddingSpace.from_pretrained(name, device=device, download=download)


def keep_space(name: str | Path | None = None, device: str = "cpu", download: bool = False) -> EmbeddingSpace:
    """Return a space as `load_space`, which gives the same one from now on; its encoder of words is loaded.

    Raises:
        InputError: As `load_space`.
        WeightsError: As `load_space`.
    """
    space = load_space(name, device, download)
    if space.supports("text"):
        space.encode_query([{"text": "a first text"}])
    _KEPT[_key(name, device, download)] = space
    return space


@contextlib.contextmanager
def kept_spaces() -> Iterator[None]:
    """Keep open, within this context, what a command opens: the commands after it share its networks."""
    global _keeping
    before, earlier = _keeping, dict(_KEPT)
    _keeping = True
    try:
        yield
    finally:
        _keeping = before
        _KEPT.clear()
        _KEPT.update(earlier)


def _key(name: str | Path | None, device: str, download: bool) -> tuple[str, str, bool]:
    """Return what tells spaces apart, wherever the process stands."""
    place = "" if name is None else os.path.abspath(name) if Path(name).exists() else str(name)
    return place, device, download


@contextlib.contextmanager
def quick_start(*, words_only: bool) -> Iterator[None]:
    """Save start-up time around the first use of the space.

    Args:
        words_only: Only short texts are encoded, which do not repay the start of a thread pool.
    """
    threads = os.environ.get("OMP_NUM_THREADS")
    if words_only and threads is None:
        os.environ["OMP_NUM_THREADS"] = "1"  # read once, when torch is loaded
    collecting = gc.isenabled()
    gc.disable()  # importing torch makes a million objects that all stay: looking for garbage among them takes 0.15 s
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        if words_only and threads is None:
            del os.environ["OMP_NUM_THREADS"]
