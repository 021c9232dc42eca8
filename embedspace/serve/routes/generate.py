"""Making things: begin, watch, fetch, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import TypeAdapter, ValidationError

from embedspace.generate.targets import Target
from embedspace.query import ComposedQuery
from embedspace.serve.errors import not_found, refused
from embedspace.serve.events import event_stream
from embedspace.serve.jobs import Job
from embedspace.serve.models import GenerateRequest, JobAnswer
from embedspace.serve.routes.common import ServiceOf, unless_gone
from embedspace.serve.security import SANDBOX
from embedspace.serve.sent.files import with_files
from embedspace.serve.service import Service

__all__ = ["begin", "router"]

router = APIRouter(prefix="/api", tags=["generate"])
_OF_FILES = ("init", "strength", "mask", "map")
"""Options that are of files: what they name was sent before."""


def begin(service: Service, query: ComposedQuery, to: str, count: int, seed: int, **settings: Any) -> Job:  # noqa: ANN401
    """Queue a generation.

    Args:
        service: What serves.
        query: What it is made from.
        to: What to make.
        count: Samples.
        seed: Seed of the first.
        settings: The target's options by their names in Python; None is left to the generator.

    Raises:
        ApiError: 400, if there is no generator of the target; 429, if the queue is full.
        ArgumentError: If an option is out of range.
    """
    from embedspace.generate.base import request_of

    target = _target(service, to)
    return service.jobs.submit(query, target, request_of(settings, count, seed))


@router.post("/generate", status_code=202)
async def generate(asked: GenerateRequest, request: Request, service: ServiceOf) -> JobAnswer:
    """Begin to make something from words, media and items."""
    from embedspace.generate.base import request_of

    target = _target(service, asked.to)
    settings = _settings(target, asked.model_extra or {})
    await service.until_ready()
    terms = await unless_gone(request, service.queries.embed(asked.terms))
    query = await service.search("compose", service.queries.compose, terms)
    files = {name: settings.pop(name) for name in _OF_FILES if name in settings}
    prepared = await with_files(request_of(settings, asked.count, asked.seed), service.sent, target, files)
    job = service.jobs.submit(query, target, prepared)
    return JobAnswer(job=job.id, events=f"/api/jobs/{job.id}/events")


def _target(service: Service, name: str) -> Target:
    known = {target.name: target for target in service.targets}
    if name not in known:
        raise refused(f"{name!r} cannot be made here; known: {', '.join(known) or 'nothing'}", "to")
    return known[name]


def _settings(target: Target, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, by their names in Python.

    Raises:
        ApiError: 400, if the target does not take one, or its value is of another type or out of range.
    """
    takes = {option.key: option for option in target.options}
    settings: dict[str, Any] = {}
    for key, value in given.items():
        if key not in takes:
            raise refused(f"{key}: {target.name} does not take it; it takes: {', '.join(takes) or 'no option'}", key)
        try:
            settings[takes[key].name] = TypeAdapter(takes[key].field_type() | None).validate_python(value)
        except ValidationError as error:
            raise refused(f"{key}: {error.errors()[0]['msg']}", key, "invalid") from None
    return settings


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
