"""Media that are searched with, and the search."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Request

from embedspace.catalog import Hit
from embedspace.modality import leading
from embedspace.query import ComposedQuery, Source, search_composed
from embedspace.serve.errors import refused
from embedspace.serve.media import links, name_of
from embedspace.serve.models import HitAnswer, NameAnswer, QueryAnswer, SearchAnswer, SearchRequest, TermAnswer
from embedspace.serve.queries import StoredQuery, marks, modality_rows
from embedspace.serve.routes.common import ServiceOf, unless_gone
from embedspace.serve.service import Service
from embedspace.serve.uploads import kind_of_upload, read_upload

__all__ = ["answer_hits", "router"]

router = APIRouter()
_NAMES = 5


@router.post("/api/queries", status_code=201, tags=["search"])
async def add_query(
    request: Request, service: ServiceOf, name: Annotated[str, Query(max_length=255)] = ""
) -> QueryAnswer:
    """Send a medium to search with: the body is the file, its Content-Type or its name says what it is."""
    kind = kind_of_upload(request.headers.get("content-type", ""), name)
    await service.until_ready()
    with tempfile.NamedTemporaryFile(prefix="embedspace-", suffix=".upload") as file:
        async for part in request.stream():
            await anyio.to_thread.run_sync(file.write, part)
        file.flush()
        if not file.tell():
            raise refused("the body is empty; send the file itself")
        item = await unless_gone(request, read_upload(service, Path(file.name), kind))
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
async def search(asked: SearchRequest, request: Request, service: ServiceOf) -> SearchAnswer:
    """Search with words, media and items, added and taken away."""
    started = time.perf_counter()
    await service.until_ready()
    terms = await unless_gone(request, service.queries.embed(asked.terms))
    found = await service.search("search", _search, service, asked, terms)
    answers = [answer for answer, _ in terms]
    return SearchAnswer(
        hits=answer_hits(found.hits, answers),
        groups={name: answer_hits(hits, answers) for name, hits in found.groups.items()} if asked.grouped else None,
        terms=answers,
        good_match=found.good,
        notes=found.notes,
        took_ms=round(1000 * (time.perf_counter() - started), 2),
        revision=found.revision,
    )


class _Found:
    """What a search found."""

    def __init__(self, hits: list[Hit], groups: Mapping[str, list[Hit]], good: bool | None, notes: list[str]) -> None:
        self.hits, self.groups, self.good, self.notes = hits, groups, good, notes
        self.revision = 0


def _search(service: Service, asked: SearchRequest, terms: Sequence[tuple[TermAnswer, Source]]) -> _Found:
    """Compose and search, in a thread."""
    composed = service.queries.compose(terms)
    catalog = service.catalog
    options: dict[str, Any] = {
        "k": asked.k,
        "where": asked.where,
        "min_probability": asked.min_probability,
        "filter_seconds": service.limits.where_seconds,
    }
    sizes = catalog.sizes()
    hits = search_composed(catalog, [composed], to=asked.to, **options)[0]
    groups: dict[str, list[Hit]] = {}
    if asked.grouped:
        wanted = [asked.to] if isinstance(asked.to, str) else asked.to or list(sizes)
        groups = {name: search_composed(catalog, [composed], to=name, **options)[0] for name in wanted if name in sizes}
    chances = [(hit.modality, hit.probability) for hit in hits]
    good = catalog.calibration.has_good_match(composed.modality, chances, sizes)
    if not hits and asked.min_probability is not None:
        good = False
    found = _Found(hits, groups, good, _notes(composed))
    found.revision = catalog.revision
    return found


def _notes(composed: ComposedQuery) -> list[str]:
    return [*composed.notes, *([composed.unknown_note] if composed.unknown_note else [])]


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
            **links(hit.id, hit.kind, hit.modality),
        )
        for hit in hits
    ]
