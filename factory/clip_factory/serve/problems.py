"""What an encoder's server answers where it refuses: Problem Details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from clip_factory.encoders.wire_format import TooManyPixelsError, WireError
from clip_factory.serve.batching import EncoderFailedError, FullError, StoppedError

KINDS = (WireError, EncoderFailedError, FullError, StoppedError, HTTPException, ClientDisconnect)
GONE = 499
"""What a request counts as whose client went away before it was answered; the code is nginx's."""
STATUSES: dict[type[Exception], int] = {
    TooManyPixelsError: 413,
    WireError: 400,
    EncoderFailedError: 500,
    FullError: 429,
    StoppedError: 503,
}


def problem(status: int, detail: str, *, retry_after: int | None = None) -> Response:
    """A refusal; what is left of the request is read and forgotten, so that its client comes to read the answer.

    Args:
        status: Of HTTP.
        detail: What is wrong, for people.
        retry_after: Seconds after which the same request may succeed.
    """
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    headers |= {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    content = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, headers, "application/problem+json")


async def refused(_: Request, error: Exception) -> Response:
    """What an exception of `KINDS` is answered with."""
    if isinstance(error, HTTPException):
        seconds = (error.headers or {}).get("Retry-After")
        return problem(error.status_code, error.detail, retry_after=int(seconds) if seconds else None)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=GONE)  # nobody reads it
    waits = {FullError: getattr(error, "seconds", 1), StoppedError: 1}
    return problem(STATUSES[type(error)], str(error), retry_after=waits.get(type(error)))
