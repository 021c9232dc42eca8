"""What was tried for a tower of one's own (`eval.own_tower`), chosen on the stamps' training half alone.

    python -m training.attempts.own_tower          # 20 minutes of an idle core

A quarter of the training half's concepts is held out; nothing of the test half is read. Attempts that make steps have a
curve over them; a kernel, which makes none, has one over the number of pictures. It writes
eval/results/attempts/own_tower.csv and .png.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from embedspace.train.align import align
from embedspace.train.loop import FitProgress
from eval.own_tower import BASE, FOLDER, KERNEL, LAYERS, LITE2, MLP, NAMES, STEPS, Row, stamps, write_manifest

__all__ = ["ATTEMPTS", "PINNED", "divided", "measured", "write"]

OUT = Path("eval/results/attempts")
PINNED = "bandwidths = [2.0]\nridges = [0.2]\nprior_shares = [0.6]\n"
"""The first of each, so that nothing is chosen on the items that are measured."""
ATTEMPTS = {
    "MLP on the last layer": BASE + MLP,
    "MLP on middle layers, too": BASE + LAYERS + MLP,
    "MLP on middle layers, names of classes": BASE + LAYERS + NAMES + MLP,
    "kernel on the last layer": BASE + KERNEL + PINNED,
    "kernel on middle layers, too": BASE + LAYERS + KERNEL + PINNED,
    "kernel on the last layer, names of classes": BASE + NAMES + KERNEL + PINNED,
    "kernel on middle layers, names of classes": BASE + LAYERS + NAMES + KERNEL + PINNED,
}
SHARES = (0.125, 0.25, 0.5, 1.0)
FIELDS = ("attempt", "pictures", "step", "loss", "recall_at_1", "recall_at_10")


def divided(rows: Sequence[Row], share: float = 1.0) -> list[Row]:
    """Return training rows, a quarter of the concepts as "val", and of the others a share, the first by hash."""

    def place(row: Row) -> float:
        return int(hashlib.sha256(str(row["concept"]).encode()).hexdigest()[:8], 16) / 16**8

    held = [{**row, "split": "val"} for row in rows if place(row) < 0.25]
    return held + [row for row in rows if 0.25 <= place(row) < 0.25 + 0.75 * share]


def measured(name: str, recipe: str, rows: Sequence[Row], share: float) -> list[dict[str, Any]]:
    """Train by a recipe, and return what was measured on the held-out quarter, a row per validated step."""
    stem = hashlib.sha256(f"{recipe}{share}".encode()).hexdigest()[:12]
    given = divided(rows, share)
    write_manifest(given, FOLDER / f"{stem}.jsonl")
    fields = {"features": str((FOLDER / "rows").resolve()), "manifest": f"{stem}.jsonl", "names": "imagenet"}
    path = FOLDER / f"{stem}.toml"
    path.write_text(recipe.format(model=LITE2, validation='["val"]', steps=STEPS, **fields), "utf-8")
    told: list[FitProgress] = []
    align(path, out=FOLDER / f"{stem}-attempt", callback=told.append)
    count = sum(row["split"] == "train" for row in given)
    found = [
        {"attempt": name, "pictures": count, "step": one.step}
        | {key: round(float(one.scalars[key]), 4) for key in FIELDS[3:] if key in one.scalars}
        for one in told
        if one.stage == "align" and "recall_at_10" in one.scalars
    ]
    print(json.dumps(found[-1]), flush=True)
    return found


def write(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write the table and the plot: left R@10 over the steps, right over the pictures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out.mkdir(parents=True, exist_ok=True)
    with (out / "own_tower.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, key in zip(figure.subplots(1, 2, sharey=True), ("step", "pictures"), strict=True):
        for name in dict.fromkeys(str(row["attempt"]) for row in rows):
            own = [row for row in rows if row["attempt"] == name and bool(row["step"]) == (key == "step")]
            if own:
                axis.plot([row[key] for row in own], [row["recall_at_10"] for row in own], marker="o", label=name)
        axis.set_xlabel(key)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=7)
        axis.set_title("R@10 of held-out training stamps")
    figure.savefig(out / "own_tower.png", dpi=110, metadata={"Software": None})


def main() -> None:
    """Run all attempts."""
    torch.set_num_threads(1)
    train, _ = stamps()
    rows: list[dict[str, Any]] = []
    for name, recipe in ATTEMPTS.items():
        for share in SHARES if KERNEL in recipe else SHARES[-1:]:
            rows += measured(name, recipe, train, share)
        write(rows, OUT)


if __name__ == "__main__":
    main()
