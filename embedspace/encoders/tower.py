"""The encoder of type "tower": any tower, and where one was trained a projection behind it.

Its section of a space's configuration: `{"type": "tower", "tower": NAME}`, and optionally `"projection"` and `"tuned"`,
files beside config.json (`embedspace.encoders.trained`). NAME is one of the configuration's "towers", each with what
`create_tower` needs to make it again and the digest that it then has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.base import Encoder, to_rows
from embedspace.encoders.registry import register_encoder
from embedspace.encoders.shipped.image_features import cropped
from embedspace.encoders.towers.backbone import shared_networks
from embedspace.encoders.towers.base import Tower, create_tower
from embedspace.encoders.trained import Projection, apply_tuned, load_projection
from embedspace.errors import ConfigError, WeightsError

__all__ = ["TowerEncoder"]


class TowerEncoder(Encoder):
    """One modality of a tower.

    Args:
        tower: Takes the modality.
        modality: Which.
        projection: Into the space; without one the tower's rows, made unit, are the space.
    """

    def __init__(self, tower: Tower, modality: str, projection: Projection | None = None) -> None:
        super().__init__()
        tower.require(modality)
        width = tower.feature_dim(modality)
        if projection is not None and projection.feature_dim != width:
            raise WeightsError(
                f"tower {tower.name!r}: its {modality} rows are {width} wide, its projection takes "
                f"{projection.feature_dim}; train the projection again"
            )
        self.tower, self.modality, self.projection = tower, modality, projection
        self.embed_dim = width if projection is None else projection.embed_dim
        self.min_side = tower.image_size
        if tower.sample_rate is not None:
            self.sample_rate = tower.sample_rate
        if tower.window_seconds is not None:
            self.window_seconds = tower.window_seconds

    def fits(self, text: str) -> bool:
        """Return whether the tower keeps every token of a text."""
        return self.tower.max_tokens is None or self.tower.count_tokens(text) <= self.tower.max_tokens

    def prepare(self, media: Any) -> Any:  # noqa: ANN401
        """Lay a picture on white without its empty border; all else is the tower's own preprocessing."""
        return self.tower.prepare(self.modality, cropped(media) if isinstance(media, Image.Image) else media)

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of what is to be found."""
        return self._encode(prepared, "document")

    def encode_query(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of what is searched with."""
        return self._encode(prepared, "query")

    @torch.inference_mode()
    def _encode(self, prepared: Sequence[Any], role: str) -> NDArray[np.float32]:
        rows = self.tower.encode(self.modality, prepared, role=role).float()
        return to_rows(F.normalize(rows if self.projection is None else self.projection(rows), dim=-1))


@register_encoder("tower")
def _create(config: dict[str, Any], folder: Path, modality: str) -> TowerEncoder:
    known = {"tower", "projection", "tuned"}
    if unknown := sorted(set(config) - known):
        raise ConfigError(f"{folder / 'config.json'}: section {modality!r}: unknown key {', '.join(unknown)}")
    name, tuned = config["tower"], config.get("tuned")
    towers = shared_networks()
    key = f"tower {name} {tuned}"  # modalities of one tower share it
    if key not in towers:
        towers[key] = _tower(name, folder, tuned)
    projection = load_projection(folder / config["projection"]) if "projection" in config else None
    return TowerEncoder(towers[key], modality, projection)


def _tower(name: str, folder: Path, tuned: str | None) -> Tower:
    """Make a tower of the space's configuration, and see that it is the one that its vectors come from."""
    path = folder / "config.json"
    references = json.loads(path.read_text("utf-8")).get("towers", {})
    if name not in references:
        raise ConfigError(f"{path}: no tower {name!r}; known: {', '.join(references) or 'none'}")
    reference = references[name]
    tower = create_tower(reference["name"], folder=folder, options=reference.get("options", {}))
    if tower.digest != reference["digest"]:
        raise WeightsError(
            f"tower {name!r} ({reference['name']}): its weights or preprocessing are not those that {path} names; "
            "restore them, or build the space again"
        )
    if tuned is not None:
        apply_tuned(tower, folder / tuned)
    return tower
