"""Bodies of requests within limits: of bytes each and together, and of the time that they have to come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from starlette.exceptions import HTTPException
from starlette.requests import Request

from clip_factory import http_server
from clip_factory.serve.metrics import Metrics

MIN_RATE = 50_000
"""Bytes a second that a body comes with at least, on average, beyond the first `REQUEST_SECONDS`."""


class BodyReader:
    """Reads bodies whole; those of all requests together take no more than `max_held` bytes."""

    def __init__(self, max_held: int, metrics: Metrics) -> None:
        self.max_held, self.metrics = max_held, metrics
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request, kind: str, limit: int, retry_after: int) -> AsyncIterator[memoryview]:
        """The body of a request, which counts as held as long as the context lasts.

        Args:
            request: The request.
            kind: The media type that it must have.
            limit: Bytes that it may have.
            retry_after: What a client is told, in seconds, when there is no room.

        Raises:
            HTTPException: 408, 411, 413, 415 or 429.
        """
        length = _length(request, kind, limit)
        body = bytearray()
        try:
            if self.held + length > self.max_held and self.held:
                raise _full(self.held, retry_after)
            async for chunk in _chunks(request, length):
                if self.held + len(chunk) > self.max_held and self.held > len(body):
                    raise _full(self.held, retry_after)
                body += chunk
                self._hold(len(chunk))
            yield memoryview(body)
        finally:
            self._hold(-len(body))

    def _hold(self, count: int) -> None:
        self.held += count
        self.metrics.held.set(self.held)


def _length(request: Request, kind: str, limit: int) -> int:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != kind:
        raise HTTPException(415, f"the body must be of the type {kind}")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "the body must not be compressed")
    length = request.headers.get("content-length")
    if length is None or not (length.isascii() and length.isdigit()):
        raise HTTPException(411, "the body must come with its length")
    if int(length) > limit:
        raise HTTPException(413, f"the body has {int(length):,} bytes, over the limit of {limit:,}")
    return int(length)


async def _chunks(request: Request, length: int) -> AsyncIterator[bytes]:
    """The body as it comes, for as long as it keeps coming."""
    deadline = monotonic() + http_server.REQUEST_SECONDS + length / MIN_RATE
    parts = request.stream()
    while True:
        seconds = min(http_server.REQUEST_SECONDS, deadline - monotonic())
        try:
            part = await asyncio.wait_for(anext(parts), seconds)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, "the body comes too slowly") from None
        yield part


def _full(held: int, retry_after: int) -> HTTPException:
    what = f"requests with {held:,} bytes are worked on already"
    return HTTPException(429, what, {"Retry-After": str(retry_after)})
