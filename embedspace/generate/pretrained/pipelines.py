"""Pipelines of diffusers as heads, each by the adapter of its class: `diffusers:<folder or name>`.

    @register_pipeline("MyPipeline")
    class MyHead(PipelineHead): ...

Weights are read from safetensors alone, and no code comes from a folder.

Source: https://huggingface.co/docs/diffusers
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.towers.adapters.files import library, loading
from embedspace.errors import ArgumentError, ConfigError
from embedspace.generate.base import Generator, Request
from embedspace.generate.pretrained.base import Asked, Content, HeadSpace, Opened, PretrainedGenerator
from embedspace.generate.pretrained.files import HeadRequest, folder_of, pipeline_class
from embedspace.generate.pretrained.prior import Prior, open_prior
from embedspace.generate.pretrained.registry import register_head
from embedspace.plugins import Registry

__all__ = ["PictureHead", "PipelineHead", "pipeline_names", "register_pipeline"]

_HERE = "embedspace.generate.pretrained"
_PIPELINES: Registry[type[PipelineHead]] = Registry(
    "pipeline",
    {
        "StableUnCLIPImg2ImgPipeline": f"{_HERE}.stable_unclip",
        "KandinskyV22Pipeline": f"{_HERE}.kandinsky",
        "StableDiffusionPipeline": f"{_HERE}.ip_adapter",
        "StableDiffusionXLPipeline": f"{_HERE}.ip_adapter",
        "AudioLDMPipeline": f"{_HERE}.audioldm",
        "MusicLDMPipeline": f"{_HERE}.audioldm",
    },
)
_DTYPES = ("float32", "float16", "bfloat16")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within this context diffusers remarks on nothing: what it finds outdated in a folder no user can change."""
    from diffusers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


class PipelineHead(PretrainedGenerator):
    """A pipeline of diffusers.

    Attributes:
        steps: Steps where the request says none.
        guidance: Guidance where the request says none.
    """

    steps: ClassVar[int]
    guidance: ClassVar[float]

    def __init__(self, opened: Opened, pipeline: Any) -> None:  # noqa: ANN401 - the library is optional
        super().__init__(opened)
        self.dtype = _dtype(opened)
        self.pipeline = pipeline.to(opened.space.device)
        self.pipeline.set_progress_bar_config(disable=True)  # only the command line draws
        self.prepare()

    @classmethod
    def require(cls, settings: Mapping[str, Any], label: str) -> None:
        """Refuse a reference that lacks an option which the head cannot do without, before anything is loaded.

        Args:
            settings: Options of the reference.
            label: The head, for messages.

        Raises:
            ConfigError: If it does.
        """

    @abstractmethod
    def prepare(self) -> None:
        """Find out how the space's vectors reach the pipeline; called once, with the pipeline in place.

        Raises:
            ConfigError: If they do not.
        """

    def draw(self, asked: Asked) -> list[tuple[Content, dict[str, Any]]]:
        """Run the pipeline without a word; see `PretrainedGenerator.draw`."""
        with quiet():
            return self.run(asked)

    @abstractmethod
    def run(self, asked: Asked) -> list[tuple[Content, dict[str, Any]]]:
        """Run the pipeline once for a batch; see `PretrainedGenerator.draw`."""

    def sampling(self, request: Request) -> dict[str, Any]:
        """Return steps and guidance as they are used, by their names in a request."""
        return {
            "num_steps": self.steps if request.num_steps is None else request.num_steps,
            "guidance_scale": self.guidance if request.guidance_scale is None else request.guidance_scale,
        }

    def prior(self) -> Prior | None:
        """Return the prior that the option `prior` names; None without it."""
        place = self.setting("prior")
        return open_prior(self.opened.request, place, self.opened.space, self.dtype) if place else None

    def setting(self, name: str) -> str:
        """Return an option of the reference; "" where it was not given."""
        return str(self.opened.request.options.get(name, ""))


class PictureHead(PipelineHead):
    """A pipeline that draws square pictures."""

    modality = "image"
    options = frozenset({"guidance_scale", "num_steps", "size"})

    @property
    def side(self) -> int:
        """Side in pixels that the pipeline was trained at: that of its network's latents."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    @property
    def multiple(self) -> int:
        """What a side must be a multiple of; pipelines of Stable Diffusion check it."""
        return 8

    def resolved(self, request: Request) -> dict[str, Any]:
        """Return steps, guidance and side as they are used."""
        size = self.side if request.size is None else request.size
        if size % self.multiple:
            raise ArgumentError("size", f"{size}: must be a multiple of {self.multiple} for this head")
        return {**self.sampling(request), "size": size}

    @staticmethod
    def pixels(pictures: NDArray[Any]) -> list[NDArray[np.uint8]]:
        """Return (B, H, W, 3) of 0 to 1 as B pictures of (H, W, 3) uint8."""
        return list((np.nan_to_num(np.asarray(pictures, np.float32)).clip(0, 1) * 255).round().astype(np.uint8))


def register_pipeline(*names: str) -> Callable[[type[PipelineHead]], type[PipelineHead]]:
    """Register the adapter of some classes of pipelines, by their names in `model_index.json`.

    Raises:
        ConfigError: If another adapter has one of the names.
    """

    def registering(adapter: type[PipelineHead]) -> type[PipelineHead]:
        for name in names:
            _PIPELINES.add(name, adapter)
        return adapter

    return registering


def pipeline_names() -> list[str]:
    """Return the classes of pipelines that an adapter knows."""
    return _PIPELINES.names()


def _dtype(opened: Opened) -> torch.dtype:
    """Return the precision of a head's weights: the option `dtype`; half on a GPU, single on a processor."""
    name = str(opened.request.options.get("dtype", "float32" if opened.space.device == "cpu" else "float16"))
    if name not in _DTYPES:
        raise ConfigError(f"{opened.request.label}: dtype {name!r}, must be one of {', '.join(_DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


@register_head("diffusers")
def _create(request: HeadRequest, target: str, space: HeadSpace) -> Generator:
    diffusers = library("diffusers", "diffusers", request.label, lambda: importlib.import_module("diffusers"))
    folder, revision = folder_of(request)
    kind, _ = pipeline_class(request, folder)
    adapter = _PIPELINES.get(kind)
    if adapter is None:
        raise ConfigError(
            f"{request.label}: {folder} holds a {kind}, which no adapter knows; known: {', '.join(pipeline_names())}"
        )
    if str(adapter.modality) != target:
        raise ArgumentError("head", f"{request.reference}: a {kind} makes {adapter.modality}, not {target}")
    request.only("dtype", *adapter.settings)
    adapter.require(request.options, request.label)
    opened = Opened(request, folder, revision, kind, space)
    dtype = _dtype(opened)
    with quiet(), loading(request, f"diffusers could not load {folder}"):
        pipeline = getattr(diffusers, kind).from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=dtype
        )
    with quiet():
        return adapter(opened, pipeline)
