"""HTTPS calls to a web service with a token, retried while it is busy, limited in time and size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception_type, retry_if_result

from clip_factory.errors import RegistryError
from clip_factory.registry.backends.retries import ATTEMPTS, BACKOFF, BUSY

TIMEOUT = 30.0
"""Seconds that a service may be silent."""
MAX_REDIRECTS = 5
MAX_WAIT = 60.0
"""Seconds; a service that asks for more is not waited for."""
MAX_BODY = 16_000_000
"""Bytes of an answer, where the caller names no limit."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Response:
    """What a service answers."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    """Names in small letters."""

    @property
    def json(self) -> Any:
        """The body as JSON.

        Raises:
            RegistryError: It is none.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise RegistryError("the service does not answer in JSON", hint="is the address that of its API?") from None

    @property
    def error(self) -> tuple[str, list[str]]:
        """The message in the body of an error, and the codes of its parts; empty where the body has none."""
        try:
            tree = json.loads(self.body)
        except ValueError:
            tree = None
        if not isinstance(tree, dict):
            return "", []
        errors = tree.get("errors")
        parts = [part for part in (errors if isinstance(errors, list) else ()) if isinstance(part, dict)]
        return str(tree.get("message", "")), [str(part.get("code")) for part in parts]

    @property
    def retry_after(self) -> float | None:
        """Seconds that the service asks to wait; None where it does not say."""
        seconds = self.headers.get("retry-after", "")
        return float(seconds) if seconds.isdigit() else None

    @property
    def is_busy(self) -> bool:
        """Whether the same request may succeed within `MAX_WAIT` seconds."""
        limited = self.status == 403 and (
            "retry-after" in self.headers or self.headers.get("x-ratelimit-remaining") == "0"
        )
        return (self.status in BUSY or limited) and (self.retry_after or 0) <= MAX_WAIT


@dataclass(frozen=True)
class RestClient:
    """A client of one web service, with the token for it.

    The token goes to the service's own address only, never along with a redirect, and is in no message.
    """

    base: str
    """Such as https://api.github.com; http only on loopback, since the token must not travel in the clear."""
    headers: Mapping[str, str]
    token: str | None = field(default=None, repr=False)
    also: str | None = None
    """Another address of the same service that may have the token."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise RegistryError(f"{self.base}: not https, and the token must not travel in the clear")

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        max_bytes: int = MAX_BODY,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request, and again after a while if the service is busy or cannot be reached.

        Args:
            method: GET, POST, PATCH, PUT or DELETE.
            path: Below `base`, or an address below `base` or `also`.
            body: Bytes, or anything else that is sent as JSON; None for no body.
            max_bytes: Bytes that the answer may have.
            headers: More headers, or others.

        Returns:
            The answer, whatever its status.

        Raises:
            RegistryError: The service cannot be reached, or the answer is too long.
        """
        url = path if "://" in path else self.base + path
        if urlsplit(url)[:2] not in (urlsplit(self.base)[:2], urlsplit(self.also)[:2]):
            raise RegistryError(f"{self.base} sends its clients to {url}, which is another host")
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        named = {**self.headers, **({"Content-Type": kind} if content is not None else {}), **(headers or {})}
        if self.token is not None:
            named["Authorization"] = f"Bearer {self.token}"
        retrying = Retrying(
            sleep=self.sleep,
            stop=ATTEMPTS,
            wait=_wait,
            retry=retry_if_exception_type(httpx2.TransportError) | retry_if_result(lambda response: response.is_busy),
            retry_error_callback=_last_answer,
        )
        try:
            return retrying(_send, method, url, content, named, max_bytes)
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            raise _unreachable(self.base, error) from None


@cache
def _client() -> httpx2.Client:
    """The connections of this process; certificates are checked against the system's, proxies from the environment."""
    try:
        return httpx2.Client(timeout=TIMEOUT, headers={"Accept-Encoding": "identity"})
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        hint = "check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        raise RegistryError(f"no connection can be made with these settings ({error})", hint=hint) from None


def _send(method: str, url: str, content: bytes | None, headers: Mapping[str, str], max_bytes: int) -> Response:
    """Send one request; a GET follows redirects, without the token."""
    request = _client().build_request(method, url, content=content, headers=headers)
    for _ in range(MAX_REDIRECTS + 1):
        with closing(_client().send(request, stream=True, follow_redirects=False)) as response:
            if method != "GET" or response.next_request is None:
                return _read(response, max_bytes)
            request = _redirected(request, response.next_request)
    raise RegistryError(f"{url}: more than {MAX_REDIRECTS} redirects")


def _redirected(request: httpx2.Request, following: httpx2.Request) -> httpx2.Request:
    """The request that a redirect asks for, without the token; never from https to what anyone can read and change."""
    if following.url.scheme != "https" and (following.url.scheme, request.url.scheme) != ("http", "http"):
        raise RegistryError(f"{request.url.host} redirects from {request.url.scheme} to {following.url.scheme}")
    following.headers.pop("Authorization", None)
    return following


def _read(response: httpx2.Response, max_bytes: int) -> Response:
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise RegistryError(f"{response.url.host}{response.url.path}: more than the {max_bytes:,} bytes expected")
    return Response(response.status_code, bytes(body), {name.lower(): text for name, text in response.headers.items()})


def _wait(state: RetryCallState) -> float:
    """Seconds before the next attempt: what the service asks for, else the usual."""
    response = None if state.outcome is None or state.outcome.failed else state.outcome.result()
    asked = response.retry_after if isinstance(response, Response) else None
    return BACKOFF(state) if asked is None else asked


def _last_answer(state: RetryCallState) -> Any:
    """What the last attempt returned or raised."""
    return None if state.outcome is None else state.outcome.result()


def _unreachable(base: str, error: Exception) -> RegistryError:
    return RegistryError(
        f"{base} cannot be reached ({str(error) or type(error).__name__})",
        hint="check the address, the network, and HTTPS_PROXY if there is a proxy",
    )
