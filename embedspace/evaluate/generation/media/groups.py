"""The rows of a group of prompts: a generator of pictures or sounds beside its baselines.

Rows: what is made of each source; the other families; the same samples scored against another prompt (shuffled
condition); samples of no condition; the nearest training item of each source; real things; their reconstruction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.evaluate.generation.media.medium import as_kept, reconstruct, unconditional
from embedspace.evaluate.generation.media.scorer import Prompts, SampleScores, Scorer
from embedspace.evaluate.generation.media.suite import PromptGroup
from embedspace.evaluate.generation.sources import SourceVectors
from embedspace.evaluate.items import EvalItem

__all__ = ["GroupResult", "measure_group", "measure_sweep"]

Hits = dict[str, NDArray[np.float64]]
"""Measure -> for each prompt the share of its samples that the judge knows."""


@dataclass(slots=True, eq=False)
class GroupResult:
    """A group's rows, and what sample sheets show of it.

    Attributes:
        name: Name of the group.
        prompts: What was asked for.
        rows: For the report.
        samples: Source label -> which prompts it has, and its samples with their scores.
        other_families: Family -> samples of the text prompts with their scores.
        text_hits: Hits of what was made of the prompts' own texts; empty until that source was measured.
    """

    name: str
    prompts: Prompts
    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[str, tuple[list[int], SampleScores]] = field(default_factory=dict)
    other_families: dict[str, SampleScores] = field(default_factory=dict)
    text_hits: Hits = field(default_factory=dict)

    def add(self, system: str, source: str, family: str, figures: dict[str, Any]) -> None:
        """Add a row."""
        self.rows.append({"group": self.name, "system": system, "source": source, "family": family, **figures})

    def of_text(self, scorer: Scorer, hits: Hits, have: list[int], concepts: list[str]) -> dict[str, Any]:
        """Return hits as a share of those of text; nothing where text was not measured on every prompt."""
        if not self.text_hits or len(self.text_hits["top_1"]) != len(self.prompts.items):
            return {}
        ratios = {
            f"{name}_of_text": scorer.ratio(values, self.text_hits[name][have], concepts)
            for name, values in hits.items()
        }
        return {name: ratio for name, ratio in ratios.items() if ratio}


def measure_group(scorer: Scorer, group: PromptGroup) -> GroupResult:
    """Measure all rows of a group."""
    result = GroupResult(group.name, scorer.prompts_of(group.items))
    for label, source in group.sources.items():
        found = scorer.vectors_of(result.prompts, str(source))
        if found.have:
            _source_rows(scorer, group, result, label, found, is_text=source == group.items)
    _unconditional_row(scorer, result)
    if group.real:
        _real_rows(scorer, group, result)
    return result


def _source_rows(
    scorer: Scorer, group: PromptGroup, result: GroupResult, label: str, found: SourceVectors, *, is_text: bool
) -> None:
    """Add the rows of one source; the prompts' own texts have those of the other families besides."""
    have, family = found.have, scorer.suite.families[0]
    part = scorer.prompts_of(group.items, have)
    scores = scorer.score(scorer.samples.of(found.vectors, found.modality, f"{group.name}: {label}", family=family))
    result.samples[label] = (have, scores)
    hits = scorer.hits(part, scores)
    if is_text:
        result.text_hits = hits
    ratios = {} if is_text else result.of_text(scorer, hits, have, part.concepts)
    nearest = _nearest_items(scorer, found)
    nearest_hits = scorer.hits(part, nearest)

    def less(of: Hits, than: str) -> dict[str, Any]:
        return {
            f"{name}_less_{than}": scorer.difference(values, of[name], part.concepts) for name, values in hits.items()
        }

    alone = _alone(scorer, result, label, found) if is_text and scorer.suite.alone else None
    alone_hits = scorer.hits(part, alone) if alone is not None else {}
    more = less(nearest_hits, "nearest") | (less(alone_hits, "alone") if alone is not None else {})
    result.add("generated", label, family, scorer.row(part, scores, hits) | ratios | more)
    if alone is not None:
        result.add("generated, one candidate", label, family, scorer.row(part, alone, alone_hits))
    ratios = result.of_text(scorer, nearest_hits, have, part.concepts)
    result.add("nearest training item", label, "", scorer.row(part, nearest, nearest_hits) | ratios)
    if is_text:
        _other_family_rows(scorer, result, label, part, found)
        shuffled = scorer.hits(part, scores, 1)
        result.add("shuffled condition", label, family, scorer.row(part, scores, shuffled))


