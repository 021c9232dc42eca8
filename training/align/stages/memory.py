"""What the memory of sounds is fitted on: items of sources, aimed at what the text head makes of their captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from embedspace.encoders.projections import LinearProjection
from embedspace.train.batches import CaptionTable, PairSource
from embedspace.train.kernel_regression import KernelItems, aimed_at

__all__ = ["memory_items"]


@torch.no_grad()
def memory_items(
    sources: Sequence[PairSource], captions: CaptionTable, text: LinearProjection, width: int, balance: float
) -> KernelItems:
    """Collect the items of some sources, aimed at what the text head makes of their captions.

    Args:
        sources: None of them empty.
        captions: The table that the sources' caption rows point into.
        text: The space's text head.
        width: How many of the sources' columns are features; class scores may follow.
        balance: An item whose best caption n items share weighs n to the power of minus this.
    """
    rows = [caption for source in sources for caption in source.captions]
    known, where = np.unique(np.concatenate(rows), return_inverse=True)
    vectors = text(torch.from_numpy(np.asarray(captions.features[known], np.float32)))
    parts = torch.split(vectors[torch.from_numpy(where)], [len(row) for row in rows])
    targets = aimed_at(parts)
    _, same, count = np.unique([row[0] for row in rows], return_inverse=True, return_counts=True)
    weights = torch.from_numpy(count[same].astype(np.float32) ** -balance)
    plain = np.concatenate([s.features[s.views[:, 0], :width] for s in sources]).astype(np.float32)
    views, item, start = [plain[:0]], [np.empty(0, np.int64)], 0
    for source in sources:
        for column in source.views.T[1:]:
            new = column != source.views[:, 0]  # an item with fewer views repeats them
            views.append(source.features[column[new], :width].astype(np.float32))
            item.append(start + np.flatnonzero(new))
        start += len(source.views)
    return KernelItems(
        torch.from_numpy(plain),
        targets,
        weights / weights.mean(),
        torch.from_numpy(np.concatenate(views)),
        torch.from_numpy(np.concatenate(item)),
    )
