"""Where the right answer stands among all: for validation while training, and for choices made by it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["recall_scalars", "target_ranks"]


def target_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the rank of each row's target from 1, (N,); ties count against it, as in `embedspace.evaluate`.

    Args:
        scores: (N, M), higher is closer.
        targets: (N,) each row's right column.
    """
    return (scores >= scores.gather(1, targets[:, None])).sum(dim=1)


def recall_scalars(scores: Tensor, targets: Tensor, ks: Sequence[int] = (1, 10)) -> dict[str, float]:
    """Return "recall_at_k" for each k, as a progress callback is told them; other arguments as `target_ranks`."""
    ranks = target_ranks(scores, targets)
    return {f"recall_at_{k}": float((ranks <= k).float().mean()) for k in ks}
