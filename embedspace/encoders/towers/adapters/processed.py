"""What the adapters of Hugging Face's libraries share: batches of processed items, windows and sizes of processors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from embedspace.encoders.towers.base import TowerRequest
from embedspace.errors import ConfigError

__all__ = ["encode_processed", "longest_window", "picture_side"]

_WINDOW_SECONDS = 10.0
"""Taken where neither the model nor the configuration says how long a stretch of sound may be."""


def encode_processed(
    items: Sequence[Mapping[str, Any]], run: Callable[[Mapping[str, Any]], torch.Tensor]
) -> torch.Tensor:
    """Encode items that a processor prepared one by one; those of equal shapes go together, without any padding.

    Args:
        items: What the processor made of each item, every tensor with a batch axis of its own.
        run: Takes the features of a batch, returns its rows.
    """
    groups: dict[Any, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(_shape(item), []).append(index)
    rows: list[torch.Tensor] = []
    order: list[int] = []
    for members in groups.values():
        rows.append(run(_joined([items[index] for index in members])))
        order += members
    together = torch.cat(rows)
    return together[torch.tensor(order, device=together.device).argsort()]


def _shape(item: Mapping[str, Any]) -> Any:  # noqa: ANN401
    return tuple(
        (key, tuple(value.shape) if torch.is_tensor(value) else repr(value)) for key, value in sorted(item.items())
    )


def _joined(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = items[0]
    return {
        key: torch.cat([item[key] for item in items]) if torch.is_tensor(value) else value
        for key, value in first.items()
    }


def longest_window(request: TowerRequest, sound: Any) -> float:  # noqa: ANN401 - a processor
    """Return how many seconds of sound a tower takes at once.

    Args:
        request: Its option `window_seconds` may shorten the model's own.
        sound: The model's processor of waveforms.

    Raises:
        ConfigError: If the option is longer than what the model takes: it would cut, some models at random.
    """
    rate = float(sound.sampling_rate)
    samples = getattr(sound, "nb_max_samples", None) or getattr(sound, "n_samples", None)
    own = float(samples) / rate if samples else None
    wanted = request.options.get("window_seconds")
    if wanted is None:
        return own or _WINDOW_SECONDS
    if not 0 < float(wanted) <= (own or float("inf")):
        raise ConfigError(
            f"tower {request.reference!r}: window_seconds {wanted!r}, the model takes above 0 to {own or 'any'} s"
        )
    return float(wanted)


def picture_side(picture: Any) -> int | None:  # noqa: ANN401 - a processor
    """Return the shortest side in pixels that a processor of pictures makes use of; None if it does not say."""
    sizes = [getattr(picture, name, None) for name in ("crop_size", "size")]
    numbers: list[int] = []
    for size in sizes:
        if isinstance(size, int):
            numbers.append(size)
        elif size is not None:
            found = dict(size) if isinstance(size, Mapping) else vars(size)
            numbers += [int(v) for k, v in found.items() if k in ("height", "width", "shortest_edge") and v]
    return max(numbers, default=None)
