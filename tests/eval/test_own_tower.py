"""The figure of one's own tower: its table and its search, on vectors whose ranks are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from embedspace.train.align.recipe import load_align_recipe, options_of
from eval.own_tower import LABELS, RECIPE, markdown, searched, write_manifest, write_shuffled


def test_searched_counts_the_right_caption_among_all() -> None:
    rows = np.eye(20, dtype=np.float32)
    found = searched(rows, np.roll(rows, 1, axis=0))  # every picture's caption is another's
    assert found["image → text R@1"][0] == 0.0
    assert searched(rows, rows)["text → image R@1"] == [100.0, 100.0, 100.0]
    half = searched(rows, np.concatenate([rows[:10], np.roll(rows[10:], 1, axis=0)]))["image → text R@1"]
    assert half[0] == 50.0
    assert half[1] < 50.0 < half[2]


def test_the_table_shows_chance_and_the_gallery() -> None:
    row = {"pairs": 9, **searched(np.eye(20, dtype=np.float32), np.eye(20, dtype=np.float32))}
    page = markdown({"commit": "abc", "seed": 0, "rows": dict.fromkeys(LABELS, row)})
    assert "| chance | | 5.0 | 50.0 | 5.0 | 50.0 |" in page
    assert page.count("| 20 | 100.0 [100, 100]") == len(LABELS)


def test_the_shuffled_control_has_the_same_pictures_with_the_captions_of_others(tmp_path: Path) -> None:
    rows = [
        {"id": str(k), "path": f"{k}.png", "captions": [f"a {k}"], "concept": f"{k}", "split": "train"}
        for k in range(50)
    ]
    write_manifest(rows, tmp_path / "stamps.jsonl")
    write_shuffled(rows, tmp_path, seed=0)
    own, other = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("stamps.jsonl", "shuffled.jsonl")
    )
    assert [row["path"] for row in own] == [row["path"] for row in other]
    assert sorted(row["captions"] for row in own) == sorted(row["captions"] for row in other)
    assert sum(a["captions"] == b["captions"] for a, b in zip(own, other, strict=True)) < 5
    names = json.loads((tmp_path / "shuffled.json").read_text())
    assert len(names) == 1000
    assert names[0][0] != "tench"


def test_the_recipe_names_layers_classes_and_a_kernel(tmp_path: Path) -> None:
    fields = {"features": "rows", "manifest": "a.jsonl", "validation": "[]", "steps": "1", "names": "imagenet"}
    (tmp_path / "a.toml").write_text(RECIPE.format(model="efficientnet_lite2", **fields))
    tower = load_align_recipe(tmp_path / "a.toml").towers["photo"]
    assert options_of(tower) == {"layers": ["stages.2", "stages.4", "stages.6", "classifier"]}
    assert (tower.names, tower.projection("image").kind) == ("imagenet", "kernel")
