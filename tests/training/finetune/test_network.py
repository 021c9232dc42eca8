"""The views that the network trains on; what it learns is measured, see training/LOG.md."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from training.finetune.network import STORED, _square, augment, plain


def half_red(count: int) -> torch.Tensor:
    """Opaque pictures, red on the left, blue on the right: (count, 4, 64, 64)."""
    pixels = torch.zeros(count, 4, 64, 64)
    pixels[:, 0, :, :32], pixels[:, 2, :, 32:], pixels[:, 3] = 1, 1, 1
    return pixels


def test_views_are_the_generators_and_in_range() -> None:
    pixels, mirrored = half_red(8), torch.ones(8, dtype=torch.bool)
    views = [augment(pixels, mirrored, 32, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert views[0].shape == (8, 3, 32, 32)
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert 0 <= float(views[0].min()) <= float(views[0].max()) <= 1


def test_only_pictures_without_sides_are_mirrored() -> None:
    generator = torch.Generator().manual_seed(0)
    for mirrored in (False, True):
        views = augment(half_red(200), torch.full((200,), mirrored), 32, generator)
        middle = views[:, :, 12:20]
        redder_left = (middle[:, 0, :, 8:14] - middle[:, 2, :, 8:14]).mean(dim=(1, 2)) > (
            middle[:, 0, :, 18:24] - middle[:, 2, :, 18:24]
        ).mean(dim=(1, 2))
        share = float(redder_left.float().mean())
        assert 0.35 < share < 0.65 if mirrored else share > 0.88  # a tenth loses its colours and tells nothing


def test_a_picture_is_cut_to_its_content_and_lies_on_white() -> None:
    image = Image.new("RGBA", (100, 60), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (40, 20, 60, 30))  # 20 x 10
    square = _square(image)
    assert square.shape == (STORED, STORED, 4)
    assert tuple(square[STORED // 2, STORED // 2]) == (255, 0, 0, 255)
    assert not square[: STORED // 5].any()  # it is twice as wide as high
    shown = plain(torch.from_numpy(square)[None].permute(0, 3, 1, 2).float() / 255, 80)
    assert shown.shape == (1, 3, 80, 80)
    np.testing.assert_allclose(shown[0, :, 2, 40].numpy(), 1, atol=1e-5)
    np.testing.assert_allclose(shown[0, :, 40, 40].numpy(), [1, 0, 0], atol=1e-5)
