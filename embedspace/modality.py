"""The modalities, and which file holds which: a registry that anybody may add to.

What is registered here is data; a decoder is named by its dotted name and imported when the first file is decoded.
From outside, in one file beside its encoder::

    register_modality(ModalitySpec("depth", suffixes=(".npy",), decoder="my_package.media.depth:decode"))
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from embedspace.errors import ConfigError, UnknownModalityError
from embedspace.plugins import load_plugins

__all__ = [
    "NOT_READ",
    "SUFFIXES",
    "DecodedSize",
    "Modality",
    "ModalitySpec",
    "holds_several",
    "is_apart",
    "is_modality",
    "kind_of",
    "kind_of_modality",
    "kinds",
    "leading",
    "modality_names",
    "modality_of",
    "modality_spec",
    "named_or_beside",
    "register_modality",
]


Value = TypeVar("Value")


class Modality(enum.StrEnum):
    """The names of the modalities that come with the package; `modality_names` has those of others as well.

    `AUDIO` is what a recording sounds like, `SPEECH` what is said in it; a recording can have both. `VIDEO` is what a
    video shows over some seconds; its single frames are of `IMAGE`, its sound of the other two. `VOICE` is who speaks;
    only a space with voices has it (`EmbeddingSpace.with_voices`). `MOTION` and `ONSET` are when something strikes in
    what a video shows, and in what is heard; only a space with timing has them (`EmbeddingSpace.with_timing`).
    """

    IMAGE = "image"
    AUDIO = "audio"
    TEXT = "text"
    SPEECH = "speech"
    VIDEO = "video"
    VOICE = "voice"
    MOTION = "motion"
    ONSET = "onset"


@dataclass(frozen=True, slots=True)
class DecodedSize:
    """Bytes that a decoded item holds, at most about.

    Attributes:
        growth: Per byte of its file: a compressed recording grows, a picture is made smaller.
        least: However small the file is.
        most: However large it is, as only the first minutes of a recording are decoded ahead; None: no limit.
    """

    growth: int = 2
    least: int = 1 << 20
    most: int | None = None

    def of(self, size: int) -> int:
        """Return the bytes for a file of so many bytes."""
        need = max(self.least, size * self.growth)
        return need if self.most is None else min(need, self.most)


@dataclass(frozen=True, slots=True)
class ModalitySpec:
    """What is known of a modality, or of a kind of media that holds several.

    Attributes:
        name: Such as "image"; what `Segment.modality` says.
        suffixes: Suffixes of the files that hold it, lower case, each with its dot.
        decoder: "module:function", or the function: `(source, encoders, as_modality) -> Decoded`, see
            `embedspace.encoders.decode`. Empty where another kind's files hold it, as recordings hold speech.
        kind: The kind of the files that hold it, where that has another name.
        holds: Modalities that the segments of its files may be of; itself where empty. A kind that does not hold
            itself is no modality: nothing encodes it as a whole.
        order: In an item with several, the modality with the lowest number stands for the item.
        memory: What a decoded item holds: so many are decoded ahead as fit into a budget.
        beside: A modality that its items have segments of as well: where a search over everything knows probabilities
            of that one and none of this, it finds the items by that one. What is known of that one, such as its mean,
            is taken for what is not known of this one.
        apart: Its vectors lie in a space of their own, only as many numbers wide as the shared one: they are compared
            with one another alone, and a search looks through them only where it is asked to.
        writes: Suffix of the files that generated items are written to, such as ".png"; empty where none are made.
    """

    name: str
    suffixes: tuple[str, ...] = ()
    decoder: str | Callable[..., Any] = ""
    kind: str = ""
    holds: tuple[str, ...] = ()
    order: int = 50
    memory: DecodedSize = field(default_factory=lambda: DecodedSize())
    beside: str = ""
    apart: bool = False
    writes: str = ""

    @property
    def held(self) -> tuple[str, ...]:
        """Modalities that the segments of its files may be of."""
        return self.holds or (self.name,)

    def decode(self) -> Callable[..., Any] | None:
        """Return the decoder, imported; None where its files are another kind's."""
        if not isinstance(self.decoder, str):
            return self.decoder
        if not self.decoder:
            return None
        module, _, name = self.decoder.partition(":")
        return cast("Callable[..., Any]", getattr(importlib.import_module(module), name))


_SPECS: dict[str, ModalitySpec] = {}
SUFFIXES: dict[str, str] = {}
"""File suffix (lower case, with its dot) -> media kind: the name of a modality, or "video" (frames plus sound)."""

NOT_READ: dict[str, str] = {
    **dict.fromkeys(
        (".heic", ".heif"), "HEIC pictures are not read; convert them to JPEG, for example: heif-convert a.heic a.jpg"
    ),
}
"""File suffix of well-known media that have no decoder here -> what to do."""


