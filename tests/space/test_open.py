from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import embedspace.encoders.towers.backbone as backbones
from embedspace.calibration.model import Calibration, PairCalibration
from embedspace.encoders.words.network import NumpyMiniLM
from embedspace.errors import ConfigError, UnknownModalityError, WeightsError
from embedspace.modality import Modality
from embedspace.space import DEFAULT_WEIGHTS, EmbeddingSpace, write_config
from tests.support.spaces import EMBED_DIM, check_rows, pictures, write_head, write_space

LONG = " ".join(f"Sentence {k} tells of a dog, a bell and of rain in the {k}th street." for k in range(30))


@pytest.fixture
def copy(tiny_space_folder: Path, tmp_path: Path) -> Path:
    """A copy of the space that a test may damage."""
    return Path(shutil.copytree(tiny_space_folder, tmp_path / "copy"))


def test_save_and_open_round_trip(tiny_space: EmbeddingSpace, copy: Path, tmp_path: Path) -> None:
    means = {"text": np.full(EMBED_DIM, 0.25, np.float32)}
    calibration = Calibration(means, {"text>image": PairCalibration(0.1, 0.2, 30.0, -4.0)})
    (copy / "calibration.json").write_text(calibration.to_json())
    again = EmbeddingSpace.from_pretrained(EmbeddingSpace.from_pretrained(copy).save(tmp_path / "deep" / "saved"))
    np.testing.assert_array_equal(again.encode_text(["a", LONG]), tiny_space.encode_text(["a", LONG]))
    np.testing.assert_array_equal(again.encode_image(pictures(1)), tiny_space.encode_image(pictures(1)))
    assert again.fingerprints() == tiny_space.fingerprints()
    assert again.embed_dim == EMBED_DIM
    assert again.calibration.pair("text", "image").slope == 30.0
    assert Calibration.from_json(again.calibration_json()).means["text"][0] == 0.25
    assert EmbeddingSpace.from_pretrained(again.save(again.folder)).fingerprints() == again.fingerprints()


def test_space_with_a_tuned_tail(tmp_path: Path) -> None:
    space = EmbeddingSpace.from_pretrained(write_space(tmp_path / "tail", tail=True))
    check_rows(space.encode_image(pictures(2)), 2)
    (tmp_path / "tail" / "image_tail.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"4886 wide.* without image_tail\.safetensors give 3606"):
        EmbeddingSpace.from_pretrained(tmp_path / "tail").encode_image(pictures(1))


@pytest.mark.parametrize("changed", ["image", "audio", "speech", "text"])
def test_fingerprints_change_with_a_head_and_for_no_other_modality(copy: Path, changed: str) -> None:
    before = EmbeddingSpace.from_pretrained(copy)
    write_head(copy, changed, seed=77)
    write_config(copy, before.config["sections"], EMBED_DIM)
    now = EmbeddingSpace.from_pretrained(copy).fingerprints()
    different = {m for m, digest in before.fingerprints().items() if now[m] != digest}
    # every other encoder ends in the text head, or starts from its vectors
    assert different == ({"image", "audio", "speech", "text"} if changed == "text" else {changed})


def test_fingerprints_change_with_the_configuration(copy: Path) -> None:
    before = EmbeddingSpace.from_pretrained(copy).fingerprints()
    config = json.loads((copy / "config.json").read_text())
    config["sections"]["image"]["temperature"] = 3.0
    (copy / "config.json").write_text(json.dumps(config))
    now = EmbeddingSpace.from_pretrained(copy).fingerprints()
    assert {m for m in before if before[m] != now[m]} == {"image"}


def test_open_refuses_a_folder_without_a_space(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(WeightsError, match=r"no space there \(config.json is missing\)"):
            EmbeddingSpace.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format": 99}, WeightsError, "format 99, this version reads up to 2; update embedspace"),
        ({"format": 1}, WeightsError, r"format 1, trained by an earlier version.*train it again with this one"),
        ({"sections": {"smell": {}}}, ConfigError, "unknown modality smell; known: image, audio, text, speech"),
        ({"sections": 3}, WeightsError, "not the configuration of a space"),
        ({"embed_dim": "wide"}, WeightsError, "not the configuration of a space"),
        ({"embed_dim": None}, WeightsError, "not the configuration of a space"),
        ({"files": None}, WeightsError, "not the configuration of a space"),
    ],
)
def test_open_refuses_a_wrong_configuration(copy: Path, change: dict[str, Any], error: type, message: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(error, match=message):
        EmbeddingSpace.from_pretrained(copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '"space"', "null"])
