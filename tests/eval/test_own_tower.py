"""The figure of one's own tower: its table and its search, on vectors whose ranks are known."""

from __future__ import annotations

import numpy as np

from eval.own_tower import markdown, searched


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
    page = markdown({"seed": 0, "rows": {"bundled": row, "head": row, "random": row}})
    assert "| chance | | 5.0 | 50.0 | 5.0 | 50.0 |" in page
    assert page.count("| 20 | 100.0 [100, 100]") == 3
