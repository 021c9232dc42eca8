"""The adapter of open_clip, on a small random CLIP in the hub's format."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from embedspace.encoders.towers import Tower, create_tower, require_same
from embedspace.errors import ConfigError, InputError, MissingExtraError, UnknownModalityError, WeightsError
from tests.support.towers import OPEN_CLIP, picture, tiny_open_clip


@pytest.fixture(scope="module")
def tower(open_clip_folder: Path) -> Tower:
    return create_tower(f"open_clip:local-dir:{open_clip_folder}")


def test_rows_do_not_depend_on_the_batch(tower: Tower) -> None:
    texts = ["a dog", "many more words about a cat that sleeps", ""]
    pictures = [picture(0), picture(1, 33, 200), picture(2, 20, 10)]
    for modality, media in (("text", texts), ("image", pictures)):
        prepared = [tower.prepare(modality, item) for item in media]
        together = tower.encode(modality, prepared)
        assert together.shape == (3, 16) and together.dtype == torch.float32
        for row, item in zip(together, prepared, strict=True):
            torch.testing.assert_close(tower.encode(modality, [item])[0], row, atol=1e-5, rtol=1e-5)
        assert tower.encode(modality, []).shape == (0, tower.feature_dim(modality))


def test_rows_are_those_of_the_library(tower: Tower, open_clip_folder: Path) -> None:
    import open_clip
    from PIL import Image

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{open_clip_folder}")
    model.eval()
    with torch.inference_mode():
        expected = model.encode_image(transform(Image.fromarray(picture(0)))[None])
        words = model.encode_text(open_clip.get_tokenizer(f"local-dir:{open_clip_folder}")(["a dog"]))
    torch.testing.assert_close(tower.encode("image", [tower.prepare("image", picture(0))]), expected)
    torch.testing.assert_close(tower.encode("text", [tower.prepare("text", "a dog")]), words)


def test_preprocessing_of_the_folder_is_kept_and_stored(tower: Tower) -> None:
    stored = tower.reference()["preprocessing"]
    assert stored["picture"]["mean"] == [0.5, 0.5, 0.5]
    assert stored["picture"]["resize_mode"] == "squash"
    assert json.loads(json.dumps(stored)) == stored
    assert (tower.image_size, tower.max_tokens, tower.sample_rate) == (32, 77, None)
    assert tower.prepare("image", picture(0, 90, 30)).shape == (3, 32, 32)


def test_a_text_over_the_limit_is_refused_not_cut(tower: Tower) -> None:
    assert tower.count_tokens("a dog") == 4
    fits = " ".join(["dog"] * 75)
    assert tower.count_tokens(fits) == 77
    tower.prepare("text", fits)
    with pytest.raises(InputError, match=r"reads 77 tokens.*takes 78: cut it into passages"):
        tower.prepare("text", fits + " dog")


def test_preparing_in_threads_gives_the_same(tower: Tower) -> None:
    texts = [f"dog number {index}" for index in range(40)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda text: tower.prepare("text", text), texts))
    assert torch.equal(torch.stack(threaded), torch.stack([tower.prepare("text", text) for text in texts]))


def test_a_folder_without_weights_is_an_error_not_random_numbers(open_clip_folder: Path, tmp_path: Path) -> None:
    shutil.copy(open_clip_folder / "open_clip_config.json", tmp_path)
    with pytest.raises(WeightsError, match="holds no weights"):
        create_tower(f"open_clip:local-dir:{tmp_path}")
    with pytest.raises(WeightsError, match=r"no open_clip_config\.json"):
        create_tower(f"open_clip:local-dir:{tmp_path / '..' / tmp_path.name / '..'}")
    with pytest.raises(WeightsError, match="there is no folder"):
        create_tower(f"open_clip:local-dir:{tmp_path / 'absent'}")


def test_partial_or_broken_weights_are_one_line(open_clip_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(open_clip_folder, folder)
    weights = folder / "open_clip_model.safetensors"
    tensors = load_file(weights)
    tensors.pop("text_projection")
    save_file(tensors, weights)
    with pytest.raises(WeightsError, match="text_projection") as raised:
        create_tower(f"open_clip:local-dir:{folder}")
    assert "\n" not in str(raised.value)
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(WeightsError, match="could not load"):
        create_tower(f"open_clip:local-dir:{folder}")


def test_changed_weights_change_the_digest(open_clip_folder: Path, tower: Tower, tmp_path: Path) -> None:
    moved = create_tower("open_clip:local-dir:tiny", folder=open_clip_folder.parent)
    assert moved.digest == tower.digest
    other = create_tower(f"open_clip:local-dir:{tiny_open_clip(tmp_path / 'tiny', seed=5)}")
    assert other.digest != tower.digest
    with pytest.raises(WeightsError, match=r"differs: open_clip_model\.safetensors"):
        require_same(other, tower.reference())


def test_names_on_the_hub_need_a_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("open_clip:hf-hub:timm/ViT-B-16-SigLIP2", "open_clip:ViT-B-32/laion2b_s34b_b79k"):
        with pytest.raises(WeightsError, match=r"not on this machine.*download=True \(--download\)"):
            create_tower(name)


def test_names_that_open_clip_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no weights 'nope'; known: .*laion2b"):
        create_tower("open_clip:ViT-B-32/nope")
    with pytest.raises(ConfigError, match="has no model 'Nope'"):
        create_tower("open_clip:Nope/openai")
    with pytest.raises(ConfigError, match="write open_clip:<model>/<pretrained>"):
        create_tower("open_clip:ViT-B-32")
    with pytest.raises(ConfigError, match="unknown scheme 'ftp'"):
        create_tower("open_clip:ftp:x")
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(ConfigError, match="does not say how pictures are prepared; give the option tag"):
        create_tower("open_clip:ViT-B-32/a.safetensors", folder=tmp_path)


def test_openai_weights_ask_for_the_quickgelu_model() -> None:
    with pytest.raises(ConfigError, match="trained with QuickGELU; write open_clip:ViT-B-32-quickgelu/openai"):
        create_tower("open_clip:ViT-B-32/openai")


def test_a_file_is_preprocessed_as_the_tag_says(
    open_clip_folder: Path, tower: Tower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    (tmp_path / "tiny-test.json").write_text(json.dumps(OPEN_CLIP))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
    open_clip.add_model_config(tmp_path / "tiny-test.json")
    about = {"url": "", "mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-test", {"mine": about})
    place = open_clip_folder / "open_clip_model.safetensors"
    same = create_tower(f"open_clip:tiny-test/{place}", options={"tag": "mine"})
    assert same.preprocessing == tower.preprocessing
    assert torch.equal(
        same.encode("image", [same.prepare("image", picture(0))]),
        tower.encode("image", [tower.prepare("image", picture(0))]),
    )


def test_modalities_and_options(open_clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = f"open_clip:local-dir:{open_clip_folder}"
    only = create_tower(reference, options={"modalities": ["image"]})
    with pytest.raises(UnknownModalityError, match="takes no text; it takes: image"):
        only.prepare("text", "a")
    with pytest.raises(UnknownModalityError, match="takes no audio; it takes: text, image"):
        create_tower(reference, options={"modalities": ["audio"]})
    with pytest.raises(ConfigError, match="unknown option colour"):
        create_tower(reference, options={"colour": 1})
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtraError, match=r"pip install embedspace\[open-clip\]"):
        create_tower(reference)
