"""The generators' memory: captions of the training split, and how near to one of them known things lie."""

from __future__ import annotations

import numpy as np

from embedspace.generate.memory import Memory
from embedspace.train.head import HeadRun
from embedspace.train.loop import FitProgress

__all__ = ["train"]

_KNOWN = 1.0
"""Percent of validation items that may count as unknown."""


def train(run: HeadRun) -> None:
    """Write memory.safetensors and memory.json; nothing is learnt but the thresholds."""
    texts = run.texts
    memory = Memory(texts.vectors, texts.texts, texts.items)
    held = {
        row["captions"][0]
        for row in run.rows
        if row.get("split") == "val" and row.get("captions") and row["captions"][0] in run.vectors
    }
    groups = {"text": np.stack([run.vectors[text] for text in sorted(held)])} if held else {}
    for modality in ("image", "audio", "speech"):
        own = run.own(modality)
        if own is not None:
            held_rows, _ = own.of_split("val")
            # where validation has too few, training items: never what was encoded for a test
            groups[modality] = held_rows if len(held_rows) >= 20 else own.of_split("train")[0]
    nearest = {
        name: round(float(np.percentile(memory.cosines(rows).max(axis=1), _KNOWN)), 4) for name, rows in groups.items()
    }
    nearest["mixed"] = min(nearest.values(), default=0.0)
    memory.nearest = nearest
    memory.save(run.head, run.space.config["files"].get("text.safetensors", ""))
    run.tell(FitProgress("memory", 1, 1, 0.0, {"captions": float(len(memory)), **nearest}))
