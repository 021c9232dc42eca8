"""Many pictures are encoded by onnxruntime: the same rows as torch's, and torch's where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedspace.encoders.base import save_tensors
from embedspace.encoders.shipped import image as shipped
from embedspace.encoders.shipped.image_network import NETWORK_FILE, TunedNetworks
from embedspace.encoders.shipped.image_session import ImageSessions
from embedspace.space import EmbeddingSpace, write_config
from tests.encoders.test_image_network import tuned
from tests.support.spaces import BACKBONES, EMBED_DIM, pictures, write_space

SIZE = 50  # uneven halves: padding at the end only must be TensorFlow's


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An encoder of pictures with all its parts that calls six pictures many."""
    folder = write_space(tmp_path / "space", tail=True)
    save_tensors(TunedNetworks([tuned(BACKBONES[0], 3), tuned(BACKBONES[1], 4)]), folder / NETWORK_FILE)
    sections = dict(EmbeddingSpace.from_pretrained(folder).config["sections"])
    given = {"networks": BACKBONES[:2], "network_size": SIZE, "network_share": 0.5}
    write_config(folder, {**sections, "image": {**sections["image"], **given}}, EMBED_DIM)
    monkeypatch.setattr(shipped, "_MANY", 6)
    return EmbeddingSpace.from_pretrained(folder).encoder("image")


def test_many_pictures_have_the_rows_that_few_have(encoder: Any) -> None:
    prepared = [encoder.prepare(each) for each in pictures(5)]
    few = encoder.encode(prepared)
    for _ in range(2):
        np.testing.assert_array_equal(encoder.encode_query(prepared), few)  # what is searched with opens none
    assert encoder._sessions is None
    for part, rows in ((prepared, few), (prepared[:1], few[:1])):
        np.testing.assert_allclose(encoder.encode(part), rows, atol=1e-5)
        assert isinstance(encoder._sessions, ImageSessions)
    asked: list[torch.Tensor] = []
    encoder._sessions.bodies[1] = lambda x: asked.append(x) or torch.ones(len(x), 1280)
    assert np.abs(encoder.encode(prepared) - few).max() > 0.01 and len(asked) == 1  # it is what they are made by


def test_without_onnx_torch_goes_on(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = [encoder.prepare(each) for each in pictures(2)]
    expected = encoder.encode(prepared)
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr(encoder, "_encoded", 5)
        np.testing.assert_array_equal(encoder.encode(prepared), expected)
        assert encoder._sessions is None
        monkeypatch.undo()


def test_on_another_device_torch_encodes(encoder: Any) -> None:
    encoder._encoded = 5
    encoder.to("meta")._note(1)
    assert encoder._sessions is None
