"""Frozen pretrained networks in plain torch, made by name: `create_backbone("minilm_l6")`."""

from __future__ import annotations

from embedspace.encoders.towers.base import (
    Backbone,
    backbone_names,
    create_backbone,
    register_backbone,
    shared_backbones,
)

__all__ = ["Backbone", "backbone_names", "create_backbone", "register_backbone", "shared_backbones"]
