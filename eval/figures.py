"""Rewrite the tables of figures from the committed results.

    python -m eval.figures        # a second; reads eval/results/*.json, rewrites README.md and eval/results/README.md
    python -m eval.figures --check        # writes nothing; ends with 1 if a table is out of date

README.md keeps its table between <!-- figures:start --> and <!-- figures:end -->, and one of what is generated between
<!-- made:start --> and <!-- made:end --> if it has these; which rows they have, figures.toml says.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- figures:start -->", "<!-- figures:end -->"
MADE_START, MADE_END = "<!-- made:start -->", "<!-- made:end -->"

Report = Mapping[str, Any]


def load_reports(folder: Path, key: str = "suite") -> dict[str, Report]:
    """Return suite name -> report of every JSON file of results in a folder.

    Args:
        folder: Where they lie.
        key: Under which a report names its suite: "suite" of retrieval, "generation_suite" of what is generated.
    """
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return {report[key]: report for report in reports if isinstance(report, dict) and key in report}


def find_result(report: Report, row: Mapping[str, str]) -> Report | None:
    """Return the direction of a report that a row of figures.toml names."""
    for result in report["results"]:
        if all(row.get(key, result[key]) == result[key] for key in ("query", "gallery", "label")):
            return dict(result["groups"][row["group"]] if "group" in row else result)
    return None


def _cell(value: list[float]) -> str:
    interval = f" [{100 * value[1]:.0f}, {100 * value[2]:.0f}]" if len(value) == 3 else ""
    return f"{100 * value[0]:.1f}{interval}"


def figure_row(row: Mapping[str, str], reports: Mapping[str, Report]) -> str:
    """Return one row of the table."""
    report = reports.get(row["suite"])
    result = find_result(report, row) if report else None
    cells = [row["title"]]
    if report is None or result is None:
        cells += ["–", "not measured", "", ""]
    elif row.get("from") == "gain":
        gains = report["gains"]
        cells += [str(result["gallery_size"]), _cell(gains["recall_at_1"]), _cell(gains["recall_at_10"]), ""]
    elif row.get("from") == "group_mean":
        mean = result["group_mean"]
        cells += [str(result["gallery_size"]), _cell([mean["recall_at_1"]]), _cell([mean["recall_at_10"]])]
        cells.append(f"{mean['medr']:.1f}")
    else:
        metrics = result["metrics"]
        cells += [str(result["gallery_size"]), _cell(metrics["recall_at_1"]), _cell(metrics["recall_at_10"])]
        cells.append(f"{metrics['medr'][0]:g}")
    cells += [row.get("ask", ""), row.get("stretch", "")]
    return "| " + " | ".join(cells) + " |"


def figures_table(rows: list[Mapping[str, str]], reports: Mapping[str, Report]) -> str:
    """Return the table for README.md."""
    lines = [
        "| direction | gallery | R@1, % | R@10, % | MedR | goal R@1 / R@10 | stretch |",
        "|---|---|---|---|---|---|---|",
        *(figure_row(row, reports) for row in rows),
        "",
        "In brackets the 95% bootstrap interval over queries. R@k: a right answer among the first k.",
        "All 12 directions, the other metrics and how it was measured: [eval/results](eval/results/README.md).",
    ]
    return "\n".join(lines)


def _made_cell(report: Report, row: Mapping[str, Any], where: Mapping[str, Any]) -> str:
    """Return the metric of the row of a list of a report that has some values."""
    for entry in report.get(row["list"], ()):
        if all(entry.get(key) == value for key, value in where.items()):
            values = entry.get("metrics", entry).get(row["metric"])
            return _cell(values) if values else ""
    return ""


def made_table(rows: list[Mapping[str, Any]], reports: Mapping[str, Report]) -> str:
    """Return the table of what is generated, for README.md.

    Args:
        rows: A title, a suite, the list of its report, the values that its row has (`where`), a metric, and, to stand
            beside it, the values of the rows of real things and of the wrong condition.
        reports: Suite -> report.
    """
    lines = ["| what is made | % | real things | wrong condition | goal | stretch |", "|---|---|---|---|---|---|"]
    for row in rows:
        report = reports.get(row["suite"], {})
        own, real, wrong = (
            _made_cell(report, row, row[key]) if key in row else "" for key in ("where", "real", "wrong")
        )
        cells = [row["title"], own or "not measured", real, wrong, row.get("ask", ""), row.get("stretch", "")]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "In brackets the 95% bootstrap interval over prompts. Who judges neither conditions nor trains any. How",
        "well each judge knows real things, all baselines, sample sheets: [eval/results](eval/results/README.md).",
    ]
    return "\n".join(lines)


def _made_index(reports: Mapping[str, Report]) -> list[str]:
    lines = [
        "",
        "## What is generated",
        "",
        "`embedspace eval generation eval/suites/generation_images.toml --out eval/results` writes them with sheets of",
        "samples (`<suite>.<group>.<source>.png`: source, nearest training items, samples; near-copies are framed in",
        "red) and the curve of the guidance. The judges come from `python -m training.judge_pictures` and",
        "`python -m training.judge_sounds`.",
        "",
        "| suite | what | commit | date | rows | heads |",
        "|---|---|---|---|---|---|",
    ]
    for name, report in sorted(reports.items()):
        heads = " ".join(f"{modality} {digest[:8]}" for modality, digest in sorted(report["heads"].items()))
        cells = [f"[{name}]({name}.md)", report["description"], report["commit"][:8], report["date"]]
        lines.append("| " + " | ".join([*cells, report["split_hash"][:8], heads]) + " |")
    return lines


def results_index(reports: Mapping[str, Report], made: Mapping[str, Report] | None = None) -> str:
    """Return the text of eval/results/README.md.

    Args:
        reports: Of retrieval.
        made: Of what is generated.
    """
    lines = [
        "# Results",
        "",
        "Each suite of `eval/suites/` writes three files here: the full report as JSON, the table, and a heat map",
        "where several modalities meet. `embedspace eval retrieval eval/suites/stamps.toml --out eval/results` writes",
        "them; `python -m eval.figures` writes this page and the table of README.md from them.",
        "",
        "- Search is exact, over the whole gallery that the suite names; ties count against the right answer.",
        "- `recall_at_k` is the CLIP convention (a right answer in the top k), `ir_recall_at_k` the IR convention",
        "  (share of the right answers found). A query that could not be encoded counts 0 and stays in.",
        "- Intervals are 95% bootstrap intervals over queries (1,000 samples, the seed is in the report); several",
        "  recordings of one caption count as separate queries.",
        "- `split_hash` is the digest of the rows that were measured, `weights` the fingerprints of the encoders.",
        "",
        "| suite | what | commit | date | rows | weights |",
        "|---|---|---|---|---|---|",
    ]
    for name, report in sorted(reports.items()):
        weights = " ".join(f"{modality} {digest[:8]}" for modality, digest in sorted(report["weights"].items()))
        cells = [f"[{name}]({name}.md)", report["description"], report["commit"][:8], report["date"]]
        lines.append("| " + " | ".join([*cells, report["split_hash"][:8], weights]) + " |")
    return "\n".join(lines + (_made_index(made) if made else [])) + "\n"


def replaced(text: str, table: str, start: str = START, end: str = END) -> str:
    """Return README.md's text with the table between two markers replaced; ends the program where there are none."""
    if start not in text or end not in text:
        raise SystemExit(f"README.md has no {start} ... {end}: add both lines where the table belongs")
    head, _, rest = text.partition(start)
    return f"{head}{start}\n{table}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """Rewrite both pages, or with --check tell whether they are up to date."""
    parser = argparse.ArgumentParser(description="Rewrite the tables of figures from eval/results/*.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is out of date")
    check = parser.parse_args().check
    reports = load_reports(ROOT / "eval/results")
    made = load_reports(ROOT / "eval/results", "generation_suite")
    tables = tomllib.loads((ROOT / "eval/figures.toml").read_text(encoding="utf-8"))
    readme, index = ROOT / "README.md", ROOT / "eval/results/README.md"
    text = replaced(readme.read_text(encoding="utf-8"), figures_table(tables["rows"], reports))
    if MADE_START in text:
        text = replaced(text, made_table(tables.get("made", []), made), MADE_START, MADE_END)
    pages = {readme: text, index: results_index(reports, made)}
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not check:
            path.write_text(pages[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'out of date' if check else 'rewritten'}")
    if stale and check:
        sys.exit(1)


if __name__ == "__main__":
    main()
