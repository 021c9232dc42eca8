"""How much of the recognised words goes into a speech vector: chosen where the head did not train."""

from __future__ import annotations

import torch
from torch import Tensor

from embedspace.encoders.speech import fuse

__all__ = ["SHARES", "choose_share"]

SHARES = tuple(k / 10 for k in range(11))


def choose_share(pooled: Tensor, recognised: Tensor, captions: Tensor, targets: Tensor) -> tuple[float, list[float]]:
    """Return the share of the recogniser with the best mean reciprocal rank, and the rank of every one of `SHARES`.

    Args:
        pooled: (N, D) unit rows of the head.
        recognised: (N, D) unit rows of what was recognised; where nothing was, the head's.
        captions: (M, D) unit rows.
        targets: (N,) each clip's caption among them.
    """
    found = []
    for share in SHARES:
        scores = fuse(pooled, recognised, share) @ captions.T
        rank = (scores >= scores.gather(1, targets[:, None])).sum(dim=1)
        found.append(float((1 / rank.double()).mean()))
    return SHARES[int(torch.tensor(found).argmax())], found
