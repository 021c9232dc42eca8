"""The frozen networks that ship with the package: where their files lie, what is in one, and who holds them already.

No torch: what reads a file with it says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from embedspace.errors import WeightsError

__all__ = ["WEIGHTS", "open_backbone", "shared_backbones", "shared_now"]

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "backbones"
"""Where the weights that ship with the package lie, one `<name>.safetensors` a backbone."""

_SHARED: ContextVar[dict[str, Any] | None] = ContextVar("_SHARED", default=None)


@contextmanager
def shared_backbones(made: dict[str, Any]) -> Iterator[None]:
    """Within this context `create_backbone` gives what is in `made` instead of making it again, and adds what it makes.

    Args:
        made: Name -> network with the weights that ship. Its users hold the same network: what moves it to a device
            moves it for all.
    """
    token = _SHARED.set(made)
    try:
        yield
    finally:
        _SHARED.reset(token)


def shared_now() -> dict[str, Any] | None:
    """Return what the innermost `shared_backbones` around the caller was given; None outside of one."""
    return _SHARED.get()


@contextmanager
def open_backbone(name: str, path: Path | None, framework: str) -> Iterator[tuple[Any, dict[str, Any], Path]]:
    """Open one backbone's file, mapped into memory.

    Args:
        name: Name of the backbone, which the file must carry.
        path: The file; None is the shipped one.
        framework: Whose tensors it gives: "pt" or "np".

    Yields:
        The open file of safetensors, which may be kept; the backbone's configuration; the path.

    Raises:
        WeightsError: If there is no such file, it is corrupt, or it holds another backbone; within the block as well,
            where a tensor cannot be read.
    """
    path = path or WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise WeightsError(
            f"{path}: no weights for backbone {name!r} there; install them with: pip install embedspace-weights"
        )
    try:
        file: Any = safe_open(path, framework=framework)
        about = json.loads((file.metadata() or {})["embedspace"])
        found, config = about["backbone"], dict(about["config"])
    except (SafetensorError, OSError) as error:
        raise _corrupt(path, error) from error
    except (KeyError, ValueError, TypeError):
        raise WeightsError(
            f"{path}: no backbone's configuration in it; install it anew with: pip install embedspace-weights"
        ) from None
    if found != name:
        raise WeightsError(f"{path}: holds backbone {found!r}, not {name!r}")
    try:
        yield file, config, path
    except (SafetensorError, OSError) as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path}: corrupt weights: {error}; copy or convert the file again")
