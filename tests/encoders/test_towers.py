from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from embedspace.encoders.towers import Backbone, backbone, backbone_names, create_backbone, register_backbone
from embedspace.encoders.towers.efficientnet_lite import EfficientNetLite, resize_padded
from embedspace.encoders.towers.imagenet import imagenet_classes
from embedspace.encoders.towers.mel import htk_filters, slaney_filters
from embedspace.encoders.towers.minilm import MiniLM
from embedspace.encoders.towers.whisper import WhisperEncoder, log_mel
from embedspace.encoders.towers.yamnet import YAMNet, _padded, tagger_mel
from embedspace.errors import ConfigError, EmbedspaceError, InputError, WeightsError

TINY: dict[str, tuple[type[Backbone], dict[str, Any]]] = {
    "efficientnet_lite0": (EfficientNetLite, {"width": 0.25, "depth": 1.0, "image_size": 64, "feature_dim": 32}),
    "whisper_base": (WhisperEncoder, {"feature_dim": 32, "layers": 2, "heads": 2, "n_mels": 80, "positions": 1500}),
    "yamnet": (YAMNet, {"feature_dim": 32, "classes": ["a", "b", "c"]}),
    "minilm_l6": (
        MiniLM,
        {
            "feature_dim": 24,
            "layers": 2,
            "heads": 2,
            "vocabulary": 50,
            "positions": 256,
            "quantized": True,
            "eps": 1e-12,
        },
    ),
}


@pytest.fixture(autouse=True)
def _no_grad() -> Any:
    with torch.no_grad():
        yield


def tiny_file(name: str, folder: Path, **changes: torch.Tensor | None) -> Path:
    """A file of random weights of a tiny network; a change replaces a tensor, or drops it (None)."""
    kind, config = TINY[name]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for key, tensor in kind(name, **config).state_dict().items():
        if tensor.dtype == torch.int8:
            tensors[key] = torch.randint(-127, 128, tensor.shape, generator=generator).to(torch.int8)
        else:
            fan_in = max(math.prod(tensor.shape[1:]), 1) if tensor.ndim > 1 else 4
            tensors[key] = (torch.randn(tensor.shape, generator=generator) / fan_in**0.5).half()
    replaced = {key: value for key, value in {**tensors, **changes}.items() if value is not None}
    path = folder / f"{name}.safetensors"
    save_file(replaced, path, {"embedspace": json.dumps({"backbone": name, "config": config})})
    return path


def tiny(name: str, folder: Path) -> Any:
    return create_backbone(name, tiny_file(name, folder))


def chirp(sample_rate: int, seconds: float = 1.0) -> torch.Tensor:
    t = torch.arange(int(sample_rate * seconds), dtype=torch.float64) / sample_rate
    return (0.3 * torch.sin(2 * torch.pi * (200 * t + 900 * t * t))).float()


# The registry


def test_create_backbone_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"nope.*minilm_l6"):
        create_backbone("nope")
    with pytest.raises(ConfigError, match="unknown backbone 'nope:x'"):
        create_backbone("nope:x")


def test_register_backbone_adds_a_name_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone._BACKBONES, "found", {})

    def factory(name: str, weights: Path | None) -> Backbone:
        return Backbone(name, 7).freeze()

    register_backbone("mine")(factory)
    assert create_backbone("mine").feature_dim == 7
    assert "mine" in backbone_names()
    with pytest.raises(ConfigError, match="registered twice"):
        register_backbone("mine")(lambda name, weights: Backbone(name, 1))


@pytest.mark.parametrize("name", TINY)
def test_backbone_is_frozen_float32_and_stays_in_evaluation(name: str, tmp_path: Path) -> None:
    model = tiny(name, tmp_path)
    assert model.name == name
    assert model.modality in ("image", "speech", "audio", "text")
    assert not model.train().training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


# Loading


