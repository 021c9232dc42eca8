"""Every answer that is an error has one shape: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embedspace.errors import (
    ArgumentError,
    CatalogError,
    CatalogLockedError,
    EmbedspaceError,
    InputError,
    MediaTooLargeError,
    MissingExtraError,
    OutsideError,
    UnknownItemError,
)

__all__ = ["ApiError", "busy", "error_response", "handle_errors", "not_found", "refused"]

_LOG = logging.getLogger("embedspace.serve")
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    410: "gone",
    413: "too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    429: "busy",
    499: "client_left",
    503: "unavailable",
}


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: HTTP status.
        message: What happened, and what to do.
        param: Part of the request that it is about.
        code: A word for programs; by default that of the status.
        headers: Further headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or _CODES.get(status, "error")
        self.headers = dict(headers or {})


def busy(what: str, seconds: int = 1) -> ApiError:
    """Return the error for a queue that is full."""
    return ApiError(429, f"{what}: too many requests wait; try again", headers={"Retry-After": str(seconds)})


def not_found(message: str, param: str | None = None) -> ApiError:
    """Return the error for something that is not there."""
    return ApiError(404, message, param=param)


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error for a request that cannot be fulfilled as it is."""
    return ApiError(400, message, param=param, code=code)


def error_response(error: ApiError) -> JSONResponse:
    """Return an error as a response."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    body: dict[str, Any] = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return JSONResponse({"error": body}, error.status, headers=error.headers)


def _of_embedspace(error: EmbedspaceError) -> ApiError:
    """Say what an error of the library means to a client; what lies on this machine is not told."""
    if isinstance(error, ArgumentError):
        return ApiError(400, str(error), param=error.argument)
    if isinstance(error, MediaTooLargeError):
        return ApiError(413, str(error))
    if isinstance(error, OutsideError):
        return ApiError(422, str(error), code="outside")
    if isinstance(error, UnknownItemError):
        return not_found(str(error), "id")
    if isinstance(error, InputError):
        return ApiError(400, str(error))
    if isinstance(error, MissingExtraError):
        return ApiError(501, str(error), code="not_installed")
    if isinstance(error, CatalogLockedError):
        return ApiError(503, "the catalog is locked by another process; try again", headers={"Retry-After": "1"})
    what = "the catalog" if isinstance(error, CatalogError) else "the space"
    _LOG.error("%s: %s", type(error).__name__, error)
    return ApiError(500, f"{what} cannot be used ({type(error).__name__}); the server's log says why")


def _of_validation(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    where = ".".join(place)
    message = str(first["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{where}: {message}" if where else message, param=where or None, code="invalid")


def handle_errors(app: FastAPI) -> None:
    """Give all errors of an application the one shape."""

    async def api(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return error_response(error)

    async def library(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, EmbedspaceError)
        return error_response(_of_embedspace(error))

    async def validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(_of_validation(error))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = str(error.detail)
        if error.status_code == 404:
            message = f"there is nothing at {request.url.path}"
        elif error.status_code == 405 and error.headers:
            message = f"{request.url.path} does not take {request.method}, only {error.headers['Allow']}"
        return error_response(ApiError(error.status_code, message, headers=error.headers))

    async def gone(_: Request, error: Exception) -> JSONResponse:
        del error
        return error_response(ApiError(499, "the client left"))

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        _LOG.error("unexpected %s", type(error).__name__, exc_info=error)
        return error_response(ApiError(500, f"unexpected {type(error).__name__}; the server's log says more"))

    app.add_exception_handler(ApiError, api)
    app.add_exception_handler(EmbedspaceError, library)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, unexpected)
