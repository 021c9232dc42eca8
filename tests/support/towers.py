"""Small random checkpoints in the formats that people publish, made with the libraries' own classes."""

from __future__ import annotations

import itertools
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "OPEN_CLIP",
    "noise",
    "picture",
    "tiny_clap",
    "tiny_clip",
    "tiny_open_clip",
    "tiny_sentence_clip",
    "tiny_siglip",
    "tiny_tokenizer",
]

OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def picture(seed: int, width: int = 60, height: int = 40) -> NDArray[np.uint8]:
    """Return (height, width, 3) random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def noise(seed: int, seconds: float, rate: int = 48_000) -> NDArray[np.float32]:
    """Return a waveform of random samples."""
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate))).astype(np.float32)


def tiny_open_clip(folder: Path, seed: int = 0) -> Path:
    """Write a folder as open_clip pushes to the hub, with SigLIP's kind of preprocessing."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    config = json.loads(json.dumps(OPEN_CLIP))
    text = {**config["text_cfg"]}
    model = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], text)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    about = {"model_cfg": config, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    return folder


def tiny_tokenizer(folder: Path, limit: int) -> Any:
    """Return RoBERTa's kind of tokenizer with one token per letter."""
    from transformers import RobertaTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *string.ascii_lowercase, ".", "Ġ"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=limit)


def tiny_clap(folder: Path, *, fusion: bool = False) -> Path:
    """Write a CLAP as transformers saves it; its real feature extractor, 48 kHz and 10 s."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    torch.manual_seed(1)
    tokenizer = tiny_tokenizer(folder.with_name(f"{folder.name}-words"), 62)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "projection_dim": 16,
    }
    audio = {
        "spec_size": 256,
        "patch_embeds_hidden_size": 4,
        "hidden_size": 32,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "projection_dim": 16,
        "enable_fusion": fusion,
    }
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16)).save_pretrained(folder)
    extractor = ClapFeatureExtractor(truncation="fusion" if fusion else "rand_trunc")
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def tiny_clip(folder: Path, width: int = 12, seed: int = 2) -> Path:
    """Write a CLIP as transformers saves it."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer(folder.with_name(f"{folder.name}-words"), 32)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "projection_dim": width,
    }
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 32, "eos_token_id": 2}
    CLIPModel(
        CLIPConfig(
            text_config={**text, "bos_token_id": 0, "pad_token_id": 1},
            vision_config={**sizes, "image_size": 32, "patch_size": 16},
            projection_dim=width,
        )
    ).save_pretrained(folder)
    size = {"shortest_edge": 32}
    images = CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def tiny_siglip(folder: Path) -> Path:
    """Write a SigLIP as transformers saves it: its text network reads the last token of a text padded to the limit."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    torch.manual_seed(4)
    tokenizer = tiny_tokenizer(folder.with_name(f"{folder.name}-words"), 16)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 16}
    SiglipModel(
        SiglipConfig(
            text_config={**text, "bos_token_id": 0, "eos_token_id": 2},
            vision_config={**sizes, "image_size": 32, "patch_size": 16},
        )
    ).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def tiny_sentence_clip(folder: Path) -> Path:
    """Write the same CLIP as sentence-transformers saves it, with a prompt for queries."""
    from sentence_transformers import SentenceTransformer

    plain = tiny_clip(folder.with_name(f"{folder.name}-plain"))
    model = SentenceTransformer(str(plain), device="cpu", prompts={"query": "find. ", "document": ""})
    model.save_pretrained(str(folder))
    return folder


def tiny_recipe(folder: Path) -> Path:
    """Write a CLIP, a CLAP, 144 texts to connect them by, and the TOML file of the space that they make."""
    tiny_open_clip(folder / "clip")
    tiny_clap(folder / "clap")
    words = ("dog", "bell", "rain", "street", "fox", "drum", "leaf", "boat", "moon", "hill", "cup", "door")
    (folder / "words.txt").write_text("\n".join(f"{a} {b}" for a, b in itertools.product(words, words)))
    path = folder / "tiny.toml"
    path.write_text(
        """
        anchor = "clip"
        [towers.clip]
        model = "open_clip:local-dir:clip"
        modalities = ["text", "image"]
        [towers.clap]
        model = "sentence-transformers:clap"
        modalities = ["text", "audio"]
        window_seconds = 5.0
        [connect.clap]
        method = "procrustes"
        texts = ["words.txt"]
        """
    )
    return path
