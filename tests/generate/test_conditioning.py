from __future__ import annotations

import numpy as np
import pytest
import torch

from embedspace.calibration.centring import centre
from embedspace.errors import InputError
from embedspace.generate.conditioning import Condition, add_noise, noise_for_cosine, normal


def test_centre_takes_each_modality_mean_out() -> None:
    means = {"image": np.array([1.0, 0.0], np.float32)}
    rows = centre(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), ["image", "mixed"], means)
    np.testing.assert_allclose(rows, [[0.0, 1.0], [0.6, 0.8]], atol=1e-6)


@pytest.mark.parametrize(
    ("vectors", "names", "what"),
    [
        ([[1.0, 0.0]], "smell", "unknown modality smell"),
        ([[1.0, 0.0]], ["text", "text"], "1 vectors and 2 modalities"),
        ([[0.0, 0.0]], "text", "zero or not a number"),
        ([[np.nan, 0.0]], "text", "zero or not a number"),
    ],
)
def test_centre_refuses(vectors: list[list[float]], names: str | list[str], what: str) -> None:
    with pytest.raises(InputError, match=what):
        centre(np.array(vectors, np.float32), names, {})


def test_add_noise_has_the_size_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.nn.functional.normalize(torch.randn(4000, 256, generator=generator), dim=1)
    for cosine in (0.4, 0.8):
        noisy = add_noise(clean, torch.full((4000,), noise_for_cosine(cosine)), generator)
        assert float((clean * noisy).sum(dim=1).mean()) == pytest.approx(cosine, abs=0.01)


def test_dropped_condition_holds_nothing() -> None:
    condition = Condition(torch.ones(2, 3), torch.ones(2), torch.ones(2, 1, 4, 2, 2))
    dropped = condition.dropped()
    assert not dropped.vector.any() and not dropped.sigma.any()
    assert dropped.context is not None and not dropped.context.any()
    half = condition.drop_rows(torch.tensor([True, False]))
    assert not half.vector[0].any() and half.vector[1].all()
    assert half.context is not None and not half.context[0].any() and half.context[1].all()


def test_normal_gives_a_sample_the_same_noise_in_any_batch() -> None:
    def noise(seeds: list[int]) -> torch.Tensor:
        return normal((3, 2), [torch.Generator().manual_seed(seed) for seed in seeds])

    assert torch.equal(noise([1, 2, 3])[2], noise([3])[0])
    assert not torch.equal(noise([1, 2])[0], noise([1, 2])[1])
