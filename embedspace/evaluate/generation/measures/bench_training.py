"""Read the training items of a head for its bench: their latents, their features, their layouts; kept between runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedspace.evaluate.generation.made import networks_digest
from embedspace.evaluate.generation.measures.copies import CopyIndex
from embedspace.evaluate.items import EvalItem
from embedspace.generate.api import heads_folder

if TYPE_CHECKING:
    from embedspace.evaluate.generation.measures.bench import Bench

__all__ = ["training_copies"]

_READ = 128
"""Training items at once; what is read is kept after each."""
_PARTS = ("ids", "latents", "features", "layouts")


def training_copies(bench: Bench, items: Sequence[EvalItem], cache: Path | None) -> CopyIndex:
    """Add a head's training items to the bench's index of latents, and return the other index of near-copies.

    Args:
        bench: Its index holds the head's gallery; items that it lacks are added.
        items: All training items, those of the gallery among them.
        cache: Folder that keeps what was read; None to keep nothing.
    """
    path = _path(bench, cache)
    have = _kept(path)
    todo = [item for item in items if item.id not in set(have["ids"].tolist())]
    for start in range(0, len(todo), _READ):
        have = _joined(have, _read(bench, todo[start : start + _READ]))
        _keep(path, have)
        bench.tell("read training items", min(start + _READ, len(todo)), len(todo))
    wanted, known = {item.id for item in items}, set(bench.index.items)
    ids = have["ids"].tolist()
    new = [k for k, name in enumerate(ids) if name in wanted and name not in known]
    bench.index.add([ids[k] for k in new], have["latents"][new].astype(np.float32))
    chosen = [k for k, name in enumerate(ids) if name in wanted]
    features = have["features"][chosen].astype(np.float32)
    return CopyIndex([ids[k] for k in chosen], features, have["layouts"][chosen], bench.medium.reach)


def _path(bench: Bench, cache: Path | None) -> Path | None:
    if cache is None:
        return None
    networks = networks_digest(heads_folder(bench.space) / bench.suite.to)
    return cache / "made" / f"training-{bench.suite.to}-{networks[:12]}-{bench.judge.digest[:12]}.npz"


def _read(bench: Bench, items: Sequence[EvalItem]) -> dict[str, NDArray[Any]]:
    contents = bench.read(items)
    ids = [item.id for item in items if item.id in bench.reads]
    bench.reads.clear()
    if not ids:
        return _nothing()
    return {
        "ids": np.array(ids),
        "latents": bench.index.rows_of(contents).astype(np.float16),
        "features": bench.judge.copy_features(contents, bench.medium.sample_rate).astype(np.float16),
        "layouts": np.stack([bench.medium.layouts(content)[0] for content in contents]).astype(np.float16),
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
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **have)
    partial.replace(path)
