"""The report of a generator of pictures or sounds: JSON, a Markdown table, the curve of the guidance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedspace.errors import MissingExtraError

__all__ = ["draw_sweep", "markdown"]

Entry = Mapping[str, Any]
_FIGURES = 12
"""Columns that every row fills: what it is of, and its figures."""


def _percent(values: list[float] | None) -> str:
    return "{:.1f} [{:.0f}, {:.0f}]".format(*(100 * v for v in values)) if values else ""


def _plain(values: list[float] | None, digits: int = 3) -> str:
    return f"{values[0]:.{digits}f} [{values[1]:.{digits}f}, {values[2]:.{digits}f}]" if values else ""


def _cells(row: Entry) -> list[str]:
    shares = " / ".join(f"{row[name]:.2f}" for name in ("precision", "recall", "density", "coverage") if name in row)
    frechet = f"{row['frechet_distance']:.2f}" if "frechet_distance" in row else ""
    return [
        str(row["prompts"]),
        _percent(row.get("top_1")),
        _percent(row.get("recall_at_10")),
        _plain(row.get("kernel_distance")),
        frechet,
        shares,
        f"{row['diversity'][0]:.3f}" if "diversity" in row else "",
        _percent(row.get("near_copies")),
        _percent(row.get("near_copies_features")),
        _percent(row.get("near_copies_aligned")),
        f"{row['likeness']:.2f}",
    ]


def _of_text(row: Entry) -> str:
    parts = [_percent(row[name]) for name in ("top_1_of_text", "recall_at_10_of_text") if name in row]
    return " / ".join(parts)


def _less(row: Entry, than: str) -> str:
    names = [name for name in (f"top_1_less_{than}", f"recall_at_10_less_{than}") if name in row]
    return " / ".join("{:+.1f} [{:+.0f}, {:+.0f}]".format(*(100 * value for value in row[name])) for name in names)


def markdown(entry: Entry) -> str:
    """Return a report as Markdown.

    Args:
        entry: From `embedspace.evaluate.generation.kinds.evaluate`, or read back from its JSON.
    """
    head = ["what", "prompts", "top-1, %", "caption R@10, %", "KID", "Fréchet", "P / R / D / C", "diversity"]
    head += ["near-copies: latents, %", "features, %", "aligned, %", "likeness", "of text's top-1 / R@10, %"]
    head += ["less the nearest item's, paired"]
    compared = ["nearest"]
    if any("top_1_less_alone" in row for row in entry["rows"]):
        head, compared = [*head, "less one candidate's, paired"], [*compared, "alone"]
    lines = [f"# {entry['generation_suite']}", "", entry["description"], ""]
    for group in dict.fromkeys(row["group"] for row in entry["rows"]):
        lines += [f"## {group}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for row in (row for row in entry["rows"] if row["group"] == group):
            what = ", ".join(filter(None, (row["system"], row["source"], row["family"])))
            cells = [what, *_cells(row), _of_text(row), *(_less(row, than) for than in compared)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    if entry["sweep"]:
        lines += ["## Guidance, on a selection of its own", ""]
        lines += ["| " + " | ".join(["weight", *head[1:_FIGURES]]) + " |", "|" + "---|" * _FIGURES]
        lines += ["| " + " | ".join([f"{row['guidance_scale']:g}", *_cells(row)]) + " |" for row in entry["sweep"]]
        lines.append("")
    lines += _costs(entry.get("families", {}))
    held, about = entry["held"], entry["judge_about"]
    copies = 100 * held["near_copies"]
    lines += [
        "Top-1 and recall: the judge's, averaged over seeds; [95% bootstrap interval over concepts]. KID: squared "
        "maximum mean discrepancy to real things, ± 1.96 jackknife standard errors. P / R / D / C: precision, recall, "
        "density, coverage.",
        "",
        f"A near-copy is more like one of {entry['training_items']} training items than {100 - copies:.0f}% of "
        f"{held['items']} real things that were never trained on: latents' correlation above {held['threshold']:.2f}. "
        f"Of those real things {copies:.1f}% lie above it, by construction. Likeness: mean correlation with the most "
        f"alike training item; that of those real things is {held['likeness']:.2f}.",
        "",
        *_told_measures(entry),
        "The judge on real things that it never saw or heard:",
        "",
    ]
    accuracy = about.get("accuracy", {})
    for name, figures in accuracy.items():
        told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in figures.items())
        lines.append(f"- {name}: {told}")
    seeds = ", ".join(map(str, entry["seeds"]))
    heads = ", ".join(f"{name} `{digest[:12]}`" for name, digest in entry["heads"].items())
    lines += [
        "",
        f"Commit `{entry['commit'][:12] or 'unknown'}`, {entry['date']}, seeds {seeds}, rows "
        f"`{entry['split_hash'][:12]}`, generator {heads} with {entry['gallery_size']} neighbours, judge "
        f"`{entry['judge']}` `{entry['judge_digest'][:12]}`.",
        "",
    ]
    return "\n".join(lines)


def _costs(families: Mapping[str, Entry]) -> list[str]:
    """Return a table of what families cost; nothing where there is but one."""
    if len(families) < 2:
        return []
    head = ["family", "how", "million parameters: trained", "kept", "minutes of training", "steps", "ms a sample"]
    lines = ["## What each cost", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, own in families.items():
        size = [f"{own[key] / 1e6:.2f}" for key in ("parameters_trained", "parameters")]
        time = [f"{own[key]:.{digits}g}" if key in own else "" for key, digits in (("minutes", 3), ("steps", 9))]
        each = "" if own["seconds_each"] is None else f"{1000 * own['seconds_each']:.0f}"
        lines.append("| " + " | ".join([name, own["family"], *size, *time, each]) + " |")
    return [
        *lines,
        "",
        "Samples are drawn a few at once; their time has the decoding in it, and drawing near-copies again.",
        "",
    ]


def _told_measures(entry: Entry) -> list[str]:
    """Return what the measures of near-copies are, and how many disguised copies each finds."""
    measures = entry["held"].get("measures", {})
    if not measures:
        return []
    found = ", ".join(f"{name} {100 * own['found']:.0f}%" for name, own in measures.items())
    return [
        "The sampler draws again what is too like a training item by its latents, so that this measure is its own. The "
        "other two are not: features of the judge's network, and the cross-correlation of brightness or of log-mel "
        "frames at the best of small shifts, scales and mirror images. Each has its own threshold, set in the same "
        "way. Of disguised copies of training items (moved, scaled, mirrored, lighter; later, quieter, noisy) are "
        f"found: {found}.",
        "",
    ]


def draw_sweep(entry: Entry, path: Path) -> Path:
    """Draw what guidance does: how often the judge knows it, and the distance to real things.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("the curve needs matplotlib: pip install 'embedspace[train]'") from error
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    scales = [row["guidance_scale"] for row in entry["sweep"]]
    for name, label in (("top_1", "judge, top-1"), ("recall_at_10", "caption R@10"), ("near_copies", "near-copies")):
        if all(name in row for row in entry["sweep"]):
            values = [[100 * v for v in row[name]] for row in entry["sweep"]]
            axes.plot(scales, [v[0] for v in values], marker="o", label=label)
            axes.fill_between(scales, [v[1] for v in values], [v[2] for v in values], alpha=0.15)
    axes.set_xlabel("weight of the guidance; 1 is none")
    axes.set_ylabel("%")
    axes.set_ylim(bottom=0)
    if all("kernel_distance" in row for row in entry["sweep"]):
        beside = axes.twinx()
        values = [row["kernel_distance"] for row in entry["sweep"]]
        beside.plot(scales, [v[0] for v in values], marker="s", color="black", linestyle="--", label="KID")
        beside.set_ylabel("KID")
        beside.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    axes.set_title(entry["generation_suite"], fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return path
