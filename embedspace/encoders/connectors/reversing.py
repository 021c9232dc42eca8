"""A connector read the other way: rows of the shared space to rows of the tower that is connected to it."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F

from embedspace.encoders.connectors.config import TEXT
from embedspace.encoders.connectors.connector import Connector

__all__ = ["reversed_connector"]

_SMALLEST = 0.05
"""Directions of a linear map that keep less than this share of the largest are left out: they would grow to noise."""


@torch.no_grad()
def reversed_connector(connector: Connector, modality: str = TEXT) -> Connector | None:
    """Return the connector of the other direction.

    The linear map becomes its pseudoinverse (an orthogonal one its transpose), shared texts change sides, and rows come
    out around the centre of a modality of the tower.

    Args:
        connector: A -> B.
        modality: Whose centre rows of A are to lie around; that of texts where A has no centre of it.

    Returns:
        B -> A, frozen; None for a method that has no inverse ("mlp").
    """
    config = connector.config
    if config.method == "mlp":
        return None
    turned = dataclasses.replace(config, in_dim=config.embed_dim, embed_dim=config.in_dim, modalities=(TEXT,))
    made = Connector(turned)
    if config.method == "identity":
        return made.eval()
    place = config.modalities.index(modality) if modality in config.modalities else 0
    centre = connector.centres[place]
    made.centres.copy_(connector.target_centre[None])
    made.target_centre.copy_(centre)
    made.target_scale.copy_((1 - centre.square().sum()).clamp_min(0.0).sqrt())  # unit rows minus their mean
    if connector.linear is not None and made.linear is not None:
        made.linear.weight.copy_(torch.linalg.pinv(connector.linear.weight, rtol=_SMALLEST))
    if config.has_anchors:
        made.keys.copy_(F.normalize(connector.values, dim=-1))
        made.values.copy_(F.normalize(connector.keys, dim=-1))
    return made.requires_grad_(False).eval()
