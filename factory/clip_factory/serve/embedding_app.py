"""The addresses of an encoder's server, each a few lines over the batcher."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from clip_factory.encoders import Encoder
from clip_factory.encoders.wire_format import (
    BINARY,
    ENCODER,
    IMAGES,
    KEY_HEADER,
    SHAPE_HEADER,
    TEXTS,
    WORDS,
    EncoderFacts,
    Limits,
    WireError,
    pack_vectors,
    unpack_photos,
)
from clip_factory.runtime.safe_text import is_unicode
from clip_factory.serve.batching import Batcher, Pixels, checked_vectors
from clip_factory.serve.metrics import Metrics
from clip_factory.serve.openapi import document
from clip_factory.serve.problems import KINDS, problem, refused
from clip_factory.serve.request_bodies import BodyReader
from clip_factory.serve.request_guard import RequestGuard

T = TypeVar("T")
MAX_TEXT = 2_000
"""Characters of a text."""
MAX_TEXT_BYTES = 4_000_000
"""Of a body with texts."""


@dataclass(frozen=True)
class Settings:
    """How an encoder is served."""

    limits: Limits
    max_batch: int
    """Photos that the encoder is handed at once."""
    max_wait: float
    """Seconds that a batch which is not full waits for more."""
    max_waiting: int
    """Photos that may wait; requests beyond are refused, and come again."""
    max_held: int
    """Bytes of bodies that are held at once."""


def application(encoder: Encoder, settings: Settings, token: str | None) -> tuple[RequestGuard, Batcher]:
    """The ASGI application behind its guard, and what has to `work` for it."""
    facts = EncoderFacts.of(encoder, settings.limits)
    metrics = Metrics(facts)
    batcher = Batcher(
        encoder,
        metrics,
        max_batch=settings.max_batch,
        max_wait=settings.max_wait,
        max_waiting=max(settings.max_waiting, settings.limits.photos),
        max_seconds=settings.limits.seconds / 2,
    )
    answers = _Answers(batcher, facts, settings, metrics)
    routes = [
        Route(ENCODER, answers.encoder),
        Route(IMAGES, answers.images, methods=["POST"]),
        Route(TEXTS, answers.texts, methods=["POST"]),
        Route(WORDS, answers.words, methods=["POST"]),
        Route("/healthz", answers.healthy),
        Route("/readyz", answers.ready),
        Route("/metrics", answers.metrics_text),
        Route("/openapi.json", answers.openapi),
    ]

    handlers: dict[Any, Callable[[Request, Exception], Any]] = dict.fromkeys(KINDS, refused)
    app = Starlette(routes=routes, exception_handlers=handlers)
    return RequestGuard(app, metrics, token, frozenset(route.path for route in routes)), batcher


class _Answers:
    """One method an address."""

    def __init__(self, batcher: Batcher, facts: EncoderFacts, settings: Settings, metrics: Metrics) -> None:
        self.batcher, self.facts, self.settings, self.metrics = batcher, facts, settings, metrics
        self.bodies = BodyReader(settings.max_held, metrics)

    async def encoder(self, request: Request) -> Response:
        return JSONResponse(self.facts.to_json(), headers=self._headers())

    async def images(self, request: Request) -> Response:
        limits = self.settings.limits
        async with self.bodies.read(request, BINARY, limits.bytes, self.batcher.retry_after) as body:
            photos = await run_in_threadpool(_read_photos, body, limits)
            ticket = self.batcher.submit(photos)
            try:
                vectors = await self._outcome(request, ticket.future)
            finally:
                if not ticket.future.done():
                    self.batcher.withdraw(ticket)
        return self._vectors(vectors)

    async def texts(self, request: Request) -> Response:
        texts = await self._texts(request)
        return self._vectors(await self._called(request, partial(self._embed_texts, texts)))

    async def words(self, request: Request) -> Response:
        texts = await self._texts(request)
        checks = await self._called(request, partial(_check_texts, self.batcher.encoder, texts))
        return JSONResponse({"texts": checks}, headers=self._headers())

    async def healthy(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        if self.batcher.is_ready:
            return PlainTextResponse("ready\n")
        return problem(503, "the server ends", retry_after=1)

    async def metrics_text(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(document(self.settings.limits))

    async def _texts(self, request: Request) -> list[str]:
        async with self.bodies.read(request, "application/json", MAX_TEXT_BYTES, self.batcher.retry_after) as body:
            return _read_texts(bytes(body), self.settings.limits)

    async def _called(self, request: Request, work: Callable[[], T]) -> T:
        future = self.batcher.call(work)
        try:
            return await self._outcome(request, future)
        finally:
            future.cancel()

    async def _outcome(self, request: Request, future: Future[T]) -> T:
        """What the encoder's thread makes of a request, unless the client goes first, or its time is up."""
        outcome, gone = asyncio.wrap_future(future), asyncio.ensure_future(_until_gone(request))
        either: set[asyncio.Future[Any]] = {outcome, gone}
        try:
            await asyncio.wait(either, timeout=self.settings.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if outcome.done():
                return outcome.result()
            if gone.done():
                raise ClientDisconnect
            wait = {"Retry-After": str(self.batcher.retry_after)}
            raise HTTPException(503, f"no answer within {self.settings.limits.seconds} s; others wait, too", wait)
        finally:
            gone.cancel()

    def _embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        vectors = checked_vectors(self.batcher.encoder.embed_texts(texts), len(texts), self.facts.dim)
        self.metrics.texts.inc(len(texts))
        return vectors

    def _vectors(self, vectors: np.ndarray) -> Response:
        shape = {SHAPE_HEADER: ",".join(map(str, vectors.shape))}
        return Response(pack_vectors(vectors), headers=self._headers() | shape, media_type=BINARY)

    def _headers(self) -> dict[str, str]:
        return {KEY_HEADER: self.facts.key}


async def _until_gone(request: Request) -> None:
    """Wait until the client hangs up; its request has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _read_photos(body: memoryview, limits: Limits) -> list[Pixels]:
    """The photos of a body, each with the hash of its size and pixels."""
    photos = []
    for size, pixels in unpack_photos(body, limits):
        digest = hashlib.sha256(f"{size[0]}x{size[1]} ".encode())
        digest.update(pixels)
        photos.append(Pixels(digest.digest(), Image.frombytes("RGB", size, pixels)))
    return photos


def _read_texts(body: bytes, limits: Limits) -> list[str]:
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        raise WireError("the body is not JSON") from None
    texts = tree.get("texts") if isinstance(tree, dict) else None
    if not isinstance(texts, list) or not 0 < len(texts) <= limits.texts:
        raise WireError(f'the body must be {{"texts": [...]}} with 1 to {limits.texts} texts')
    for index, text in enumerate(texts):
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise WireError(f"text {index} is no text of at most {MAX_TEXT:,} characters")
        if not is_unicode(text):
            raise WireError(f"text {index} holds half of a sign, a lone surrogate")
    return texts


def _check_texts(encoder: Encoder, texts: Sequence[str]) -> list[dict[str, object]]:
    """What the tokenizer knows of each text, where the encoder can say it."""
    unknown_words: Callable[[str], list[str]] = getattr(encoder, "unknown_words", lambda text: [])
    is_truncated: Callable[[str], bool] = getattr(encoder, "is_truncated", lambda text: False)
    return [{"unknown_words": list(unknown_words(text)), "is_truncated": bool(is_truncated(text))} for text in texts]
