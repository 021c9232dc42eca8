"""Vectors and metadata as they are stored, and the digest that ties an item to them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError

__all__ = ["metadata_json", "segments_digest", "unit_halves"]

_NORM_TOLERANCE = 1e-2


def segments_digest(content_id: str, rows: Iterable[tuple[Any, ...]]) -> bytes:
    """Return the digest that ties an item to its segments and vectors.

    Args:
        content_id: Id of the item.
        rows: (modality, start, end, text, label, vector bytes) in order.
    """
    digest = hashlib.blake2b(content_id.encode(), digest_size=16)
    for modality, start, end, text, label, vector in rows:
        digest.update(json.dumps([modality, start, end, text, label]).encode())
        digest.update(vector)
    return digest.digest()


def unit_halves(rows: NDArray[Any]) -> tuple[NDArray[np.float16], dict[int, float]]:
    """Return rows as they are stored, and which of them cannot be.

    Args:
        rows: (N, embed_dim) of any type of float.

    Returns:
        (N, embed_dim) float16 unit rows, and row -> norm of those whose norm is not 1, or no number.
    """
    matrix = np.ascontiguousarray(rows, dtype=np.float32)
    with np.errstate(all="ignore"):  # what is not finite is named, not warned of
        norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
        halves = (matrix / norms[:, None]).astype("<f2")
    wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= _NORM_TOLERANCE))  # written so that NaN is refused too
    return halves, {int(row): float(norms[row]) for row in wrong}


def metadata_json(metadata: Mapping[str, Any], uri: str = "") -> str:
    """Return metadata as JSON; NaN is left out, as it says nothing.

    Args:
        metadata: Name -> value.
        uri: Place of its item, for the message; without one what is infinite is left out, too.

    Raises:
        InputError: If a number is infinite.
    """
    try:
        return json.dumps(dict(metadata), ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # of a thousand items none has such a number, so that looking for them would be wasted
        return json.dumps(_finite(dict(metadata), uri, ""), ensure_ascii=False, default=str, allow_nan=False)


def _finite(value: Any, uri: str, name: str) -> Any:  # noqa: ANN401
    """Return a value of JSON with `None` for numbers that JSON has not; members of an object are left out."""
    if isinstance(value, Mapping):
        members = {key: _finite(one, uri, f"{name}.{key}" if name else str(key)) for key, one in value.items()}
        return {key: one for key, one in members.items() if one is not None or value[key] is None}
    if isinstance(value, (list, tuple)):
        return [_finite(one, uri, name) for one in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    if uri and math.isinf(value):
        raise InputError(f"{uri}: metadata {name!r} is {value}; give a finite number, or leave it out")
    return None
