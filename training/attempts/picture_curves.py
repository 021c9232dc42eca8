"""The learning curves of attempts at pictures or speech, as one table and one plot.

    python -m training.attempts.picture_curves "frozen heads=build/runs/frozen" "whole network=build/runs/tuned"
    python -m training.attempts.picture_curves --name speech "longer=build/runs/speech"

Each run is a folder with the scalars.jsonl that `training.align` and `training.finetune.network` write. Writes
eval/results/attempts/<name>.csv, a row a validated step, and <name>.png; attempts of the table that are not named stay.
Recall is that of the validation split's items among its captions, each attempt alone: most of them are mixed with
others afterwards.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from embedspace.errors import ConfigError

__all__ = ["read_curve", "read_scalars", "write"]

OUT = Path("eval/results/attempts")
METRICS = ("recall_at_1", "recall_at_10")
FIELDS = ("attempt", "stage", "step", "loss", *METRICS)


def read_scalars(run: Path) -> list[dict[str, Any]]:
    """Return what a run told of its steps.

    Raises:
        ConfigError: If it wrote nothing.
    """
    path = run / "scalars.jsonl"
    if not path.is_file():
        raise ConfigError(f"{path}: no curve; name the folder of a run that has begun")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def read_curve(name: str, run: Path) -> list[dict[str, object]]:
    """Return an attempt's validated steps; errors as `read_scalars`."""
    # a resumed run tells of some steps twice
    found = {(row["stage"], row["step"]): row for row in read_scalars(run) if METRICS[0] in row}
    return [
        {
            "attempt": name,
            "stage": row["stage"],
            "step": row["step"],
            "loss": round(row["loss"], 3),
            **{m: round(100 * row[m], 1) for m in METRICS},
        }
        for row in found.values()
    ]


def _read(row: Mapping[str, str]) -> dict[str, object]:
    return {key: value if key in ("attempt", "stage") else float(value) for key, value in row.items()}


def write(rows: Iterable[Mapping[str, object]], out: Path, name: str = "pictures") -> None:
    """Write the table, other attempts' rows kept, and the plot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, path = list(rows), out / f"{name}.csv"
    out.mkdir(parents=True, exist_ok=True)
    if path.exists():
        new = {row["attempt"] for row in rows}
        with path.open(encoding="utf-8", newline="") as file:
            rows = [_read(row) for row in csv.DictReader(file) if row["attempt"] not in new] + rows
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, metric in zip(figure.subplots(1, 3), ("loss", *METRICS), strict=True):
        for name in dict.fromkeys(str(row["attempt"]) for row in rows):
            own = [row for row in rows if row["attempt"] == name]
            axis.plot([row["step"] for row in own], [row[metric] for row in own], marker="o", label=name)
        axis.set_title(metric if metric == "loss" else f"{metric}, %")
        axis.set_xlabel("step")
        axis.legend(fontsize=7)
    figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--name", default="pictures", help="of the table and the plot")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    pairs = [run.rpartition("=") for run in arguments.runs]
    rows = [row for name, _, folder in pairs for row in read_curve(name, Path(folder))]
    write(rows, arguments.out, arguments.name)


if __name__ == "__main__":
    main()
