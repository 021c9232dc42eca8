from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.encoders.projections import AttentionPoolProjection, LinearProjection, MLPProjection, ensemble_normalize


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def check_unit(rows: Tensor, shape: tuple[int, int]) -> None:
    assert rows.shape == shape
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(shape[0]))


@pytest.mark.parametrize("hidden_dim", [0, 16])
def test_text_head_gives_unit_rows(hidden_dim: int) -> None:
    head = LinearProjection(12, 8, hidden_dim).eval()
    check_unit(head(F.normalize(torch.randn(5, 12), dim=1)), (5, 8))


def test_text_head_begins_as_a_rotation() -> None:
    head = LinearProjection(8, 8, 16).eval()
    x = F.normalize(torch.randn(6, 8), dim=1)
    torch.testing.assert_close(head(x) @ head(x).T, x @ x.T)


def test_mlp_head_gives_unit_rows() -> None:
    check_unit(MLPProjection(12, 8, 16).eval()(torch.randn(5, 12)), (5, 8))


def test_mlp_head_takes_a_prior_and_goes_with_it_when_it_is_strong() -> None:
    head = MLPProjection(12, 8, 16, with_prior=True).eval()
    prior = F.normalize(torch.randn(5, 8), dim=1)
    features = torch.randn(5, 12)
    check_unit(head(features, prior), (5, 8))
    assert not torch.allclose(head(features, prior), head(features, prior.flip(0)))
    assert head.prior_gain is not None
    head.prior_gain.data.fill_(1e4)
    torch.testing.assert_close(head(features, prior), prior, atol=1e-3, rtol=0)


def test_mlp_head_standardises_its_features() -> None:
    head = MLPProjection(3, 4, 8).eval()
    x = torch.randn(5, 3)
    expected = head(x)
    head.mean.copy_(torch.tensor([10.0, -5.0, 0.0]))
    head.scale.copy_(torch.tensor([0.5, 2.0, 1.0]))
    torch.testing.assert_close(head(x / head.scale + head.mean), expected, atol=1e-5, rtol=1e-5)
    assert "mean" in head.state_dict()


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 50])
@pytest.mark.parametrize("stack", [1, 2, 3])
def test_attention_pool_takes_any_length(frames: int, stack: int) -> None:
    head = AttentionPoolProjection(12, 8, 16, num_heads=2, stack=stack).eval()
    check_unit(head(torch.randn(3, frames, 12)), (3, 8))


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_attention_pool_does_not_depend_on_padding(frames: int, num_layers: int) -> None:
    head = AttentionPoolProjection(12, 8, 16, num_layers, num_heads=2).eval()
    clip = torch.randn(1, frames, 12)
    alone = head(clip)
    for total in (frames, frames + 1, frames + 2, 23):
        batch = torch.randn(2, total, 12) * 100  # what stands in the padding must not matter
        batch[0, :frames] = clip[0]
        padding = torch.zeros(2, total, dtype=torch.bool)
        padding[0, frames:] = True
        torch.testing.assert_close(head(batch, padding)[:1], alone, atol=1e-5, rtol=0)


def test_attention_pool_in_inference_mode_equals_its_training_path() -> None:
    head = AttentionPoolProjection(12, 8, 16, num_heads=2).eval()
    batch = torch.randn(2, 9, 12)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 4:] = True
    expected = head(batch, padding)
    with torch.inference_mode():  # torch has another code path here, without gradients
        torch.testing.assert_close(head(batch, padding), expected.detach(), atol=1e-5, rtol=0)


def test_attention_pool_hears_the_order() -> None:
    head = AttentionPoolProjection(12, 8, 16, num_heads=2, stack=2).eval()
    clip = torch.randn(1, 8, 12)
    swapped = clip[:, [1, 0, *range(2, 8)]]  # within a stack
    assert not torch.allclose(head(clip), head(swapped), atol=1e-4)


def test_ensemble_is_the_unit_mean_of_unit_rows() -> None:
    a, b = torch.tensor([[10.0, 0.0]]), torch.tensor([[0.0, 0.1]])
    torch.testing.assert_close(ensemble_normalize([a, b]), torch.full((1, 2), 0.5**0.5))
    torch.testing.assert_close(ensemble_normalize([a]), torch.tensor([[1.0, 0.0]]))
