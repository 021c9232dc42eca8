"""Pictures and sounds that are sent to be edited, kept for some minutes as pixels and samples; what edits they make.

A text from outside never becomes a path here: what says how something is edited is the ref of something that was sent,
or words about it ("auto", a box, seconds).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from PIL import Image

from embedspace.errors import ArgumentError
from embedspace.generate.targets import Target
from embedspace.serve.errors import not_found, refused
from embedspace.serve.processes.decoding import Decoder
from embedspace.serve.settings import Limits

if TYPE_CHECKING:
    from embedspace.generate import Request

__all__ = ["SentFile", "SentFiles", "read_sent", "with_files"]

_KINDS = ("image", "audio")


@dataclass(frozen=True, slots=True, eq=False)
class SentFile:
    """A picture or a sound that was sent.

    Attributes:
        kind: "image" or "audio".
        name: As the client called it.
        content: The picture; or a WAV file's bytes.
        size: Bytes that it takes.
        about: Its width and height in pixels, or its duration in seconds.
    """

    kind: str
    name: str
    content: Image.Image | bytes
    size: int
    about: Mapping[str, float]


class SentFiles:
    """What was sent, for some minutes; the oldest go where all take too much memory. For the event loop's thread."""

    def __init__(self, seconds: float, most: int) -> None:
        """Keep each for so long, and all together within so many bytes."""
        self.seconds, self._most = seconds, most
        self._kept: dict[str, tuple[float, SentFile]] = {}

    def put(self, file: SentFile) -> str:
        """Keep a file; returns the ref to name it by, which cannot be guessed."""
        now = time.monotonic()
        for ref in [ref for ref, (until, _) in self._kept.items() if until < now]:
            del self._kept[ref]
        while self._kept and self.held + file.size > self._most:
            del self._kept[next(iter(self._kept))]
        ref = secrets.token_urlsafe(12)
        self._kept[ref] = (now + self.seconds, file)
        return ref

    def get(self, ref: str, param: str) -> SentFile:
        """Return a file.

        Raises:
            ApiError: 404, if it is unknown or forgotten.
        """
        until, file = self._kept.get(ref, (0.0, None))
        if file is None or until < time.monotonic():
            raise not_found(f"{param}: this ref is unknown, or was forgotten; send the file to /api/files", param)
        return file

    @property
    def held(self) -> int:
        """Bytes of all of them."""
        return sum(file.size for _, file in self._kept.values())


async def read_sent(decoder: Decoder, limits: Limits, path: Path, kind: str, name: str) -> SentFile:
    """Decode a file from outside in a process of its own.

    Args:
        decoder: Decodes it.
        limits: Pixels and seconds that are taken.
        path: Where its bytes lie.
        kind: From `kind_of_upload`.
        name: As the client calls it.

    Raises:
        MediaError: If it cannot be decoded within the limits.
        ApiError: 400, if it is neither a picture nor a sound; 429, if too many wait.
    """
    if kind not in _KINDS:
        raise refused(f"{kind}: what is edited is a picture or a sound")
    if kind == "image":
        about, content = await decoder.run("image", str(path), min_side=None, max_pixels=limits.edit_pixels)
        picture = Image.frombytes(about["mode"], tuple(about["size"]), content)
        return SentFile(kind, name, picture, len(content), {"width": picture.width, "height": picture.height})
    about, content = await decoder.run("audio", str(path), seconds=limits.query_seconds)
    wav = io.BytesIO()
    soundfile.write(wav, np.frombuffer(content, "<f4"), int(about["rate"]), format="WAV", subtype="FLOAT")
    return SentFile(kind, name, wav.getvalue(), len(wav.getvalue()), {"duration": about["seconds"]})


async def with_files(request: Request, sent: SentFiles, target: Target, settings: Mapping[str, Any]) -> Request:
    """Return a request with what is edited, and what is drawn where.

    Args:
        request: With all other options.
        sent: What was sent.
        target: What is made.
        settings: May have init, strength, mask and map by these names: refs, or what `edit_of_picture` and
            `edit_of_sound` take beside files.

    Raises:
        ApiError: 404, if a ref is unknown; 400, if it is of another kind.
        ArgumentError: If strength, mask or map do not fit.
    """
    from embedspace.generate.drawing import drawing_of
    from embedspace.generate.editing import edit_of, is_told

    given = {name: value for name, value in settings.items() if value is not None}
    named: dict[str, str] = {}

    def content_of(option: str, kind: str) -> Image.Image | bytes:
        file = sent.get(given[option], option)
        if file.kind != kind:
            raise refused(f"{option}: {file.kind}, where {kind} is needed", option)
        named[option] = file.name or file.kind
        return file.content

    if "map" in given:
        drawn = content_of("map", "image")
        with _by_name(named):
            drawing = await asyncio.to_thread(drawing_of, drawn)
        request = dataclasses.replace(
            request, drawing=dataclasses.replace(drawing, about={**drawing.about, "map": named["map"]})
        )
    editing = {name: given[name] for name in ("strength", "mask") if name in given}
    if "init" not in given:
        if editing:
            name, value = next(iter(editing.items()))
            raise ArgumentError(name, f"{value}: says how something is edited; send its file, and give the ref as init")
        return request
    init, mask = content_of("init", target.content), editing.get("mask")
    if mask is not None and target.content == "image" and not is_told(mask):
        mask = content_of("mask", "image")
    with _by_name(named):
        edit = await asyncio.to_thread(edit_of, target.content, init, editing.get("strength"), mask)
    named.pop("map", None)
    return dataclasses.replace(request, edit=dataclasses.replace(edit, about={**edit.about, **named}))


@contextlib.contextmanager
def _by_name(named: Mapping[str, str]) -> Iterator[None]:
    """Let what is said of pixels name the file that they were sent as; `named` holds it for each option."""
    try:
        yield
    except ArgumentError as error:
        about = error.problem.removeprefix(f"{Image.Image.__name__}: ")
        if about == error.problem or error.argument not in named:
            raise
        raise ArgumentError(error.argument, f"{named[error.argument]}: {about}") from error
