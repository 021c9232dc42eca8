"""Rewrite the tables of figures from the committed results.

    python -m eval.figures        # a second; reads eval/results/*.json, rewrites the pages
    python -m eval.figures --check        # writes nothing; ends with 1 if a table is out of date, or a report was not
                                          # measured with the weights that ship; `make figures` runs it

docs/figures.md keeps its table between <!-- figures:start --> and <!-- figures:end -->, and one of what is generated
between <!-- made:start --> and <!-- made:end --> if it has these, and one of films (`eval/film_figures.py`) between
<!-- films:start --> and <!-- films:end -->; which rows they have, figures.toml says. README.md
shows the rows that have a `headline`, between the same markers, beside chance. Counts in titles
come from the reports: "{queries}", "{gallery}", "{missing}", "{groups}" and what intervals draw ("{concept}").
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.film_figures import END as FILMS_END
from eval.film_figures import START as FILMS_START
from eval.film_figures import films_table, load_films
from eval.marks import Mark, legend, marked, marks_of, page_with_marks

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- figures:start -->", "<!-- figures:end -->"
MADE_START, MADE_END = "<!-- made:start -->", "<!-- made:end -->"

Report = Mapping[str, Any]


def load_reports(folder: Path, key: str = "suite") -> dict[str, Report]:
    """Return suite name -> report of every JSON file of results in a folder.

    Args:
        folder: Where they lie.
        key: Under which a report names its suite: "suite" of retrieval, "generation_suite" of what is generated,
            "table" of what a command of its own measures.
    """
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return {report[key]: report for report in reports if isinstance(report, dict) and key in report}


def find_result(report: Report, row: Mapping[str, str]) -> Report | None:
    """Return the direction of a report that a row of figures.toml names."""
    for result in report["results"]:
        if all(row.get(key, result[key]) == result[key] for key in ("query", "gallery", "label")):
            return dict(result["groups"][row["group"]] if "group" in row else result)
    return None


def filled(title: str, counts: Mapping[str, object]) -> str:
    """Return a title with its counts in place of "{name}"; "–" for all of them where nothing was measured.

    Ends the program where the report has no such count.
    """

    def count_of(match: re.Match[str]) -> str:
        if counts and match[1] not in counts:
            raise SystemExit(f"figures.toml: {title!r} counts {match[0]}; the report has: {' '.join(counts)}")
        return str(counts.get(match[1], "–"))

    return re.sub(r"\{(\w+)\}", count_of, title)


def _counts(result: Report) -> dict[str, object]:
    """Return what a title may count of a direction."""
    own = {
        "queries": result["num_queries"],
        "gallery": result["gallery_size"],
        "missing": result["num_missing"],
        "groups": " ".join(result.get("groups", ())),
    }
    return {**result.get("clusters", {}), **own}


def _cell(value: Sequence[float]) -> str:
    interval = f" [{100 * value[1]:.0f}, {100 * value[2]:.0f}]" if len(value) == 3 else ""
    return f"{100 * value[0]:.1f}{interval}"


def _values(value: float | list[float]) -> list[float]:
    """Return a metric as a list; means of groups had no interval in earlier reports."""
    return value if isinstance(value, list) else [value]


def figure_row(row: Mapping[str, Any], reports: Mapping[str, Report], marks: Sequence[Mark] = ()) -> str:
    """Return one row of the table."""
    report = reports.get(row["suite"])
    result = find_result(report, row) if report else None
    title = filled(row["title"], {} if result is None else _counts(result))
    cells = [marked(title, marks_of(row, marks))]
    if report is None or result is None:
        cells += ["–", "not measured", "", ""]
    elif row.get("from") == "gain":
        gains = report["gains"]
        cells += [str(result["gallery_size"]), _cell(gains["recall_at_1"]), _cell(gains["recall_at_10"]), ""]
    else:
        metrics = {name: _values(v) for name, v in result[row.get("from", "metrics")].items()}
        cells += [str(result["gallery_size"]), _cell(metrics["recall_at_1"]), _cell(metrics["recall_at_10"])]
        medr = metrics["medr"][0]
        cells.append(f"{medr:.1f}" if "from" in row else f"{medr:g}")
    cells += [row.get("ask", ""), row.get("stretch", "")]
    return "| " + " | ".join(cells) + " |"


def _below(rows: Sequence[Mapping[str, Any]], marks: Sequence[Mark]) -> list[str]:
    """Return what stands under a table of what its marks mean."""
    lines = legend(marks, [number for row in rows for number in marks_of(row, marks)])
    return ["", *lines] if lines else []


def figures_table(rows: Sequence[Mapping[str, Any]], reports: Mapping[str, Report], marks: Sequence[Mark] = ()) -> str:
    """Return the table for docs/figures.md."""
    lines = [
        "| direction | gallery | R@1, % | R@10, % | MedR | goal R@1 / R@10 | stretch |",
        "|---|---|---|---|---|---|---|",
        *(figure_row(row, reports, marks) for row in rows),
        "",
        "In brackets the 95% bootstrap interval over captions, concepts or voices. R@k: a right answer in the first k.",
        "All 12 directions, the other metrics and how it was measured: [eval/results](eval/results/README.md).",
        *_below(rows, marks),
    ]
    return "\n".join(lines)


def headline_table(rows: Sequence[Mapping[str, Any]], reports: Mapping[str, Report], marks: Sequence[Mark] = ()) -> str:
    """Return the short table for README.md: the rows that have a `headline`, each beside its chance."""
    touched = False
    lines = [
        "| you give → it finds | among | first, % | in the first ten, % | by chance, % |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        report = reports.get(row["suite"])
        result = find_result(report, row) if report and "headline" in row else None
        if result is not None:
            metrics = {name: _values(v) for name, v in result["metrics"].items()}
            mark = " †" if marks_of(row, marks) else ""
            touched = touched or bool(mark)
            cells = [filled(row["headline"], _counts(result)) + mark, str(result["gallery_size"])]
            cells += [_cell(metrics["recall_at_1"]), _cell(metrics["recall_at_10"])]
            lines.append("| " + " | ".join([*cells, f"{100 * result['chance']['recall_at_10']:.1f}"]) + " |")
    if touched:
        lines += ["", "† A choice was made in sight of these test items: [which](docs/figures.md)."]
    return "\n".join(lines)


def _beside_docs(table: str) -> str:
    """Return a table with its links as a page in docs has them."""
    return re.sub(r"\]\((eval|training)/", r"](../\1/", table)


def _made_counts(report: Report, row: Mapping[str, Any]) -> dict[str, object]:
    """Return what a title may count of a row of what is generated."""
    own = next((e for e in report.get(row["list"], ()) if _has(e, row["where"])), None)
    if own is None:
        return {}
    counts = {name: v for table in (report, own) for name, v in table.items() if isinstance(v, int)}
    if "held" in report:
        counts["held"] = f"{100 * report['held']['near_copies']:.0f}%"
    return counts


def _has(entry: Report, where: Mapping[str, Any]) -> bool:
    return all(entry.get(key) == value for key, value in where.items())


def _made_values(report: Report, row: Mapping[str, Any], where: Mapping[str, Any], metric: str) -> list[float]:
    """Return a metric of the row of a list of a report that has some values; [] where there is none."""
    for entry in report.get(row["list"], ()):
        if _has(entry, where):
            return list(entry.get("metrics", entry).get(metric) or [])
    return []


def _made_cell(report: Report, row: Mapping[str, Any], where: Mapping[str, Any]) -> str:
    """Return the metric of a row, and behind a slash the stricter one that `every` names."""
    found = [_made_values(report, row, where, row[key]) for key in ("metric", "every") if key in row]
    return " / ".join(_cell(values) for values in found if values)


def made_table(rows: Sequence[Mapping[str, Any]], reports: Mapping[str, Report], marks: Sequence[Mark] = ()) -> str:
    """Return the table of what is generated, for docs/figures.md.

    Args:
        rows: A title, a suite, the list of its report, the values that its row has (`where`), a metric, perhaps a
            stricter one (`every`), and, to stand beside it, the values of the rows of the nearest training item or
            caption (`nearest`), of real things and of the wrong condition.
        reports: Suite -> report.
        marks: Of figures.toml.
    """
    lines = [
        "| what is made | generated, % | nearest training item or caption | real things | wrong condition | "
        "goal | stretch |",
        "|---|---|---|---|---|---|---|",
    ]
    compared, lost = 0, 0
    for row in rows:
        report = reports.get(row["suite"], {})
        own, nearest, *beside = (
            _made_cell(report, row, row[key]) if key in row else "" for key in ("where", "nearest", "real", "wrong")
        )
        if own and nearest:
            made, shown = (_made_values(report, row, row[key], row["metric"])[0] for key in ("where", "nearest"))
            compared, lost = compared + 1, lost + (shown > made)
            own = f"**{own}**" if made > shown else own
            nearest = f"**{nearest}**" if shown > made else nearest
        title = marked(filled(row["title"], _made_counts(report, row)), marks_of(row, marks))
        cells = [title, own or "not measured", nearest, *beside, row.get("ask", ""), row.get("stretch", "")]
        lines.append("| " + " | ".join(cells) + " |")
    if lost:
        lines += [
            "",
            f"Bold: the better of the two. In {lost} of {compared} rows generation **loses** to showing the nearest",
            "training item or saying the nearest caption.",
        ]
    lines += [
        "",
        "In brackets the 95% bootstrap interval over concepts. Who judges neither conditions nor trains any. How",
        "well each judge knows real things, all baselines, sample sheets: [eval/results](eval/results/README.md).",
        *_below(rows, marks),
    ]
    return "\n".join(lines)


def _made_index(reports: Mapping[str, Report], marks: Sequence[Mark]) -> list[str]:
    return [
        "",
        "## What is generated",
        "",
        "`embedspace eval generation eval/suites/generation_images.toml --out eval/results` writes them with sheets of",
        "samples (`<suite>.<group>.<source>.png`: source, nearest training items, samples; near-copies are framed in",
        "red) and the curve of the guidance. The judges come from `python -m training.judges.pictures` and",
        "`python -m training.judges.sounds`; [judges](judges.md) asks a second one of pictures beside the first.",
        "",
        *_suites(reports, marks, "heads"),
    ]


def results_index(
    reports: Mapping[str, Report], made: Mapping[str, Report] | None = None, marks: Sequence[Mark] = ()
) -> str:
    """Return the text of eval/results/README.md.

    Args:
        reports: Of retrieval.
        made: Of what is generated.
        marks: Of figures.toml.
    """
    lines = [
        "# Results",
        "",
        "Each suite of `eval/suites/` writes three files here: the full report as JSON, the table, and a heat map",
        "where several modalities meet. `embedspace eval retrieval eval/suites/stamps.toml --out eval/results` writes",
        "them; `python -m eval.figures` writes this page, docs/figures.md and the table of README.md from them.",
        "",
        "- Search is exact, over the whole gallery that the suite names; ties count against the right answer.",
        "- `recall_at_k` is the CLIP convention (a right answer in the top k), `ir_recall_at_k` the IR convention",
        "  (share of the right answers found). A query that could not be encoded counts 0 and stays in.",
        "- Intervals are 95% bootstrap intervals (1,000 samples, the seed is in the report). They draw clusters of",
        "  queries whole, since recordings of one caption, or all that one voice says, are right or wrong together",
        "  (Field and Welsh 2007, Bootstrapping clustered data; where captions and voices cross, the pigeonhole",
        "  bootstrap of Owen 2007). Each table says what was drawn. A mean of groups draws one sample for all of them.",
        "- A † says that a choice was made in sight of these test items; the suite's page says which.",
        "- `split_hash` is the digest of the rows that were measured, `weights` the fingerprints of the encoders.",
        "",
        *_suites(reports, marks, "weights"),
    ]
    return "\n".join(lines + (_made_index(made, marks) if made else [])) + "\n"


def _suites(reports: Mapping[str, Report], marks: Sequence[Mark], digests: str) -> list[str]:
    """Return the table of suites; its last column holds the digests under a key of the reports."""
    lines = [f"| suite | what | commit | date | rows | {digests} |", "|---|---|---|---|---|---|"]
    for name, report in sorted(reports.items()):
        short = " ".join(f"{modality} {digest[:8]}" for modality, digest in sorted(report[digests].items()))
        cells = [_linked(name, marks), report["description"], report["commit"][:8], report["date"]]
        lines.append("| " + " | ".join([*cells, report["split_hash"][:8], short]) + " |")
    return lines


def _linked(name: str, marks: Sequence[Mark]) -> str:
    """Return a link to a suite's page, with † where it has marks."""
    touched = any(part.get("suite") == name for mark in marks for part in mark["of"])
    return f"[{name}]({name}.md)" + " †" * touched


