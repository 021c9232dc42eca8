"""Pretrained networks, made by name.

`create_tower("open_clip:ViT-B-32/laion2b_s34b_b79k")` gives any network with its preprocessing;
`create_backbone("minilm_l6")` the bare bundled network that the shipped encoders are built on.
"""

from __future__ import annotations

from embedspace.encoders.towers.backbone import (
    Backbone,
    backbone_names,
    create_backbone,
    register_backbone,
    shared_backbones,
)
from embedspace.encoders.towers.base import Tower, TowerRequest, require_same
from embedspace.encoders.towers.registry import create_tower, register_tower, tower_prefixes

__all__ = [
    "Backbone",
    "Tower",
    "TowerRequest",
    "backbone_names",
    "create_backbone",
    "create_tower",
    "register_backbone",
    "register_tower",
    "require_same",
    "shared_backbones",
    "tower_prefixes",
]