def register_modality(spec: ModalitySpec) -> ModalitySpec:
    """Make a modality, or a kind of media, known everywhere: in indexing, search, the command line and evaluation.

    Its encoder is registered by type (`embedspace.encoders.register_encoder`) and named in a space's configuration.

    Args:
        spec: What it is.

    Returns:
        The same, so that a module can keep it.

    Raises:
        ConfigError: If its name or one of its suffixes is taken.
    """
    if not spec.name.isidentifier() or spec.name != spec.name.lower() or spec.name == "mixed":
        raise ConfigError(f"modality {spec.name!r}: a name is one word in lower case, and not 'mixed'")
    if _SPECS.get(spec.name, spec) != spec:
        raise ConfigError(f"modality {spec.name!r} is registered twice, with different facts")
    for suffix in spec.suffixes:
        if not suffix.startswith(".") or suffix != suffix.lower():
            raise ConfigError(f"modality {spec.name!r}: suffix {suffix!r} must be lower case and begin with a dot")
        if SUFFIXES.get(suffix, spec.name) != spec.name:
            raise ConfigError(f"modality {spec.name!r}: {suffix} files are {SUFFIXES[suffix]!r} already")
    _SPECS[spec.name] = spec
    SUFFIXES.update(dict.fromkeys(spec.suffixes, spec.name))
    return spec


register_modality(
    ModalitySpec(
        "image",
        (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
        "embedspace.encoders.decode:decode_image",
        order=0,
        memory=DecodedSize(growth=0),
        writes=".png",
    )
)
register_modality(
    ModalitySpec(
        "audio",
        (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aiff", ".aif"),
        "embedspace.encoders.recordings:decode_recording",
        holds=("audio", "speech", "voice", "onset"),
        order=30,
        memory=DecodedSize(60, 1 << 19, 1 << 25),
        writes=".wav",
    )
)
register_modality(
    ModalitySpec(
        "text",
        (".txt", ".md", ".rst"),
        "embedspace.encoders.decode:decode_text",
        order=10,
        memory=DecodedSize(4, 1 << 12),
        writes=".txt",
    )
)
register_modality(ModalitySpec("speech", kind="audio", order=20, writes=".wav"))
register_modality(
    ModalitySpec(
        "video",
        (".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi"),
        "embedspace.encoders.film.decode:decode_video",
        holds=("video", "image", "audio", "speech", "voice", "motion", "onset"),
        order=-10,
        memory=DecodedSize(1, 1 << 26, 1 << 26),
        beside="image",
    )
)
register_modality(ModalitySpec("voice", kind="audio", order=90, apart=True))
register_modality(ModalitySpec("motion", kind="video", order=91, apart=True, beside="onset"))
register_modality(ModalitySpec("onset", kind="audio", order=92, apart=True, beside="motion"))


def modality_names() -> list[str]:
    """Return the names of all modalities, in the order of their registration."""
    return [name for name, spec in _SPECS.items() if spec.kind or name in spec.held]


def kinds() -> list[str]:
    """Return the names of all kinds of media, in the order of their registration."""
    return [name for name, spec in _SPECS.items() if spec.decoder]


def modality_spec(name: str) -> ModalitySpec:
    """Return what is known of a modality or a kind of media.

    Raises:
        UnknownModalityError: If there is none of this name.
    """
    if name not in _SPECS:
        load_plugins()
    if name not in _SPECS:
        raise UnknownModalityError(f"unknown modality {name!r}; known: {', '.join(modality_names())}")
    return _SPECS[name]


def named_or_beside(found: Mapping[str, Value], name: str) -> Value | None:
    """Return what a mapping has of a modality, else of the one beside it (`ModalitySpec.beside`), else None."""
    if name in found or name not in _SPECS:
        return found.get(name)
    return found.get(_SPECS[name].beside)


def is_apart(name: object) -> bool:
    """Whether a modality's vectors are compared with one another alone (`ModalitySpec.apart`)."""
    return name in _SPECS and _SPECS[str(name)].apart


def is_modality(name: object) -> bool:
    """Whether there is a modality of this name."""
    if name not in _SPECS:
        load_plugins()
    return name in modality_names()


def kind_of_modality(name: str) -> str:
    """Return the kind of the files that hold a modality: "audio" for "speech", mostly the name itself."""
    spec = _SPECS.get(name)
    return name if spec is None else spec.kind or spec.name


def holds_several(kind: str) -> bool:
    """Whether the files of a kind hold several modalities, as recordings hold sound and speech."""
    return kind in _SPECS and len(_SPECS[kind].held) > 1


def leading(names: Iterable[str]) -> list[str]:
    """Sort modalities by which of them stands for an item that has several: of a talk what is said, not its sound."""
    return sorted(names, key=lambda name: (_SPECS[name].order if name in _SPECS else 50, name))


def kind_of(path: str | Path) -> str | None:
    """Return the media kind of a file by its suffix; None where nothing knows the suffix."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES and suffix[1:].isalnum():
        load_plugins()
    return SUFFIXES.get(suffix)


def modality_of(path: str | Path) -> str:
    """Return the media kind of a file by its suffix.

    Args:
        path: A file name; it need not exist.

    Returns:
        "image", "audio", "text", "video", or a kind that was registered. A recording is "audio" here: whether it also
        holds speech is decided by its content.

    Raises:
        UnknownModalityError: If the suffix is not in `SUFFIXES`.
    """
    kind = kind_of(path)
    if kind is not None:
        return kind
    suffix = Path(path).suffix.lower()
    if suffix in NOT_READ:
        raise UnknownModalityError(f"{path}: {NOT_READ[suffix]}")
    known = " ".join(sorted(SUFFIXES))
    raise UnknownModalityError(
        f"{path}: unknown file suffix {suffix or '(none)'!r}; known: {known}; or say what it is with as_modality (--as)"
    )
