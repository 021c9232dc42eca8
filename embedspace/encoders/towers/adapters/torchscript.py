"""A network in a TorchScript file: `torchscript:model.pt`, described as `exported` says.

A TorchScript file is a program: load only files of people you trust.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from embedspace.encoders.towers.adapters.exported import Described, ExportedTower, describe
from embedspace.encoders.towers.base import TowerRequest
from embedspace.encoders.towers.registry import register_tower
from embedspace.errors import WeightsError
from embedspace.media.source import one_line

__all__ = ["TorchScriptTower"]


class TorchScriptTower(ExportedTower):
    """One scripted or traced module."""

    def __init__(self, request: TowerRequest, path: Path, said: Described, network: Any) -> None:  # noqa: ANN401
        """Wrap what `torch.jit.load` returned."""
        super().__init__(request, path, said, {path.name: path})
        self.network = network
        try:
            self._takes = len(network.forward.schema.arguments) - 1  # without the module itself
        except AttributeError:
            self._takes = 1
        self.freeze()

    def _run(self, inputs: list[torch.Tensor]) -> Any:  # noqa: ANN401
        return self.network(*(x.to(self.device) for x in inputs[: self._takes]))


@register_tower("torchscript")
def _create(request: TowerRequest) -> TorchScriptTower:
    path, said = describe(request)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch asks to export anew; files that exist stay
            network = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(f"tower {request.reference!r}: {path} is no TorchScript file: {one_line(error)}") from error
    return TorchScriptTower(request, path, said, network)
