"""The application: the guard, the routes, the page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

import embedspace
from embedspace.serve.errors import handle_errors
from embedspace.serve.routes import catalog, files, generate, items, openai, search, status
from embedspace.serve.security import Guard
from embedspace.serve.service import Service

__all__ = ["create_app"]

PAGE = Path(__file__).parent / "page"


def create_app(service: Service) -> FastAPI:
    """Make the ASGI application of a server.

    Args:
        service: What it serves; closed when the application ends.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="embedspace",
        version=embedspace.__version__,
        summary="One vector space for pictures, sounds, words and speech.",
        docs_url=None,  # both pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    handle_errors(app)
    for routes in (status, search, items, catalog, files, generate, openai):
        app.include_router(routes.router)
    page = StaticFiles(directory=PAGE, html=True, follow_symlink=False)
    app.router.routes.append(_Page("/", GZipMiddleware(page, minimum_size=500), name="page"))
    app.add_middleware(Guard, settings=service.settings, metrics=service.metrics)
    app.add_middleware(_Heads)
    return app


class _Page(Mount):
    """The page's files. They hide no route: one that is asked by another method says which it takes."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether a path may be one of them."""
        return (Match.NONE, {}) if scope["path"].startswith(("/api/", "/v1/")) else super().matches(scope)


class _Heads:
    """Answers HEAD as GET, whose body uvicorn leaves out then; FastAPI's routes know GET alone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not scope["path"].endswith("/events"):
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)
