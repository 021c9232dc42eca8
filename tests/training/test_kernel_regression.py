"""The memory of training sounds: the head, its fit in closed form, the router beside it, which sounds it holds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from embedspace.encoders.projections import KernelProjection, LinearProjection
from embedspace.encoders.quantize import from_rows, to_rows8
from embedspace.encoders.shipped.audio import AudioConfig, AudioProjections
from embedspace.errors import ConfigError
from embedspace.train.batches import CaptionTable, PairSource
from embedspace.train.kernel_regression import KernelItems, fit_regression
from training.align.recipe import AudioRecipe, Recipe, load_recipe
from training.align.stages.audio import training_rows
from training.align.stages.memory import memory_items
from training.align.stages.router import take_router


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def items(count: int = 30, width: int = 12, views: Tensor | None = None, item: Tensor | None = None) -> KernelItems:
    weights = torch.rand(count) + 0.5
    return KernelItems(
        torch.randn(count, width) * 3 + 1,
        F.normalize(torch.randn(count, 6), dim=1),
        weights / weights.mean(),
        torch.empty(0, width) if views is None else views,
        torch.empty(0, dtype=torch.long) if item is None else item,
    )


def test_fit_regression_is_kernel_ridge_regression() -> None:
    given = items()
    head = fit_regression(given, 12, bandwidth=1.5, ridge=0.3)
    x = ((given.plain - given.plain.mean(0)) / (given.plain.std(0) + 1e-2)).clamp(-5, 5)
    u = F.normalize(x, dim=1).double()  # all directions are kept, so the cosine is that of the features
    kernel = torch.exp(1.5 * (u @ u.T - 1))
    centre = (given.weights[:, None] * given.targets).sum(0) / given.weights.sum()
    expected = torch.linalg.solve(
        kernel + 0.3 * torch.diag(1 / given.weights.double()), (given.targets - centre).double()
    )
    read = F.normalize(kernel @ expected, dim=1).float()
    out = head(given.plain, torch.zeros(30, 6))
    torch.testing.assert_close(out, read, atol=1e-3, rtol=0)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(30))


def test_fit_regression_makes_up_for_the_rounding_of_what_is_stored() -> None:
    given = items(count=300, width=64)  # large enough to be stored as 8-bit rows
    head = fit_regression(given, 64, bandwidth=4.0, ridge=0.1)
    written = to_rows8({f"memory.{name}": tensor for name, tensor in head.state_dict().items()})
    assert written["memory.keys"].dtype == torch.int8
    stored = {name.removeprefix("memory."): tensor for name, tensor in from_rows(written).items()}
    for name in ("basis", "keys"):
        rounded = from_rows(to_rows8({name: getattr(head, name)}))[name]
        torch.testing.assert_close(rounded.float(), getattr(head, name), atol=1e-6, rtol=0)
    again = fit_regression(given, 64, bandwidth=4.0, ridge=0.1)
    again.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    prior = torch.zeros(300, 6)
    assert (head(given.plain, prior) * again(given.plain, prior)).sum(dim=1).min() > 0.9999


def test_fit_regression_with_views_that_change_nothing_is_the_same() -> None:
    alone = items()
    doubled = dataclasses.replace(alone, views=alone.plain.clone(), item=torch.arange(30))
    first, second = fit_regression(alone, 8), fit_regression(doubled, 8)
    torch.testing.assert_close(first.values, second.values, atol=1e-3, rtol=1e-3)


def test_fit_regression_learns_from_views() -> None:
    alone = items()
    moved = alone.plain + torch.randn_like(alone.plain) * 2
    seen = fit_regression(dataclasses.replace(alone, views=moved, item=torch.arange(30)), 12)
    unseen = fit_regression(alone, 12)
    prior = torch.zeros(30, 6)
    hits = [(head(moved, prior) * alone.targets).sum(dim=1).mean() for head in (seen, unseen)]
    assert hits[0] > hits[1]


def test_memory_head_knows_again_what_it_holds_and_leans_on_the_prior_by_its_share() -> None:
    given = items()
    head = fit_regression(given, 12, bandwidth=20.0, ridge=1e-4)
    prior = F.normalize(torch.randn(30, 6), dim=1)
    near = (head(given.plain, prior) @ given.targets.T).argmax(dim=1)
    assert near.tolist() == list(range(30))
    head.prior_share = 100.0
    torch.testing.assert_close(head(given.plain, prior), prior, atol=0.02, rtol=0)


def test_memory_head_does_not_depend_on_the_batch_and_limits_wild_features() -> None:
    head = fit_regression(items(), 8)
    x, prior = torch.randn(5, 12), torch.zeros(5, 6)
    torch.testing.assert_close(head(x, prior)[2:3], head(x[2:3], prior[2:3]))
    wild = x.clone()
    wild[0, 0] = 1e6
    assert torch.isfinite(head(wild, prior)).all()
    wild[0, 0] = 1e9
    kept = head(wild, prior)[0]
    wild[0, 0] = 1e6
    torch.testing.assert_close(head(wild, prior)[0], kept)


def test_fit_regression_keeps_no_more_directions_than_there_are() -> None:
    head = fit_regression(items(count=5, width=12), 64)
    assert head.basis.shape == (5, 12)
    assert isinstance(head, KernelProjection)


def test_memory_items_aim_at_captions_and_balance_concepts() -> None:
    table = CaptionTable({"a": 0, "b": 1, "c": 2}, F.normalize(torch.randn(3, 8), dim=1).numpy())
    features = np.arange(5 * 6, dtype=np.float16).reshape(5, 6)
    captions = [np.array([0]), np.array([0, 1]), np.array([2])]
    views = np.array([[0, 3], [1, 4], [2, 2]])  # the third item has one view only
    text = LinearProjection(8, 4, 0).eval()
    found = memory_items([PairSource("s", features, views, captions)], table, text, 4, 1.0)
    assert found.plain.shape == (3, 4)
    assert found.item.tolist() == [0, 1]
    np.testing.assert_array_equal(found.views.numpy(), features[[3, 4], :4].astype(np.float32))
    # captions a, a, c: each concept weighs the same in all
    torch.testing.assert_close(found.weights, torch.tensor([0.75, 0.75, 1.5]))
    with torch.inference_mode():
        words = text(torch.from_numpy(table.features))
    torch.testing.assert_close(found.targets[1], F.normalize(words[0] + (words[0] + words[1]) / 2, dim=0))


def config(members: int, memory: int) -> AudioConfig:
    return AudioConfig(("a", "b"), 12, 6, 8, members, 7, memory_items=memory, memory_dim=4 if memory else 0)


def test_take_router_answers_as_before_whatever_standardises_the_features() -> None:
    given, heads = AudioProjections(config(1, 0)), AudioProjections(config(0, 5))
    assert heads.memory is not None
    given.members[0].mean.copy_(torch.randn(12))  # type: ignore[union-attr, operator]
    given.members[0].scale.copy_(torch.rand(12) + 0.5)  # type: ignore[union-attr, operator]
    heads.memory.mean.copy_(torch.randn(12))
    heads.memory.scale.copy_(torch.rand(12) + 0.5)
    take_router(given, heads)
    features = torch.randn(9, 12) * 3
    torch.testing.assert_close(heads.speech_probability(features), given.speech_probability(features))


def test_take_router_refuses_other_features() -> None:
    other = AudioProjections(dataclasses.replace(config(1, 0), feature_dim=13))
    with pytest.raises(ConfigError, match="reads 13 features, these heads 12"):
        take_router(other, AudioProjections(config(0, 5)))


def test_audio_heads_mix_by_share() -> None:
    heads = AudioProjections(dataclasses.replace(config(2, 5), memory_share=3.0))
    a, b, c = (F.normalize(torch.randn(1, 6), dim=1) for _ in range(3))
    torch.testing.assert_close(heads.mix([a, b], c), F.normalize(a + b + 3 * c, dim=1))
    torch.testing.assert_close(heads.mix([], c), c)


def test_training_rows_leave_out_a_source_and_copies_of_its_recordings(tmp_path: Path) -> None:
    rows = [
        {"id": "a/1", "source": "a", "group": "g", "concept": "dog", "captions": ["a dog"]},
        {"id": "b/1", "source": "b", "group": "g", "concept": "dog", "captions": ["a dog"]},
        {"id": "b/2", "source": "b", "concept": "cat", "captions": ["a cat", "cat"]},
        {"id": "b/3", "source": "b", "concept": "cat", "captions": ["a cat"], "split": "test"},
    ]
    (tmp_path / "sounds").mkdir()
    lines = (json.dumps({"modality": "audio", **row}) for row in rows)
    (tmp_path / "sounds/manifest.jsonl").write_text("\n".join(lines), "utf-8")
    recipe = Recipe("x", corpora=str(tmp_path), audio=AudioRecipe(exclude=("a",)))
    kept = training_rows(recipe, "sounds")
    assert [row["id"] for row in kept] == ["b/2"]
    assert kept[0]["captions"] == ["a cat", "cat"]
    everything = training_rows(Recipe("x", corpora=str(tmp_path)), "sounds")
    assert [row["id"] for row in everything] == ["a/1", "b/1", "b/2"]
    assert everything[0]["captions"] == ["a dog", "dog"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("members = 0", "neither trained heads nor a memory"),
        ("keep_router = true", "set start to a space's folder"),
        ('loss = "hinge"', r"\[audio\]: loss must be one of infonce, siglip, got 'hinge'"),
    ],
)
def test_load_recipe_refuses_audio_that_cannot_be(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f"[audio]\n{lines}\n", "utf-8")
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)