def test_load_missing_file_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors.*embedspace-weights"):
        create_backbone("yamnet", tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv1.bias": None}, "missing conv1.bias"),
        ({"more": torch.zeros(1)}, "unexpected more"),
        ({"conv1.bias": torch.zeros(3)}, r"conv1.bias is \(3,\), should be \(32,\)"),
        ({"conv1.bias": torch.zeros(32, dtype=torch.int8)}, "conv1.bias is torch.int8"),
    ],
)
def test_load_is_strict(changes: dict[str, torch.Tensor | None], message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        create_backbone("whisper_base", tiny_file("whisper_base", tmp_path, **changes))


def test_load_refuses_another_backbones_file(tmp_path: Path) -> None:
    path = tiny_file("yamnet", tmp_path)
    with pytest.raises(WeightsError, match="holds backbone 'yamnet', not 'whisper_base'"):
        create_backbone("whisper_base", path)


def test_load_refuses_a_damaged_file(tmp_path: Path) -> None:
    path = tiny_file("yamnet", tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="corrupt"):
        create_backbone("yamnet", path)


def test_load_refuses_a_file_without_configuration(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="no backbone's configuration"):
        create_backbone("yamnet", tmp_path / "a.safetensors")


# A vector does not depend on its batch


def test_efficientnet_lite_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    model = tiny("efficientnet_lite0", tmp_path)
    batch = torch.randn(9, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    together = model(batch)
    assert together.pooled.shape == (9, 32)
    assert [part.shape for part in together.middle] == [(9, 16), (9, 32), (9, 80)]
    assert together.logits.shape == (9, 1000)
    for index in (0, 4, 8):
        alone = model(batch[index : index + 1])
        torch.testing.assert_close(alone.pooled[0], together.pooled[index], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.middle[1][0], together.middle[1][index], atol=1e-5, rtol=1e-5)


def test_whisper_does_not_depend_on_the_batch_or_its_padding(tmp_path: Path) -> None:
    model = tiny("whisper_base", tmp_path)
    clips = [model.preprocess(chirp(16_000, seconds)) for seconds in (0.1, 0.55, 1.0)]
    lengths = torch.tensor([clip.shape[1] for clip in clips])
    batch = torch.randn(3, 80, int(lengths.max()))  # noise in the padding must not matter
    for row, clip in zip(batch, clips, strict=True):
        row[:, : clip.shape[1]] = clip
    together = model(batch, lengths, layers=(0, 1))
    for index, clip in enumerate(clips):
        alone = model(clip[None], layers=(0, 1))
        frames = clip.shape[1] // 2
        assert alone.last.shape == (1, frames, 32)
        torch.testing.assert_close(alone.last[0], together.last[index, :frames], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.layers[1][0], together.layers[1][index, :frames], atol=1e-5, rtol=1e-5)
        assert together.last[index, frames:].abs().sum() == 0
        assert together.mask[index].sum() == frames


def test_yamnet_does_not_depend_on_the_batch() -> None:
    model: Any = create_backbone("yamnet")
    patches = torch.randn(5, 96, 64, generator=torch.Generator().manual_seed(1)) - 3
    together = model(patches)
    assert (together.pooled.shape, together.logits.shape) == ((5, 1024), (5, 521))
    assert together.pooled.min() >= 0
    for index in range(5):
        alone = model(patches[index : index + 1])
        torch.testing.assert_close(alone.pooled[0], together.pooled[index], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.logits[0], together.logits[index], atol=1e-4, rtol=1e-4)
        assert (together.logits[index] - together.logits[index - 1]).abs().max() > 0.1


def test_minilm_does_not_depend_on_the_batch() -> None:
    model: Any = create_backbone("minilm_l6")
    texts = ["a dog", "", "the quick brown fox jumps over the lazy dog", "Wi-Fi", "piano " * 700, "a cat"]
    read: list[int] = []
    hook = model.layers[0].fc1.register_forward_hook(lambda module, given, out: read.append(out.shape[:-1].numel()))
    together = model([model.preprocess(text) for text in texts]).pooled
    hook.remove()
    assert sum(read) == sum(len(window) for text in texts for window in model.preprocess(text))  # nothing is padded
    assert max(read) <= 1024
    for text, vector in zip(texts, together, strict=True):
        alone = model([model.preprocess(text)]).pooled[0]
        torch.testing.assert_close(alone, vector, atol=1e-5, rtol=0)


# Any size


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (333, 20, 3)])
def test_efficientnet_lite_preprocess_takes_any_size(shape: tuple[int, int, int], tmp_path: Path) -> None:
    model = tiny("efficientnet_lite0", tmp_path)
    pixel_values = model.preprocess(np.zeros(shape, np.uint8))
    assert pixel_values.shape == (3, 64, 64)
    assert pixel_values.min() >= -1.0
    assert pixel_values.max() <= 1.0


