"""One contract, one registry: image, text, audio and speech encoders on frozen backbones."""

from __future__ import annotations

from embedspace.encoders.base import Encoder, Piece, create_encoder, register_encoder

__all__ = ["Encoder", "Piece", "create_encoder", "register_encoder"]
