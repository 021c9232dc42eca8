"""A network in an ONNX file: `onnx:model.onnx`, described as `exported` says; it runs on the processor.

Source: https://onnxruntime.ai
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from embedspace.encoders.towers.adapters.exported import Described, ExportedTower, describe
from embedspace.encoders.towers.adapters.files import library
from embedspace.encoders.towers.base import TowerRequest
from embedspace.encoders.towers.registry import register_tower
from embedspace.errors import WeightsError
from embedspace.media.source import one_line

__all__ = ["OnnxTower"]


class OnnxTower(ExportedTower):
    """One session of onnxruntime; it has no gradients."""

    def __init__(self, request: TowerRequest, path: Path, said: Described, session: Any) -> None:  # noqa: ANN401
        """Wrap an `InferenceSession`."""
        large = {each.name: each for each in path.parent.glob(f"{path.name}[._]data")}  # weights over 2 GB lie beside
        super().__init__(request, path, said, {path.name: path, **large})
        self._session = session
        self._inputs = [(each.name, each.type) for each in session.get_inputs()]

    def _run(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Run the session; ids are given in the integers that it declares."""
        given = {}
        for (name, kind), tensor in zip(self._inputs, inputs, strict=False):
            array = tensor.cpu().numpy()
            given[name] = array.astype("int32") if kind == "tensor(int32)" else array
        return torch.from_numpy(self._session.run(None, given)[0]).to(self.device)


@register_tower("onnx")
def _create(request: TowerRequest) -> OnnxTower:
    runtime = library("onnxruntime", "onnx", request.label, lambda: importlib.import_module("onnxruntime"))
    path, said = describe(request)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises kinds of its own
        raise WeightsError(f"tower {request.reference!r}: {path} is no ONNX file: {one_line(error)}") from error
    return OnnxTower(request, path, said, session)
