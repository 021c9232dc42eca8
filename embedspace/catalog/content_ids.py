"""The id of an item is a hash of its content: what is known is recognised wherever it lies."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from embedspace.catalog.places import open_regular
from embedspace.catalog.records import CatalogItem

__all__ = ["CONTENT_ID", "content_hash", "content_id", "file_hash"]

CONTENT_ID = re.compile(r"[0-9a-f]{32}")
"""What an id looks like."""


def file_hash(path: str | Path, kind: str) -> str:
    """Return the content id of a file: BLAKE2b-128 of its kind and bytes, in hex.

    Raises:
        OSError: If it cannot be read, or is not a regular file.
    """
    digest = hashlib.blake2b(f"{kind}\0".encode(), digest_size=16)
    buffer = bytearray(1 << 18)
    view = memoryview(buffer)
    with open_regular(path) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def content_hash(content: str | Mapping[str, str] | bytes, kind: str) -> str:
    """Return the content id of what a row of a manifest holds itself."""
    raw = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=True).encode()
    return hashlib.blake2b(f"{kind}\0".encode() + raw, digest_size=16).hexdigest()


def content_id(item: CatalogItem) -> str:
    """Return the id of an item: its content hash, made of the segments where the caller gave none."""
    if CONTENT_ID.fullmatch(item.content_hash):
        return item.content_hash
    digest = hashlib.blake2b(f"{item.kind}\0{item.content_hash}\0".encode(), digest_size=16)
    if not item.content_hash:
        for segment in item.segments:
            digest.update(f"{segment.modality}\0{segment.text}\0{segment.label}\0".encode("utf-8", "replace"))
            digest.update(np.asarray(segment.vector, "<f4").tobytes())
    return digest.hexdigest()
