"""Open a scorer: the judge, real things to compare with, and the training items, which are kept between runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.evaluate.generation.judges import Judge, load_judge
from embedspace.evaluate.generation.measures.copies import MEASURES, CopyIndex
from embedspace.evaluate.generation.measures.distributions import copy_threshold
from embedspace.evaluate.generation.media.medium import medium_of
from embedspace.evaluate.generation.media.scorer import SampleScores, Scorer
from embedspace.evaluate.generation.media.suite import MediaSuite
from embedspace.evaluate.generation.media.training_index import TrainingIndex
from embedspace.evaluate.generation.samples import SampleCache
from embedspace.evaluate.generation.session import Session
from embedspace.evaluate.items import EvalItem
from embedspace.files import replacing

__all__ = ["bare_scorer", "open_scorer"]

_READ = 128
"""Training items at once; what is read is kept after each."""
_PARTS = ("ids", "latents", "features", "layouts")
_MADE_BY = ("autoencoder.safetensors", "gallery.safetensors")
"""What latents of training items follow from; families may come and go."""


def open_scorer(session: Session[MediaSuite]) -> Scorer:
    """Read everything that a suite's rows are scored with.

    Raises:
        ConfigError: If the judge or the generator is not of the kind that is needed.
        WeightsError: If the generator is missing.
    """
    suite, items = session.suite, session.items
    scorer = bare_scorer(session, load_judge(suite.judge))
    judge, medium = scorer.judge, scorer.medium
    if suite.training:
        scorer.copies = _training_copies(scorer, items[suite.training])
    session.tell("see real ones", 0, 1)
    scorer.reference = judge.kernel_features(judge.features(scorer.read(items[suite.reference]), medium.sample_rate))
    scorer.held = scorer.score([[content] for content in scorer.read(items[suite.held])])
    scorer.threshold = copy_threshold(scorer.held.likeness, suite.copies)
    if len(scorer.copies):
        scorer.copy_limits = {name: copy_threshold(scorer.held.copies[name], suite.copies) for name in MEASURES}
    session.tell("see real ones", 1, 1)
    return scorer


def bare_scorer(session: Session[MediaSuite], judge: Judge) -> Scorer:
    """Return what asks a judge of samples, with nothing to compare them with.

    Raises:
        ConfigError: If the generator is not of the kind that is needed.
        WeightsError: If it is missing.
    """
    suite = session.suite
    generator, medium = medium_of(session.space.generators[suite.to])
    samples = SampleCache(session.space, suite.to, medium, suite.seeds, session.cache, session.tell)
    samples.candidates, samples.start = suite.candidates or None, suite.start
    index, nothing = TrainingIndex(generator, medium), np.zeros((0, 1), np.float32)
    unscored = SampleScores([], nothing, np.zeros(0, np.int64), np.zeros(0, np.float32))
    copies = CopyIndex([], nothing, np.zeros((0, 1, 1), np.float16), medium.reach)
    return Scorer(session, generator, medium, judge, samples, index, copies, nothing, unscored)


def _training_copies(scorer: Scorer, items: Sequence[EvalItem]) -> CopyIndex:
    """Add a generator's training items to the scorer's index of latents, and return the other index of near copies.

    Args:
        scorer: Its index holds the generator's neighbours; items that it lacks are added.
        items: All training items, the neighbours among them.
    """
    path = _path(scorer)
    have = _kept(path)
    todo = [item for item in items if item.id not in set(have["ids"].tolist())]
    for start in range(0, len(todo), _READ):
        have = _joined(have, _read(scorer, todo[start : start + _READ]))
        _keep(path, have)
        scorer.session.tell("read training items", min(start + _READ, len(todo)), len(todo))
    wanted, known = {item.id for item in items}, set(scorer.index.items)
    ids = have["ids"].tolist()
    new = [k for k, name in enumerate(ids) if name in wanted and name not in known]
    scorer.index.add([ids[k] for k in new], have["latents"][new].astype(np.float32))
    chosen = [k for k, name in enumerate(ids) if name in wanted]
    features = have["features"][chosen].astype(np.float32)
    return CopyIndex([ids[k] for k in chosen], features, have["layouts"][chosen], scorer.medium.reach)


def _path(scorer: Scorer) -> Path | None:
    session = scorer.session
    if session.cache is None:
        return None
    own = session.space.generators.folder / scorer.suite.to
    total = hashlib.sha256()
    for part in _MADE_BY:
        total.update((own / part).read_bytes())
    digest = total.hexdigest()[:12]
    return session.cache / "made" / f"training-{scorer.suite.to}-{digest}-{scorer.judge.digest[:12]}.npz"


def _read(scorer: Scorer, items: Sequence[EvalItem]) -> dict[str, NDArray[Any]]:
    contents = scorer.read(items)
    ids = [item.id for item in items if item.id in scorer.reads]
    scorer.reads.clear()
    if not ids:
        return _nothing()
    return {
        "ids": np.array(ids),
        "latents": scorer.index.rows_of(contents).astype(np.float16),
        "features": scorer.judge.copy_features(contents, scorer.medium.sample_rate).astype(np.float16),
        "layouts": np.stack([scorer.medium.layouts(content)[0] for content in contents]).astype(np.float16),
    }


def _nothing() -> dict[str, NDArray[Any]]:
    return {
        "ids": np.array([], str),
        "latents": np.zeros((0, 0), np.float16),
        "features": np.zeros((0, 0), np.float16),
        "layouts": np.zeros((0, 0, 0), np.float16),
    }


def _joined(first: dict[str, NDArray[Any]], more: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if not len(first["ids"]) or not len(more["ids"]):
        return first if len(first["ids"]) else more
    return {name: np.concatenate([first[name], more[name]]) for name in _PARTS}


def _kept(path: Path | None) -> dict[str, NDArray[Any]]:
    if path is None or not path.is_file():
        return _nothing()
    with np.load(path) as stored:
        return {name: stored[name] for name in _PARTS}


def _keep(path: Path | None, have: dict[str, NDArray[Any]]) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **have)
