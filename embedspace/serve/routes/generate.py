"""Making things: begin, watch, fetch, cancel."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from embedspace.query import ComposedQuery
from embedspace.serve.errors import not_found, refused
from embedspace.serve.events import event_stream
from embedspace.serve.jobs import Job
from embedspace.serve.models import GenerateRequest, JobAnswer
from embedspace.serve.routes.common import ServiceOf, unless_gone
from embedspace.serve.security import SANDBOX
from embedspace.serve.service import Service

__all__ = ["begin", "router"]

router = APIRouter(prefix="/api", tags=["generate"])


def begin(service: Service, query: ComposedQuery, to: str, **asked: Any) -> Job:  # noqa: ANN401
    """Queue a generation.

    Raises:
        ApiError: 400, if there is no generator of the target; 429, if the queue is full.
        ArgumentError: If an option is out of range.
    """
    from embedspace.generate import Request as Asked

    if to not in service.targets:
        raise refused(f"{to!r} cannot be made here; known: {', '.join(service.targets) or 'nothing'}", "to")
    return service.jobs.submit(query, to, Asked(**asked))


@router.post("/generate", status_code=202)
async def generate(asked: GenerateRequest, request: Request, service: ServiceOf) -> JobAnswer:
    """Begin to make something from words, media and items."""
    await service.until_ready()
    terms = await unless_gone(request, service.queries.embed(asked.terms))
    query = await service.search("compose", service.queries.compose, terms)
    job = begin(
        service,
        query,
        asked.to,
        num_samples=asked.count,
        seed=asked.seed,
        candidates=asked.candidates,
        guidance_scale=asked.guidance,
        num_steps=asked.steps,
        seconds=asked.seconds,
        family=asked.family,
        voice=asked.voice,
    )
    return JobAnswer(job=job.id, events=f"/api/jobs/{job.id}/events")


@router.get("/jobs/{job_id}/events", response_class=StreamingResponse)
async def events(job_id: str, service: ServiceOf) -> StreamingResponse:
    """Watch a generation: `progress`, `result`, then `done` or `error`, as server-sent events."""
    return event_stream(service.jobs.get(job_id).feed, service.stopping)


@router.get("/jobs/{job_id}/results/{index}")
async def result(job_id: str, index: int, service: ServiceOf) -> Response:
    """Return the file of something that was made; where it comes from is inside."""
    return _made(service.jobs.get(job_id), str(index))


@router.get("/jobs/{job_id}/neighbours/{index}")
async def neighbour(job_id: str, index: int, service: ServiceOf) -> Response:
    """Return the picture of a training item next to what was asked for."""
    job = service.jobs.get(job_id)
    names = [key for key in job.made if key.startswith("neighbour-")]
    return _made(job, names[index] if 0 <= index < len(names) else "")


@router.delete("/jobs/{job_id}", status_code=204)
async def cancel(job_id: str, service: ServiceOf) -> Response:
    """Stop a generation after the thing that is being made, and forget it."""
    service.jobs.cancel(service.jobs.get(job_id))
    return Response(status_code=204)


def _made(job: Job, key: str) -> Response:
    found = job.made.get(key)
    if found is None:
        raise not_found("there is no such result", "index")
    return Response(found.content, media_type=found.type, headers={"Content-Security-Policy": SANDBOX})
