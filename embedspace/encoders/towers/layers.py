"""A tower whose rows hold more of its layers: on the way a network sees more than its last layer keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from embedspace.encoders.towers.base import Tower
from embedspace.errors import ConfigError
from embedspace.modality import Modality

__all__ = ["LayeredTower"]


class LayeredTower(Tower):
    """A tower of pictures whose rows are its own and, behind them, the outputs of some of its layers.

    An output (B, C, H, W) is averaged over its positions, (B, T, C) over its tokens, (B, C) is taken as it is, such as
    the scores of a classifier. Texts and sounds are padded to the longest of a batch, so that a mean over positions
    would depend on what is encoded beside them: layers are for pictures alone.

    Args:
        tower: Takes pictures alone.
        layers: Names of modules as in `named_modules`, or endings of them, such as "stages.2"; in this order.

    Raises:
        ConfigError: If a name is no layer's or several layers', or the tower takes more than pictures.
    """

    def __init__(self, tower: Tower, layers: Sequence[str]) -> None:
        if tower.modalities != (Modality.IMAGE.value,):
            raise ConfigError(
                f"tower {tower.name!r}: layers are for towers of pictures alone, it is used for "
                f'{", ".join(tower.modalities)}; write modalities = ["image"]'
            )
        about = {**tower.preprocessing, "layers": list(layers)}
        super().__init__(tower.name, tower.modalities, files=tower.files, preprocessing=about, revision=tower.revision)
        self.tower = tower
        self.layers = tuple(layers)
        self.sample_rate, self.image_size = tower.sample_rate, tower.image_size
        self.window_seconds, self.max_tokens = tower.window_seconds, tower.max_tokens
        self._modules_of = [_layer(tower, name) for name in layers]
        blank = tower.prepare("image", Image.new("RGB", (64, 64), "white"))
        with torch.inference_mode():
            _, seen = self._run([blank], "document")
        self.widths = tuple(rows.shape[1] for rows in seen)
        """Of each layer, in the order of `layers`."""
        self.freeze()

    def feature_dim(self, modality: str) -> int:
        """Return the width of the tower's own rows and of all layers together."""
        return self.tower.feature_dim(modality) + sum(self.widths)

    def prepare(self, modality: str, media: Any) -> Any:  # noqa: ANN401
        """Run the tower's own preprocessing."""
        return self.tower.prepare(modality, media)

    def encode(self, modality: str, prepared: Sequence[Any], *, role: str = "document") -> Tensor:
        """Return (N, feature_dim) float32: the tower's own row, then each layer's."""
        self.require(modality)
        if not prepared:
            return torch.empty(0, self.feature_dim(modality), device=self.device)
        own, seen = self._run(prepared, role)
        return torch.cat([own, *seen], dim=1)

    def _run(self, prepared: Sequence[Any], role: str) -> tuple[Tensor, list[Tensor]]:
        """Return the tower's rows, and those of each layer."""
        with _listening(self._modules_of) as heard:
            own = self.tower.encode("image", prepared, role=role)
        seen = [torch.cat(parts).float() if parts else own[:0] for parts in heard]
        for name, rows in zip(self.layers, seen, strict=True):
            if len(rows) != len(prepared):
                raise ConfigError(
                    f"tower {self.name!r}: layer {name!r} gave {len(rows)} rows for {len(prepared)} pictures; "
                    "name one that runs once per picture"
                )
        return own, seen


def _layer(tower: Tower, name: str) -> nn.Module:
    """Return the module that a name, or the ending of one, means."""
    modules: dict[str, nn.Module] = dict(tower.named_modules())
    found = [where for where in modules if where == name or where.endswith(f".{name}")] if name else []
    if len(found) != 1:
        some = ", ".join(found or [where for where in modules if where][-5:])
        what = "several of its modules" if found else "none of its modules; the last are"
        raise ConfigError(f"tower {tower.name!r}: layer {name!r} names {what}: {some}")
    return modules[found[0]]


@contextmanager
def _listening(modules: Sequence[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """Within this context collect the pooled outputs of modules, a list per module."""
    heard: list[list[Tensor]] = [[] for _ in modules]

    def listen(parts: list[Tensor]) -> Any:  # noqa: ANN401
        return lambda module, given, output: parts.append(_pooled(output))

    hooks = [module.register_forward_hook(listen(parts)) for module, parts in zip(modules, heard, strict=True)]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _pooled(output: Any) -> Tensor:  # noqa: ANN401
    """Return one row per item, (B, C)."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(first, Tensor) or first.ndim < 2:
        raise ConfigError(f"a layer's output is {type(first).__name__}, not (B, C), (B, T, C) or (B, C, H, W)")
    if first.ndim == 3:
        return first.mean(dim=1)
    return first.flatten(2).mean(dim=2) if first.ndim > 3 else first
