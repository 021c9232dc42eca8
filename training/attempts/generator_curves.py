"""The learning curves of the generator heads, as one table and one plot.

    python -m training.attempts.generator_curves build/runs/generators/{text,image,audio}

Each run is a folder with the scalars.jsonl that `embedspace train generator` writes. It writes
eval/results/attempts/heads.csv, a row a validated step of each stage, and heads.png. A run that was resumed tells a
step twice where it went back.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from training.attempts.picture_curves import read_scalars

__all__ = ["read_curves", "write"]

OUT = Path("eval/results/attempts")
FIELDS = ("head", "stage", "step", "loss", "measure", "value")


def read_curves(run: Path) -> list[dict[str, object]]:
    """Return what was measured on held-out items at each validated step, a row a measure; errors as `read_scalars`."""
    known = {"stage", "step", "seconds", "loss"}
    return [
        {
            "head": run.name,
            "stage": row["stage"],
            "step": row["step"],
            "loss": round(row["loss"], 4),
            "measure": name,
            "value": round(row[name], 4),
        }
        for row in read_scalars(run)
        for name in row.keys() - known
    ]


def write(rows: Iterable[Mapping[str, object]], out: Path) -> None:
    """Write the table and the plot: an axis a measure, a line a head and stage."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: (str(row["head"]), str(row["stage"]), str(row["measure"])))  # stable: by time
    out.mkdir(parents=True, exist_ok=True)
    with (out / "heads.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    measures = list(dict.fromkeys(str(row["measure"]) for row in rows))
    figure = Figure(figsize=(4.2 * len(measures), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        lines: dict[str, list[Mapping[str, object]]] = {}
        for row in rows:
            if row["measure"] == measure:
                lines.setdefault(f"{row['head']}: {row['stage']}", []).append(row)
        for name, own in lines.items():
            axis.plot([row["step"] for row in own], [row["value"] for row in own], marker="o", markersize=3, label=name)
        axis.set_title(measure)
        axis.set_xlabel("step")
        axis.legend(fontsize=7)
    figure.savefig(out / "heads.png", dpi=110, metadata={"Software": None})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    write([row for run in arguments.runs for row in read_curves(run)], arguments.out)


if __name__ == "__main__":
    main()
