"""Compare what a configuration asks for with what its weights file holds, before any of it is allocated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from embedspace.encoders.quantize import is_scale, unpacked_numel
from embedspace.errors import WeightsError
from embedspace.media.source import one_line

__all__ = ["make_checked", "no_more_than"]

Made = TypeVar("Made", bound=nn.Module)
_SLACK_TENSORS, _SLACK_NUMBERS = 64, 1 << 20
"""Beyond what the file holds: tensors that are not stored, and those that are used twice."""


class _TooMuchError(Exception):
    """A module registers more than its file can fill."""


class _Unfilled(TorchFunctionMode):
    """Draws no numbers for tensors without memory: torch would import its compiler for that, four seconds of it.

    The compiler also asks for the name of the user, which one in a container need not have.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - whatever torch's functions return
        """Leave out what fills such a tensor with normal numbers."""
        given = kwargs or {}
        if func in (torch.Tensor.normal_, nn.init.normal_):
            tensor = args[0] if args else given["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **given)


def make_checked(make: Callable[[], Made], path: Path) -> Made:
    """Make a module whose weights lie in a file, after doing so without memory to see that they can fit.

    Args:
        make: Makes it, with arbitrary weights.
        path: Its safetensors file; only the header is read.

    Raises:
        WeightsError: If the file is missing or corrupt, or the module is larger than what is in it.
    """
    with no_more_than(path), torch.device("meta"), _Unfilled():
        make()
    return make()


@contextmanager
def no_more_than(path: Path) -> Iterator[None]:
    """Within this context this thread makes no modules with more tensors, or larger ones, than a file holds.

    Raises:
        WeightsError: If the file is missing or corrupt, or a module is larger.
    """
    tensors, numbers = _held(path)
    here = threading.get_ident()
    count = total = 0

    def register(module: nn.Module, name: str, value: torch.Tensor | None) -> None:
        nonlocal count, total
        if value is None or threading.get_ident() != here:
            return
        count, total = count + 1, total + value.numel()
        if count > 2 * tensors + _SLACK_TENSORS or total > 2 * numbers + _SLACK_NUMBERS:
            raise _TooMuchError

    hooks = (
        register_module_parameter_registration_hook(register),
        register_module_buffer_registration_hook(register),
    )
    try:
        yield
    except _TooMuchError:
        raise WeightsError(
            f"{path}: holds {tensors:,} tensors with {numbers:,} numbers; the configuration beside it asks for more: "
            "restore config.json as training wrote it"
        ) from None
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # a size that no tensor can have
        raise WeightsError(
            f"{path}: the configuration beside these weights asks for what cannot be made ({one_line(error)}); "
            "restore config.json as training wrote it"
        ) from None
    finally:
        for hook in hooks:
            hook.remove()


def _held(path: Path) -> tuple[int, int]:
    """Return how many tensors a safetensors file holds, and how many numbers are in them."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights; name a folder that EmbeddingSpace.save wrote")
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: corrupt weights, do not fit the configuration beside them: {one_line(error)}; copy it again"
        ) from error
    names = [name for name in shapes if not is_scale(name)]
    return len(names), sum(unpacked_numel(name, shapes) for name in names)
