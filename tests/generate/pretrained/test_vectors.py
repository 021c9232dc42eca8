"""What a head of pictures is told, computed by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from embedspace.calibration.model import Calibration
from embedspace.encoders.connectors import Connector, ConnectorConfig
from embedspace.errors import ArgumentError
from embedspace.generate.pretrained.fitting import Way, probes
from embedspace.generate.pretrained.head import Head, head_of
from embedspace.generate.pretrained.vectors import as_pictures, spread_of

DIM = 6


def unit(rows: Any) -> np.ndarray:
    found = np.atleast_2d(np.asarray(rows, np.float32))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def space_with(means: dict[str, np.ndarray]) -> Any:
    texts = unit(np.arange(1, DIM + 1) + np.eye(DIM))
    return SimpleNamespace(
        embed_dim=DIM,
        calibration=Calibration(means),
        supports=lambda modality: modality == "text",
        encode_text=lambda given: texts[np.arange(len(given)) % DIM],
    )


MEAN, STD = torch.tensor([[1.0, 2, 3, 4, 5, 6]]), torch.full((1, DIM), 2.0)
SPREAD = spread_of(MEAN, STD)


def test_a_spread_is_what_mean_and_deviation_say() -> None:
    drawn = (MEAN + STD * torch.randn(200_000, DIM, generator=torch.Generator().manual_seed(0))).numpy()
    assert SPREAD.length == pytest.approx(np.sqrt((drawn**2).sum(axis=1).mean()), rel=0.01)
    assert SPREAD.radius == pytest.approx(np.sqrt(((drawn - MEAN.numpy()) ** 2).sum(axis=1).mean()), rel=0.01)


def test_a_picture_is_brought_to_length_and_all_else_to_where_pictures_lie() -> None:
    text_mean = 0.3 * np.ones(DIM, np.float32)
    space = space_with({"text": text_mean})
    rows = unit(np.random.default_rng(0).standard_normal((4, DIM)))
    rows = np.concatenate([rows, rows[:1]])
    made, how = as_pictures(rows, ["image", "text", "audio", "mixed", "video"], space, Way("clip"), SPREAD)
    assert how == ["picture", "means", "means", "means", "picture"] and np.array_equal(made[0], made[4])
    np.testing.assert_allclose(made[0], SPREAD.length * rows[0], rtol=1e-5)
    for number in (1, 2):  # a connected tower's rows lie where texts lie
        left = unit(rows[number] - text_mean)[0]
        np.testing.assert_allclose(made[number], MEAN[0].numpy() + SPREAD.radius * left, rtol=1e-4)
    np.testing.assert_allclose(made[3], MEAN[0].numpy() + SPREAD.radius * rows[3], rtol=1e-4)


def test_a_space_without_calibration_takes_the_mean_of_its_own_texts() -> None:
    space = space_with({})
    row = unit(np.arange(DIM, 0, -1))
    mean = space.encode_text([""] * 16).mean(axis=0)
    for modality in ("text", "mixed"):  # nothing was taken out of a mixed query either
        made, _ = as_pictures(row, [modality], space, Way("clip"), SPREAD)
        np.testing.assert_allclose(made[0], MEAN[0].numpy() + SPREAD.radius * unit(row - mean)[0], rtol=1e-4)


def test_behind_a_connector_its_target_is_what_is_taken_out() -> None:
    connector = Connector(ConnectorConfig("procrustes", DIM, DIM))
    connector.state_dict()["linear.weight"].copy_(torch.eye(DIM))
    connector.target_centre.fill_(0.2)
    row = unit(np.arange(DIM) - 2)
    made, how = as_pictures(row, ["image"], space_with({}), Way("clip", connector), SPREAD)
    assert how == ["connector"]
    left = unit(unit(row + 0.2) - 0.2)[0]
    np.testing.assert_allclose(made[0], MEAN[0].numpy() + SPREAD.radius * left, rtol=1e-4)


def test_probes_differ() -> None:
    pictures = probes("image")
    assert {one.shape for one in pictures} == {(64, 64, 3)} and len({one.tobytes() for one in pictures}) == 4
    assert len(set(probes("text"))) == 4


def test_options_of_a_head_are_written_as_name_and_value() -> None:
    assert head_of("a:b", ["prior=x=y", "scale=1"]) == Head("a:b", {"prior": "x=y", "scale": "1"})
    assert head_of("a:b", ["scale=1", "prior=x"]).key == head_of("a:b", ["prior=x", "scale=1"]).key
    for given, what in (("prior", "write NAME=VALUE"), ("=x", "write NAME=VALUE"), ("prior=", "write NAME=VALUE")):
        with pytest.raises(ArgumentError, match=f"head_option '{given}': {what}"):
            head_of("a:b", [given])
    with pytest.raises(ArgumentError, match="prior is given twice"):
        head_of("a:b", ["prior=x", "prior=y"])
