"""The scalars of a run: scalars.jsonl always, TensorBoard events and a plot where their libraries are installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from embedspace.train.loop import FitProgress

__all__ = ["Curves"]


class Curves:
    """Collects a run's scalars.

    Args:
        folder: Where they go; a resumed run appends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "scalars.jsonl").open("a", encoding="utf-8")
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # an extra: the JSON lines are enough to go on
            return
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def add(self, progress: FitProgress) -> None:
        """Record one report of the loop."""
        row = {
            "stage": progress.stage,
            "step": progress.step,
            "seconds": round(progress.seconds, 1),
            **progress.scalars,
        }
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in progress.scalars.items():
                self._board.add_scalar(f"{progress.stage}/{name}", value, progress.step)

    def close(self) -> None:
        """Flush, and draw curves.png: the loss and the recalls of every stage."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        try:
            import matplotlib as mpl
        except ImportError:
            return
        mpl.use("Agg")
        from matplotlib import pyplot as plt

        rows = [json.loads(line) for line in (self.folder / "scalars.jsonl").read_text("utf-8").splitlines()]
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
        for stage in dict.fromkeys(row["stage"] for row in rows):
            own = [row for row in rows if row["stage"] == stage]
            lost = [r for r in own if "loss" in r]
            left.plot([r["step"] for r in lost], [r["loss"] for r in lost], label=stage)
            for name in ("recall_at_1", "recall_at_10"):
                seen = [r for r in own if name in r]
                if seen:
                    right.plot([r["step"] for r in seen], [r[name] for r in seen], label=f"{stage} {name}")
        for axis, title in ((left, "loss"), (right, "recall, validation split")):
            axis.set_title(title)
            axis.set_xlabel("step")
            if axis.lines:
                axis.legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(self.folder / "curves.png", dpi=110)
        plt.close(figure)
