"""OpenAI's shape, for clients that speak it: embeddings, pictures, speech."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from embedspace.modality import Modality
from embedspace.segment import Decoded, modality_rows
from embedspace.serve.errors import ApiError, refused
from embedspace.serve.jobs import Job
from embedspace.serve.models import TermRequest
from embedspace.serve.processes.transcode import FORMATS, encoded
from embedspace.serve.routes.common import ServiceOf, unless_gone
from embedspace.serve.routes.generate import begin
from embedspace.serve.service import Service
from embedspace.serve.uploads import kind_of_upload, read_upload

__all__ = ["MODEL", "router"]

router = APIRouter(prefix="/v1", tags=["openai"])
MODEL = "embedspace"
Result = TypeVar("Result")
_CHUNK = 32
_DATA_URI = re.compile(r"data:([\w.+/-]+)?(?:;[\w.=+-]+)*;base64,", re.ASCII)
_VOICE = re.compile(r"[a-z]+:[A-Za-z0-9+-]+")
_OPENAI_VOICES = frozenset("alloy ash ballad coral echo fable nova onyx sage shimmer verse marin cedar".split())


class _Asked(BaseModel):
    """A request of OpenAI's: fields of theirs that mean nothing here are passed over."""

    model_config = ConfigDict(extra="ignore")
    model: str = MODEL


class EmbeddingsRequest(_Asked):
    """Texts, or objects such as {"image": "data:image/png;base64,..."}."""

    input: str | list[str] | list[int] | list[list[int]] | list[dict[str, str]] | dict[str, str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    input_type: Literal["query", "document"] = Field("document", description="What towers with a prompt make of it")


class ImagesRequest(_Asked):
    """Pictures of a prompt."""

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]
    n: int = Field(1, ge=1, le=16)
    size: str | None = None
    response_format: Literal["b64_json", "url"] = "b64_json"
    output_format: Literal["png"] = "png"
    seed: int = Field(0, ge=0, lt=1 << 31)


class SpeechRequest(_Asked):
    """A text to say."""

    input: Annotated[str, Field(min_length=1, max_length=4096)]
    voice: str = ""
    response_format: str = "mp3"
    speed: float = 1.0


@router.get("/models")
async def models(service: ServiceOf) -> dict[str, Any]:
    """List the one model: the space."""
    about = {"id": MODEL, "object": "model", "created": 0, "owned_by": "embedspace"}
    return {"object": "list", "data": [{**about, "dimensions": service.model.embed_dim}]}


