from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from embedspace.encoders.base import load_strict, save_tensors
from embedspace.encoders.quantize import from_rows, to_rows8
from embedspace.errors import WeightsError


def large(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    layer = nn.Linear(160, 128)
    layer.weight.data *= torch.logspace(-3, 3, 128)[:, None]  # rows of very different size
    return layer


def test_rows_come_back_within_half_a_step_of_their_own_scale() -> None:
    weight = large().weight.detach()
    stored = to_rows8({"w": weight})
    assert stored["w"].dtype == torch.int8
    back = from_rows(stored)
    assert set(back) == {"w"}
    assert back["w"].dtype == torch.float32
    assert ((back["w"] - weight).abs() <= weight.abs().amax(dim=1, keepdim=True) / 254 * 1.001).all()


def test_rows_of_zeros_stay_zero() -> None:
    assert not from_rows(to_rows8({"w": torch.zeros(200, 200)}))["w"].any()


def test_small_and_whole_tensors_are_no_rows() -> None:
    tensors = {
        "vector": torch.randn(99_999),
        "small": torch.randn(4, 4),
        "filter": torch.randn(64, 64, 9),
        "words.scale": torch.rand(99_999),
        "ids": torch.arange(40_000).view(200, 200),
    }
    stored = to_rows8(tensors)
    assert set(stored) == set(tensors)
    assert {k: v.dtype for k, v in stored.items()} == {
        "vector": torch.float16, "small": torch.float16, "filter": torch.float16, "words.scale": torch.float32,
        "ids": torch.int64,
    }  # fmt: skip
    assert torch.equal(from_rows(stored)["ids"], tensors["ids"])


def test_a_kernel_has_one_row_for_each_output_channel() -> None:
    torch.manual_seed(0)
    kernel = torch.randn(64, 64, 3, 3) * torch.logspace(-2, 2, 64).view(-1, 1, 1, 1)
    stored = to_rows8({"kernel": kernel})
    assert stored["kernel.row_scale"].shape == (64,)
    error = (from_rows(stored)["kernel"] - kernel).abs().amax(dim=(1, 2, 3))
    assert (error <= kernel.abs().amax(dim=(1, 2, 3)) / 254 * 1.001).all()


def test_rows_of_rows_are_the_same_rows() -> None:
    once = from_rows(to_rows8({"w": large().weight.detach()}))["w"]
    again = from_rows(to_rows8({"w": once}))["w"]
    torch.testing.assert_close(once, again, rtol=1e-5, atol=0)


def test_save_and_load_a_module(tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    saved, loaded = large(), large(1)
    save_tensors(saved, path)
    load_strict(loaded, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_size < 1.3 * saved.weight.numel()
    x = torch.randn(5, 160)
    torch.testing.assert_close(loaded(x), saved(x).detach(), rtol=0.05, atol=0.05 * float(saved(x).detach().std()))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("change", ["lost rows", "lost scales", "other"])
def test_load_refuses_rows_that_do_not_fit(tmp_path: Path, change: str) -> None:
    path = tmp_path / "layer.safetensors"
    save_tensors(large(), path)
    tensors = load_file(path)
    if change == "other":
        tensors["more"] = torch.zeros(1)
    else:
        del tensors["weight" if change == "lost rows" else "weight.row_scale"]
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"layer\.safetensors: these weights do not fit"):
        load_strict(large(), path)
