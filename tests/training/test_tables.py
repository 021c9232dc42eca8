from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedspace.errors import ConfigError
from embedspace.train.batches import CaptionTable, PairBatches, PairSource
from tests.support.train_corpora import write_arrays, write_rows
from training.align.tables import (
    FeatureTable,
    body_of,
    caption_table,
    manifest_rows,
    pair_source,
    read_features,
    read_sequences,
)

CAPTIONS = CaptionTable({"a dog": 0, "dog": 1, "a cat": 2}, np.eye(3, 4, dtype=np.float16))
ROWS = [
    {"id": "x", "modality": "image", "captions": ["a dog", "a hound"], "keywords": ["dog", "cur"]},
    {"id": "y", "modality": "image", "captions": ["a cat"], "extra": {"weight": 0.5}},
    {"id": "speechless", "modality": "image", "captions": ["a yak"]},
    {"id": "featureless", "modality": "image", "captions": ["a cat"]},
    {"id": "bark", "modality": "audio", "captions": ["a dog"]},
]


def write_views(folder: Path, views: int, ids: list[str], dim: int = 3) -> None:
    for view in range(views):
        value = np.arange(len(ids))[:, None] + 10 * view
        features = np.broadcast_to(value, (len(ids), dim)).astype(np.float16)
        write_arrays(folder / f"icons.{view}.npz", ids=np.array(ids), features=features, logits=features[:, :2])


def test_manifest_rows_are_those_of_a_modality(tmp_path: Path) -> None:
    write_rows(tmp_path, "icons", ROWS)
    assert [r["id"] for r in manifest_rows(tmp_path, "icons", "image")] == ["x", "y", "speechless", "featureless"]
    assert [r["id"] for r in manifest_rows(tmp_path, "icons", "audio")] == ["bark"]


def test_missing_corpora_and_features_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"manifest.jsonl: this corpus .* training.corpora --only icons"):
        list(manifest_rows(tmp_path, "icons", "image"))
    with pytest.raises(ConfigError, match=r"texts.npz: no text features; run: python -m training.align.features text"):
        caption_table(tmp_path)
    with pytest.raises(ConfigError, match=r"icons.0.npz: .* training.align.features image --only icons"):
        read_features(tmp_path, "image", "icons", 2)
    write_rows(tmp_path, "talk", [])
    with pytest.raises(
        ConfigError, match=r"no speech features; run: python -m training.align.features speech --only talk"
    ):
        read_sequences(tmp_path, tmp_path, "talk", lambda _: True)


def test_read_features_joins_the_views_that_are_there(tmp_path: Path) -> None:
    write_views(tmp_path / "image", 2, ["x", "y"])
    table = read_features(tmp_path, "image", "icons", 5)
    assert table.index == {"x": [0, 2], "y": [1, 3]}
    assert table.features[:, 0].tolist() == [0, 1, 10, 11]
    assert table.logits.shape == (4, 2)
    assert read_features(tmp_path, "image", "icons", 1).index == {"x": [0], "y": [1]}


def test_read_features_appends_the_tail_by_id(tmp_path: Path) -> None:
    write_views(tmp_path / "image", 1, ["x", "y"])
    write_views(tmp_path / "tail", 1, ["z", "y", "x"], dim=1)
    table = read_features(tmp_path, "image", "icons", 1, tmp_path / "tail")
    assert table.features.tolist() == [[0, 0, 0, 2], [1, 1, 1, 1]]


def test_read_features_leaves_out_what_the_tail_lacks(tmp_path: Path) -> None:
    write_views(tmp_path / "image", 2, ["x", "y", "z"])
    with pytest.raises(ConfigError, match=r"icons.0.npz: no such features; run: python -m training.finetune.image"):
        read_features(tmp_path, "image", "icons", 1, tmp_path / "tail")
    write_views(tmp_path / "tail", 2, ["z", "x"], dim=1)
    table = read_features(tmp_path, "image", "icons", 2, tmp_path / "tail")
    assert table.index == {"x": [0, 2], "z": [1, 3]}
    assert table.features.tolist() == [[0, 0, 0, 1], [2, 2, 2, 0], [10, 10, 10, 11], [12, 12, 12, 10]]
    assert table.logits[:, 0].tolist() == [0, 2, 10, 12]


def test_pair_source_joins_rows_features_and_captions() -> None:
    table = FeatureTable({"x": [0, 3], "y": [1], "speechless": [2]}, np.zeros((4, 3), np.float16), np.zeros((4, 2)))
    source = pair_source("icons", ROWS[:4], table, CAPTIONS, weight=2.0, keywords=1)
    assert source.name == "icons"
    assert source.weight == 2.0
    assert source.views.tolist() == [[0, 3], [1, 1]]  # an item with one view shows it twice
    assert [c.tolist() for c in source.captions] == [[0, 1], [2]]  # what the table does not hold is left out
    assert source.item_weights is not None
    assert source.item_weights.tolist() == [1.0, 0.5]


def test_pair_source_of_nothing_is_empty() -> None:
    source = pair_source("icons", [], FeatureTable({}, np.zeros((0, 3)), np.zeros((0, 2))), CAPTIONS, weight=1.0)
    assert source.views.shape == (0, 1)


def test_read_sequences_unpacks_the_clips_that_are_kept(tmp_path: Path) -> None:
    write_rows(tmp_path, "talk", [{"id": i, "modality": "speech", "captions": ["a dog"]} for i in ("a", "b", "c")])
    frames = np.arange(12, dtype=np.float16).reshape(6, 2)
    folder = tmp_path / "speech" / "talk"
    write_arrays(folder / "one-00000.npz", ids=np.array(["a", "b"]), starts=np.array([0, 2, 6]), frames=frames)
    write_arrays(folder / "two-00000.npz", ids=np.array(["b", "c"]), starts=np.array([0, 1, 2]), frames=frames)
    found = read_sequences(tmp_path, tmp_path, "talk", lambda row: row["id"] != "a")
    assert [row["id"] for row in found.rows] == ["b", "c"]  # a clip that lies in two shards is taken once
    assert [f.tolist() for f in found.frames] == [frames[2:6].tolist(), frames[1:2].tolist()]


def test_body_of_is_what_a_recipe_says_besides_its_title() -> None:
    assert body_of({"title": "soup", "ingredients": "leek", "steps": "boil"}) == "leek\n\nboil"
    assert body_of({"steps": "boil"}) == "boil"


def test_pair_batches_draw_matching_pairs_by_share() -> None:
    def source(name: str, first: int, weight: float) -> PairSource:
        features = np.full((2, 1), first, np.float16) + np.arange(2)[:, None]
        return PairSource(name, features, np.array([[0], [1]]), [np.array([first]), np.array([first + 1])], weight)

    table = CaptionTable({str(k): k for k in range(4)}, np.arange(4, dtype=np.float16)[:, None])
    batches = PairBatches([source("a", 0, 3.0), source("b", 2, 1.0)], table, 4000)
    features, text = batches.draw(torch.Generator().manual_seed(0))
    assert features.dtype == text.dtype == torch.float32
    assert torch.equal(features, text)  # the caption of each item is its number
    assert (features < 2).float().mean().item() == pytest.approx(0.75, abs=0.03)
    again, _ = batches.draw(torch.Generator().manual_seed(0))
    assert torch.equal(features, again)
