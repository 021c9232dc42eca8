"""Pictures and sounds that are to be edited."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, Query, Request

from embedspace.serve.errors import refused
from embedspace.serve.models import FileAnswer
from embedspace.serve.routes.common import ServiceOf, unless_gone
from embedspace.serve.sent.files import read_sent
from embedspace.serve.uploads import kind_of_upload

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["generate"])


@router.post("/files", status_code=201)
async def add_file(
    request: Request, service: ServiceOf, name: Annotated[str, Query(max_length=255)] = ""
) -> FileAnswer:
    """Send a picture or a sound to be edited, a mask or a map: the body is the file."""
    kind = kind_of_upload(request.headers.get("content-type", ""), name, "what is edited is a picture or a sound")
    with tempfile.NamedTemporaryFile(prefix="embedspace-", suffix=".upload") as file:
        async for part in request.stream():
            await anyio.to_thread.run_sync(file.write, part)
        file.flush()
        if not file.tell():
            raise refused("the body is empty; send the file itself")
        reading = read_sent(service.decoder, service.limits, Path(file.name), kind, name)
        found = await unless_gone(request, reading)
    ref = service.sent.put(found)
    return FileAnswer.model_validate({"ref": ref, "kind": kind, "expires_in": int(service.sent.seconds), **found.about})
