"""Judges of what is generated: what one must be able to say, and how it is asked."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError

__all__ = ["Judge", "known_among", "load_judge", "named_function"]


class Judge(Protocol):
    """Who says what a picture shows or what is heard; neither conditions nor trains a generator.

    Attributes:
        about: Its accuracy on real things that it never saw or heard; goes into the report.
        digest: Digest of its weights.
        concepts: The only names it knows; () if it can be asked for any.
    """

    @property
    def about(self) -> Mapping[str, Any]: ...  # noqa: D102 - see Attributes
    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def concepts(self) -> tuple[str, ...]: ...  # noqa: D102

    def features(self, contents: Sequence[NDArray[Any]], sample_rate: int = 0) -> NDArray[np.float32]:
        """Return (N, D) of pictures (H, W, 3) uint8, or of waveforms (T,) float32 at a rate in Hz."""
        ...

    def kernel_features(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, K) that distributions are compared by, of (N, D)."""
        ...

    def copy_features(self, contents: Sequence[NDArray[Any]], sample_rate: int = 0) -> NDArray[np.float32]:
        """Return (N, K) that near-copies are found by; no sampler has seen the network that they come from."""
        ...

    def scores(self, features: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, M): how well each of M names fits what has the features (N, D); higher is better."""
        ...


def named_function(name: str) -> Any:  # noqa: ANN401 - whatever the suite needs
    """Return the function "module:function"; the module may lie in the working folder, as `training` does.

    Raises:
        ConfigError: If there is none.
    """
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # the command's own script does not stand in the repository
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"judge {name!r}: {error}; run from the repository's root, with its extras") from None


def load_judge(name: str) -> Judge:
    """Return the judge that the function "module:function" returns.

    Raises:
        ConfigError: If there is no such function, or its judge is not trained.
    """
    judge: Judge = named_function(name)()
    return judge


def known_among(
    judge: Judge, features: NDArray[np.float32], wanted: Sequence[str], names: Sequence[str], depth: int
) -> NDArray[np.bool_]:
    """Return (N,) whether the right name is among the first `depth` that the judge gives; ties count against it.

    Args:
        judge: The judge.
        features: (N, D).
        wanted: N right names, all of them in `names`.
        names: What is chosen from, without repetition.
        depth: 1 for top-1.
    """
    scores = judge.scores(features, names)
    place = {text: number for number, text in enumerate(names)}
    mine = scores[np.arange(len(wanted)), [place[text] for text in wanted]]
    found: NDArray[np.bool_] = (scores >= mine[:, None]).sum(axis=1) <= depth
    return found
