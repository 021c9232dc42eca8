"""An encoder whose process is killed once, in the middle of a shard: what Ray has to make good."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

from embedspace.segment import Decoded, Segment
from tests.support.catalog_encoder import HashEncoder

__all__ = ["dying"]


class DyingEncoder(HashEncoder):
    """Dies at its first batch unless somebody did before."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        (self.folder / f"pid-{os.getpid()}").touch()
        try:
            os.close(os.open(self.folder / "died", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return super().encode_decoded(items)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def dying(folder: Path) -> functools.partial[HashEncoder]:
    """Return what opens an encoder that dies once."""
    return functools.partial(DyingEncoder, folder)
