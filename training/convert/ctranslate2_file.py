"""Read the tensors of a CTranslate2 `model.bin` (binary version 6) without CTranslate2.

Source: https://github.com/OpenNMT/CTranslate2/blob/master/python/ctranslate2/specs/model_spec.py (`_serialize`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["read_tensors"]

_VERSION = 6
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)


@dataclass(slots=True)
class _Reader:
    buffer: bytes
    at: int = 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from(f"<{kind}", self.buffer, self.at)
        self.at += struct.calcsize(kind)
        return int(value)

    def string(self) -> str:
        size = self.number("H")  # with its final zero
        self.at += size
        return self.buffer[self.at - size : self.at - 1].decode()


def read_tensors(buffer: bytes) -> dict[str, torch.Tensor]:
    """Return every tensor of the file, aliases resolved.

    Args:
        buffer: The whole file.

    Raises:
        ValueError: If the file has another version or an unknown type.
    """
    reader = _Reader(buffer)
    version = reader.number("I")
    if version != _VERSION:
        raise ValueError(f"CTranslate2 binary version {version}, only {_VERSION} is known")
    reader.string()  # name of the specification
    reader.number("I")  # its revision
    tensors = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        kind, size = reader.number("B"), reader.number("I")
        if kind >= len(_TYPES):
            raise ValueError(f"{name}: unknown type {kind}")
        array = np.frombuffer(buffer, _TYPES[kind], size // np.dtype(_TYPES[kind]).itemsize, reader.at).reshape(shape)
        reader.at += size
        tensors[name] = torch.from_numpy(array.copy())
    for _ in range(reader.number("I")):
        alias = reader.string()
        tensors[alias] = tensors[reader.string()]
    return tensors
