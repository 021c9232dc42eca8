"""The catalog as a whole."""

from __future__ import annotations

import hashlib
import itertools
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from embedspace.catalog import Failure, FieldFacts
from embedspace.generate.targets import Target, choices_of
from embedspace.serve.events import event_stream
from embedspace.serve.models import (
    CatalogAnswer,
    FailureAnswer,
    FieldAnswer,
    FieldValue,
    MapAnswer,
    OptionAnswer,
    TargetAnswer,
)
from embedspace.serve.routes.common import ServiceOf
from embedspace.serve.service import Service

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["catalog"])
_FAILURES = 500


@router.get("/catalog")
async def catalog(
    service: ServiceOf,
    where: Annotated[str, Query(max_length=20_000, description="Count the fields only of items that fulfil it")] = "",
) -> CatalogAnswer:
    """Return what there is: counts, fields for filters, failures, and what the server can do."""
    service.decoder.start()  # the page asks this first, and for thumbnails soon
    found = await service.by_revision("catalog", lambda: _look(service))
    if not where:
        return found
    facets = partial(service.catalog.facets, where, filter_seconds=service.limits.where_seconds)
    counted = await service.search("facets", facets)
    return found.model_copy(update={"fields": [_field(one) for one in counted]})


@router.get("/map", responses={202: {"model": MapAnswer}})
async def map_(service: ServiceOf, response: Response) -> MapAnswer:
    """Return items on a plane, near each other where they mean something alike; 202 while it is being drawn."""
    revision = await service.search("catalog", lambda: service.catalog.revision)
    found = MapAnswer.model_validate(service.maps.get(revision))
    response.status_code = 202 if found.state == "computing" else 200
    return found


@router.get("/index/events", response_class=StreamingResponse)
async def index_events(service: ServiceOf) -> StreamingResponse:
    """Watch how far indexing is: `state`, as server-sent events, now and whenever it changes."""
    return event_stream(service.watcher.feed, service.stopping)


def _look(service: Service) -> CatalogAnswer:
    catalog, settings = service.catalog, service.settings
    info = catalog.info()
    joined = ";".join(f"{name}={digest}" for name, digest in sorted(info.fingerprints.items()))
    return CatalogAnswer(
        name=settings.catalog.resolve().name,
        items=info.items,
        counts=catalog.sizes(),
        fields=[_field(one) for one in catalog.fields()],
        failures=[_failure(one) for one in itertools.islice(info.failures, _FAILURES)],
        failed=len(info.failures),
        revision=catalog.revision,
        fingerprint=hashlib.sha256(joined.encode()).hexdigest()[:16],
        calibrated=info.calibrated,
        query_modalities=[str(name) for name in service.model.modalities],
        generates=[target.name for target in service.targets],
        targets=[_target(target, service.generators) for target in service.targets],
        token_required=settings.token is not None,
        watching=[str(folder) for folder in settings.watch],
    )


def _target(target: Target, folder: Path | None) -> TargetAnswer:
    options = [
        OptionAnswer(
            key=option.key,
            type=option.kind.__name__,  # type: ignore[arg-type]
            least=option.least,
            most=option.most,
            help=option.help,
            choices=[] if folder is None else choices_of(option, folder / target.name),
            file=option.file,
        )
        for option in target.options
    ]
    return TargetAnswer(name=target.name, what=target.what, content=target.content, options=options)


def _failure(failure: Failure) -> FailureAnswer:
    return FailureAnswer(uri=failure.uri, reason=failure.reason)


def _field(facts: FieldFacts) -> FieldAnswer:
    return FieldAnswer.model_validate(
        {
            "name": facts.name,
            "kind": facts.kind,
            "count": facts.count,
            "values": [FieldValue(value=value, count=count) for value, count in facts.values],
            "min": facts.low,
            "max": facts.high,
        }
    )
