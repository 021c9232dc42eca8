"""The table of a suite of captions and speech."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["markdown"]


def markdown(entry: Mapping[str, Any]) -> str:
    """Return a report as Markdown."""

    def percent(values: list[float]) -> str:
        return "{:.1f} [{:.0f}, {:.0f}]".format(*(100 * v for v in values))

    lines = [f"# {entry['generation_suite']}", "", entry["description"], ""]
    seeds = ", ".join(map(str, entry["seeds"]))
    lines += [f"Commit {entry['commit'] or '?'}, {entry['date']}, seeds {seeds}, judge `{entry['judge']}`.", ""]
    lines += ["| captions from | system | items | names it, % | every word of a name, % |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['from']} | {r['system']} | {r['items']} | {percent(r['names_any'])} | {percent(r['names_all'])} |"
        for r in entry["captions"]
    ]
    lines += ["", "[95% bootstrap interval over concepts; seeds of an item are averaged]"]
    if entry["speech"]:
        lines += ["", "| spoken by | captions | word error rate, % |", "|---|---|---|"]
        lines += [f"| {r['system']} | {r['captions']} | {percent(r['word_error_rate'])} |" for r in entry["speech"]]
    lines += ["", "| item | its names | caption |", "|---|---|---|"]
    lines += [
        f"| {e['item']} | {', '.join(e['names'])} | {e['caption']} |"
        for r in entry["captions"]
        for e in r.get("examples", ())
    ]
    return "\n".join(lines) + "\n"