def test_open_refuses_what_is_no_configuration(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(WeightsError, match="not the configuration of a space"):
        EmbeddingSpace.from_pretrained(copy)


@pytest.mark.parametrize("key", ["format", "embed_dim", "sections", "files"])
def test_open_refuses_a_configuration_that_lacks_a_key(copy: Path, key: str) -> None:
    config = json.loads((copy / "config.json").read_text())
    del config[key]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=key):
        EmbeddingSpace.from_pretrained(copy)


def test_open_refuses_a_damaged_calibration(copy: Path) -> None:
    (copy / "calibration.json").write_text("{}")
    with pytest.raises(WeightsError, match="not a calibration"):
        EmbeddingSpace.from_pretrained(copy)


@pytest.mark.parametrize(("damage", "message"), [("truncated", "do not fit"), ("gone", "no such weights")])
@pytest.mark.parametrize("name", ["text", "image", "audio", "speech"])
def test_encoder_refuses_damaged_weights(copy: Path, name: str, damage: str, message: str) -> None:
    path = copy / f"{name}.safetensors"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match=f"{name}.safetensors: {'.*' if damage == 'truncated' else ''}{message}"):
        EmbeddingSpace.from_pretrained(copy).encoder(name)


@pytest.mark.parametrize("changed", ["text", "image"])
def test_encoder_refuses_other_weights_than_the_configuration_names(copy: Path, changed: str) -> None:
    write_head(copy, changed, seed=77)
    space = EmbeddingSpace.from_pretrained(copy)
    with pytest.raises(WeightsError, match=rf"{changed}\.safetensors: its checksum is not the one in .*config"):
        space.encoder("image")
    if changed == "image":
        space.encoder("text")
    config = json.loads((copy / "config.json").read_text())
    config["files"]["backbones/minilm_l6"] = "0" * 64  # of another version of the package
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"(minilm_l6|text)\.safetensors: its checksum"):
        EmbeddingSpace.from_pretrained(copy).encode_text("a dog")


def test_the_shipped_configuration_names_the_shipped_weights() -> None:
    files = json.loads((DEFAULT_WEIGHTS / "config.json").read_text())["files"]
    for name, expected in files.items():
        folder = DEFAULT_WEIGHTS.parent if name.startswith("backbones/") else DEFAULT_WEIGHTS
        path = folder / f"{name.removesuffix('.safetensors')}.safetensors"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected, name


def test_encoder_refuses_weights_of_another_shape(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["sections"]["image"]["hidden_dim"] = 4
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"image\.safetensors: these weights do not fit .*size mismatch for members"):
        EmbeddingSpace.from_pretrained(copy).encode_image(pictures(1))


@pytest.mark.parametrize(
    ("modality", "section"),
    [("text", {"backbone": "minilm_l6"}), ("text", {"head": {}}), ("image", {"colour": 1}), ("speech", {"members": 1})],
)
def test_encoder_refuses_a_section_that_does_not_fit(copy: Path, modality: str, section: dict[str, Any]) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["sections"][modality] = section
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=f"section '{modality}' does not fit the encoder"):
        EmbeddingSpace.from_pretrained(copy).encoder(modality)


