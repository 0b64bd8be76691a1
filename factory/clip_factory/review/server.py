"""The review page's server: a handful of addresses on loopback, each a few lines over requests and thumbnails."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from clip_factory.errors import FactoryError
from clip_factory.http_server import PatientProtocol
from clip_factory.review.access import Access, Guard, Log
from clip_factory.review.requests import RequestError, RequestHandler, StaleError
from clip_factory.review.thumbnails import Thumbnails

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""A picture is named by the content of its photo: it never changes."""


def application(requests: RequestHandler, thumbs: Thumbnails, access: Access, log: Log) -> Guard:
    """The ASGI application behind its guard."""
    pages = _Pages(requests, thumbs)
    routes = [
        Route("/", pages.index),
        Route("/static/{name}", pages.static),
        Route("/api/items", pages.items),
        Route("/api/labels", pages.labels),
        Route("/api/changes", pages.changes),
        Route("/api/ask", pages.next_batch),
        Route("/api/answer", pages.answer, methods=["POST"]),
        Route("/api/undo", pages.undo, methods=["POST"]),
        Route("/api/thumbs", pages.thumbnails, methods=["POST"]),
        Route("/api/evidence", pages.evidence, methods=["POST"]),
        Route("/api/words", pages.words),
        Route("/api/words/try", pages.try_words, methods=["POST"]),
        Route("/api/words/suggest", pages.suggest_words, methods=["POST"]),
        Route("/api/words/accept", pages.accept_words, methods=["POST"]),
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
    return uvicorn.Server(uvicorn.Config(app, http=PatientProtocol, ws="none", timeout_graceful_shutdown=2, **quiet))


class _Pages:
    """One method an address."""

    def __init__(self, requests: RequestHandler, thumbs: Thumbnails) -> None:
        self.requests, self.thumbs = requests, thumbs
        folder = files("clip_factory.review") / "static"
        self.files = {file.name: file.read_bytes() for file in folder.iterdir()}

    async def index(self, request: Request) -> Response:
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    async def items(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.items))

    async def labels(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.labels))

    async def changes(self, request: Request) -> Response:
        return _json(
            await run_in_threadpool(
                self.requests.changes, _number(request, "after"), request.query_params.get("run", "")
            )
        )

    async def next_batch(self, request: Request) -> Response:
        tests_only = request.query_params.get("prove") == "1"
        return _json(
            await run_in_threadpool(self.requests.next_batch, _number(request, "count"), tests_only=tests_only)
        )

    async def answer(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.answer, await request.body()))

    async def undo(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.undo, await request.body()))

    async def evidence(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.evidence, await request.body()))

    async def words(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.words))

    async def try_words(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.try_words, await request.body()))

    async def suggest_words(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.suggest_words, await request.body()))

    async def accept_words(self, request: Request) -> Response:
        return _json(await run_in_threadpool(self.requests.accept_words, await request.body()))

    async def thumbnails(self, request: Request) -> Response:
        names = self.requests.photos(await request.body())
        return StreamingResponse(self._lines(names), media_type="text/plain")

    async def _lines(self, names: list[str]) -> AsyncIterator[bytes]:
        """Each thumbnail as a line of base64, in the order asked for; an empty one is for a photo that is gone.

        They go out as they get ready; those not begun are left when the page hangs up.
        """
        making = [asyncio.ensure_future(self.thumbs.thumb(name)) for name in names]
        try:
            while making:
                await making[0]
                ready = list(takewhile(asyncio.Future.done, making))
                making = making[len(ready) :]
                yield b"".join(b64encode(one.result() or b"") + b"\n" for one in ready)
        finally:
            for one in making:
                one.cancel()

    async def photo(self, request: Request) -> Response:
        sha256 = str(request.path_params["sha256"])
        if sha256 not in self.requests:
            raise HTTPException(404, "the run has no such photo")
        jpeg = await self.thumbs.photo(sha256)
        # A photo that is gone is the folder's fault, not the page's: an empty answer, and nothing to log.
        return Response(jpeg, 200, FOREVER, "image/jpeg") if jpeg else Response(status_code=204)

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
