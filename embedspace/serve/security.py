"""Who may ask, how much, and what a browser may do with the answer: one guard before everything else.

Without a token the server listens to this machine alone, and what protects it there from web pages that the same
person visits is the guard: the name that it is called by (a rebound DNS name is another), the origin of a request, and
the content types that a page may send anywhere unasked.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedspace.serve.errors import ApiError, error_response
from embedspace.serve.metrics import Metrics
from embedspace.serve.settings import ServeSettings

__all__ = ["COOKIE", "SANDBOX", "Guard", "Secret"]

COOKIE = "embedspace_session"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
SANDBOX = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""Policy of what is not ours: nothing in it runs, whatever it is."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Content-Security-Policy": PAGE_POLICY,
}
_PRIVATE = ("/api/", "/v1/", "/metrics", "/openapi.json")
_ABOUT_ITSELF = ("/health", "/ready", "/metrics")
_SIMPLE = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""Content types that any web page may send anywhere without asking."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HEADER_BYTES = 32 << 10
_OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Secret:
    """The token, and the cookie that a browser holds in its place."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self.cookie = hmac.new(self._token, b"embedspace session", hashlib.sha256).hexdigest()

    def is_token(self, given: str) -> bool:
        """Whether a text is the token; takes as long for a wrong one."""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    def admits(self, headers: Headers) -> bool:
        """Whether a request brings the token, or the cookie."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip())
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        return hmac.compare_digest(cookie.encode("utf-8", "surrogateescape"), self.cookie.encode())


class Guard:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self.app, self.limits, self.metrics = app, settings.limits, metrics
        self.secret = Secret(settings.token) if settings.token is not None else None
        bound = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.hosts = {name.lower() for name in (*_OWN_NAMES, bound, *settings.allow_hosts)} - {"0.0.0.0", "[::]"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith(_PRIVATE):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            limit = self._check(scope)
        except ApiError as error:
            await error_response(error)(scope, receive, answer)
        else:
            await self.app(scope, _limited(receive, limit), answer)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            if route not in _ABOUT_ITSELF:
                self.metrics.used = time.monotonic()
            method = scope["method"] if scope["method"] in _METHODS else "other"  # a client may invent any
            self.metrics.requests.labels(route, method, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(time.perf_counter() - started)

    def _check(self, scope: Scope) -> int:
        """Refuse what may not come in; returns how long its body may be."""
        headers, path, method = Headers(scope=scope), str(scope["path"]), str(scope["method"])
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_BYTES:
            raise ApiError(431, "the headers are too long", code="too_large", headers={"Connection": "close"})
        host = self._host(headers, scope)
        _check_origin(headers, host, is_visit=method in ("GET", "HEAD") and not path.startswith(_PRIVATE))
        if method in ("POST", "PUT", "PATCH"):
            _check_content_type(headers)
        if self.secret is not None and path.startswith(_PRIVATE) and not self.secret.admits(headers):
            raise ApiError(
                401, "this server needs its token: Authorization: Bearer TOKEN", headers={"WWW-Authenticate": "Bearer"}
            )
        limit = self._limit(path)
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limit:
            raise ApiError(413, _too_large(limit), headers={"Connection": "close"})
        return limit

    def _host(self, headers: Headers, scope: Scope) -> str:
        """Return the name that the server was called by, with its port.

        The address of the socket itself is allowed: another site's DNS name may point there, but is no address.
        """
        given = headers.getlist("host")
        host = given[0].strip().lower() if len(given) == 1 else ""
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        if name and name not in self.hosts and name != _literal(scope):
            raise ApiError(
                400, f"the server is not called {name!r}; start it with --allow-host {name}", code="unknown_host"
            )
        if not name:
            raise ApiError(400, "a request names the host that it is meant for, once", code="unknown_host")
        return host

    def _limit(self, path: str) -> int:
        if path in ("/api/queries", "/api/files"):
            return self.limits.upload_bytes
        return self.limits.embeddings_bytes if path == "/v1/embeddings" else self.limits.body_bytes


def _literal(scope: Scope) -> str:
    """Return the address that a connection came in at, as a host writes it."""
    server = scope.get("server")
    try:
        address = ipaddress.ip_address(server[0]) if server else None
    except ValueError:
        return ""
    return "" if address is None else f"[{address}]" if address.version == 6 else str(address)


def _check_origin(headers: Mapping[str, str], host: str, *, is_visit: bool) -> None:
    """Refuse what a page of another origin sends; following a link from there to the page itself is fine."""
    origin = headers.get("origin")
    if origin is not None:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or parts.netloc.lower() != host:
            raise ApiError(403, "requests of other origins are refused", code="foreign_origin")
    site = headers.get("sec-fetch-site", "none")
    navigates = is_visit and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    if site not in ("none", "same-origin") and not navigates:
        raise ApiError(403, "requests of other sites are refused", code="foreign_origin")


def _check_content_type(headers: Mapping[str, str]) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind or kind in _SIMPLE:
        raise ApiError(
            403,
            f"a body of type {kind or '(none)'} is refused, as any web page could send it; "
            "send application/json, or media as their own type or application/octet-stream",
            code="content_type",
        )


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit / (1 << 20):g} MB"


def _limited(receive: Receive, limit: int) -> Receive:
    """Count a body while it arrives, as one without a declared length does."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        if message["type"] == "http.request":
            total += len(message.get("body", b""))
            if total > limit:
                raise HTTPException(413, _too_large(limit), headers={"Connection": "close"})
        return message

    return counted
