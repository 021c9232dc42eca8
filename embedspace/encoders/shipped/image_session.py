"""The networks of pictures as sessions of onnxruntime, whose convolutions take little more than half of torch's time.

A graph is written from the modules' own weights when many pictures are encoded; rows are torch's within 1e-5, so that
nothing else knows which of the two made them.

Source: https://onnxruntime.ai; its NCHWc kernels with the activation inside make the difference.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from embedspace.encoders.shipped.image_features import ImageFrontEnd
from embedspace.encoders.shipped.image_network import TunedNetwork, TunedNetworks
from embedspace.encoders.towers.efficientnet_lite import MIDDLE_STAGES, TRUNK_STAGES, ImageFeatures
from embedspace.media.memory import give_back_memory

__all__ = ["ImageSessions"]

_OPSET, _IR_VERSION = 17, 8
"""Version of the ONNX format: what every onnxruntime since 1.12 reads."""
_TOGETHER = 1  # pictures at once: as fast as more, in less memory


class ImageSessions:
    """What `ImageFrontEnd` and `TunedNetworks` compute with, run by onnxruntime, one thread per call.

    Attributes:
        backbones: One a backbone: (B, 3, H, W) pixel values -> what it says about them.
        tail: (B, channels, h, w) trunk maps -> (B, feature_dim); None without a tuned tail.
        bodies: One a tuned network: (B, 3, H, W) -> (B, feature_dim).
    """

    def __init__(self, front: ImageFrontEnd, networks: TunedNetworks | None) -> None:
        """Write the graphs and open the sessions, which takes a second or two.

        Raises:
            ImportError: If onnx or onnxruntime is not installed.
        """
        self.backbones = [_backbone(net) for net in front.backbones]
        self.tail = None if front.tail is None else _pooling(None, front.tail.stages, front.tail.head)
        members = networks.members if networks is not None else ()
        self.bodies = [
            _pooling(m.body.stem, m.body.stages, m.body.head) for m in members if isinstance(m, TunedNetwork)
        ]
        give_back_memory()  # what the graphs took: 75 MB

    @classmethod
    def where_installed(cls, front: ImageFrontEnd, networks: TunedNetworks | None) -> Self | None:
        """Return the sessions, or None where a library that they need is missing."""
        try:
            return cls(front, networks)
        except ImportError:
            return None


def _backbone(network: Any) -> Callable[[Tensor], ImageFeatures]:  # noqa: ANN401 - its layers have no public type
    graph = _Graph()
    x = graph.conv(network.stem, graph.source, relu6=True)
    middle, trunk = [], ""
    for index, stage in enumerate(network.stages):
        x = graph.stage(stage, x)
        if index in MIDDLE_STAGES:
            middle.append(graph.mean(x))
        if index + 1 == TRUNK_STAGES:
            trunk = x
    pooled = graph.mean(graph.conv(network.head, x, relu6=True))
    logits = graph.linear(network.classifier, pooled)
    run = graph.session([pooled, logits, trunk, *middle])

    def forward(pixel_values: Tensor) -> ImageFeatures:
        pooled, logits, trunk, *middle = run(pixel_values)
        return ImageFeatures(pooled, middle, logits, trunk)

    return forward


def _pooling(stem: nn.Module | None, stages: Any, head: nn.Module) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    graph = _Graph()
    x = graph.source if stem is None else graph.conv(stem, graph.source, relu6=True)
    for stage in stages:
        x = graph.stage(stage, x)
    run = graph.session([graph.mean(graph.conv(head, x, relu6=True))])
    return lambda given: run(given)[0]


class _Graph:
    """A graph of ONNX that is written node by node; each method returns the name of its output."""

    source = "pixels"

    def __init__(self) -> None:
        self._onnx: Any = importlib.import_module("onnx")
        self._model = self._onnx.ModelProto(ir_version=_IR_VERSION)
        self._model.opset_import.add(version=_OPSET)
        self._graph = self._model.graph
        self._limits = [self._constant(torch.tensor(limit)) for limit in (0.0, 6.0)]

    def conv(self, conv: Any, x: str, *, relu6: bool = False) -> str:  # noqa: ANN401
        """Convolve with TensorFlow's SAME padding, which is what SAME_UPPER means."""
        weights = [self._constant(conv.weight), self._constant(conv.bias)]
        sizes = {"kernel_shape": [conv.kernel] * 2, "strides": [conv.stride] * 2}
        y = self._add("Conv", [x, *weights], group=conv.groups, auto_pad="SAME_UPPER", **sizes)
        return self._add("Clip", [y, *self._limits]) if relu6 else y

    def stage(self, blocks: Any, x: str) -> str:  # noqa: ANN401
        """Pass some inverted bottlenecks."""
        for block in blocks:
            wide = x if block.expand is None else self.conv(block.expand, x, relu6=True)
            y = self.conv(block.project, self.conv(block.depthwise, wide, relu6=True))
            x = self._add("Add", [y, x]) if block.skip else y
        return x

    def mean(self, x: str) -> str:
        """Average over positions: (B, C, H, W) -> (B, C)."""
        return self._add("Flatten", [self._add("GlobalAveragePool", [x])])

    def linear(self, linear: nn.Linear, x: str) -> str:
        """Map (B, C) linearly."""
        return self._add("Gemm", [x, self._constant(linear.weight), self._constant(linear.bias)], transB=1)

    def session(self, outputs: Sequence[str]) -> Callable[[Tensor], list[Tensor]]:
        """Open a session; what is returned runs it on any number of items, a few at once."""
        runtime: Any = importlib.import_module("onnxruntime")
        self._graph.name = "network"
        for ends, names in ((self._graph.input, [self.source]), (self._graph.output, outputs)):
            number = self._onnx.TensorProto.FLOAT
            ends.extend(self._onnx.helper.make_tensor_value_info(name, number, None) for name in names)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # parts of a batch run side by side
        options.enable_mem_pattern = False  # it would keep room for each size of a batch
        session = runtime.InferenceSession(self._model.SerializeToString(), options, providers=["CPUExecutionProvider"])

        source = self.source  # the session has copies of the weights: `run` must not keep the graph

        def run(given: Tensor) -> list[Tensor]:
            parts = [session.run(list(outputs), {source: part.numpy()}) for part in torch.split(given, _TOGETHER)]
            return [torch.cat([torch.from_numpy(rows) for rows in each]) for each in zip(*parts, strict=True)]

        return run

    def _constant(self, tensor: Tensor) -> str:
        name = f"w{len(self._graph.initializer)}"
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(tensor.detach().contiguous().numpy(), name))
        return name

    def _add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:  # noqa: ANN401
        name = f"n{len(self._graph.node)}"
        self._graph.node.append(self._onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name
