"""TorchScript and ONNX files, torchaudio's pipelines, and the encoders of a space as one tower."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from embedspace import EmbeddingSpace
from embedspace.encoders.towers import Tower, create_tower
from embedspace.errors import ConfigError, InputError, MissingExtraError, UnknownModalityError, WeightsError
from tests.support.towers import noise, picture

PICTURES = {"modality": "image", "image_size": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "resize": "pad"}


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(192, 5)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.project(pixel_values.flatten(1))


class Sounds(nn.Module):
    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return torch.stack([waveform.mean(1), waveform.abs().mean(1)], dim=1)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 4)

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (self.table(input_ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def script(module: nn.Module, path: Path, about: dict[str, Any]) -> str:
    torch.manual_seed(0)
    torch.jit.script(module.eval()).save(str(path))
    path.with_suffix(".json").write_text(json.dumps(about))
    return f"torchscript:{path}"


def words_file(path: Path) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[PAD]": 0, "[UNK]": 1, "dog": 2, "a": 3, "barks": 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return path.name


def check_batches(tower: Tower, media: list[Any]) -> None:
    (modality,) = tower.modalities
    prepared = [tower.prepare(modality, item) for item in media]
    together = tower.encode(modality, prepared)
    assert together.shape == (len(media), tower.feature_dim(modality))
    for row, item in zip(together, prepared, strict=True):
        torch.testing.assert_close(tower.encode(modality, [item])[0], row, atol=1e-5, rtol=1e-5)
    assert tower.encode(modality, []).shape == (0, tower.feature_dim(modality))


def test_torchscript_pictures_sounds_and_words(tmp_path: Path) -> None:
    pictures = create_tower(script(Pictures(), tmp_path / "p.pt", PICTURES))
    assert (pictures.image_size, pictures.feature_dim("image")) == (8, 5)
    check_batches(pictures, [picture(0), picture(1, 9, 30)])
    sounds = create_tower(script(Sounds(), tmp_path / "s.pt", {"modality": "audio", "sample_rate": 100}))
    check_batches(sounds, [noise(0, 1, 100), noise(1, 3, 100), noise(2, 3, 100)])
    with pytest.raises(InputError, match="at most 10 s at once"):
        sounds.prepare("audio", noise(0, 11, 100))
    about = {"modality": "text", "tokenizer": words_file(tmp_path / "words.json"), "max_tokens": 4}
    for fill in (False, True):
        words = create_tower(script(Words(), tmp_path / f"w{fill}.pt", {**about, "fill_tokens": fill}))
        check_batches(words, ["a dog", "a dog barks a"])
        assert words.count_tokens("a dog barks") == 3
        with pytest.raises(InputError, match="reads 4 tokens"):
            words.prepare("text", "a dog barks a dog")


def test_options_say_what_a_file_does_not(tmp_path: Path) -> None:
    reference = script(Pictures(), tmp_path / "p.pt", {})
    (tmp_path / "p.json").unlink()
    with pytest.raises(ConfigError, match=r"modality None; say one of .* in p\.json beside the file"):
        create_tower(reference)
    options = {"modalities": ["image"], "image_size": 8}
    assert create_tower("torchscript:p.pt", folder=tmp_path, options=options).modalities == ("image",)
    with pytest.raises(ConfigError, match="takes image needs image_size"):
        create_tower(reference, options={"modalities": ["image"]})
    with pytest.raises(ConfigError, match="unknown key sice"):
        create_tower(reference, options={"modality": "image", "sice": 8})
    with pytest.raises(ConfigError, match="resize 'fold', must be one of"):
        create_tower(reference, options={"modality": "image", "image_size": 8, "resize": "fold"})
    with pytest.raises(ConfigError, match="takes one modality"):
        create_tower(reference, options={"modalities": ["image", "text"]})


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no file"):
        create_tower(f"torchscript:{tmp_path / 'absent.pt'}")
    for kind in ("torchscript", "onnx"):
        (tmp_path / "bad.pt").write_bytes(b"not a network")
        (tmp_path / "bad.json").write_text(json.dumps(PICTURES))
        with pytest.raises(WeightsError, match=r"is no (TorchScript|ONNX) file") as raised:
            create_tower(f"{kind}:{tmp_path / 'bad.pt'}")
        assert "\n" not in str(raised.value)
    unpooled = create_tower(script(nn.ReLU(), tmp_path / "r.pt", PICTURES))
    with pytest.raises(WeightsError, match=r"the network gave \(1, 3, 8, 8\), must be \(1, width\)"):
        unpooled.feature_dim("image")


def test_changed_file_or_description_changes_the_digest(tmp_path: Path) -> None:
    first = create_tower(script(Pictures(), tmp_path / "p.pt", PICTURES))
    described = create_tower(script(Pictures(), tmp_path / "q.pt", {**PICTURES, "resize": "squash"}))
    assert first.digest != described.digest
    with torch.no_grad():
        other = Pictures()
        other.project.weight.add_(1)
    assert create_tower(script(other, tmp_path / "p.pt", PICTURES)).digest != first.digest


def onnx_mean(path: Path) -> str:
    """Write by hand an ONNX model that averages a picture's pixels: (B, 3, 8, 8) -> (B, 3)."""

    def field(number: int, payload: bytes | int) -> bytes:
        if isinstance(payload, int):
            return varint(number << 3) + varint(payload)
        return varint(number << 3 | 2) + varint(len(payload)) + payload

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def tensor(name: bytes, sizes: list[bytes | int]) -> bytes:
        dims = b"".join(field(1, field(1, s) if isinstance(s, int) else field(2, s)) for s in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    axes = field(5, field(1, b"axes") + field(8, 2) + field(8, 3) + field(20, 7))
    keep = field(5, field(1, b"keepdims") + field(3, 0) + field(20, 2))
    node = field(1, b"x") + field(2, b"y") + field(4, b"ReduceMean") + axes + keep
    graph = (
        field(1, node) + field(2, b"g") + field(11, tensor(b"x", [b"b", 3, 8, 8])) + field(12, tensor(b"y", [b"b", 3]))
    )
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13)))
    path.with_suffix(".json").write_text(json.dumps(PICTURES))
    return f"onnx:{path}"


