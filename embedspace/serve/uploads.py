"""Media from outside: what they say they are, and their way through a decoder's process to what encoders take."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from embedspace.errors import EmptyMediaError, MediaError
from embedspace.media.film import Film, Moment
from embedspace.modality import Modality, kind_of
from embedspace.segment import Decoded
from embedspace.serve.errors import ApiError
from embedspace.serve.service import Service

__all__ = ["kind_of_upload", "read_upload"]

_KINDS = ("image", "audio", "video", "text")
_GENERAL = ("application/octet-stream", "binary/octet-stream")
_TEXT_BYTES = 1 << 20


def kind_of_upload(
    content_type: str, name: str, wanted: str = "a query is a picture, a sound, a video or a text"
) -> str:
    """Return what a body is: "image", "audio", "video" or "text".

    Args:
        content_type: As the client says.
        name: Name of its file, which decides where the type is a general one.
        wanted: What an error says is taken.

    Raises:
        ApiError: 415, if neither says it.
    """
    kind = content_type.partition(";")[0].strip().lower()
    main, _, sub = kind.partition("/")
    if main in ("image", "audio", "video") and not sub.startswith("svg"):
        return main
    if kind in _GENERAL and (found := kind_of(name) if name else None) in _KINDS and found is not None:
        return found
    raise ApiError(
        415,
        f"{wanted}; got type {kind or '(none)'}"
        f"{f' and the name {name!r}' if name else ''}; say image/..., audio/..., video/..., or ?name= with a suffix",
    )


async def read_upload(service: Service, path: Path, kind: str, as_modality: str | None = None) -> Decoded:
    """Decode a file from outside in a process of its own, and prepare it for the encoders.

    Args:
        service: The server's.
        path: Where its bytes lie.
        kind: From `kind_of_upload`.
        as_modality: "audio" or "speech", where a recording is only one of them.

    Raises:
        MediaError: If it cannot be decoded within the limits.
        ApiError: 429, if too many wait.
    """
    limits, space = service.limits, service.model
    decode = service.decoder.run
    if kind == "image":
        side = await asyncio.to_thread(_min_side, service)
        about, content = await decode("image", str(path), min_side=side, max_pixels=limits.query_pixels)
        picture = Image.frombytes(about["mode"], tuple(about["size"]), content)
        return await asyncio.to_thread(space.decode, picture, Modality.IMAGE)
    if kind == "audio":
        about, content = await decode("audio", str(path), seconds=limits.query_seconds)
        return await asyncio.to_thread(_recording, space, about, content, as_modality)
    if kind == "video":
        looks = await asyncio.to_thread(_looks, service)
        most = {"seconds": limits.query_seconds, "max_pixels": limits.query_pixels}
        about, content = await decode("video", str(path), **most, **looks)
        return await asyncio.to_thread(_video, space, about, content)
    return await asyncio.to_thread(_text, space, path)


def _min_side(service: Service) -> int | None:
    encoder = getattr(service.model, "encoder", None)
    side: int | None = None if encoder is None else encoder(Modality.IMAGE).min_side
    return side


def _looks(service: Service) -> dict[str, float]:
    """Return how often an encoder of videos looks, and what it takes for still; without one: at pictures alone."""
    if Modality.VIDEO not in service.model.modalities or not hasattr(service.model, "encoder"):
        return {"per_second": 0.1, "still": 0.0}
    encoder = service.model.encoder(Modality.VIDEO)
    return {"per_second": encoder.frames_per_second, "still": encoder.still}


def _recording(space: Any, about: dict[str, Any], content: bytes, as_modality: str | None) -> Decoded:  # noqa: ANN401
    waveform = np.frombuffer(content, "<f4").astype(np.float32)
    decoded: Decoded = space.decode((waveform, int(about["rate"])), Modality.AUDIO, as_modality=as_modality)
    _complete(decoded)
    decoded.metadata["duration"] = about["seconds"]
    return decoded


def _video(space: Any, about: dict[str, Any], content: bytes) -> Decoded:  # noqa: ANN401
    """Put a video together: what is seen in it, and its sound."""
    moments: list[Moment] = []
    at = 0
    for told in about["moments"]:
        picture = None
        if told["size"] is not None:
            width, height = told["size"]
            size = width * height * 3
            picture = Image.frombytes("RGB", (width, height), content[at : at + size])
            at += size
        moments.append(Moment(told["start"], picture, told["picture"]))
    inputs: list[Any] = []
    if moments and Modality.VIDEO in space.modalities:
        inputs += space.decode(Film(moments, about["seen"]), Modality.VIDEO).inputs
    else:
        inputs += [one for found in moments if found.is_picture for one in space.decode(found.image, "image").inputs]
    if about["rate"]:
        try:
            inputs += _recording(space, about, content[at:], None).inputs
        except EmptyMediaError:  # silent where encoders listen
            pass
    if not inputs:
        raise MediaError("nothing in it could be decoded")
    return Decoded("video", inputs, {"duration": about["seconds"]})


def _complete(decoded: Decoded) -> None:
    """Take in what a long recording decodes later: it is in memory already."""
    if decoded.rest is not None:
        for inputs, _ in decoded.rest():
            decoded.inputs += inputs
        decoded.rest = None


def _text(space: Any, path: Path) -> Decoded:  # noqa: ANN401
    with path.open("rb") as file:
        content = file.read(_TEXT_BYTES + 1)
    if len(content) > _TEXT_BYTES:
        raise ApiError(413, f"a text is larger than {_TEXT_BYTES >> 20} MB")
    decoded: Decoded = space.decode(content.decode("utf-8", "replace").removeprefix("\ufeff"), Modality.TEXT)
    return decoded
