from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from embedspace.encoders.base import save_tensors
from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.shipped.image_network import (
    NETWORK_FILE,
    TunedNetwork,
    TunedNetworks,
    load_network,
    load_networks,
)
from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite
from embedspace.errors import InputError, WeightsError
from embedspace.media.pixels import cropped
from embedspace.space import EmbeddingSpace, write_config
from tests.support.spaces import BACKBONES, EMBED_DIM, check_rows, pictures, write_space

SIZE = 64


def tuned(backbone: str, seed: int) -> TunedNetwork:
    torch.manual_seed(seed)
    shape = create_backbone(backbone)
    assert isinstance(shape, EfficientNetLite)
    return TunedNetwork(shape, EMBED_DIM, SIZE).eval()


def write_network(folder: Path) -> TunedNetwork:
    network = tuned(BACKBONES[0], 3)
    save_tensors(network, folder / NETWORK_FILE)
    return network


def with_networks(folder: Path, share: float) -> EmbeddingSpace:
    save_tensors(TunedNetworks([tuned(BACKBONES[0], 3), tuned(BACKBONES[1], 4)]), folder / NETWORK_FILE)
    sections = dict(EmbeddingSpace.from_pretrained(folder).config["sections"])
    given = {"networks": BACKBONES[:2], "network_size": SIZE, "network_share": share}
    write_config(folder, {**sections, "image": {**sections["image"], **given}}, EMBED_DIM)
    return EmbeddingSpace.from_pretrained(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_space(tmp_path / "space")


def test_what_was_written_is_what_is_loaded(tmp_path: Path) -> None:
    network = write_network(tmp_path)
    again = load_network(BACKBONES[0], EMBED_DIM, SIZE, tmp_path)
    x = torch.stack([again.preprocess(np.asarray(picture)) for picture in pictures(5)])
    assert x.shape == (5, 3, SIZE, SIZE)
    rows = again.encode(x)
    assert torch.allclose(rows.norm(dim=1), torch.ones(5), atol=1e-5)
    assert (rows * network.encode(x)).sum(dim=1).min() > 0.99  # 8-bit rows
    # five pictures go through in two chunks; neither changes the other
    assert torch.allclose(rows[4:], again.encode(x[4:]), atol=1e-5)


def test_the_share_goes_from_the_heads_to_the_networks(folder: Path) -> None:
    heads = EmbeddingSpace.from_pretrained(folder).encode_image(pictures(3))
    np.testing.assert_allclose(with_networks(folder, 0.0).encode_image(pictures(3)), heads, atol=1e-5)
    both, alone = (with_networks(folder, share).encode_image(pictures(3)) for share in (0.5, 1.0))
    check_rows(both, 3)
    networks = load_networks(BACKBONES[:2], EMBED_DIM, SIZE, folder)
    x = torch.stack([networks.preprocess(np.asarray(picture)) for picture in pictures(3)])
    x = x.half().float()  # as pixels travel
    np.testing.assert_allclose(alone, networks.encode(x).numpy(), atol=1e-5)
    one, other = (member.encode(x) for member in networks.members)
    assert (one - other).abs().max() > 0.01
    np.testing.assert_allclose(alone, torch.nn.functional.normalize(one + other, dim=1).numpy(), atol=1e-5)
    mean = heads + alone
    np.testing.assert_allclose(both, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)


def test_the_network_is_part_of_the_fingerprint_and_must_be_there(folder: Path, tmp_path: Path) -> None:
    before = EmbeddingSpace.from_pretrained(Path(shutil.copytree(folder, tmp_path / "before"))).fingerprints()
    space = with_networks(folder, 0.4)
    assert {m for m, digest in space.fingerprints().items() if before[m] != digest} == {"image"}
    (folder / NETWORK_FILE).unlink()
    with pytest.raises(WeightsError, match=r"image_network\.safetensors: no such weights"):
        EmbeddingSpace.from_pretrained(folder).encode_image(pictures(1))


def test_networks_read_a_picture_as_they_read_its_pixels_and_nothing_copies_it() -> None:
    network = create_backbone(BACKBONES[0])
    assert isinstance(network, EfficientNetLite)
    for picture in pictures(3):
        assert cropped(picture) is picture
        assert torch.equal(network.preprocess(picture), network.preprocess(crop_to_content(picture)))
    with pytest.raises(InputError, match="an image must be RGB, got L; convert it first"):
        network.preprocess(pictures(1)[0].convert("L"))
