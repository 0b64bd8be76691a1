"""Who may ask an encoder's server: who has the token; where there is none, programs of this machine."""

from __future__ import annotations

import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clip_factory.http_server import is_loopback
from clip_factory.serve.metrics import Metrics
from clip_factory.serve.problems import GONE, problem

OPEN = ("/healthz", "/readyz", "/openapi.json")
"""Asked by what watches over processes, which has no token; they say nothing of the encoder."""


class RequestGuard:
    """Stands before the application: refuses or lets through, and counts."""

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None, paths: frozenset[str]) -> None:
        """`paths` are those of the application: metrics name no others."""
        self.app, self.metrics, self.paths = app, metrics, paths
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.perf_counter(), GONE

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["Cache-Control"] = "no-store"
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        path = scope["path"] if scope["path"] in self.paths else "other"
        try:
            objection = self._objection(scope)
            if objection is None:
                await self.app(scope, receive, sending)
            else:
                await problem(*objection)(scope, receive, sending)
        finally:
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - start)

    def _objection(self, scope: Scope) -> tuple[int, str] | None:
        if scope["path"] in OPEN:
            return None
        headers = Headers(scope=scope)
        if self._token is not None:
            wrong = "authorization" in headers
            refusal = "this is not its token" if wrong else "this server wants its token: Authorization: Bearer ..."
            return None if self._has_token(headers) else (401, refusal)
        if not is_loopback(headers.getlist("host")) or "origin" in headers:
            return 403, "without a token this server answers programs of its own machine alone"
        return None

    def _has_token(self, headers: Headers) -> bool:
        """Takes the same time wherever the first wrong letter is."""
        scheme, _, offered = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and secrets.compare_digest(offered.encode(), self._token or b"")
