"""What routes share: the service, and leaving off when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from embedspace.serve.errors import ApiError
from embedspace.serve.service import Service

__all__ = ["ServiceOf", "unless_gone"]

Result = TypeVar("Result")


async def _service(request: Request) -> Service:  # a plain function would be run in a thread
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(_service)]
"""The service, as an argument of a route."""


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what work gives, or cancel it as soon as the client is gone: its place in the queue is another's then.

    Args:
        request: Whose body was read.
        work: What is waited for.

    Raises:
        ApiError: 499, which nobody reads, if the client left.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client left")
        return task.result()
    finally:
        gone.cancel()
        task.cancel()  # one that is done stays as it is


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
