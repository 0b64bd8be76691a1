"""HTTPS calls to a web service with a token, retried while it is busy, limited in time and size."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from clip_factory.errors import RegistryError
from clip_factory.runtime.releases.http_client import opener

TIMEOUT = 30.0
"""Seconds that a service may be silent."""
BUSY = frozenset({408, 429, 500, 502, 503, 504})
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new try."""
LONGEST_WAIT = 60.0
"""Seconds; a service that asks for more is not waited for."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Answer:
    """What a service said."""

    status: int
    body: bytes
    headers: Mapping[str, str]

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
    def complaint(self) -> tuple[str, list[str]]:
        """The message in the body of an error, and the codes of its parts; empty if it says nothing of the kind."""
        try:
            tree = json.loads(self.body)
        except ValueError:
            tree = None
        if not isinstance(tree, dict):
            return "", []
        parts = [part for part in tree.get("errors", ()) if isinstance(part, dict)]
        return str(tree.get("message", "")), [str(part.get("code")) for part in parts]


@dataclass(frozen=True)
class Service:
    """A web service and the token for it.

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

    def call(
        self, method: str, path: str, body: Any = None, *, most: int = 16_000_000, headers: Mapping[str, str] = {}
    ) -> Answer:
        """Ask, and ask again after a while if the service is busy or cannot be reached.

        Args:
            method: GET, POST, PATCH, PUT or DELETE.
            path: Below `base`, or an address below `base` or `also`.
            body: Bytes, or anything else that is sent as JSON; None for no body.
            most: Bytes that the answer may have.
            headers: More headers, or others.

        Returns:
            The answer, whatever its status.

        Raises:
            RegistryError: The service cannot be reached, or the answer is too long.
        """
        url = path if "://" in path else self.base + path
        if urlsplit(url)[:2] not in (urlsplit(self.base)[:2], urlsplit(self.also)[:2]):
            raise RegistryError(f"{self.base} sends its clients to {url}, which is another host")
        for wait in (*WAITS, None):
            try:
                answer = self._once(self._request(method, url, body, headers), most)
            except (OSError, HTTPException) as error:
                if wait is None:
                    raise _unreachable(self.base, error) from None
            else:
                asked = _asked_to_wait(answer, wait)
                if wait is None or asked is None:
                    return answer
                wait = asked
            self.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _request(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> urllib.request.Request:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        named = {**self.headers, **({"Content-Type": kind} if data is not None else {}), **headers}
        request = urllib.request.Request(url, data, named, method=method)  # noqa: S310 - https, or loopback
        if self.token is not None:  # an unredirected header stays behind when the service sends us elsewhere
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return request

    def _once(self, request: urllib.request.Request, most: int) -> Answer:
        try:
            with opener().open(request, timeout=TIMEOUT) as response:
                return _read(response, response.status, response.headers, most)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error, error.code, error.headers, most)


def _read(response: Any, status: int, headers: Message, most: int) -> Answer:
    body = response.read(most + 1)
    if len(body) > most:
        raise RegistryError(f"{response.url}: more than the {most:,} bytes expected")
    if getattr(response, "length", None):
        raise HTTPException(f"cut short, {response.length} bytes are missing")
    return Answer(status, body, {name.lower(): value for name, value in headers.items()})


def _asked_to_wait(answer: Answer, wait: float | None) -> float | None:
    """Seconds to wait before asking again; None if the answer is final."""
    limited = answer.status == 403 and (
        "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining") == "0"
    )
    if answer.status not in BUSY and not limited:
        return None
    asked = answer.headers.get("retry-after", "")
    seconds = float(asked) if asked.isdigit() else wait
    return seconds if seconds is not None and seconds <= LONGEST_WAIT else None


def _unreachable(base: str, error: Exception) -> RegistryError:
    reason = getattr(error, "reason", None) or error
    return RegistryError(
        f"{base} cannot be reached ({reason})",
        hint="check the address, the network, and HTTPS_PROXY if there is a proxy",
    )
