"""Results that can be checked later: JSON with commit, seed and hashes, a Markdown table, and a heat map."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.errors import ConfigError, MissingExtraError
from embedspace.evaluate.encode import EvalSpace, Progress
from embedspace.evaluate.intervals import Estimate
from embedspace.evaluate.retrieval.direction import RetrievalResult
from embedspace.evaluate.retrieval.run import SuiteResult, corpora_folder, evaluate_suite
from embedspace.evaluate.suite import described, load_suite
from embedspace.modality import modality_names

__all__ = ["evaluate_retrieval", "git_commit", "heat_map", "markdown", "report", "splits_digest", "write_report"]

CACHE = Path("build/eval-cache")
_SHOWN_FAILURES = 20
_AXES = ("gallery", "query")


def git_commit(folder: Path | None = None) -> str:
    """Return the commit of the working tree around a folder, with "+changes" if it differs; "" outside a repository."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        # results are written while the tree is measured, so they do not count as a change
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)eval/results")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _estimate(estimate: Estimate) -> list[float]:
    return [round(estimate.value, 5), round(estimate.low, 5), round(estimate.high, 5)]


def _result(result: RetrievalResult) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "query": result.query,
        "gallery": result.gallery,
        "label": result.label,
        "num_queries": result.num_queries,
        "gallery_size": result.gallery_size,
        "num_missing": result.num_missing,
        "num_unanswerable": result.num_unanswerable,
        "primary_metric": result.primary_metric,
        "metrics": {name: _estimate(estimate) for name, estimate in result.metrics.items()},
        "chance": {name: round(value, 5) for name, value in result.chance.items()},
        "clusters": dict(result.clusters),
    }
    if result.groups:
        entry["group_mean"] = {name: _estimate(mean) for name, mean in result.group_mean.items()}
        entry["groups"] = {name: _result(group) for name, group in result.groups.items()}
    return entry


def splits_digest(corpora: Path) -> str:
    """Return the "hash" that the corpora's splits.json states, else the file's digest; "" where there is no file."""
    path = corpora / "splits.json"
    if not path.is_file():
        return ""
    content = path.read_bytes()
    try:
        return str(json.loads(content)["hash"])
    except (ValueError, KeyError, TypeError):
        return hashlib.sha256(content).hexdigest()


def report(result: SuiteResult, *, commit: str = "", corpora_splits: str = "", date: str = "") -> dict[str, Any]:
    """Return the JSON form of a result.

    Args:
        result: Result of `evaluate_suite`.
        commit: Commit of the code that measured.
        corpora_splits: Digest of the corpora's splits, over all that could be trained on.
        date: ISO date; today's by default.

    Returns:
        A table with suite, commit, date, seed, split_hash (of the rows measured), corpora_splits, weights (modality ->
        fingerprint), sizes, results (each metric as [value, low, high]), gains, failures.
    """
    suite = result.suite
    failures = dict(list(result.failures.items())[:_SHOWN_FAILURES])
    return {
        "suite": suite.name,
        "description": described(suite, result.sizes),
        "training": suite.training,
        "commit": commit,
        "date": date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": suite.seed,
        "resamples": suite.resamples,
        "split_hash": result.split_hash,
        "corpora_splits": corpora_splits,
        "weights": dict(result.weights_hash),
        "sizes": dict(result.sizes),
        "results": [_result(entry) for entry in result.results],
        "gains": {name: _estimate(gain) for name, gain in result.gains.items()},
        "num_failures": len(result.failures),
        "failures": failures,
    }


