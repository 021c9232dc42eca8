"""The embedding space: media in, `(N, embed_dim)` unit rows out."""

from __future__ import annotations

from embedspace.space.config import DEFAULT_WEIGHTS, write_config
from embedspace.space.space import EmbeddingSpace

__all__ = ["DEFAULT_WEIGHTS", "EmbeddingSpace", "write_config"]
