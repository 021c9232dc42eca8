from __future__ import annotations

import torch

from embedspace.train.ranks import recall_scalars, target_ranks

SCORES = torch.tensor([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.2, 0.2, 0.2]])


def test_target_ranks_count_from_one_and_ties_against() -> None:
    assert target_ranks(SCORES, torch.tensor([0, 1, 0])).tolist() == [1, 3, 3]


def test_recall_scalars_of_a_collapsed_model_are_not_perfect() -> None:
    scalars = recall_scalars(SCORES, torch.tensor([0, 2, 1]), ks=(1, 2, 3))
    assert [round(scalars[f"recall_at_{k}"], 3) for k in (1, 2, 3)] == [0.333, 0.667, 1.0]
    assert set(recall_scalars(SCORES, torch.tensor([0, 2, 1]))) == {"recall_at_1", "recall_at_10"}
