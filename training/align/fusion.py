"""How much of an encoder's second way goes into its vectors: chosen where neither way trained."""

from __future__ import annotations

import torch
from torch import Tensor

from embedspace.encoders.projections import fuse
from embedspace.train.ranks import target_ranks

__all__ = ["SHARES", "choose_share"]

SHARES = tuple(k / 10 for k in range(11))


def choose_share(first: Tensor, second: Tensor, captions: Tensor, targets: Tensor) -> tuple[float, list[float]]:
    """Return the second way's share with the best mean reciprocal rank, and the rank of every one of `SHARES`.

    Args:
        first: (N, D) unit rows of the heads.
        second: (N, D) unit rows of the recogniser or the tuned network; where it says nothing, the heads'.
        captions: (M, D) unit rows.
        targets: (N,) each item's caption among them.
    """
    found = []
    for share in SHARES:
        scores = fuse(first, second, share) @ captions.T
        found.append(float((1 / target_ranks(scores, targets).double()).mean()))
    return SHARES[int(torch.tensor(found).argmax())], found
