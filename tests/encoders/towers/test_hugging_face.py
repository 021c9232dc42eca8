"""The adapters of sentence-transformers and transformers, on a small random CLIP and CLAP."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from embedspace.encoders.towers import Tower, create_tower
from embedspace.errors import ConfigError, InputError, MissingExtraError, UnknownModalityError, WeightsError
from tests.support.towers import noise, picture, tiny_clap, tiny_siglip, tiny_tokenizer

ADAPTERS = ("sentence-transformers", "transformers")
MEDIA: dict[str, list[Any]] = {
    "text": ["a dog", "a cat that sleeps.", ""],
    "image": [picture(0), picture(1, 33, 200)],
    "audio": [noise(0, 0.4), noise(1, 3), noise(2, 10)],
    "speech": [noise(0, 0.4), noise(1, 3)],
}


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Tower:
    return create_tower(f"sentence-transformers:{clip_folder}")


@pytest.fixture(scope="module")
def clap(clap_folder: Path) -> Tower:
    return create_tower(f"sentence-transformers:{clap_folder}")


def check_batches(tower: Tower) -> None:
    check_batches_of(tower, MEDIA)


def check_batches_of(tower: Tower, media: Mapping[str, Sequence[Any]]) -> None:
    for modality in tower.modalities:
        prepared = [tower.prepare(modality, item) for item in media[modality]]
        together = tower.encode(modality, prepared)
        assert together.shape == (len(prepared), tower.feature_dim(modality))
        assert together.dtype == torch.float32
        for row, item in zip(together, prepared, strict=True):
            torch.testing.assert_close(tower.encode(modality, [item])[0], row, atol=1e-5, rtol=1e-5)
        assert tower.encode(modality, []).shape == (0, tower.feature_dim(modality))


def test_sentence_transformers_clip(clip: Tower, clip_folder: Path) -> None:
    assert clip.modalities == ("text", "image")
    assert (clip.image_size, clip.max_tokens, clip.sample_rate) == (32, 32, None)
    check_batches(clip)
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(clip_folder), device="cpu")
    for role, run in (("query", model.encode_query), ("document", model.encode_document)):
        mine = clip.encode("text", [clip.prepare("text", "a dog")], role=role)
        torch.testing.assert_close(mine, run(["a dog"], convert_to_tensor=True).clone())
    roles = [clip.encode("text", ["a dog"], role=role) for role in ("query", "document")]
    assert not torch.allclose(*roles)  # the prompt is there
    assert clip.preprocessing["prompts"] == {"query": "find. ", "document": None}


def test_a_text_that_names_a_file_stays_a_text(clip: Tower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    before = clip.encode("text", [clip.prepare("text", "dog.png")])
    Image.fromarray(picture(3)).save("dog.png")
    assert torch.equal(clip.encode("text", [clip.prepare("text", "dog.png")]), before)


def test_prompts_count_towards_the_limit(clip: Tower) -> None:
    assert clip.count_tokens("dog") == len("find. ") + 3 + 2
    with pytest.raises(InputError, match=r"reads 32 tokens.*cut it into passages"):
        clip.prepare("text", "dog " * 8)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_clap(adapter: str, clap_folder: Path) -> None:
    tower = create_tower(f"{adapter}:{clap_folder}")
    assert tower.modalities == ("text", "audio")
    assert (tower.sample_rate, tower.window_seconds, tower.max_tokens) == (48_000, 10.0, 62)
    check_batches(tower)


def test_both_adapters_of_one_clap_agree(clap: Tower, clap_folder: Path) -> None:
    other = create_tower(f"transformers:{clap_folder}")
    for modality in ("text", "audio"):
        for item in MEDIA[modality]:
            rows = [tower.encode(modality, [tower.prepare(modality, item)]) for tower in (clap, other)]
            rows = [torch.nn.functional.normalize(row) for row in rows]
            torch.testing.assert_close(*rows, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", [False, True])
def test_one_sound_is_one_vector_and_longer_ones_are_refused(fusion: bool, clap: Tower, tmp_path: Path) -> None:
    tower = create_tower(f"sentence-transformers:{tiny_clap(tmp_path / 'fused', fusion=True)}") if fusion else clap
    sound = noise(7, 10)
    np.random.seed(1)  # noqa: NPY002 - what the library draws from
    first = tower.encode("audio", [tower.prepare("audio", sound)])
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(tower.encode("audio", [tower.prepare("audio", sound)]), first)
    with pytest.raises(InputError, match=r"at most 10 s at once, got 10\.50 s: cut it"):
        tower.prepare("audio", noise(7, 10.5))


def test_speech_and_a_shorter_window_by_options(clap_folder: Path) -> None:
    reference = f"sentence-transformers:{clap_folder}"
    tower = create_tower(reference, options={"modalities": ["speech"], "window_seconds": 5})
    assert (tower.modalities, tower.window_seconds) == (("speech",), 5.0)
    check_batches(tower)
    with pytest.raises(UnknownModalityError, match="takes no image; it takes: text, audio"):
        create_tower(reference, options={"modalities": ["image"]})
    with pytest.raises(ConfigError, match=r"window_seconds 12, the model takes above 0 to 10\.0 s"):
        create_tower(reference, options={"window_seconds": 12})


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_missing_partial_and_changed_weights(adapter: str, clap_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(clap_folder, folder)
    weights = folder / "model.safetensors"
    before = create_tower(f"{adapter}:{folder}").digest
    tensors = load_file(weights)
    save_file({**tensors, "logit_scale_a": tensors["logit_scale_a"] + 1}, weights, {"format": "pt"})
    assert create_tower(f"{adapter}:{folder}").digest != before
    tensors.pop("audio_projection.linear1.weight")
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"weights are missing: audio_projection\.linear1\.weight"):
        create_tower(f"{adapter}:{folder}")
    weights.unlink()
    with pytest.raises(WeightsError, match="could not load") as raised:
        create_tower(f"{adapter}:{folder}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("adapter", "module"), [("sentence-transformers", "sentence_transformers"), ("transformers", "transformers")]
)
def test_remote_names_and_missing_libraries(
    adapter: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"laion/clap-htsat-unfused is not on this machine.*--download"):
        create_tower(f"{adapter}:laion/clap-htsat-unfused")
    with pytest.raises(WeightsError, match="there is no folder"):
        create_tower(f"{adapter}:./absent")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install embedspace\[{adapter}\]"):
        create_tower(f"{adapter}:laion/clap-htsat-unfused")


def test_siglip_reads_texts_padded_to_its_limit(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoProcessor

    folder = tiny_siglip(tmp_path / "siglip")
    tower = create_tower(f"transformers:{folder}")
    assert (tower.modalities, tower.max_tokens, tower.image_size) == (("text", "image"), 16, 32)
    check_batches_of(tower, {"text": ["a dog", "a cat"], "image": MEDIA["image"]})
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    inputs = processor.tokenizer(["a dog"], padding="max_length", max_length=16, return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_text_features(input_ids=inputs["input_ids"]).pooler_output
    torch.testing.assert_close(tower.encode("text", [tower.prepare("text", "a dog")]), expected)


def test_pe_av(tmp_path: Path) -> None:
    folder = tiny_pe_av(tmp_path / "pe")
    towers = {head: create_tower(f"transformers:{folder}", options={"text_head": head}) for head in ("audio", "video")}
    tower = towers["audio"]
    assert tower.modalities == ("text", "image", "audio")
    assert tower.sample_rate == 48_000
    check_batches(tower)
    widths = {tower.feature_dim(modality) for modality in tower.modalities}
    assert len(widths) == 1
    rows = [each.encode("text", [each.prepare("text", "a dog")]) for each in towers.values()]
    assert not torch.allclose(*rows)

    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    media = {"text": "a dog", "image": picture(0), "audio": noise(0, 1)}
    with torch.inference_mode():
        whole = model(**{k: v for m, item in media.items() for k, v in tower.prepare(m, item).items()})
        audio = model.get_audio_embeds(tower.prepare("audio", media["audio"])["input_values"])
    torch.testing.assert_close(rows[0], whole.text_audio_embeds)
    torch.testing.assert_close(rows[1], whole.text_video_embeds)
    film = tower.encode("image", [tower.prepare("image", media["image"])])
    torch.testing.assert_close(film, whole.video_embeds)
    torch.testing.assert_close(tower.encode("audio", [tower.prepare("audio", media["audio"])]), audio)
    assert towers["audio"].digest != towers["video"].digest
    with pytest.raises(ConfigError, match="text_head 'x', must be one of audio, video, audio_video"):
        create_tower(f"transformers:{folder}", options={"text_head": "x"})


def tiny_pe_av(folder: Path) -> Path:
    """Write a small PE-AV."""
    from transformers import (
        PeAudioFeatureExtractor,
        PeAudioVideoConfig,
        PeAudioVideoModel,
        PeAudioVideoProcessor,
        PeVideoVideoProcessor,
    )

    torch.manual_seed(3)
    tokenizer = tiny_tokenizer(folder.with_name("words"), 62)
    layer = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
    }
    dac = {"encoder_hidden_size": 4, "downsampling_ratios": [2, 4, 8, 30], "hidden_size": 16, "codebook_dim": 8}
    vision = {
        "model_type": "timm_wrapper",
        "architecture": "vit_tiny_patch16_224",
        "do_pooling": True,
        "num_classes": 16,
        "model_args": {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2},
    }
    text = {"vocab_size": len(tokenizer), **layer, "max_position_embeddings": 64, "pad_token_id": 1}
    text.pop("head_dim")
    config = PeAudioVideoConfig(
        text_config=text,
        audio_video_config={
            **layer,
            "audio_config": {**layer, "dac_config": dac},
            "video_config": {**layer, "vision_config": vision},
        },
    )
    PeAudioVideoModel(config).save_pretrained(folder)
    sizes = {"height": 32, "width": 32}
    video = PeVideoVideoProcessor(size=sizes, do_resize=True)
    PeAudioVideoProcessor(PeAudioFeatureExtractor(), video, tokenizer).save_pretrained(folder)
    return folder
