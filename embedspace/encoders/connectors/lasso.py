"""Write a vector as a sparse, non-negative combination of others: the lasso, solved exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["nonnegative_lasso"]

_JITTER = 1e-6
"""Added to the atoms' own products, so that atoms that nearly repeat can be told apart."""
_NOTHING = 1e-10


def nonnegative_lasso(gram: NDArray[np.float64], products: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Return the w >= 0 that minimises |x - w A|^2 / 2 + penalty * sum(w).

    The penalty falls from where all weights are zero to what is wanted; in between the weights move along straight
    lines, and at each corner one atom comes in or leaves. So the work grows with the atoms that take part.

    Args:
        gram: (K, K) products of the atoms, A A^T.
        products: (K,) products of the atoms with x.
        penalty: Above 0.

    Returns:
        (K,) weights, most of them zero.

    Source:
        Tibshirani 1996 (the lasso); Efron et al. 2004, Least angle regression, section 3.1 (the path) and 3.4
        (positive lasso).
    """
    weights = np.zeros(len(products))
    level = float(products.max(initial=0.0))
    if level <= penalty:
        return weights
    active = [int(products.argmax())]
    left = products.copy()  # products of the atoms with what is not yet explained
    dropped = -1
    for _ in range(8 * len(products)):
        chosen = np.array(active)
        inner = gram[np.ix_(chosen, chosen)] + _JITTER * np.eye(len(chosen))
        direction = np.linalg.solve(inner, np.ones(len(chosen)))
        falls = gram[:, chosen] @ direction
        step, event, entering = level - penalty, -1, False
        with np.errstate(divide="ignore", invalid="ignore"):
            enters = np.where(falls < 1 - _NOTHING, (level - left) / (1 - falls), np.inf)
            leaves = np.where(direction < 0, -weights[chosen] / direction, np.inf)
        enters[chosen] = np.inf
        if dropped >= 0:
            enters[dropped] = np.inf
        first, last = int(enters.argmin()), int(leaves.argmin())
        if enters[first] < step:
            step, event, entering = max(float(enters[first]), 0.0), first, True
        if leaves[last] < step:
            step, event, entering = float(leaves[last]), last, False
        weights[chosen] += step * direction
        left -= step * falls
        level -= step
        if event < 0:
            break
        dropped = -1
        if entering:
            active.append(event)
        else:
            dropped = active.pop(event)
            weights[dropped] = 0.0
            if not active:
                break
    return np.maximum(weights, 0.0)