@pytest.mark.parametrize("rgb", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_efficientnet_lite_preprocess_refuses_other_arrays(rgb: NDArray[Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(H, W, 3\) uint8"):
        tiny("efficientnet_lite0", tmp_path).preprocess(rgb)


def test_resize_padded_keeps_everything_on_white() -> None:
    rgb = np.zeros((10, 40, 3), np.uint8)
    square = resize_padded(rgb, 20)
    black = (square == 0).all(axis=2)
    assert black.sum() == 20 * 5
    assert black[7:12].all()
    assert (square[~black] == 255).all()


@pytest.mark.parametrize(("samples", "frames"), [(1, 2), (320, 2), (321, 4), (16_000, 100), (480_000, 3000)])
def test_whisper_preprocess_takes_any_length(samples: int, frames: int) -> None:
    assert log_mel(torch.zeros(samples)).shape == (80, frames)


@pytest.mark.parametrize("waveform", [torch.zeros(0), torch.zeros(480_001), torch.zeros(2, 100)])
def test_whisper_preprocess_refuses_what_it_cannot_hold(waveform: torch.Tensor) -> None:
    with pytest.raises(InputError, match="windows"):
        log_mel(waveform)


def test_whisper_forward_refuses_more_than_30_s(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3002 frames"):
        tiny("whisper_base", tmp_path)(torch.zeros(1, 80, 3002))


@pytest.mark.parametrize(
    ("samples", "patches"), [(1, 1), (400, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3), (96_000, 12)]
)
def test_yamnet_preprocess_takes_any_length(samples: int, patches: int, tmp_path: Path) -> None:
    waveform = chirp(16_000, 6.0)[:samples]
    features = tiny("yamnet", tmp_path).preprocess(waveform)
    assert features.shape == (patches, 96, 64)
    frames = tagger_mel(torch.cat([waveform, torch.zeros(23_280)]))
    for index, patch in enumerate(features):  # 96 frames, half overlapping; silence after the end
        torch.testing.assert_close(patch, frames[48 * index : 48 * index + 96], atol=1e-5, rtol=0)


def test_yamnet_preprocess_refuses_nothing_and_stereo(tmp_path: Path) -> None:
    model = tiny("yamnet", tmp_path)
    for waveform in (torch.zeros(0), torch.zeros(2, 16_000), torch.tensor(0.5)):
        with pytest.raises(InputError, match=r"at least 1 sample at 16 kHz, got .*: mix it down"):
            model.preprocess(waveform)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 6), (7, 5), (3, 2), (1, 1)])
def test_yamnet_pads_as_tensorflow(sides: tuple[int, int], stride: int) -> None:
    # "SAME": ceil(side / stride) outputs, and of the zeros that this takes the smaller half before the first value.
    x = torch.arange(1.0, 1 + sides[0] * sides[1]).reshape(1, 1, *sides)
    out = torch.nn.functional.conv2d(_padded(x, stride), torch.ones(1, 1, 3, 3), stride=stride)[0, 0]
    wanted = [-(-side // stride) for side in sides]
    assert list(out.shape) == wanted
    before = [max((count - 1) * stride + 3 - side, 0) // 2 for count, side in zip(wanted, sides, strict=True)]
    for row, column in np.ndindex(*wanted):
        top, left = row * stride - before[0], column * stride - before[1]
        seen = x[0, 0, max(top, 0) : top + 3, max(left, 0) : left + 3]
        assert out[row, column] == seen.sum()


def test_minilm_preprocess_cuts_a_long_text_into_equal_windows() -> None:
    model: Any = create_backbone("minilm_l6")
    assert [len(window) for window in model.preprocess("")] == [2]
    assert [len(window) for window in model.preprocess("dog " * 254)] == [256]
    windows = model.preprocess("dog " * 255)
    assert [len(window) for window in windows] == [130, 129]
    assert all(window[0] == 101 and window[-1] == 102 for window in windows)  # [CLS] and [SEP]


def test_minilm_averages_windows_by_length() -> None:
    model: Any = create_backbone("minilm_l6")
    windows = [torch.tensor([101, 3899, 102]), torch.tensor([101, 2482, 2003, 2417, 102])]
    first, second = (model([[window]]).pooled[0] for window in windows)
    torch.testing.assert_close(model([windows]).pooled[0], (3 * first + 5 * second) / 8, atol=1e-5, rtol=0)


# Front ends against their formulas


def test_slaney_filters_match_a_hand_calculation() -> None:
    # 8 kHz, 10 bins of 800 Hz: Slaney's scale is linear (15 mel a kHz) up to 1 kHz and logarithmic above, so with 3
    # filters the 5 edges are equally spaced from 0 to 15 + 27 * ln(4) / ln(6.4) mel.
    top = 15 + 27 * math.log(4) / math.log(6.4)
    edges = [
        mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)
        for mel in (top * index / 4 for index in range(5))
    ]
    filters = slaney_filters(8000, 10, 3)
    assert filters.shape == (3, 6)
    for row in range(3):
        low, middle, high = edges[row : row + 3]
        for column in range(6):
            hertz = 800.0 * column
            height = max(0.0, min((hertz - low) / (middle - low), (high - hertz) / (high - middle)))
            assert filters[row, column].item() == pytest.approx(height * 2 / (high - low), abs=1e-7)


def test_htk_filters_match_a_hand_calculation() -> None:
    # 8 kHz, 11 bins of 400 Hz; with 3 filters the 5 edges are equally spaced in mel, ln(1 + Hz / 700) times a constant.
    low, high = math.log(1 + 100 / 700), math.log(1 + 3800 / 700)
    edges = [low + (high - low) * index / 4 for index in range(5)]
    filters = htk_filters(8000, 20, 3, 100.0, 3800.0)
    assert filters.shape == (3, 11)
    assert filters.max() > 0.8
    for row in range(3):
        left, middle, right = edges[row : row + 3]
        for column in range(11):
            mel = math.log(1 + 400 * column / 700)
            height = max(0.0, min((mel - left) / (middle - left), (right - mel) / (right - middle)))
            assert filters[row, column].item() == pytest.approx(height, abs=1e-6)


def test_htk_filters_hear_nothing_outside_their_range_and_no_offset() -> None:
    filters = htk_filters(16_000, 512, 64, 125.0, 7500.0)
    assert not filters[:, : 125 * 512 // 16_000 + 1].any()
    assert not filters[:, 7500 * 512 // 16_000 :].any()
    assert not htk_filters(16_000, 512, 8, -50.0, 8000.0)[:, 0].any()


def test_log_mel_spans_at_most_two() -> None:
    # log10 is floored at 8 below the maximum, then divided by 4
    loud_then_silent = torch.cat([chirp(16_000), torch.zeros(16_000)])
    features = log_mel(loud_then_silent)
    assert features.max() - features.min() == pytest.approx(2.0, abs=1e-6)


def test_tagger_mel_of_a_sine_matches_a_hand_calculation() -> None:
    # A sine in the middle of bin 64 of 512: the spectrum is half its amplitude times the window's, around that bin.
    t = torch.arange(16_000, dtype=torch.float64) / 16_000
    frames = tagger_mel((0.5 * torch.sin(2 * torch.pi * 2000 * t)).float())
    assert frames.shape == (98, 64)
    n = torch.arange(400, dtype=torch.float64)
    window = 0.5 - 0.5 * torch.cos(2 * torch.pi * n / 400)
    waves = torch.exp(-2j * torch.pi * (torch.arange(257)[:, None] - 64) * n / 512)
    magnitude = (0.25 * (waves * window).sum(dim=1)).abs()
    filters = htk_filters(16_000, 512, 64, 125.0, 7500.0).double()
    expected = torch.log(filters @ magnitude + 1e-3)
    loud = expected > 0
    assert 1 < loud.sum() < 8
    for frame in (frames[0], frames[50], frames[-1]):
        torch.testing.assert_close(frame.double()[loud], expected[loud], atol=1e-3, rtol=0)
        assert frame.argmax() == filters[:, 64].argmax()  # the band in which 2 kHz lies
    torch.testing.assert_close(tagger_mel(torch.zeros(400)), torch.full((1, 64), math.log(1e-3)))


# The shipped weights give what the published networks give


def test_minilm_matches_sentence_transformers() -> None:
    model: Any = create_backbone("minilm_l6")
    vector = model([model.preprocess("a barking dog")]).normalized[0]
    published = torch.tensor([0.0112, -0.0019, 0.0329, 0.0815, 0.0009, 0.0112])  # 8-bit rows cost up to 0.0015
    torch.testing.assert_close(vector[:6], published, atol=2e-3, rtol=0)
    assert vector.norm().item() == pytest.approx(1.0, abs=1e-6)


def test_whisper_matches_ctranslate2() -> None:
    model: Any = create_backbone("whisper_base")
    last = model(model.preprocess(chirp(16_000))[None]).last
    assert last.shape == (1, 50, 512)
    published = torch.tensor([-1.6616, -1.4814, 1.0312, -1.9204, 0.5467, 0.7763])
    # The matrices ship as 8-bit rows: 0.06 at most on this chirp (half precision: 0.002), a cosine of 0.999 on speech.
    torch.testing.assert_close(last[0, 10, :6], published, atol=0.08, rtol=0)
    assert torch.nn.functional.cosine_similarity(last[0, 10, :6], published, dim=0) > 0.999


def test_yamnet_knows_simple_sounds_by_name() -> None:
    model: Any = create_backbone("yamnet")
    t = torch.arange(16_000) / 16_000
    assert (len(model.classes), len(set(model.classes)), model.classes[0]) == (521, 521, "Speech")

    def best(waveform: torch.Tensor) -> list[str]:
        scores = model(model.preprocess(waveform)).logits.amax(dim=0)
        return [model.classes[k] for k in scores.topk(5).indices.tolist()]

    assert best(torch.zeros(16_000))[0] == "Silence"
    assert best(0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0)))[0] == "White noise"
    assert best(0.5 * torch.sin(2 * torch.pi * 2000 * t))[0] == "Sine wave"
    assert {"Dial tone", "Sine wave"} < set(best(0.7 * torch.sin(2 * torch.pi * 440 * t)))  # a dial tone has 440 Hz


@pytest.mark.parametrize(
    ("variant", "classes", "first", "atol"),
    [
        ("0", [818, 782, 644], [-0.7819, 0.4540, 0.9408, -0.7724, 1.2687], 0.03),
        ("2", [499, 916, 644], [-0.4128, 1.0738, -0.9779, -1.4901, -0.9364], 0.05),  # 8-bit kernels cost 0.043
    ],
)
def test_efficientnet_lite_matches_the_published_network(
    variant: str, classes: list[int], first: list[float], atol: float
) -> None:
    model: Any = create_backbone(f"efficientnet_lite{variant}")
    y, x = np.mgrid[0:200, 0:300]
    rgb = np.stack([x * 255 // 299, y * 255 // 199, (x + y) % 256], -1).astype(np.uint8)
    features = model(model.preprocess(rgb)[None])
    assert features.pooled.shape == (1, model.feature_dim)
    assert features.logits[0].topk(3).indices.tolist() == classes
    torch.testing.assert_close(features.logits[0, :5], torch.tensor(first), atol=atol, rtol=0)


def test_imagenet_classes_are_in_the_order_of_the_logits() -> None:
    classes = imagenet_classes()
    assert len(classes) == 1000
    numbers = [item.wnid for item in classes]
    assert numbers == sorted(numbers)
    assert (classes[0].name, classes[999].name) == ("tench", "toilet paper")
    assert classes[151].name == "Chihuahua"
    assert classes[151].hypernyms == ("toy dog", "dog", "mammal", "animal")


def test_every_error_is_an_embedspace_error(tmp_path: Path) -> None:
    for name in ("yamnet", "open_clip:", ""):
        with pytest.raises(EmbedspaceError):
            create_backbone(name, tmp_path / "absent")
