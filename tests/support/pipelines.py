"""Whole pipelines of diffusers, small and random, made and saved with the library's own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

__all__ = ["tiny_audioldm", "tiny_ip_adapter", "tiny_kandinsky", "tiny_prior", "tiny_unclip"]


def _unet(**config: Any) -> Any:
    from diffusers import UNet2DConditionModel

    sizes: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8,),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**sizes | config)


def _vae(channels: int = 3) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )


def tiny_unclip(folder: Path, clip: Path, width: int = 16) -> Path:
    """Write a Stable unCLIP whose image network is that of a CLIP as transformers saved it."""
    from diffusers import DDIMScheduler, DDPMScheduler, StableUnCLIPImg2ImgPipeline
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPTextModel, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    normalizer = StableUnCLIPImageNormalizer(width)
    normalizer.mean.data.normal_()
    normalizer.std.data.uniform_(0.5, 1.5)
    labels = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2 * width}
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor.from_pretrained(clip),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(clip),
        image_normalizer=normalizer,
        image_noising_scheduler=DDPMScheduler(),
        tokenizer=AutoTokenizer.from_pretrained(clip),
        text_encoder=CLIPTextModel.from_pretrained(clip),
        unet=_unet(use_linear_projection=True, **labels),
        scheduler=DDIMScheduler(),
        vae=_vae(),
    ).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: openrail++\ntags:\n- tiny\n---\n# Tiny\n")
    return folder


def tiny_prior(folder: Path, clip: Path, width: int = 16) -> Path:
    """Write Kandinsky's kind of prior around both networks of a CLIP."""
    from diffusers import KandinskyV22PriorPipeline, PriorTransformer, UnCLIPScheduler
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessor,
        CLIPTextModelWithProjection,
        CLIPVisionModelWithProjection,
    )

    torch.manual_seed(1)
    words = CLIPTextModelWithProjection.from_pretrained(clip)
    network = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=4,
        num_layers=1,
        embedding_dim=width,
        num_embeddings=words.config.max_position_embeddings,
        additional_embeddings=4,
        clip_embed_dim=width,
        embedding_proj_dim=width,
    )
    network.clip_mean.data.normal_()
    network.clip_std.data.uniform_(0.5, 1.5)
    KandinskyV22PriorPipeline(
        prior=network,
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(clip),
        text_encoder=words,
        tokenizer=AutoTokenizer.from_pretrained(clip),
        scheduler=UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=100),
        image_processor=CLIPImageProcessor.from_pretrained(clip),
    ).save_pretrained(folder)
    return folder


def tiny_kandinsky(folder: Path, width: int = 16) -> Path:
    """Write a decoder of Kandinsky 2.2."""
    from diffusers import DDPMScheduler, KandinskyV22Pipeline, VQModel

    torch.manual_seed(2)
    unet = _unet(
        out_channels=8,
        addition_embed_type="image",
        encoder_hid_dim=width,
        encoder_hid_dim_type="image_proj",
        class_embed_type=None,
        down_block_types=("SimpleCrossAttnDownBlock2D",),
        up_block_types=("SimpleCrossAttnUpBlock2D",),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        resnet_time_scale_shift="scale_shift",
    )
    movq = VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("AttnUpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=32,
        num_vq_embeddings=8,
        norm_type="spatial",
        vq_embed_dim=4,
    )
    KandinskyV22Pipeline(unet=unet, scheduler=DDPMScheduler(clip_sample=False), movq=movq).save_pretrained(folder)
    return folder


def tiny_ip_adapter(folder: Path, clip: Path, width: int = 16) -> tuple[Path, Path]:
    """Write a Stable Diffusion, and beside it a folder with an IP-Adapter for it."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, CLIPTextModel, CLIPVisionModelWithProjection

    torch.manual_seed(3)
    unet = _unet()
    StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel.from_pretrained(clip),
        tokenizer=AutoTokenizer.from_pretrained(clip),
        unet=unet,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * 16, width),
        "image_proj.proj.bias": torch.randn(4 * 16),
        "image_proj.norm.weight": torch.ones(16),
        "image_proj.norm.bias": torch.zeros(16),
    }
    crossing = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number in range(len(crossing)):
        for part in ("k", "v"):
            tensors[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(8, 16)
    adapter = folder.with_name(f"{folder.name}-adapter")
    (adapter / "models").mkdir(parents=True)
    save_file(tensors, adapter / "models" / "ip-adapter_sd15.safetensors")
    CLIPVisionModelWithProjection.from_pretrained(clip).save_pretrained(adapter / "models" / "image_encoder")
    return folder, adapter


def tiny_audioldm(folder: Path, clap: Path, width: int = 16) -> Path:
    """Write an AudioLDM whose text network is that of a CLAP as transformers saved it."""
    from diffusers import AudioLDMPipeline, DDIMScheduler
    from transformers import AutoTokenizer, ClapTextModelWithProjection, SpeechT5HifiGan, SpeechT5HifiGanConfig

    torch.manual_seed(4)
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=8,
            sampling_rate=16_000,
            upsample_initial_channel=16,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
            normalize_before=False,
        )
    )
    labels = {"class_embed_type": "simple_projection", "projection_class_embeddings_input_dim": width}
    AudioLDMPipeline(
        vae=_vae(1),
        text_encoder=ClapTextModelWithProjection.from_pretrained(clap),
        tokenizer=AutoTokenizer.from_pretrained(clap),
        unet=_unet(cross_attention_dim=8, class_embeddings_concat=False, **labels),
        scheduler=DDIMScheduler(),
        vocoder=vocoder,
    ).save_pretrained(folder)
    return folder