def _alone(scorer: Scorer, result: GroupResult, label: str, found: SourceVectors) -> SampleScores:
    """Return samples of one candidate each."""
    family, doing = scorer.suite.families[0], f"{result.name}: {label}, one candidate"
    return scorer.score(scorer.samples.of(found.vectors, found.modality, doing, family=family, alone=True))


def _other_family_rows(scorer: Scorer, result: GroupResult, label: str, part: Prompts, found: SourceVectors) -> None:
    """Add a row for each further family that the suite names."""
    for family in scorer.suite.families[1:]:
        if family not in scorer.generator.families:
            scorer.session.failures[family] = f"the generator has no family {family!r}"
            continue
        doing = f"{result.name}: {label}, {family}"
        scores = scorer.score(scorer.samples.of(found.vectors, found.modality, doing, family=family))
        result.other_families[family] = scores
        result.add("generated", label, family, scorer.row(part, scores, scorer.hits(part, scores)))


def _nearest_items(scorer: Scorer, found: SourceVectors) -> SampleScores:
    """Return the training item nearest to each vector, as the autoencoder keeps it."""
    centred = centre(found.vectors, found.modality, scorer.session.space.calibration.means)
    nearest = [[content for _, content in scorer.generator.neighbour_media(row, 1)] for row in centred]
    return scorer.score([[as_kept(scorer.medium, content) for content in own] for own in nearest])


def _unconditional_row(scorer: Scorer, result: GroupResult) -> None:
    """Add the row of samples of no condition, one per prompt."""
    prompts, family = result.prompts, scorer.suite.families[0]
    seeds = [scorer.suite.seeds[0] + number for number in range(len(prompts.items))]
    drawn = unconditional(scorer.generator, scorer.medium, family, seeds)
    scores = scorer.score([[content] for content in drawn])
    result.add("no condition", "", family, scorer.row(prompts, scores, scorer.hits(prompts, scores)))


def _real_rows(scorer: Scorer, group: PromptGroup, result: GroupResult) -> None:
    """Add rows of real things with the prompts' keys, and of what the autoencoder keeps of them."""
    own: dict[str, list[EvalItem]] = {}
    for item in scorer.session.items[group.real]:
        own.setdefault(item.key, []).append(item)
    each = scorer.suite.real_each
    real = [scorer.read(own.get(item.key, [])[:each]) for item in result.prompts.items]
    have = [number for number, contents in enumerate(real) if contents]
    if not have:
        return
    part = scorer.prompts_of(group.items, have)
    scores = scorer.score([real[number] for number in have])
    result.add("real", "", "", scorer.row(part, scores, scorer.hits(part, scores)))
    kept = scorer.score([reconstruct(scorer.generator, scorer.medium, real[number]) for number in have])
    result.add("reconstruction", "", "", scorer.row(part, kept, scorer.hits(part, kept)))


def measure_sweep(scorer: Scorer) -> list[dict[str, Any]]:
    """Return a row for each weight of the guidance, on prompts that nothing else is measured on."""
    sweep, family = scorer.suite.sweep, scorer.suite.families[0]
    if sweep is None:
        return []
    found = scorer.vectors_of(scorer.prompts_of(sweep.items), sweep.items)
    part = scorer.prompts_of(sweep.items, found.have)
    rows = []
    for scale in sweep.scales:
        doing = f"guidance {scale:g}"
        drawn = scorer.samples.of(found.vectors, found.modality, doing, family=family, guidance_scale=scale)
        scores = scorer.score(drawn)
        rows.append({"guidance_scale": scale, **scorer.row(part, scores, scorer.hits(part, scores))})
    return rows