def test_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = onnx_mean(tmp_path / "mean.onnx")
    tower = create_tower(reference)
    check_batches(tower, [picture(0), picture(1, 9, 30)])
    grey = np.full((8, 8, 3), 255, np.uint8)
    torch.testing.assert_close(tower.encode("image", [tower.prepare("image", grey)]), torch.ones(1, 3))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install embedspace\[onnx\]"):
        create_tower(reference)


def test_torchaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchaudio

    bundle = torchaudio.pipelines.HUBERT_BASE
    small = {
        **bundle._params,
        "encoder_num_layers": 2,
        "encoder_embed_dim": 16,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 32,
        "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)],
    }
    monkeypatch.setattr(bundle, "_params", small)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    torch.manual_seed(0)
    weights = tmp_path / "state.pth"
    torch.save(torchaudio.models.wav2vec2_model(**small).state_dict(), weights)
    with pytest.raises(WeightsError, match=r"not on this machine.*--download"):
        create_tower("torchaudio:HUBERT_BASE")
    tower = create_tower(f"torchaudio:HUBERT_BASE/{weights}")
    assert (tower.modalities, tower.sample_rate, tower.feature_dim("speech")) == (("speech",), 16_000, 16)
    check_batches(tower, [noise(0, 0.01, 16_000), noise(1, 1, 16_000), noise(2, 2, 16_000)])
    first = create_tower(f"torchaudio:HUBERT_BASE/{weights}", options={"layer": 1})
    clip = tower.prepare("speech", noise(1, 1, 16_000))
    assert not torch.allclose(first.encode("speech", [clip]), tower.encode("speech", [clip]))
    assert first.digest != tower.digest
    (tmp_path / "checkpoints").mkdir()
    weights.rename(tmp_path / "checkpoints" / Path(bundle._path).name)
    assert create_tower("torchaudio:HUBERT_BASE").digest == tower.digest  # torch's cache needs no download
    with pytest.raises(ConfigError, match="layer 3, must be 1 to 2"):
        create_tower("torchaudio:HUBERT_BASE", options={"layer": 3})
    with pytest.raises(ConfigError, match=r"no pipeline 'NOPE'; known: .*WAVLM_BASE"):
        create_tower("torchaudio:NOPE")


def test_the_shipped_space_as_a_tower(tmp_path: Path) -> None:
    space = EmbeddingSpace.from_pretrained()
    tower = create_tower("embedspace:default", options={"modalities": ["text"]})
    text = "a barking dog"
    row = tower.encode("text", [tower.prepare("text", text)])
    assert np.abs(row.numpy() - space.encode([text])).max() < 1e-6
    assert tower.feature_dim("text") == space.embed_dim
    with pytest.raises(UnknownModalityError, match="takes no image"):
        tower.prepare("image", picture(0))
    speech = create_tower("embedspace:default", options={"modalities": ["text", "speech"]})
    assert (speech.sample_rate, speech.window_seconds) == (16_000, 12.0)
    assert speech.digest != tower.digest
    with pytest.raises(InputError, match="at most 12 s"):
        speech.prepare("speech", noise(0, 13, 16_000))
    saved = space.save(tmp_path / "space")
    assert create_tower("embedspace:space", folder=tmp_path, options={"modalities": ["text"]}).digest == tower.digest
    assert saved.is_dir()
    with pytest.raises(WeightsError, match="holds no space"):
        create_tower("embedspace:absent", folder=tmp_path)
