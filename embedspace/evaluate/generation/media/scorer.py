"""Score samples of a generator: by a judge, beside its training items and beside real things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError, InputError
from embedspace.evaluate.generation.judges import Judge, known_among
from embedspace.evaluate.generation.measures.clusters import clustered_mean, clustered_ratio
from embedspace.evaluate.generation.measures.copies import CopyIndex
from embedspace.evaluate.generation.measures.distributions import (
    diversity,
    frechet_distance,
    kernel_distance,
    near_copies,
    precision_recall_density_coverage,
)
from embedspace.evaluate.generation.media.medium import Content, Medium
from embedspace.evaluate.generation.media.suite import MediaSuite
from embedspace.evaluate.generation.media.training_index import TrainingIndex
from embedspace.evaluate.generation.samples import SampleCache
from embedspace.evaluate.generation.session import Session
from embedspace.evaluate.generation.sources import SourceVectors, vectors_for
from embedspace.evaluate.items import EvalItem
from embedspace.generate.latents.generator import LatentGenerator

__all__ = ["Prompts", "SampleScores", "Scorer"]

_NEIGHBOURS = 5  # of precision, recall, density and coverage
RECALL_AT = 10
PLANTED = 100
"""Disguised copies of training items, which tell how many a measure of near-copies finds."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleScores:
    """What judge and training items say of some samples of each of some prompts.

    Attributes:
        contents: For each prompt its samples.
        features: (N, D) of all of them, prompt by prompt.
        nearest: (N,) number of the training item each is most like.
        likeness: (N,) how much.
        copies: Measure of near-copies (see `copies`) -> (N,) likeness to the training item most like it.
    """

    contents: list[list[Content]]
    features: NDArray[np.float32]
    nearest: NDArray[np.int64]
    likeness: NDArray[np.float32]
    copies: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def owner(self) -> NDArray[np.int64]:
        """(N,) position of each sample's prompt."""
        return np.repeat(np.arange(len(self.contents)), [len(own) for own in self.contents])

    def per_prompt(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return (P,) means over each prompt's samples; NaN where there is none."""
        counts = np.bincount(self.owner, minlength=len(self.contents))
        sums = np.bincount(self.owner, weights=np.asarray(values, np.float64), minlength=len(self.contents))
        with np.errstate(invalid="ignore"):
            means: NDArray[np.float64] = sums / counts
        return means


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """What is asked for in a group.

    Attributes:
        items: One per prompt.
        names: What is to be seen or heard, as the judge is asked for it.
        classes: Names that one is chosen from.
        gallery: Names that the right one is ranked in; () for no ranking.
    """

    items: list[EvalItem]
    names: list[str]
    classes: list[str]
    gallery: list[str]

    @property
    def concepts(self) -> list[str]:
        """The concept of each prompt; prompts of one concept are drawn together where intervals are estimated."""
        return [str(item.row.get("concept") or item.key) for item in self.items]


@dataclass
class Scorer:
    """Everything that a suite's rows are scored with.

    Attributes:
        session: Session of the suite.
        generator: What is scores.
        medium: What it makes.
        judge: Says what samples show.
        samples: Makes them.
        index: Training items by their latents.
        copies: Training items by measures that no sampler looks at.
        reference: (N, K) the judge's kernel features of real things.
        held: Real things that the generator was never trained on, scored; what is far from being a copy.
        threshold: Likeness of latents from which a thing counts as a near copy.
        copy_limits: The same of each measure of `copies`.
        reads: Id -> a real thing that was read.
    """

    session: Session[MediaSuite]
    generator: LatentGenerator
    medium: Medium
    judge: Judge
    samples: SampleCache
    index: TrainingIndex
    copies: CopyIndex
    reference: NDArray[np.float32]
    held: SampleScores
    threshold: float = 1.0
    copy_limits: dict[str, float] = field(default_factory=dict)
    reads: dict[str, Content] = field(default_factory=dict)

    @property
    def suite(self) -> MediaSuite:
        """The suite."""
        return self.session.suite

    def score(self, contents: list[list[Content]]) -> SampleScores:
        """Let the judge and the training index see samples."""
        flat = [content for own in contents for content in own]
        features = self.judge.features(flat, self.medium.sample_rate)
        nearest, likeness = self.index.nearest(flat)
        return SampleScores(contents, features, nearest, likeness, self.likeness_to_copies(flat, nearest))

    def likeness_to_copies(
        self, contents: Sequence[Content], nearest: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        """Return how like a training item contents are by the measures that no sampler looks at."""
        if not len(self.copies):
            return {}
        layouts = [self.medium.layouts(content) for content in contents]
        proposed = [[self.index.items[number]] for number in nearest.tolist()]
        features = self.judge.copy_features(contents, self.medium.sample_rate)
        return self.copies.nearest(features, layouts, proposed).likeness

    def planted_copies(self, count: int = PLANTED) -> dict[str, float]:
        """Return the share of disguised copies of training items that each measure finds."""
        step = max(1, len(self.session.items[self.suite.training]) // count) if self.suite.training else 1
        chosen = self.session.items[self.suite.training][::step][:count] if self.suite.training else []
        contents = [self.medium.disguised(content, number) for number, content in enumerate(self.read(chosen))]
        if not contents:
            return {}
        nearest, likeness = self.index.nearest(contents)
        found = {"latents": near_copies(likeness, self.threshold)}
        for name, values in self.likeness_to_copies(contents, nearest).items():
            found[name] = near_copies(values, self.copy_limits[name])
        return {name: round(float(values.mean()), 4) for name, values in found.items()}

    def row(self, prompts: Prompts, scores: SampleScores, hits: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
        """Return the figures of a row."""
        near, groups = near_copies(scores.likeness, self.threshold), prompts.concepts
        figures: dict[str, Any] = {"prompts": len(scores.contents), "samples": len(scores.features)}
        figures["concepts"] = len(set(groups))
        figures |= {name: self.estimate(values, groups) for name, values in hits.items()}
        figures["near_copies"] = self.estimate(scores.per_prompt(near), groups)
        for name, limit in self.copy_limits.items():
            figures[f"near_copies_{name}"] = self.estimate(
                scores.per_prompt(near_copies(scores.copies[name], limit)), groups
            )
        figures["likeness"] = round(float(scores.likeness.mean()), 4)
        apart = diversity(_split(self.judge.kernel_features(scores.features), scores))
        if np.isfinite(apart).any():
            figures["diversity"] = self.estimate(apart, groups)
        return figures | self.distances(scores.features)

    def distances(self, features: NDArray[np.float32]) -> dict[str, Any]:
        """Return how the samples as a whole compare with the reference."""
        own = self.judge.kernel_features(features)
        if len(own) <= _NEIGHBOURS:
            return {}
        value, error = kernel_distance(self.reference, own)
        spread = precision_recall_density_coverage(self.reference, own, _NEIGHBOURS)
        return {
            "kernel_distance": [round(v, 5) for v in (value, value - 1.96 * error, value + 1.96 * error)],
            "frechet_distance": round(frechet_distance(self.reference, own), 4),
            **{name: round(share, 4) for name, share in spread.items()},
        }

    def hits(self, prompts: Prompts, scores: SampleScores, shift: int = 0) -> dict[str, NDArray[np.float64]]:
        """Return for each prompt the share of its samples that the judge knows it in.

        Args:
            prompts: As many as `scores` has.
            scores: Theirs.
            shift: The name that is looked for is that of so many prompts further on.
        """
        count = len(prompts.names)
        wanted = [prompts.names[(number + shift) % count] for number in scores.owner.tolist()]
        asked = {"top_1": (prompts.classes, 1), f"recall_at_{RECALL_AT}": (prompts.gallery, RECALL_AT)}
        return {
            name: scores.per_prompt(known_among(self.judge, scores.features, wanted, names, depth))
            for name, (names, depth) in asked.items()
            if names
        }

    def estimate(self, values: NDArray[np.float64], concepts: Sequence[str]) -> list[float]:
        """Return the mean over prompts with its 95% bootstrap interval over concepts."""
        return clustered_mean(values, concepts, resamples=self.suite.resamples)

    def ratio(
        self, values: NDArray[np.float64], other: NDArray[np.float64], concepts: Sequence[str]
    ) -> list[float] | None:
        """Return the ratio of two means over the same prompts with its 95% interval over concepts; None to nothing."""
        return clustered_ratio(values, other, concepts, resamples=self.suite.resamples)

    def difference(
        self, values: NDArray[np.float64], other: NDArray[np.float64], concepts: Sequence[str]
    ) -> list[float]:
        """Return the mean difference over the same prompts with its 95% interval over concepts."""
        return clustered_mean(values - other, concepts, resamples=self.suite.resamples)

    def read(self, items: Sequence[EvalItem]) -> list[Content]:
        """Return real things; one that cannot be read is recorded and left out."""
        out = []
        for item in items:
            if item.id not in self.reads:
                try:
                    self.reads[item.id] = self.medium.read(self.session.corpora / item.content)
                except InputError as error:
                    self.session.failures[item.id] = str(error)
                    continue
            out.append(self.reads[item.id])
        return out

    def prompts_of(self, name: str, limit: Sequence[int] | None = None) -> Prompts:
        """Return the prompts of a set; `limit` keeps some of them, with the names of all to choose from."""
        items = self.session.items[name]
        if self.judge.concepts:
            known = [item for item in items if item.key in self.judge.concepts]
            names, classes, gallery = [item.key for item in known], list(self.judge.concepts), []
        else:
            known = items
            names = [item.content for item in known]
            classes = list(dict.fromkeys(names))
            more = [item.content for captions in self.suite.captions for item in self.session.items[captions]]
            gallery = list(dict.fromkeys([*classes, *more]))[: self.suite.gallery]
        if not known:
            raise ConfigError(f"suite {self.suite.name}: the judge knows no concept of set {name!r}")
        if limit is not None:
            known, names = [known[n] for n in limit], [names[n] for n in limit]
        return Prompts(known, names, classes, gallery)

    def vectors_of(self, prompts: Prompts, source: str) -> SourceVectors:
        """Return the vectors of a source, a set's name or "voice engine:name", for the prompts that it has."""
        return vectors_for(self.session, prompts.items, source)


def _split(rows: NDArray[np.float32], scores: SampleScores) -> list[NDArray[np.float32]]:
    ends = np.cumsum([len(own) for own in scores.contents])
    return np.split(rows, ends[:-1])
