"""Single items: what is known of them, what they look and sound like, their files."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from embedspace.catalog import StoredItem
from embedspace.errors import MediaError
from embedspace.segment import modality_rows
from embedspace.serve.errors import ApiError, not_found
from embedspace.serve.media import content_type, links
from embedspace.serve.models import ItemAnswer, SegmentAnswer
from embedspace.serve.previews import preview_key
from embedspace.serve.routes.common import ServiceOf
from embedspace.serve.routes.search import THUMBNAIL_SIDE, WAVEFORM_PEAKS, answer_hits
from embedspace.serve.security import SANDBOX
from embedspace.serve.service import Service

__all__ = ["router"]

router = APIRouter(prefix="/api/items", tags=["items"])
_SEGMENTS = 500
_CACHED = "private, max-age=86400"
_TEXT = 200_000


async def _item(service: Service, content_id: str) -> StoredItem:
    return await service.search("item", service.catalog.item, content_id)


@router.get("/{content_id}")
async def item(content_id: str, service: ServiceOf) -> ItemAnswer:
    """Return an item, and its neighbours in every modality."""
    stored = await _item(service, content_id)
    neighbours = await service.search("search", service.catalog.neighbours, stored)
    rows = modality_rows(stored.segments)
    base = f"/api/items/{content_id}"
    return ItemAnswer(
        id=stored.id,
        uri=stored.uri,
        uris=[place.uri for place in stored.places],
        name=stored.name,
        kind=stored.kind,
        metadata=stored.metadata,
        size=stored.places[0].size if stored.places else 0,
        modified=stored.places[0].mtime_ns / 1e9 if stored.places else 0.0,
        segments=[
            SegmentAnswer(modality=one.modality, start=one.start, end=one.end, text=one.text, label=one.label)
            for one in stored.segments[:_SEGMENTS]
        ],
        neighbours={target: answer_hits(hits, []) for target, hits in neighbours.items()},
        preview=None if stored.kind == "text" else f"{base}/preview",
        **links(content_id, stored.kind, "audio" if set(rows) & {"audio", "speech"} else ""),
    )


@router.get("/{content_id}/media", response_class=FileResponse)
async def media(content_id: str, request: Request, service: ServiceOf) -> Response:
    """Return the original, or a part of it (Range)."""
    stored = await _item(service, content_id)
    etag = f'"{content_id}"'
    headers = {"ETag": etag, "Content-Security-Policy": SANDBOX, "Cache-Control": _CACHED}
    if stored.content is not None:
        return Response(_said(stored.content), media_type="text/plain; charset=utf-8", headers=headers)
    path = await service.search("item", service.files.file, stored)
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    shown = content_type(str(path))
    return FileResponse(
        path,
        media_type=shown or "application/octet-stream",
        headers=headers,
        filename=path.name,
        content_disposition_type="inline" if shown else "attachment",
    )


def _said(content: str | dict[str, str]) -> str:
    if isinstance(content, str):
        return content
    return "\n\n".join(f"{name}\n{text}" for name, text in content.items())


@router.get("/{content_id}/thumbnail")
async def thumbnail(
    content_id: str,
    request: Request,
    service: ServiceOf,
    size: Annotated[int, Query(ge=16, le=1024)] = THUMBNAIL_SIDE,
    at: Annotated[float, Query(ge=0.0, le=1e6)] = 0.0,
) -> Response:
    """Return a picture's or video's thumbnail as WebP; of a video that at a time, in seconds."""
    stored = await _item(service, content_id)
    if stored.kind not in ("image", "video"):
        raise not_found(f"there is no thumbnail of {stored.kind}")
    return await _made(request, service, stored, "thumbnail", kind=stored.kind, size=size, at=at)


@router.get("/{content_id}/waveform")
async def waveform(
    content_id: str, request: Request, service: ServiceOf, count: Annotated[int, Query(ge=16, le=2000)] = WAVEFORM_PEAKS
) -> Response:
    """Return the outline of a sound: `{"peaks": [0..1], "duration": seconds}`."""
    stored = await _item(service, content_id)
    if stored.kind not in ("audio", "video"):
        raise not_found(f"there is no waveform of {stored.kind}")
    return await _made(request, service, stored, "waveform", count=count)


@router.get("/{content_id}/preview")
async def preview(content_id: str, request: Request, service: ServiceOf) -> Response:
    """Return what every browser shows or plays: WebP, Opus in Ogg, or the first minute of a video as WebM."""
    stored = await _item(service, content_id)
    if stored.kind not in ("image", "audio", "video"):
        raise not_found(f"there is no preview of {stored.kind}")
    return await _made(request, service, stored, "preview", kind=stored.kind)


async def _made(request: Request, service: Service, stored: StoredItem, task: str, **options: Any) -> Response:  # noqa: ANN401
    """Return what a decoder makes of an item's file, or made before."""
    key = preview_key(stored.id, task, options)
    etag = f'"{"-".join(map(str, key))}"'
    headers = {"ETag": etag, "Cache-Control": _CACHED, "Content-Security-Policy": SANDBOX}
    path = await service.search("item", service.files.file, stored)
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    try:
        about, content = await service.previews.made(key, path, task, options)
    except MediaError as error:
        raise ApiError(422, f"no {task} can be made of it: {error}") from None
    if task == "waveform":
        return JSONResponse(about, headers=headers)
    return await asyncio.to_thread(_ranged, request, content, str(about["type"]), headers)


def _ranged(request: Request, content: bytes, kind: str, headers: dict[str, str]) -> Response:
    """Answer with bytes in memory, or one stretch of them: players of sound seek."""
    total = len(content)
    headers = {**headers, "Accept-Ranges": "bytes"}
    asked = request.headers.get("range", "")
    first, dash, last = asked.removeprefix("bytes=").partition("-")
    if not asked.startswith("bytes=") or not dash or "," in asked or not (first.isdecimal() or last.isdecimal()):
        return Response(content, media_type=kind, headers=headers)
    start = int(first) if first else max(total - int(last), 0)
    end = min(int(last), total - 1) if first and last else total - 1
    if start >= total or end < start:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{total}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{total}"
    return Response(content[start : end + 1], 206, media_type=kind, headers=headers)
