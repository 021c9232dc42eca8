"""Measure a generator of pictures or sounds beside its baselines, by a judge of its own.

Rows: what is made of each source; the other families; the same samples scored against another prompt (shuffled
condition); samples of no condition; the nearest training item of each source; real things; their reconstruction.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.evaluate.encode import Progress
from embedspace.evaluate.generation.measures.bench import Bench, Measured, Prompts, open_bench
from embedspace.evaluate.generation.measures.distributions import near_copies
from embedspace.evaluate.generation.media import Content, Medium, reconstruct, unconditional
from embedspace.evaluate.generation.media_suite import PromptGroup, load_media_suite
from embedspace.evaluate.items import EvalItem, rows_hash
from embedspace.evaluate.report import CACHE, git_commit, splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.generate.conditioning import centre
from embedspace.space import EmbeddingSpace

__all__ = ["GroupResult", "evaluate_media", "measure_group", "measure_sweep"]


@dataclass(frozen=True, slots=True, eq=False)
class GroupResult:
    """A group's rows, and what sample sheets show of it.

    Attributes:
        rows: For the report.
        made: Source label -> which prompts it has, and its samples.
        other: Family -> samples of the text prompts.
        prompts: What was asked for.
    """

    rows: list[dict[str, Any]]
    made: dict[str, tuple[list[int], Measured]]
    other: dict[str, Measured]
    prompts: Prompts


def measure_group(bench: Bench, group: PromptGroup) -> GroupResult:
    """Measure all rows of a group."""
    suite, prompts = bench.suite, bench.prompts_of(group.items)
    rows: list[dict[str, Any]] = []
    made: dict[str, tuple[list[int], Measured]] = {}
    other: dict[str, Measured] = {}
    text_hits: dict[str, NDArray[np.float64]] = {}

    def add(system: str, source: str, family: str, figures: dict[str, Any]) -> None:
        rows.append({"group": group.name, "system": system, "source": source, "family": family, **figures})

    def of_text(hits: dict[str, NDArray[np.float64]], have: list[int], concepts: list[str]) -> dict[str, Any]:
        if not text_hits or len(text_hits["top_1"]) != len(prompts.items):
            return {}
        found = {f"{name}_of_text": bench.ratio(v, text_hits[name][have], concepts) for name, v in hits.items()}
        return {name: ratio for name, ratio in found.items() if ratio}

    for label, source in group.sources.items():
        found = bench.vectors_of(prompts, str(source))
        have, vectors, modality = found.have, found.vectors, found.modality
        if not have:
            continue
        part = bench.prompts_of(group.items, have)
        family = suite.families[0]
        seen = bench.measure(bench.maker.make(vectors, modality, f"{group.name}: {label}", family=family))
        made[label] = (have, seen)
        hits = bench.hits(part, seen)
        if source == group.items:
            text_hits = hits
        ratios = of_text(hits, have, part.concepts) if source != group.items else {}
        add("generated", label, family, bench.row(part, seen, hits) | ratios)
        kept = _nearest(bench, vectors, modality)
        hits = bench.hits(part, kept)
        add("nearest training item", label, "", bench.row(part, kept, hits) | of_text(hits, have, part.concepts))
        if source != group.items:
            continue
        for another in suite.families[1:]:
            if another not in bench.head.families:
                bench.encoder.failures[another] = f"the head has no family {another!r}"
                continue
            doing = f"{group.name}: {label}, {another}"
            other[another] = bench.measure(bench.maker.make(vectors, modality, doing, family=another))
            add("generated", label, another, bench.row(part, other[another], bench.hits(part, other[another])))
        add("shuffled condition", label, family, bench.row(part, seen, bench.hits(part, seen, 1)))
    seeds = [suite.seeds[0] + n for n in range(len(prompts.items))]
    nothing = bench.measure([[one] for one in unconditional(bench.head, bench.medium, suite.families[0], seeds)])
    add("no condition", "", suite.families[0], bench.row(prompts, nothing, bench.hits(prompts, nothing)))
    if group.real:
        _real_rows(bench, group, prompts, add)
    return GroupResult(rows, made, other, prompts)


def _nearest(bench: Bench, vectors: NDArray[np.float32], modality: str) -> Measured:
    """Return the gallery item nearest to each vector, as the autoencoder keeps it."""
    centred = centre(vectors, modality, bench.space.calibration.means)
    found = [[content for _, content in bench.head.gallery_media(row, 1)] for row in centred]
    return bench.measure([[_as_kept(bench.medium, content) for content in own] for own in found])


def _as_kept(medium: Medium, content: Content) -> Content:
    return medium.restored(medium.rounded(content))


def _real_rows(bench: Bench, group: PromptGroup, prompts: Prompts, add: Any) -> None:  # noqa: ANN401 - a closure
    """Add rows of real things with the prompts' keys, and of what the autoencoder keeps of them."""
    own: dict[str, list[EvalItem]] = {}
    for item in bench.items[group.real]:
        own.setdefault(item.key, []).append(item)
    real = [bench.read(own.get(item.key, [])[: bench.suite.real_each]) for item in prompts.items]
    have = [number for number, contents in enumerate(real) if contents]
    if not have:
        return
    part = bench.prompts_of(group.items, have)
    seen = bench.measure([real[number] for number in have])
    add("real", "", "", bench.row(part, seen, bench.hits(part, seen)))
    kept = bench.measure([reconstruct(bench.head, bench.medium, real[number]) for number in have])
    add("reconstruction", "", "", bench.row(part, kept, bench.hits(part, kept)))


