"""Encoders that are modules of torch, and how weights are read and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from embedspace.encoders.contract import MediaEncoder
from embedspace.encoders.quantize import from_rows, to_rows8
from embedspace.encoders.sizes import make_checked
from embedspace.errors import WeightsError
from embedspace.files import replacing
from embedspace.media.source import one_line

__all__ = ["Encoder", "load_module", "load_strict", "save_tensors", "to_rows"]

Made = TypeVar("Made", bound=nn.Module)
Part = TypeVar("Part")


class Encoder(nn.Module, MediaEncoder):
    """An encoder that is a module of torch; see `MediaEncoder` for what it promises."""

    may_halve = True

    def on_device(self, device: str) -> Encoder:
        """Move it to a device, in evaluation mode."""
        return self.to(device).eval()

    def map_parts(self, encode: Callable[[list[Any]], Part], parts: Sequence[list[Any]]) -> list[Part]:
        """Return what `encode` makes of each part: on the processor in as many threads as torch would use in one part.

        Networks as small as these gain little from several threads per product, and where another program takes a core,
        each product waits for the thread that was held up: four times as long, with both cores of a shared machine.
        """
        if self.halved:
            encode = self._in_half(encode)
        first = next(self.parameters(), None)
        count = torch.get_num_threads() if first is None or first.device.type == "cpu" else 1
        if count < 2 or len(parts) < 2:
            return super().map_parts(encode, parts)
        try:
            with ThreadPoolExecutor(count, "encode", initializer=torch.set_num_threads, initargs=(1,)) as threads:
                return list(threads.map(encode, parts))
        finally:
            torch.set_num_threads(count)  # of threads to come: those above have told torch that one is enough

    def _in_half(self, encode: Callable[[list[Any]], Part]) -> Callable[[list[Any]], Part]:
        """Return what encodes in bfloat16 where torch's autocast does so; per call, as threads do not inherit it."""
        first = next(self.parameters(), None)
        kind = "cpu" if first is None else first.device.type

        def within(part: list[Any]) -> Part:
            with torch.autocast(kind, dtype=torch.bfloat16):
                return encode(part)

        return within


def load_module(make: Callable[[], Made], path: Path) -> Made:
    """Make a module and load its file into it, frozen; what a configuration asks for beyond the file is refused first.

    Args:
        make: Makes it, with arbitrary weights.
        path: Its safetensors file.

    Raises:
        WeightsError: As `make_checked` and `load_strict`.
    """
    module = make_checked(make, path)
    load_strict(module, path)
    return module


def load_strict(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into a module, cast to float32, every tensor accounted for.

    Raises:
        WeightsError: If the file is missing, corrupt, or holds other tensors than the module.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights; name a folder that EmbeddingSpace.save wrote")
    try:
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in from_rows(load_file(path)).items()}
        module.load_state_dict(tensors, strict=True, assign=True)
    except (SafetensorError, RuntimeError, KeyError, OSError) as error:
        raise WeightsError(
            f"{path}: these weights do not fit the configuration beside them: {one_line(error)}"
        ) from error
    module.requires_grad_(False).eval()


def save_tensors(
    module: nn.Module, path: Path, pack: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = to_rows8
) -> None:
    """Write a module's tensors to a safetensors file, atomically: as `pack` stores them, by default in 8-bit rows."""
    tensors = {k: v.clone() for k, v in pack({k: v.detach() for k, v in module.state_dict().items()}).items()}
    with replacing(path) as partial:
        save_file(tensors, partial)
        partial.chmod(0o644)


def to_rows(vectors: torch.Tensor) -> NDArray[np.float32]:
    """Return a tensor of unit rows (N, embed_dim) on any device as a float32 array of the same shape.

    Rows of another precision have norms that are off by some thousandths: they are made unit again.
    """
    if vectors.dtype != torch.float32:
        vectors = nn.functional.normalize(vectors.float(), dim=-1)
    rows: NDArray[np.float32] = vectors.detach().cpu().numpy()
    return rows
