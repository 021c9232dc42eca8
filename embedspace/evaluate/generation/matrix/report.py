"""The table of a suite of every modality from every other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedspace.evaluate.generation.matrix.cells import MADE, RECALL_AT

__all__ = ["METRIC", "markdown"]

METRIC = "hit"


def markdown(entry: Mapping[str, Any]) -> str:
    """Return a report as Markdown."""
    names = [modality.value for modality in MADE]
    cells = {(r["query"], r["gallery"]): r for r in entry["results"]}
    lines = [f"# {entry['generation_suite']}", "", entry["description"], ""]
    lines += [
        "| from, % | concepts | " + " | ".join(f"to {name}" for name in names) + " |",
        "|---|" + "---|" * (len(names) + 1),
    ]
    for source in dict.fromkeys(r["query"] for r in entry["results"]):
        shown = []
        for to in names:
            cell = cells.get((source, to))
            values = [100 * v for v in cell["metrics"][METRIC]] if cell else []
            shown.append("{:.0f} [{:.0f}, {:.0f}]".format(*values) if cell else "–")
        count = max(r["concepts"] for r in entry["results"] if r["query"] == source)
        lines.append(f"| {source} | {count} | " + " | ".join(shown) + " |")
    seeds = ", ".join(map(str, entry["seeds"]))
    lines += [
        "",
        f"Pictures: the judge finds the caption among the first {RECALL_AT} of {entry['captions_searched']}. "
        "Sounds: the judge names the concept first of all that it knows. Texts: a content word of the concept's "
        "names is in the caption; speech: it is heard by an independent recogniser. [95% bootstrap interval]",
        "",
        f"Concepts: {', '.join(entry['concepts'])}.",
        "",
        f"Commit `{entry['commit'][:12] or 'unknown'}`, {entry['date']}, seeds {seeds}, rows "
        f"`{entry['split_hash'][:12]}`.",
        "",
    ]
    return "\n".join(lines)