def measure_sweep(bench: Bench) -> list[dict[str, Any]]:
    """Return a row for each weight of the guidance, on prompts that nothing else is measured on."""
    assert bench.suite.sweep is not None
    prompts = bench.prompts_of(bench.suite.sweep.items)
    found = bench.vectors_of(prompts, bench.suite.sweep.items)
    part = bench.prompts_of(bench.suite.sweep.items, found.have)
    rows = []
    for scale in bench.suite.sweep.scales:
        family = bench.suite.families[0]
        doing = f"guidance {scale:g}"
        made = bench.maker.make(found.vectors, found.modality, doing, family=family, guidance_scale=scale)
        seen = bench.measure(made)
        rows.append({"guidance_scale": scale, **bench.row(part, seen, bench.hits(part, seen))})
    return rows


def _measures(bench: Bench) -> dict[str, dict[str, float]]:
    """Return for each measure of near-copies its threshold, and the share of disguised copies that it finds."""
    limits = {"latents": bench.threshold, **bench.copy_limits}
    found = bench.planted_copies()
    return {
        name: {"threshold": round(limit, 4), "found": found[name]} for name, limit in limits.items() if name in found
    }


def evaluate_media(
    suite_path: str | Path,
    space: EmbeddingSpace,
    out_dir: Path | None = None,
    callback: Progress | None = None,
    *,
    corpora: Path | None = None,
    cache: Path | None = CACHE,
) -> dict[str, Any]:
    """Measure a suite of kind "media"; what `embedspace eval generation` calls.

    Args:
        suite_path: TOML file.
        space: The space whose head is measured.
        out_dir: Where <suite>.json, .md, the curve and the sheets go; None to write nothing.
        callback: Called with (what, done, total).
        corpora: Folder of the corpora.
        cache: Folder that keeps vectors and samples between runs.

    Returns:
        The report; `media_report.markdown` of it is the table.

    Raises:
        ConfigError: If the suite, a manifest or the judge cannot be read.
        WeightsError: If the head is missing.
    """
    from embedspace.evaluate.generation.media_report import write_report
    from embedspace.evaluate.generation.sheets import write_sheets

    suite = load_media_suite(suite_path)
    folder = corpora_folder() if corpora is None else corpora
    bench = open_bench(suite, space, folder, cache, callback)
    results = [measure_group(bench, group) for group in suite.groups]
    sweep = measure_sweep(bench) if suite.sweep else []
    near = near_copies(bench.held.likeness, bench.threshold)
    entry: dict[str, Any] = {
        "generation_suite": suite.name,
        "kind": suite.kind,
        "to": suite.to,
        "description": suite.description,
        "commit": git_commit(suite.folder),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "split_hash": rows_hash(bench.items),
        "corpora_splits": splits_digest(folder),
        "weights": dict(space.fingerprints()),
        "heads": {suite.to: bench.head.digest},
        "gallery_size": len(bench.head.gallery),
        "training_items": len(bench.index),
        "reference_items": len(bench.reference),
        "captions_searched": max(len(result.prompts.gallery) for result in results),
        "judge": suite.judge,
        "judge_digest": bench.judge.digest,
        "judge_about": dict(bench.judge.about),
        "seeds": list(suite.seeds),
        "held": {
            "items": len(near),
            "threshold": round(bench.threshold, 4),
            "near_copies": round(float(near.mean()), 4),
            "likeness": round(float(bench.held.likeness.mean()), 4),
            "measures": _measures(bench),
        },
        "seconds_each": round(bench.maker.seconds / bench.maker.made, 3) if bench.maker.made else None,
        "rows": [row for result in results for row in result.rows],
        "sweep": sweep,
        "failures": dict(list(bench.encoder.failures.items())[:20]),
    }
    if out_dir is not None:
        write_report(entry, out_dir)
        if suite.sheet:
            write_sheets(bench, results, out_dir)
    return json.loads(json.dumps(entry, default=float)) if out_dir is None else entry
