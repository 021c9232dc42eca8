"""The loss that pictures' networks are tuned by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training.finetune.contrast import drawn_captions, loss_among_all


def units(count: int, seed: int) -> Tensor:
    return functional.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_loss_among_all_is_cross_entropy_over_own_and_distant_captions() -> None:
    pictures, rows, features = units(3, 1), units(3, 2), units(3, 3)
    all_rows, all_features = units(5, 4), units(5, 5)
    all_features[2] = features[0]  # says what the first says: no counterexample of it
    scale = torch.tensor(4.0)
    found = loss_among_all(pictures, (features, rows), (all_features, all_rows), scale)
    among = []
    for row, (picture, own) in enumerate(zip(pictures, rows, strict=True)):
        others = [caption for number, caption in enumerate(all_rows) if features[row] @ all_features[number] <= 0.9]
        logits = scale * torch.stack([own, *others]) @ picture
        among.append(functional.cross_entropy(logits[None], torch.tensor([0])))
    within = scale * pictures @ rows.T
    diagonal = torch.arange(3)
    both = (functional.cross_entropy(within, diagonal) + functional.cross_entropy(within.T, diagonal)) / 2
    assert found.item() == pytest.approx((torch.stack(among).mean() + both).item(), abs=1e-5)
    assert len(others) == 5  # only the first has a caption that does not count


def test_drawn_captions_are_the_items_own_and_mostly_the_first() -> None:
    captions = [[3, 4, 5]] * 2000
    drawn = np.asarray(drawn_captions(captions, np.random.default_rng(0)))
    assert set(drawn.tolist()) == {3, 4, 5}
    assert (drawn == 3).mean() == pytest.approx(0.8, abs=0.04)  # 0.7, and a third of the rest
