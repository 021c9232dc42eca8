"""The contract of a tower, on the networks that ship and on one registered from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedspace.encoders.towers import Tower, TowerRequest, create_tower, register_tower, registry, require_same
from embedspace.errors import ConfigError, InputError, UnknownModalityError, WeightsError


def sound(seconds: float, rate: int = 16_000) -> np.ndarray[Any, np.dtype[np.float32]]:
    t = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (200 * t + 300 * t * t))).astype(np.float32)


def picture(width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8)


ITEMS: dict[str, tuple[str, list[Any]]] = {
    "minilm_l6": ("text", ["a dog", "a much longer sentence about a barking dog in the park", ""]),
    "efficientnet_lite0": ("image", [picture(40, 60), picture(300, 200)]),
    "yamnet": ("audio", [sound(0.5), sound(3.0)]),
    "whisper_base": ("speech", [sound(0.5), sound(3.0)]),
}


@pytest.mark.parametrize("name", ITEMS)
def test_bundled_tower_rows_do_not_depend_on_the_batch(name: str) -> None:
    modality, media = ITEMS[name]
    tower = create_tower(name)
    assert (tower.name, tower.modalities) == (name, (modality,))
    prepared = [tower.prepare(modality, item) for item in media]
    together = tower.encode(modality, prepared)
    assert together.shape == (len(media), tower.feature_dim(modality))
    assert together.dtype == torch.float32 and not together.requires_grad
    for row, item in zip(together, prepared, strict=True):
        torch.testing.assert_close(tower.encode(modality, [item])[0], row, atol=1e-5, rtol=1e-5)
    assert tower.encode(modality, []).shape == (0, tower.feature_dim(modality))


def test_bundled_tower_refuses_what_it_does_not_take() -> None:
    tower = create_tower("whisper_base")
    with pytest.raises(UnknownModalityError, match="takes no text; it takes: speech"):
        tower.prepare("text", "a")
    with pytest.raises(UnknownModalityError, match="takes no text"):
        tower.count_tokens("a")
    with pytest.raises(InputError, match=r"at most 30 s at once, got 31\.00 s"):
        tower.prepare("speech", sound(31))
    with pytest.raises(InputError, match="at least 1 sample"):
        tower.prepare("speech", sound(0))


def test_create_tower_unknown_reference_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown tower 'nope'.*minilm_l6"):
        create_tower("nope")
    with pytest.raises(ConfigError, match=r"unknown tower 'nope:x'.*minilm_l6"):
        create_tower("nope:x")
    with pytest.raises(ConfigError, match="nothing follows"):
        create_tower("nope:")
    with pytest.raises(ConfigError, match=r"unknown option colour; known: none"):
        create_tower("minilm_l6", options={"colour": 1})


class Lengths(Tower):
    """Encodes a text as its number of letters."""

    def feature_dim(self, modality: str) -> int:
        return 1

    def prepare(self, modality: str, media: Any) -> int:
        return len(media)

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> torch.Tensor:
        return torch.tensor(prepared, dtype=torch.float32)[:, None]


def test_registered_tower_reads_paths_relative_to_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry._TOWERS, "found", {})

    @register_tower("lengths")
    def factory(request: TowerRequest) -> Lengths:
        return Lengths(request.reference, ("text",), files={"w": request.path()}, preprocessing={"a": 1})

    with pytest.raises(ConfigError, match="registered twice"):
        register_tower("lengths")(lambda request: factory(request))
    (tmp_path / "w.bin").write_bytes(b"one")
    tower = create_tower("lengths:w.bin", folder=tmp_path)
    assert tower.encode("text", [tower.prepare("text", "abc")]).tolist() == [[3.0]]
    stored = tower.reference()
    assert stored["name"] == "lengths:w.bin" and stored["digest"] == tower.digest
    require_same(create_tower("lengths:w.bin", folder=tmp_path), stored)

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "renamed.bin").write_bytes(b"one")
    moved = create_tower(f"lengths:{tmp_path / 'other' / 'renamed.bin'}")
    assert moved.digest == tower.digest  # a path is no part of it

    (tmp_path / "w.bin").write_bytes(b"two")
    with pytest.raises(WeightsError, match=r"not the one that this space was made with \(differs: w\)"):
        require_same(create_tower("lengths:w.bin", folder=tmp_path), stored)
    changed = Lengths("lengths:w.bin", ("text",), files={}, preprocessing={"a": 2})
    with pytest.raises(WeightsError, match="preprocessing a: 1 is now 2"):
        require_same(changed, {**stored, "files": {}})
