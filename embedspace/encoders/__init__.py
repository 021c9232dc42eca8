"""One contract, one registry: image, text, audio, speech and other encoders. Torch is loaded with the first of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedspace.encoders.base import Encoder
    from embedspace.encoders.contract import Encoders, MediaEncoder, Piece
    from embedspace.encoders.registry import create_encoder, register_encoder

__all__ = ["Encoder", "Encoders", "MediaEncoder", "Piece", "create_encoder", "register_encoder"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: whatever the submodule defines
    """Import a name on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "registry" if name.endswith("_encoder") else "base" if name == "Encoder" else "contract"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
