from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.train.losses import info_nce, mixup_pairs, siglip, soft_targets


def rows(batch: int, dim: int = 8, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(batch, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def cross_entropy(logits: list[list[float]], targets: list[list[float]]) -> float:
    """Mean over rows of -sum(target * log softmax), in plain arithmetic."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        log_sum = math.log(sum(math.exp(x) for x in row))
        total -= sum(t * (x - log_sum) for x, t in zip(row, target, strict=True) if t)
    return total / len(logits)


def test_info_nce_by_hand() -> None:
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    # cosines [[0.6, 0], [0.8, 1]] at scale 2
    along_a = [[1.2, 0.0], [1.6, 2.0]]
    along_b = [[1.2, 1.6], [0.0, 2.0]]
    identity = [[1.0, 0.0], [0.0, 1.0]]
    expected = (cross_entropy(along_a, identity) + cross_entropy(along_b, identity)) / 2
    assert info_nce(a, b, torch.tensor(2.0)).item() == pytest.approx(expected, abs=1e-6)


def test_info_nce_with_the_identity_as_soft_targets_is_the_plain_loss() -> None:
    a, b, scale = rows(6), rows(6, seed=1), torch.tensor(7.0)
    soft = info_nce(a, b, scale, torch.eye(6), torch.zeros(6, 6, dtype=torch.bool))
    assert soft.item() == pytest.approx(info_nce(a, b, scale).item(), abs=1e-6)


def test_info_nce_soft_targets_and_mask_by_hand() -> None:
    a, b, scale = rows(3), rows(3, seed=1), 3.0
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    ignored = torch.tensor([[False, False, True], [False, False, False], [True, False, False]])
    cosines = (a @ b.T * scale).tolist()
    gone = [[-1e9 if out else x for x, out in zip(*pair, strict=True)] for pair in zip(cosines, ignored, strict=True)]
    columns = [list(c) for c in zip(*targets.tolist(), strict=True)]
    columns = [[t / sum(c) for t in c] for c in columns]  # the other direction's targets sum to one again
    other = [list(c) for c in zip(*gone, strict=True)]
    expected = (cross_entropy(gone, targets.tolist()) + cross_entropy(other, columns)) / 2
    assert info_nce(a, b, torch.tensor(scale), targets, ignored).item() == pytest.approx(expected, abs=1e-5)


def test_info_nce_of_a_left_out_pair_does_not_depend_on_it() -> None:
    a, b = rows(4), rows(4, seed=1)
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    ignored[:3, 3] = ignored[3, :3] = True
    losses = []
    for seed in (2, 3):
        a[3] = b[3] = rows(1, seed=seed)[0]
        losses.append(info_nce(a, b, torch.tensor(5.0), torch.eye(4), ignored).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_soft_targets_mark_the_same_and_leave_out_the_close() -> None:
    similarity = torch.tensor([[1.0, 0.95, 0.8], [0.95, 1.0, 0.1], [0.8, 0.1, 1.0]])
    targets, ignored = soft_targets(similarity, positive_above=0.9, ignore_above=0.75)
    expected = torch.tensor([[1 / 1.95, 0.95 / 1.95, 0.0], [0.95 / 1.95, 1 / 1.95, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(targets, expected)
    assert ignored.tolist() == [[False, False, True], [False, False, False], [True, False, False]]


def test_soft_targets_keep_an_item_its_own_positive() -> None:
    # half precision can leave a unit row's cosine with itself under the threshold
    targets, ignored = soft_targets(torch.full((3, 3), 0.5), positive_above=0.9, ignore_above=0.7)
    torch.testing.assert_close(targets, torch.eye(3))
    assert not ignored.any()


def test_siglip_is_the_papers_pseudo_code() -> None:
    a, b = rows(5), rows(5, seed=1)
    t_prime, bias = torch.tensor(math.log(10.0)), torch.tensor(-10.0)
    # Zhai et al. 2023, algorithm 1
    logits = a @ b.T * t_prime.exp() + bias
    labels = 2 * torch.eye(5) - torch.ones(5, 5)
    expected = -torch.sum(F.logsigmoid(labels * logits)) / 5
    assert siglip(a, b, t_prime.exp(), bias).item() == pytest.approx(expected.item(), rel=1e-6)


def test_siglip_positives_and_mask() -> None:
    a, b = rows(3), rows(3, seed=1)
    positive = torch.eye(3, dtype=torch.bool)
    positive[0, 1] = True
    ignored = torch.zeros(3, 3, dtype=torch.bool)
    ignored[2, 0] = True
    logits = 4.0 * a @ b.T - 1.0
    expected = 0.0
    for i in range(3):
        for k in range(3):
            if not ignored[i, k]:
                expected += math.log1p(math.exp(-logits[i, k].item() * (1 if positive[i, k] else -1)))
    loss = siglip(a, b, torch.tensor(4.0), torch.tensor(-1.0), positive, ignored)
    assert loss.item() == pytest.approx(expected / 3, rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 5)])
def test_mixup_mixes_both_sides_by_the_same_coefficient(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    # one-hot rows: a mixed row shows its own share and its partner's
    text = torch.eye(6)
    features = torch.zeros(shape)
    features[..., 0] = torch.arange(6.0).view(-1, *[1] * (len(shape) - 2))
    mixed, mixed_text = mixup_pairs(features, text, 0.4, generator)
    own = mixed_text.diagonal()
    assert (own >= 0.5).all()
    assert (own < 0.999).any()
    torch.testing.assert_close(mixed_text.sum(dim=1), torch.ones(6))
    # features are a linear function of the one-hot text, so equal coefficients keep that function
    expected = mixed_text @ torch.arange(6.0)
    torch.testing.assert_close(mixed.flatten(1)[:, 0], expected)


def test_mixup_without_alpha_changes_nothing_and_is_repeatable() -> None:
    a, b = rows(4), rows(4, seed=1)
    same = mixup_pairs(a, b, 0.0, torch.Generator())
    assert same[0] is a
    assert same[1] is b
    once, again = (mixup_pairs(a, b, 0.3, torch.Generator().manual_seed(9)) for _ in range(2))
    torch.testing.assert_close(once, again, rtol=0, atol=0)


def _masks() -> tuple[Tensor, Tensor]:
    return soft_targets(rows(6, 2, 7) @ rows(6, 2, 7).T, positive_above=0.9, ignore_above=0.3)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "info_nce": info_nce,
    "info_nce soft": lambda a, b, s: info_nce(a, b, s, *_masks()),
    "siglip": lambda a, b, s: siglip(a, b, s, torch.tensor(-10.0)),
    "siglip soft": lambda a, b, s: siglip(a, b, s, torch.tensor(-10.0), _masks()[0] > 0, _masks()[1]),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_losses_have_finite_gradients(name: str, scale: float) -> None:
    a, b = rows(6).requires_grad_(), rows(6, seed=1).requires_grad_()
    logit_scale = torch.tensor(scale, requires_grad=True)
    loss = LOSSES[name](a, b, logit_scale)
    loss.backward()  # type: ignore[no-untyped-call]
    for leaf in (a, b, logit_scale):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().sum() > 0


def test_losses_gradient_is_right() -> None:
    a, b = (x.double().requires_grad_() for x in (rows(4, 3), rows(4, 3, 1)))
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    ignored[0, 2] = True
    targets = torch.eye(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *x: info_nce(*x, targets, ignored), (a, b, scale))
    assert torch.autograd.gradcheck(lambda *x: siglip(*x, torch.tensor(-2.0), None, ignored), (a, b, scale))
