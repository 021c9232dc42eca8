"""Composed queries: does picture + words find a picture that neither finds alone?

The algebra is that of `embedspace.query.compose`, over vectors that are there already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError
from embedspace.evaluate.encode import EvalSpace
from embedspace.evaluate.intervals import Estimate, bootstrap, interval_of
from embedspace.evaluate.suite import Composed
from embedspace.query.algebra import compose_rows, phrase_row
from embedspace.query.reading import Names, join_names, stands_apart

__all__ = ["PARTS", "ComposedPair", "composed_queries", "paired_gain", "phrase_rows", "read_pairs"]

PARTS = ("picture + words", "picture alone", "words alone")
"""Labels of the composed query and of what it is made of."""
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ComposedPair:
    """One composed query.

    Attributes:
        base: Key of the picture.
        words: What is added to it.
        target: Key of the pictures to be found.
        name: What the target is called in full, for a reference beside the parts; empty for none.
    """

    base: str
    words: str
    target: str
    name: str = ""


def read_pairs(path: Path) -> list[ComposedPair]:
    """Read a JSONL file of pairs.

    Raises:
        ConfigError: If it is missing or a line is not a pair.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [ComposedPair(**json.loads(line)) for line in lines if line.strip()]
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the composed pairs: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f'{path}: a line is not a pair {{"base", "words", "target"}}: {error}') from None


def phrase_rows(named: Sequence[Names], words: Sequence[str], embed: Embed) -> NDArray[np.float32] | None:
    """Return what names and words make as one text, as `embedspace.query.compose` reads a picture + words.

    Args:
        named: For each query what its picture may be called.
        words: Words of each query.
        embed: Texts -> (N, embed_dim) unit rows.

    Returns:
        (Q, embed_dim) unit rows, for words that stand apart, too; None if nothing has a name.
    """
    if not all(named) or not named:
        return None
    read = [join_names([names, [(own, 1.0)]]) for names, own in zip(named, words, strict=True)]
    texts = sorted({text for phrases in read for text, _ in phrases})
    rows = dict(zip(texts, embed(texts), strict=True))
    phrases = [
        phrase_row([share for _, share in own], np.stack([rows[text] for text, _ in own])).astype(np.float32)
        for own in read
    ]
    return np.stack(phrases)


def composed_queries(
    composed: Composed,
    pairs: Sequence[ComposedPair],
    pictures: NDArray[np.float32],
    modality: str,
    space: EvalSpace,
    embed: Embed,
) -> dict[str, NDArray[np.float32]]:
    """Return what is searched for each pair: the composed query, its parts, and what it could have been instead.

    Args:
        composed: Has the weights.
        pairs: The queries.
        pictures: (pairs, embed_dim) unit rows of their pictures.
        modality: Modality of the pictures.
        space: Names the pictures.
        embed: Texts -> (N, embed_dim) unit rows.

    Returns:
        Label -> (pairs, embed_dim) unit rows.
    """
    said = [pair.words for pair in pairs]
    words, means = embed(said), space.calibration.means
    terms = [(composed.base_weight, modality, pictures), (composed.words_weight, "text", words)]
    read = phrase_rows(space.names(pictures, modality), said, embed)
    total = compose_rows(terms, means)
    queries = {PARTS[0]: total, PARTS[1]: pictures, PARTS[2]: words}
    if read is not None:
        always = compose_rows([*terms, (composed.base_weight + composed.words_weight, "text", read)], means)
        apart = np.array([bool(stands_apart(own)) for own in said])
        queries[PARTS[0]] = np.where(apart[:, None], total, always)
        queries["the sum of both, never read as one text"] = total
        queries["the sum of both, always read as one text, too"] = always
    if all(pair.name for pair in pairs):
        queries["target's full name"] = embed([pair.name for pair in pairs])
    return queries


def paired_gain(
    composed: NDArray[np.float64],
    parts: Sequence[NDArray[np.float64]],
    *,
    resamples: int,
    seed: int,
    clusters: NDArray[np.int64] | None = None,
) -> Estimate:
    """Return how far a composed query's metric lies above that of its better part, with a paired 95% interval.

    Args:
        composed: (Q,) metric of each composed query.
        parts: For each part alone its (Q,) metric of the same queries.
        resamples: Bootstrap samples; the better part is chosen anew in each.
        seed: Seed of the bootstrap.
        clusters: (F, Q) as `embedspace.evaluate.intervals.draw_counts`.
    """
    table = np.stack([composed, *parts], axis=1)  # (Q, 1 + parts)
    means = table.mean(axis=0)
    value = float(means[0] - means[1:].max())
    if resamples < 1:
        return Estimate(value, value, value)
    samples = bootstrap(table, resamples=resamples, seed=seed, clusters=clusters)
    low, high = interval_of(samples[:, 0] - samples[:, 1:].max(axis=1))
    return Estimate(value, float(low), float(high))
