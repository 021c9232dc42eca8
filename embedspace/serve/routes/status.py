"""Is it there, is it ready, how busy is it; and the trade of a token for a cookie."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from embedspace.serve.errors import ApiError
from embedspace.serve.metrics import CONTENT_TYPE
from embedspace.serve.models import SessionRequest
from embedspace.serve.routes.common import ServiceOf
from embedspace.serve.security import COOKIE, Secret

__all__ = ["router"]

router = APIRouter()


@router.get("/health", tags=["status"])
async def health() -> dict[str, str]:
    """Whether the server runs."""
    return {"status": "ok"}


@router.get("/ready", tags=["status"])
async def ready(service: ServiceOf) -> dict[str, str]:
    """Whether it answers searches; 503 while the encoder of words is loading."""
    if not service.is_ready:
        raise ApiError(503, "the space is being loaded; try again", headers={"Retry-After": "1"})
    return {"status": "ready"}


@router.get("/metrics", tags=["status"])
async def metrics(service: ServiceOf) -> Response:
    """Figures for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@router.post("/session", status_code=204, tags=["status"])
async def session(asked: SessionRequest, request: Request, service: ServiceOf) -> Response:
    """Trade the token for a cookie that scripts cannot read and other sites cannot use."""
    response = Response(status_code=204)
    if service.settings.token is None:
        return response
    secret = Secret(service.settings.token)
    if not secret.is_token(asked.token):
        raise ApiError(401, "this is not the token", headers={"WWW-Authenticate": "Bearer"})
    response.set_cookie(
        COOKIE, secret.cookie, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
    )
    return response
