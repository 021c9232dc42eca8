"""A captioner of ClipCap, small and random, made and saved with the library's own classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from embedspace.errors import ArgumentError, ConfigError, WeightsError
from embedspace.generate import Request, Sample, generate
from embedspace.generate.pretrained.clipcap import PrefixMapping
from embedspace.generate.pretrained.head import Head
from tests.generate.pretrained.conftest import Workshop
from tests.support.towers import tiny_clip, tiny_tokenizer

EMBEDDING, PREFIX = 8, 3


def _written(folder: Path, clip: Path | None, width: int = 16, seed: int = 0, **about: Any) -> Path:
    """Write a captioner."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    tokenizer = tiny_tokenizer(folder.with_name(f"{folder.name}-words"), 32)
    size = GPT2Config(
        vocab_size=len(tokenizer), n_embd=EMBEDDING, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=2
    )
    GPT2LMHeadModel(size).save_pretrained(folder / "decoder")
    tokenizer.save_pretrained(folder / "decoder")
    mapping = PrefixMapping(width, PREFIX, EMBEDDING)
    for weights in mapping.parameters():
        torch.nn.init.normal_(weights)
    save_file(mapping.state_dict(), folder / "mapping.safetensors")
    said = {"tower": "a small CLIP", "width": width, "prefix": PREFIX, "length": 2.0, **about}
    (folder / "clipcap.json").write_text(json.dumps(said))
    if clip is not None:
        shutil.copytree(clip, folder / "clip")
    return folder


@pytest.fixture(scope="module")
def captioner(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(tmp_path_factory.mktemp("clipcap") / "captioner", workshop.clip)


def made(
    space: Any, vector: np.ndarray, head: Path | Head, modality: str = "text", num_samples: int = 1, **options: Any
) -> list[Sample]:
    asked = Request(num_samples, options.pop("seed", 0), **{"num_steps": 6, **options})
    named = head if isinstance(head, Head) else Head(f"clipcap:{head}")
    return generate(space, vector, to="text", modality=modality, request=asked, head=named, force=True)[0]


def test_a_caption_says_where_it_comes_from(workshop: Workshop, captioner: Path, photo: Any) -> None:
    (sample,) = made(workshop.by_clip, photo, captioner, "image", seed=4)
    assert isinstance(sample.content, str) and sample.content == sample.text
    about = dict(sample.provenance)
    assert about["tower"] == "transformers:clip" and about["tower_agreement"] == 1.0
    assert (about["kind"], about["num_steps"], about["seed"]) == ("ClipCap", 6, 4) and len(about["weights"]) == 64
    assert -1.0 <= sample.score <= 1.0 or not sample.text
    json.dumps(about)


def test_captions_depend_on_seed_and_vector_alone(workshop: Workshop, captioner: Path, photo: Any, text: Any) -> None:
    space, hot = workshop.by_clip, Head(f"clipcap:{captioner}", {"temperature": "2"})
    several = made(space, photo, hot, "image", num_samples=4, num_steps=12)
    assert len({sample.text for sample in several}) > 1
    assert made(space, photo, hot, "image", seed=2, num_steps=12)[0].text == several[2].text
    cold = Head(f"clipcap:{captioner}", {"temperature": "0"})
    likeliest = [sample.text for sample in made(space, photo, cold, "image", num_samples=3)]
    assert len(set(likeliest)) == 1
    others = [made(space, text * sign, cold)[0].text for sign in (1, -1)]
    assert len({likeliest[0], *others}) > 1


def test_the_likeliest_caption_is_what_the_library_itself_goes_on_with(
    workshop: Workshop, captioner: Path, photo: Any
) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    cold = Head(f"clipcap:{captioner}", {"temperature": "0"})
    (sample,) = made(workshop.by_clip, photo, cold, "image", num_steps=8)
    head: Any = workshop.by_clip.generators.of("text", cold)
    told: list[torch.Tensor] = []
    hook = head.mapping.register_forward_pre_hook(lambda _, given: told.append(given[0]))
    made(workshop.by_clip, photo, cold, "image", num_steps=1)
    hook.remove()
    torch.testing.assert_close(told[0], 2.0 * torch.from_numpy(photo))  # as long as its settings say
    decoder = GPT2LMHeadModel.from_pretrained(captioner / "decoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(captioner / "decoder")
    with torch.inference_mode():
        prefix = head.mapping(2.0 * torch.from_numpy(photo))
        pieces = decoder.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(1, PREFIX),
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=1,
        )
    assert sample.text == " ".join(tokenizer.decode(pieces[0], skip_special_tokens=True).split())


def test_a_connected_tower_is_reached_through_its_connector(workshop: Workshop, captioner: Path) -> None:
    vector = workshop.by_clap.encode_text(["a dog"])
    about = made(workshop.by_clap, vector, captioner)[0].provenance
    assert (about["tower"], about["tower_agreement"]) == ("transformers:clip", 1.0)


def test_captioners_of_other_towers_are_refused(workshop: Workshop, tmp_path: Path, photo: Any) -> None:
    other = _written(tmp_path / "other", tiny_clip(tmp_path / "another", 16, seed=9))
    with pytest.raises(ConfigError, match=r"takes vectors 16 wide of a small CLIP; .*compose a space"):
        made(workshop.by_clip, photo, other, "image")
    wide = _written(tmp_path / "wide", None, width=24)
    with pytest.raises(ConfigError, match="takes vectors 24 wide"):
        made(workshop.by_clip, photo, wide, "image")
    alone = _written(tmp_path / "alone", None)  # nothing tells its tower from another of this width
    assert "tower_agreement" not in made(workshop.by_clip, photo, alone, "image")[0].provenance


def test_what_is_no_captioner_is_refused(workshop: Workshop, captioner: Path, tmp_path: Path, photo: Any) -> None:
    space = workshop.by_clip
    with pytest.raises(WeightsError, match=r"holds no clipcap\.json"):
        made(space, photo, tmp_path, "image")
    broken = shutil.copytree(captioner, tmp_path / "broken")
    (broken / "mapping.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="do not fit"):
        made(space, photo, broken, "image")
    (broken / "clipcap.json").write_text('{"tower": "x", "width": 16, "depth": 3}')
    with pytest.raises(ConfigError, match="unknown key 'depth'"):
        made(space, photo, broken, "image")
    shutil.rmtree(shutil.copytree(captioner, tmp_path / "mute") / "decoder")
    with pytest.raises(WeightsError, match="could not load"):
        made(space, photo, tmp_path / "mute", "image")
    with pytest.raises(ConfigError, match="temperature 'warm': must be 0 to 5"):
        made(space, photo, Head(f"clipcap:{captioner}", {"temperature": "warm"}), "image")
    with pytest.raises(ConfigError, match="unknown option scale; known: temperature"):
        made(space, photo, Head(f"clipcap:{captioner}", {"scale": "1"}), "image")
    with pytest.raises(ArgumentError, match="1 to 200 pieces"):
        made(space, photo, captioner, "image", num_steps=500)
    with pytest.raises(ArgumentError, match="writes text, not image"):
        generate(space, photo, to="image", modality="image", head=f"clipcap:{captioner}", force=True)
