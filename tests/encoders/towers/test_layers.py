"""Rows of more than the last layer: which modules, in which order, pooled how, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embedspace.encoders.tower import TowerEncoder
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite
from embedspace.encoders.towers.registry import create_tower
from embedspace.errors import ConfigError
from tests.support import tiny_towers

assert tiny_towers.COLOURS  # registers "tiny:"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def test_rows_are_the_towers_own_and_then_its_layers() -> None:
    tower = create_tower("efficientnet_lite0", options={"layers": ["stages.2", "classifier"]})
    network = create_backbone("efficientnet_lite0")
    assert isinstance(network, EfficientNetLite)
    prepared = [tower.prepare("image", picture(seed)) for seed in range(5)]  # the network runs four at once
    rows = tower.encode("image", prepared)
    out = network(torch.stack(prepared))
    assert rows.shape == (5, tower.feature_dim("image"))
    torch.testing.assert_close(rows, torch.cat([out.pooled, out.middle[0], out.logits], dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(tower.encode("image", prepared[3:4]), rows[3:4], atol=1e-5, rtol=0)
    assert tower.encode("image", []).shape == (0, tower.feature_dim("image"))


def test_layers_make_another_tower_for_a_space() -> None:
    plain = create_tower("tiny:1", options={"modalities": ["image"]})
    one = create_tower("tiny:1", options={"modalities": ["image"], "layers": ["image.1"]})
    same = create_tower("tiny:1", options={"modalities": ["image"], "layers": ["networks.image.1"]})
    assert len({plain.digest, one.digest, same.digest}) == 3
    given = [one.prepare("image", picture(0))]
    torch.testing.assert_close(one.encode("image", given)[:, :16], plain.encode("image", given))
    torch.testing.assert_close(one.encode("image", given), same.encode("image", given))
    assert TowerEncoder(one, "image").min_side == 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modalities": ["image"], "layers": ["image.9"]}, "'image.9' names none of its modules; the last are"),
        ({"modalities": ["text", "image"], "layers": ["0"]}, "used for text, image; write modalities"),
        ({"layers": ["image.1"]}, "used for text, image; write modalities"),
    ],
)
def test_layers_that_cannot_be_are_refused(options: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create_tower("tiny:1", options=options)


def test_a_name_of_several_modules_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"layer 'project' names several of its modules: .*stages\.0\.0\.project"):
        create_tower("efficientnet_lite0", options={"layers": ["project"]})


def test_a_layer_that_does_not_run_once_per_picture_is_refused() -> None:
    class Twice(tiny_towers.TinyTower):
        def encode(self, modality: str, prepared: object, *, role: str = "document") -> torch.Tensor:
            super().encode(modality, prepared)  # type: ignore[arg-type]
            return super().encode(modality, prepared)  # type: ignore[arg-type]

    from embedspace.encoders.towers.base import TowerRequest
    from embedspace.encoders.towers.layers import LayeredTower

    request = TowerRequest("tiny:1", "1", Path(), options={"modalities": ["image"]})
    with pytest.raises(ConfigError, match="gave 2 rows for 1 pictures"):
        LayeredTower(Twice(request), ["image.1"])
