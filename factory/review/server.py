"""The review page's server: a handful of addresses on loopback, each a few lines over the desk and the thumbnails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from factory.errors import FactoryError
from factory.review.desk import Desk, RequestError, StaleError
from factory.review.guard import Access, Guard, Log
from factory.review.thumbs import Thumbs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""A thumbnail is named by the content of its photo: it never changes."""


def application(desk: Desk, thumbs: Thumbs, access: Access, log: Log) -> Guard:
    """The ASGI application behind its guard."""
    pages = _Pages(desk, thumbs)
    routes = [
        Route("/", pages.index),
        Route("/static/{name}", pages.static),
        Route("/api/items", pages.items),
        Route("/api/changes", pages.changes),
        Route("/api/ask", pages.ask),
        Route("/api/answer", pages.answer, methods=["POST"]),
        Route("/api/undo", pages.undo, methods=["POST"]),
        Route("/thumb/{sha256}", pages.thumb),
        Route("/photo/{sha256}", pages.photo),
    ]

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return guard.refuse(request.scope, error.status_code, error.detail)
        statuses: dict[type[Exception], int] = {RequestError: 400, StaleError: 409}
        # what is left is the disk's fault or the journal's: the page keeps the answer and tries again
        return guard.refuse(request.scope, statuses.get(type(error), 500), str(error))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        thumbs.close()

    kinds = (HTTPException, RequestError, StaleError, FactoryError, OSError)
    handlers: dict[Any, Callable[[Request, Exception], Any]] = dict.fromkeys(kinds, refused)
    guard = Guard(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan), access, log)
    return guard


def server(app: Guard) -> uvicorn.Server:
    """What answers requests: `run(sockets=[listener])` does so until `should_exit` is set, or Ctrl-C."""
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    return uvicorn.Server(uvicorn.Config(app, ws="none", timeout_graceful_shutdown=2, **quiet))


class _Pages:
    """One method an address."""

    def __init__(self, desk: Desk, thumbs: Thumbs) -> None:
        self.desk, self.thumbs = desk, thumbs
        folder = files("factory.review") / "static"
        self.files = {file.name: file.read_bytes() for file in folder.iterdir()}

    async def index(self, request: Request) -> Response:
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    async def items(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.desk.items))

    async def changes(self, request: Request) -> Response:
        return _json(
            await run_in_threadpool(self.desk.since, _number(request, "after"), request.query_params.get("run", ""))
        )

    async def ask(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.desk.ask, _number(request, "count")))

    async def answer(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.desk.answer, await request.body()))

    async def undo(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.desk.undo, await request.body()))

    async def thumb(self, request: Request) -> Response:
        return _jpeg(await self.thumbs.thumb(self._known(request)))

    async def photo(self, request: Request) -> Response:
        return _jpeg(await self.thumbs.photo(self._known(request)))

    def _known(self, request: Request) -> str:
        sha256 = str(request.path_params["sha256"])
        if sha256 not in self.desk:
            raise HTTPException(404, "the run has no such photo")
        return sha256

    def _file(self, name: str) -> Response:
        if name not in self.files:
            raise HTTPException(404, "no such file")
        return Response(self.files[name], media_type=KINDS[name.rpartition(".")[2]])


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HTTPException(400, f"{name} must be a number")
    return int(text)


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _jpeg(content: bytes | None) -> Response:
    # A photo that is gone is the folder's fault, not the page's: an empty answer, and nothing to log.
    return Response(content, 200, FOREVER, "image/jpeg") if content else Response(status_code=204)
