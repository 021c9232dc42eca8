"""Connectors: unit rows of one shared space in, unit rows of another out, fitted on texts alone.

Two spaces that were never trained together share nothing but text. A connector carries what one of them encodes,
texts, pictures or sounds, into the other, whose own vectors stay as they are:

    x = unit(row - centre of its modality)                                  (N, in_dim)
    y = (1 - share) * unit(base(x)) + share * unit(sum of w_i * v_i)        (N, embed_dim)
    out = unit(target_centre + target_scale * unit(y))

`base` is a linear map, or one plus an MLP. The sum runs over the shared texts nearest to x: w is the softmax of its
cosines with them over a temperature, v_i the centred vector of text i in the target space. A method has the base, the
texts, or both. The method sparse takes x apart instead of comparing it:

    w = argmin |x - sum of w_i * k_i|^2 / 2 + penalty * sum of w_i,  w >= 0    k_i the centred text i in its own space
    y = sum of w_i * v_i + share * base's linear map of (x - sum of w_i * k_i)

`embedspace.train.connect` fits all of it and names the papers.
"""

from __future__ import annotations

from embedspace.encoders.connectors.config import METHODS, ConnectorConfig
from embedspace.encoders.connectors.connector import Connector, identity_connector, load_connector, save_connector
from embedspace.encoders.connectors.reversing import reversed_connector

__all__ = [
    "METHODS",
    "Connector",
    "ConnectorConfig",
    "identity_connector",
    "load_connector",
    "reversed_connector",
    "save_connector",
]