def test_encoder_of_a_modality_that_is_not_there(copy: Path, picture: Image.Image) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["sections"] = {"text": config["sections"]["text"]}
    (copy / "config.json").write_text(json.dumps(config))
    space = EmbeddingSpace.from_pretrained(copy)
    assert space.modalities == (Modality.TEXT,)
    check_rows(space.encode("a dog"), 1)
    with pytest.raises(UnknownModalityError, match="this space has no image encoder; it has: text"):
        space.encode(picture)
    with pytest.raises(UnknownModalityError, match="unknown modality 'smell'"):
        space.encoder("smell")


# ---- loading


def test_a_text_search_loads_no_other_encoder(tiny_space_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    create, read = backbones.create_backbone, NumpyMiniLM.read

    def counting(name: str, *rest: Any) -> Any:
        made.append(name)
        return create(name, *rest)

    def counting_words(name: str, *rest: Any) -> Any:
        made.append(name)
        return read(name, *rest)

    monkeypatch.setattr("embedspace.encoders.shipped.text.NumpyMiniLM.read", counting_words)
    monkeypatch.setattr("embedspace.encoders.shipped.image_features.create_backbone", counting)
    space = EmbeddingSpace.from_pretrained(tiny_space_folder)
    assert made == []
    space.encode_text("a dog")
    space.encode("a cat")
    assert made == ["minilm_l6"]
    space.encode_image(pictures(1))
    assert made == ["minilm_l6", "efficientnet_lite0", "efficientnet_lite2"]
    assert space.encoder("text") is space.encoder(Modality.TEXT)


def test_an_encoder_may_be_set_otherwise_for_a_baseline(tiny_space: EmbeddingSpace) -> None:
    key, value = next((k, v) for k, v in tiny_space.config["sections"]["image"].items() if isinstance(v, float))
    other = tiny_space.with_options("image", **{key: value + 1.0})
    assert getattr(other.encoder("image").config, key) == value + 1.0
    before, after = tiny_space.fingerprints(), other.fingerprints()
    assert {modality for modality in before if before[modality] != after[modality]} == {"image"}
    assert tiny_space.config["sections"]["image"][key] == value
    with pytest.raises(ConfigError, match=r"its image has no 'recognised_share'; it has: "):
        tiny_space.with_options("image", recognised_share=1.0)
    with pytest.raises(UnknownModalityError, match="no smell encoder"):
        tiny_space.with_options("smell")


def test_encoders_of_a_space_share_frozen_networks_and_spaces_do_not(tiny_space_folder: Path) -> None:
    space, other = (EmbeddingSpace.from_pretrained(tiny_space_folder) for _ in range(2))
    whisper = space.encoder("audio").front.speech
    assert space.encoder("speech").front.backbone is whisper
    assert other.encoder("speech").front.backbone is not whisper
    assert backbones.create_backbone("whisper_base") is not whisper


def test_opening_a_space_and_words_import_no_network_and_pictures_only_their_own(tiny_space_folder: Path) -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from embedspace.space import EmbeddingSpace\n"
        f"space = EmbeddingSpace.from_pretrained({str(tiny_space_folder)!r})\n"
        "space.fingerprints()\n"
        "assert 'torch' not in sys.modules\n"
        "space.encode_text('a dog')\n"
        "assert 'torch' not in sys.modules\n"
        "space.encode_image(np.zeros((9, 9, 3), np.uint8))\n"
        "loaded = {m.rsplit('.', 1)[1] for m in sys.modules if m.startswith('embedspace.encoders.towers.')}\n"
        "assert 'efficientnet_lite' in loaded\n"
        "assert not loaded & {'minilm', 'whisper', 'yamnet'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_weights_are_not_blamed_where_torch_cannot_compute(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copy / "image.safetensors").write_bytes(b"no weights")
    space = EmbeddingSpace.from_pretrained(copy)
    with pytest.raises(WeightsError, match="image"):
        space.encoder("image")
    monkeypatch.setattr("embedspace.space.devices._PROCESSOR", tmp_path / "cpuinfo")
    with pytest.raises(ConfigError, match=r"torch cannot compute: .*cpuinfo.* mount /proc"):
        space.encoder("image")