@router.post("/embeddings")
async def embeddings(asked: EmbeddingsRequest, request: Request, service: ServiceOf) -> dict[str, Any]:
    """Embed texts or media, one vector of unit length each."""
    _check_model(asked.model)
    width = service.model.embed_dim
    if asked.dimensions not in (None, width):
        raise refused(f"dimensions = {asked.dimensions}: vectors have {width}, and cannot be shortened", "dimensions")
    inputs = _inputs(asked.input)
    media = sum(modality != Modality.TEXT for modality, _ in inputs)
    limits = service.limits
    if len(inputs) > limits.texts or media > limits.media:
        raise refused(f"at most {limits.texts} texts and {limits.media} media in one request", "input")
    await service.until_ready()
    rows, tokens = await unless_gone(request, _embed(service, inputs, is_query=asked.input_type == "query"))
    packed = [_packed(row) if asked.encoding_format == "base64" else row.tolist() for row in rows]
    return {
        "object": "list",
        "model": MODEL,
        "data": [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(packed)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _check_model(name: str) -> None:
    if name != MODEL:
        raise ApiError(404, f"there is no model {name!r} here, only {MODEL!r}", param="model", code="model_not_found")


def _packed(row: NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def _inputs(given: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - the union above
    """Return (modality, text or data URI) of each input."""
    several = given if isinstance(given, list) else [given]
    if not several:
        raise refused("input is empty; give a text", "input")
    found = []
    for number, one in enumerate(several):
        if isinstance(one, str):
            found.append((Modality.TEXT.value, one))
        elif isinstance(one, dict) and len(one) == 1 and next(iter(one)) in ("text", "image", "audio", "speech"):
            found.append(next(iter(one.items())))
        else:
            raise refused(
                'token ids are not read; give texts, or objects such as {"image": "data:image/png;base64,..."}',
                f"input.{number}",
            )
        if not found[-1][1].strip():
            raise refused("an input is empty", f"input.{number}")
    return found


async def _embed(
    service: Service, inputs: Sequence[tuple[str, str]], *, is_query: bool
) -> tuple[list[NDArray[np.float32]], int]:
    """Return one row for each input, and how many tokens the texts have; a part of them waits at a time."""
    rows: list[NDArray[np.float32]] = []
    tokens = 0
    for first in range(0, len(inputs), _CHUNK):
        decoded = []
        for number, (modality, value) in enumerate(inputs[first : first + _CHUNK], first):
            if modality == Modality.TEXT:
                item = await asyncio.to_thread(service.queries.decode_text, value)
                tokens += _tokens(item)
            else:
                item = await _medium(service, modality, value, f"input.{number}")
            item.is_query = is_query
            decoded.append(item)
        for (modality, _), segments in zip(
            inputs[first : first + _CHUNK], await service.batcher.encode(decoded), strict=True
        ):
            found = modality_rows(segments)
            if modality not in found:
                raise refused(f"nothing in it could be encoded as {modality}", "input")
            rows.append(found[modality])
    return rows, tokens


async def _medium(service: Service, modality: str, value: str, place: str) -> Decoded:
    """Decode a data URI."""
    match = _DATA_URI.match(value)
    if match is None:
        raise refused("media are data URIs (data:image/png;base64,...); addresses are never fetched", place)
    try:
        content = await asyncio.to_thread(base64.b64decode, value[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise refused("the data URI is not base64", place) from None
    if len(content) > service.limits.upload_bytes:
        raise ApiError(413, f"a medium is larger than {service.limits.upload_bytes >> 20} MB", param=place)
    kind = kind_of_upload(match[1] or "application/octet-stream", f"x.{'png' if modality == 'image' else 'wav'}")
    with tempfile.NamedTemporaryFile(prefix="embedspace-", suffix=".upload") as file:
        file.write(content)
        file.flush()
        return await read_upload(service, Path(file.name), kind, modality if kind == "audio" else None)


def _tokens(item: Decoded) -> int:
    """Return how many tokens a text has: of its pieces as the encoder's tokenizer cut them, else its words."""
    total = 0
    for piece in item.inputs:
        content: Any = getattr(piece, "content", None)
        parts: Any = content if isinstance(content, list | tuple) else [content]
        total += sum(len(part) if hasattr(part, "shape") else len(str(part).split()) for part in parts)
    return total


@router.post("/images/generations")
async def images(asked: ImagesRequest, request: Request, service: ServiceOf) -> dict[str, Any]:
    """Make pictures of a prompt."""
    _check_model(asked.model)
    size = None
    if asked.size not in (None, "auto"):
        width, _, height = str(asked.size).partition("x")
        if not width.isdecimal() or width != height:
            raise refused(f"size = {asked.size!r}: pictures are square, such as 256x256", "size")
        size = int(width)
    await service.until_ready()
    terms = await unless_gone(request, service.queries.embed([TermRequest.model_validate({"text": asked.prompt})]))
    query = await service.search("compose", service.queries.compose, terms)
    job = begin(service, query, Modality.IMAGE, asked.n, asked.seed, size=size)
    await _finished(service, job, request)
    base = str(request.base_url).rstrip("/")
    return {
        "created": int(time.time()),
        "data": [
            {"b64_json": base64.b64encode(job.made[str(number)].content).decode()}
            if asked.response_format == "b64_json"
            else {"url": f"{base}/api/jobs/{job.id}/results/{number}"}
            for number in range(len(job.samples))
        ],
    }


async def _finished(service: Service, job: Job, request: Request) -> None:
    """Wait for a generation; where the client leaves, it is cancelled."""
    assert job.future is not None
    try:
        await unless_gone(request, _result(job.future))
    except BaseException:
        service.jobs.cancel(job)
        raise
    if job.error is not None:
        raise job.error


async def _result(future: Future[Result]) -> Result:
    """Wait for a thread; a task of it that has not begun is dropped where the caller is cancelled."""
    return await asyncio.wrap_future(future)


@router.post("/audio/speech")
async def speech(asked: SpeechRequest, request: Request, service: ServiceOf) -> Response:
    """Say a text; as MP3 unless another format is named."""
    _check_model(asked.model)
    if asked.response_format not in FORMATS:
        raise refused(f"response_format = {asked.response_format!r}; known: {', '.join(FORMATS)}", "response_format")
    if asked.speed != 1.0:
        raise refused(f"speed = {asked.speed:g}: voices speak at 1", "speed")
    voice = None if asked.voice in ("", *_OPENAI_VOICES) else asked.voice
    if voice is not None and not _VOICE.fullmatch(voice):
        raise refused(f"voice = {voice!r}; give engine:name, such as piper:joe", "voice")

    def say() -> bytes:
        from embedspace.generate.speech import voices

        waveform, _ = voices.speak(asked.input, voice)
        return encoded(waveform, voices.SAMPLE_RATE, asked.response_format)

    content = await unless_gone(request, _result(service.jobs.run(say)))
    return Response(content, media_type=FORMATS[asked.response_format])