def replaced(text: str, table: str, start: str = START, end: str = END) -> str:
    """Return a page's text with the table between two markers replaced; ends the program where there are none."""
    if start not in text or end not in text:
        raise SystemExit(f"a page has no {start} ... {end}: add both lines where the table belongs")
    head, _, rest = text.partition(start)
    return f"{head}{start}\n{table}\n{end}{rest.partition(end)[2]}"


def pages_of(root: Path) -> dict[Path, str]:
    """Return each page that follows from the results -> the text that it must have."""
    reports = load_reports(root / "eval/results")
    made = load_reports(root / "eval/results", "generation_suite")
    tables = tomllib.loads((root / "eval/figures.toml").read_text(encoding="utf-8"))
    marks = tables.get("marks", [])
    readme, page = root / "README.md", root / "docs/figures.md"
    text = replaced(page.read_text(encoding="utf-8"), _beside_docs(figures_table(tables["rows"], reports, marks)))
    if MADE_START in text:
        table = made_table(tables.get("made", []), made, marks)
        text = replaced(text, _beside_docs(table), MADE_START, MADE_END)
    films = load_films(tables.get("films", []), root / "eval/results")
    if FILMS_START in text:
        table = films_table(tables.get("films", []), films, marks)
        text = replaced(text, _beside_docs(table), FILMS_START, FILMS_END)
    pages = {
        readme: replaced(readme.read_text(encoding="utf-8"), headline_table(tables["rows"], reports, marks)),
        page: text,
        root / "eval/results/README.md": results_index(reports, made, marks),
    }
    for name in [*reports, *made, *films]:
        page = root / f"eval/results/{name}.md"
        if page.is_file():
            pages[page] = page_with_marks(page.read_text(encoding="utf-8"), name, marks)
    return pages


def stale_lines(root: Path) -> list[str]:
    """Return a line for each encoder or head of a report that is not the one that ships."""
    from eval.stale import shipped, stale_reports, stale_tables

    folder = root / "eval/results"
    now = shipped()
    stale = stale_reports(load_reports(folder), load_reports(folder, "generation_suite"), now, root / "eval/suites")
    return stale + stale_tables(load_reports(folder, "table"), now)


def main() -> None:
    """Rewrite the pages, or with --check tell whether they are up to date and measured with what ships."""
    parser = argparse.ArgumentParser(description="Rewrite the tables of figures from eval/results/*.json.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a table is out of date or a report is stale"
    )
    check = parser.parse_args().check
    pages = pages_of(ROOT)
    outdated = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in outdated:
        if not check:
            path.write_text(pages[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'out of date' if check else 'rewritten'}")
    stale = stale_lines(ROOT) if check else []
    for line in stale:
        print(line)
    if check and (outdated or stale):
        sys.exit(1)


if __name__ == "__main__":
    main()
