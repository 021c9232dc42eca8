"""Media that are searched with, and the search."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, BackgroundTasks, Query, Request

from embedspace.catalog import Hit
from embedspace.errors import EmbedspaceError
from embedspace.modality import kind_of_modality, leading
from embedspace.segment import modality_rows
from embedspace.serve.errors import ApiError, refused
from embedspace.serve.media import frame_time, links, name_of
from embedspace.serve.models import HitAnswer, NameAnswer, QueryAnswer, SearchAnswer, SearchRequest, TermAnswer
from embedspace.serve.previews import preview_key
from embedspace.serve.routes.common import ServiceOf, unless_gone
from embedspace.serve.search.finding import finder_key
from embedspace.serve.search.queries import StoredQuery, marks
from embedspace.serve.service import Service
from embedspace.serve.uploads import kind_of_upload, read_upload

__all__ = ["THUMBNAIL_SIDE", "WAVEFORM_PEAKS", "answer_hits", "router"]

router = APIRouter()
_NAMES = 5
THUMBNAIL_SIDE, WAVEFORM_PEAKS = 256, 400


@router.post("/api/queries", status_code=201, tags=["search"])
async def add_query(
    request: Request,
    service: ServiceOf,
    name: Annotated[str, Query(max_length=255)] = "",
    as_: Annotated[str, Query(alias="as", max_length=32, description="Hear a recording as audio or as speech")] = "",
) -> QueryAnswer:
    """Send a medium to search with: the body is the file, its Content-Type or its name says what it is."""
    kind = kind_of_upload(request.headers.get("content-type", ""), name)
    heard = [str(one) for one in service.model.modalities if kind_of_modality(one) == "audio"]
    if as_ and (kind != "audio" or as_ not in heard):
        raise refused(f"{kind} cannot be taken as {as_!r}; a recording can be heard as {' or '.join(heard)}", "as")
    await service.until_ready()
    with tempfile.NamedTemporaryFile(prefix="embedspace-", suffix=".upload") as file:
        async for part in request.stream():
            await anyio.to_thread.run_sync(file.write, part)
        file.flush()
        if not file.tell():
            raise refused("the body is empty; send the file itself")
        item = await unless_gone(request, read_upload(service, Path(file.name), kind, as_ or None))
    segments = (await unless_gone(request, service.batcher.encode([item])))[0]
    rows = modality_rows(segments)
    if not rows:
        raise refused("nothing in it could be encoded")
    first = next(iter(rows))
    called = (await service.search("names", service.model.names, rows[first][None], first, _NAMES))[0]
    duration = item.metadata.get("duration")
    kept = StoredQuery(kind, name, rows, called, duration, time.monotonic() + service.kept.seconds)
    return QueryAnswer(
        ref=service.kept.put(kept),
        kind=kind,
        modalities=leading(rows),
        names=[NameAnswer(name=word, probability=round(share, 4)) for word, share in called],
        duration=duration,
        expires_in=int(service.kept.seconds),
    )


@router.post("/api/search", tags=["search"])
async def search(
    asked: SearchRequest, request: Request, service: ServiceOf, afterwards: BackgroundTasks
) -> SearchAnswer:
    """Search with words, media and items, added and taken away."""
    started = time.perf_counter()
    await service.until_ready()
    if asked.by and asked.by not in await service.search("sizes", service.catalog.sizes):
        raise refused("the catalog holds no voices; to add them: embedspace catalog migrate CATALOG --voices", "by")
    terms = await unless_gone(request, service.queries.embed(asked.terms))
    found = await unless_gone(request, service.finder.run(finder_key(asked), (asked, terms)))
    answers = [answer for answer, _ in terms]
    if asked.prepare:
        shown = itertools.chain(*found.groups.values()) if asked.grouped else found.hits
        afterwards.add_task(_prepare, service, list(itertools.islice(shown, asked.prepare)))
    return SearchAnswer(
        hits=answer_hits(found.hits, answers),
        groups={name: answer_hits(hits, answers) for name, hits in found.groups.items()} if asked.grouped else None,
        terms=answers,
        good_match=found.good,
        notes=found.notes,
        took_ms=round(1000 * (time.perf_counter() - started), 2),
        revision=found.revision,
    )


async def _prepare(service: Service, hits: Sequence[Hit]) -> None:
    """Make thumbnails and waveforms of hits while their cards are being drawn; who asks is told what fails."""

    async def one(hit: Hit) -> None:
        options: dict[str, Any]
        if hit.kind in ("image", "video"):
            at = frame_time(hit.start) if hit.kind == "video" else 0.0
            task, options = "thumbnail", {"kind": hit.kind, "size": THUMBNAIL_SIDE, "at": at}
        else:
            task, options = "waveform", {"count": WAVEFORM_PEAKS}
        key = preview_key(hit.id, task, options)
        if service.previews.holds(key):
            return
        with contextlib.suppress(EmbedspaceError, ApiError):
            stored = await service.search("item", service.catalog.item, hit.id)
            path = await service.search("item", service.files.file, stored)
            await service.previews.made(key, path, task, options)

    await asyncio.gather(*(one(hit) for hit in hits if hit.kind != "text"))


def answer_hits(hits: Sequence[Hit], terms: Sequence[TermAnswer]) -> list[HitAnswer]:
    """Return hits as JSON has them."""
    return [
        HitAnswer(
            id=hit.id,
            rank=hit.rank,
            uri=hit.uri,
            name=name_of(hit.uri),
            kind=hit.kind,
            modality=hit.modality,
            probability=None if hit.probability is None else round(float(hit.probability), 6),
            score=round(float(hit.score), 6),
            start=hit.start,
            end=hit.end,
            label=hit.label,
            text=hit.text or None,
            marks=marks(hit.text, terms) if hit.text else [],
            metadata=hit.metadata,
            **links(hit.id, hit.kind, hit.modality, hit.start),
        )
        for hit in hits
    ]