def _percent(estimate: list[float]) -> str:
    value, low, high = (100 * part for part in estimate)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _row(entry: Mapping[str, Any], name: str, recalls: list[str]) -> str:
    metrics = entry["metrics"]
    clusters = " × ".join(f"{number} {kind}" for kind, number in entry.get("clusters", {}).items())
    cells = [name, str(entry["num_queries"]), clusters, str(entry["gallery_size"])]
    cells += [_percent(metrics[recall]) for recall in recalls]
    cells += [f"{metrics['medr'][0]:g}", *(f"{100 * metrics[m][0]:.1f}" for m in ("mrr", "ndcg_at_10", "map"))]
    deepest = recalls[len(recalls) // 2 - 1]
    cells += [f"{100 * entry['chance'][deepest]:.1f}"]
    return "| " + " | ".join(cells) + " |"


def markdown(entry: Mapping[str, Any]) -> str:
    """Return a suite's report as Markdown.

    Args:
        entry: From `report`, or read back from its JSON.
    """
    ks = sorted(int(name.rpartition("_")[2]) for name in entry["results"][0]["chance"])
    recalls = [f"recall_at_{k}" for k in ks] + [f"ir_recall_at_{k}" for k in ks]
    head = ["direction", "queries", "clusters", "gallery"]
    head += [f"R@{k} (CLIP)" for k in ks] + [f"R@{k} (IR)" for k in ks]
    head += ["MedR", "MRR", "nDCG@10", "mAP", f"chance R@{ks[-1]}"]
    lines = [f"# {entry['suite']}", "", entry["description"], ""]
    if entry["training"]:
        lines += [f"Training: {entry['training']}", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for result in entry["results"]:
        name = f"{result['query']} → {result['gallery']}" + (f", {result['label']}" if result["label"] else "")
        lines.append(_row(result, name, recalls))
        lines += [_row(group, f"… {value}", recalls) for value, group in result.get("groups", {}).items()]
        if "group_mean" in result:
            mean = result["group_mean"]
            cells = [f"… mean of {len(result['groups'])}", "", "", str(result["gallery_size"])]
            cells += [_percent(mean[recall]) for recall in recalls] + [f"{mean['medr'][0]:.1f}"]
            cells += [f"{100 * mean[m][0]:.1f}" for m in ("mrr", "ndcg_at_10", "map")] + [""]
            lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    if entry["gains"]:
        gains = ", ".join(f"R@{name.rpartition('_')[2]} {_percent(gain)}" for name, gain in entry["gains"].items())
        lines += [f"Composed over the better of its parts, points: {gains}.", ""]
    weights = ", ".join(f"{modality} `{digest[:12]}`" for modality, digest in sorted(entry["weights"].items()))
    lines += [
        "Percent; [95% bootstrap interval over clusters of queries, which are drawn whole]. CLIP: share of queries "
        "with an answer in the top k; IR: share of a query's answers found. Ties count against the answer; a query "
        "without a vector counts 0.",
        "",
        f"Commit `{entry['commit'][:12] or 'unknown'}`, {entry['date']}, seed {entry['seed']}, rows "
        f"`{entry['split_hash'][:12]}`, weights {weights or 'unknown'}; {entry['num_failures']} items not encoded.",
        "",
    ]
    return "\n".join(lines)


def heat_map(
    entry: Mapping[str, Any], path: Path, metric: str = "recall_at_10", axes_names: tuple[str, str] = _AXES
) -> bool:
    """Draw the matrix of query against gallery modality.

    Args:
        entry: From `report`.
        path: The PNG file.
        metric: What is drawn, in percent.
        axes_names: What is written beside columns and rows.

    Returns:
        Whether there was a matrix to draw: directions between at least two sets named after modalities.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    order = modality_names()
    cells = {
        (result["query"], result["gallery"]): 100 * result["metrics"][metric][0]
        for result in entry["results"]
        if {result["query"], result["gallery"]} <= set(order) and not result["label"] and metric in result["metrics"]
    }
    names = [name for name in order if any(name in pair for pair in cells)]
    if len(names) < 2:
        return False
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("the heat map needs matplotlib: pip install 'embedspace[train]'") from error
    values = np.array([[cells.get((row, column), np.nan) for column in names] for row in names])
    figure = Figure(figsize=(1.6 + 0.9 * len(names), 1.2 + 0.8 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(values, vmin=0, vmax=100, cmap="viridis")
    for row, column in np.ndindex(values.shape):
        known = bool(np.isfinite(values[row, column]))
        axes.text(
            column,
            row,
            f"{values[row, column]:.1f}" if known else "–",
            ha="center",
            va="center",
            color="white" if known and values[row, column] < 60 else "black",
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(axes_names[0])
    axes.set_ylabel(axes_names[1])
    axes.set_title(f"{entry['suite']}: {metric}, %")
    figure.colorbar(image, ax=axes, shrink=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return True


def write_report(entry: Mapping[str, Any], out_dir: Path) -> list[Path]:
    """Write a report as <suite>.json, <suite>.md and, where there is a matrix, <suite>.png; returns the paths.

    Raises:
        MissingExtraError: If a heat map is due and matplotlib is not installed; JSON and table are written by then.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    written = [out_dir / f"{entry['suite']}.json", out_dir / f"{entry['suite']}.md"]
    written[0].write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    written[1].write_text(markdown(entry), encoding="utf-8")
    picture = out_dir / f"{entry['suite']}.png"
    return [*written, picture] if heat_map(entry, picture) else written


def evaluate_retrieval(
    suite_path: str | Path,
    space: EvalSpace,
    out_dir: str | Path | None = None,
    callback: Progress | None = None,
    *,
    corpora: str | Path | None = None,
    cache: str | Path | None = CACHE,
    **overrides: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Measure a suite and write its report; what `embedspace eval retrieval` calls.

    Args:
        suite_path: TOML file of the suite.
        space: The space to measure.
        out_dir: Where <suite>.json, .md and .png go; None to write nothing.
        callback: Called with (what, done, total).
        corpora: Folder of the corpora; `EMBEDSPACE_CORPORA` or build/corpora by default.
        cache: Folder that keeps vectors between runs; None to keep none.
        overrides: Fields of the `Suite` to replace, such as `resamples` or `seed`.

    Returns:
        The JSON form of the result, as `report`; `markdown(...)` of it is the table.

    Raises:
        ConfigError: If the suite, a manifest or a file it names cannot be read.
        MissingExtraError: If a library is not installed.
    """
    suite = load_suite(suite_path)
    try:
        suite = dataclasses.replace(suite, **overrides)
    except TypeError as error:
        raise ConfigError(f"{suite_path}: {error}") from None
    corpora = corpora_folder() if corpora is None else Path(corpora)
    result = evaluate_suite(
        space, suite, corpora=corpora, cache=None if cache is None else Path(cache), callback=callback
    )
    entry = report(result, commit=git_commit(suite.folder), corpora_splits=splits_digest(corpora))
    if out_dir is not None:
        write_report(entry, Path(out_dir))
    return entry
