"""What `eval.connectors` measures of one ranking, and its page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.evaluate.metrics import bootstrap, chance_recall
from embedspace.evaluate.search import PositiveRanks

__all__ = ["RESAMPLES", "SEED", "WAYS", "earlier", "measured", "table"]

SEED = 0
RESAMPLES = 1000
WAYS = ("image to text", "text to image")


def measured(ranks: PositiveRanks, joint: PositiveRanks | None = None) -> dict[str, Any]:
    """Return R@1 and R@10 as [value, low, high], and R@10 as a share of the joint space's, queries resampled alike."""
    first = [ranks.first <= 1, ranks.first <= 10, *([] if joint is None else [joint.first <= 10])]
    table = np.stack(first, axis=1).astype(np.float64)
    drawn = bootstrap(table, resamples=RESAMPLES, seed=SEED)

    def estimate(value: float, samples: NDArray[np.float64]) -> list[float]:
        return [round(float(x), 5) for x in (value, *np.nanpercentile(samples, [2.5, 97.5]))]

    means = table.mean(axis=0)
    found = {
        "queries": ranks.num_queries,
        "gallery_size": ranks.gallery_size,
        "recall_at_1": estimate(means[0], drawn[:, 0]),
        "recall_at_10": estimate(means[1], drawn[:, 1]),
        "chance_at_10": round(chance_recall(ranks, 10), 5),
    }
    if joint is not None:
        found["of_joint"] = estimate(means[1] / means[2], drawn[:, 1] / drawn[:, 2])
    return found


def earlier(path: Path, now: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report that conditions are put into.

    Args:
        path: The report's file.
        now: What it must agree in: what was measured, with what.

    Raises:
        SystemExit: If there is none, or it does not agree.
    """
    if not path.is_file():
        raise SystemExit(f"{path}: no such report; measure all conditions first, without --only")
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    for name, value in now.items():
        if report[name] != value:
            raise SystemExit(f"{path}: another {name} than now; measure all conditions, without --only")
    return report


def _others(report: Mapping[str, Any]) -> str:
    """Return which conditions were measured at another commit."""
    later = {title: one["commit"] for title, one in report["conditions"].items() if "commit" in one}
    named = [f"{title}: {commit}" for title, commit in later.items() if commit != report["commit"]]
    return f" ({'; '.join(named)})" if named else ""


def table(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [
        "# Connectors", "", report["description"], "",
        f"Commit {report['commit']}{_others(report)}, seed {report['seed']}, rows {report['split_hash'][:16]}, weights "
        + ", ".join(f"{name} {digest[:8]}" for name, digest in sorted(report["weights"].items()))
        + f". Text tower of B: {report['tower']}. In brackets the 95% interval over queries; chance R@10 "
        f"{100 * report['joint'][WAYS[0]]['chance_at_10']:.1f}. Bold: chosen on the validation pictures.", "",
        "| shared texts | method | chosen | text to text R@1 / R@10 | validation R@10 | picture to caption R@1 | R@10 "
        "| of the joint space's | caption to picture R@1 | R@10 | of the joint space's | asked |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip

    def percent(values: Sequence[float]) -> str:
        return f"{100 * values[0]:.1f} [{100 * values[1]:.1f}, {100 * values[2]:.1f}]"

    def cells(entry: Mapping[str, Any]) -> list[str]:
        found = []
        for way in WAYS:
            one = entry[way]
            share = percent(one["of_joint"]) if "of_joint" in one else ""
            found += [percent(one["recall_at_1"]), percent(one["recall_at_10"]), share]
        return found

    for name in ("joint", "own"):
        title = "joint space" if name == "joint" else "B, its own texts"
        validation = f"{100 * report[name]['validation_recall_at_10']:.1f}"
        lines.append(f"| | {title} | | | {validation} | {' | '.join(cells(report[name]))} | |")
    for title, one in report["conditions"].items():
        for method, entry in one["methods"].items():
            set_to = ", ".join(
                f"{k} {entry[k]:g}" for k in ("strength", "temperature", "penalty", "share") if k in entry
            )
            first, tenth, _ = entry["text_to_text"]
            mark = "**" if method == one["chosen"] else ""
            tried = f"{100 * first:.1f} / {100 * tenth:.1f} | {100 * entry['validation_recall_at_10']:.1f}"
            lines.append(
                f"| {title}: {one['texts']:,} | {mark}{method}{mark} | {set_to} | {tried} | {' | '.join(cells(entry))} "
                f"| {100 * one['asked']:g} |"
            )
    lines += ["", "| sound to picture | method | queries | gallery | R@1 | R@10 | of the joint space's |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in report["sounds"]:
        for method, entry in one["methods"].items():
            share = percent(entry["of_joint"]) if "of_joint" in entry else ""
            lines.append(
                f"| {one['title']} | {method} | {entry['queries']} | {entry['gallery_size']} "
                f"| {percent(entry['recall_at_1'])} | {percent(entry['recall_at_10'])} | {share} |"
            )
    return "\n".join([*lines, ""])
