"""Fit a connector on texts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.connectors import identity_connector
from embedspace.errors import ConfigError
from embedspace.train.connect.methods import FITTERS, Start
from embedspace.train.connect.settings import ConnectReport, ConnectSettings, FittedConnector
from embedspace.train.connect.texts import Pairs, distinct_pairs, media_of, split_pairs
from embedspace.train.loop import FitProgress
from embedspace.train.ranks import target_ranks

__all__ = ["fit_connector"]

_DEPTH = 10


def fit_connector(
    source: NDArray[np.float32],
    target: NDArray[np.float32],
    settings: ConnectSettings | None = None,
    *,
    media: Mapping[str, NDArray[np.float32]] | None = None,
    callback: Callable[[FitProgress], None] | None = None,
) -> FittedConnector:
    """Fit a connector on texts alone.

    Args:
        source: (N, in_dim) unit rows: what the space that is to be connected makes of N texts.
        target: (N, embed_dim) unit rows: what the other space makes of the same texts. A text that either could not
            encode (a row that is not finite) is left out, and so is one whose source vector repeats.
        settings: How; blend by default.
        media: Modality -> (M, in_dim) unit rows of unlabelled media of the source space. Their mean is the
            modality's centre, and texts near to them count more (`focus`). A modality that is not named is centred
            like texts, which costs much where media and texts lie apart.
        callback: Told of the progress of the method mlp.

    Returns:
        The connector, frozen and rounded as it is stored, and the report on held-out texts.

    Raises:
        InputError: If the rows do not belong together, or there are too few texts or media.
        ConfigError: If the method is identity and the widths differ.
    """
    settings = settings or ConnectSettings()
    pairs = distinct_pairs(source, target)
    given = {name: media_of(rows, pairs.x.shape[1], name) for name, rows in (media or {}).items()}
    counted = {name: len(rows) for name, rows in given.items()}
    if settings.method == "identity":
        return _identity(pairs, counted)
    fitted, held = split_pairs(pairs, settings.held_out, settings.seed)
    trial = Start(fitted, given, settings, callback)
    tried = FITTERS[settings.method](trial, held)
    ranks = tried.ranks(held)
    final = FITTERS[settings.method](Start(pairs, given, tried.settings, callback), None)
    report = ConnectReport(
        settings.method,
        texts=len(pairs.x),
        held_out=len(held.x),
        recall_at_1=float((ranks <= 1).float().mean()),
        recall_at_10=float((ranks <= _DEPTH).float().mean()),
        chance_at_10=min(1.0, _DEPTH / len(held.x)),
        chosen=tried.chosen,
        media=counted,
    )
    return FittedConnector(final.connector.rounded(), report)


def _identity(pairs: Pairs, media: Mapping[str, int]) -> FittedConnector:
    """Return the identity, with the recall that it has."""
    if pairs.x.shape[1] != pairs.y.shape[1]:
        raise ConfigError(
            f"method identity from width {pairs.x.shape[1]} to {pairs.y.shape[1]}: use procrustes or blend"
        )
    ranks = target_ranks(pairs.x @ pairs.y.T, torch.arange(len(pairs.x)))
    first, tenth = (float((ranks <= k).float().mean()) for k in (1, _DEPTH))
    count = len(pairs.x)
    report = ConnectReport("identity", count, count, first, tenth, min(1.0, _DEPTH / count), media=media)
    return FittedConnector(identity_connector(pairs.x.shape[1]), report)
