"""Who may speak to the review page: the browser that was given the token, and nobody else.

Other programs of this machine, and pages from anywhere that the same browser shows, can reach a port on loopback too.
So each request must name this server as its host (which DNS rebinding cannot), come from this page if it says where
it comes from, and carry a secret: once the token in the address, which is good for one browser, from then on a cookie.
A body is refused by the length it claims, before it is read.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clip_factory import http_server
from clip_factory.http_server import is_loopback

MAX_BODY = 1_000_000
"""Bytes. An answer for 10,000 photos at once takes 670 kB."""

ALWAYS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer: the page loads from here alone, and no other page can hold it or its pictures."""

ADMITTED = "clip_factory.admitted"
"""Key of a request's scope: whether it came with the token."""

Log = Callable[[str], None]
"""Takes one line of text."""


class Access:
    """The port of the server, the secret of its page, and the token that is traded for it, once."""

    def __init__(self, port: int, session: str) -> None:
        """`session`: what the cookie of an admitted browser holds."""
        self.port, self.session = port, session
        self.token = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self._unused = True

    @property
    def url(self) -> str:
        """The address that opens the page, in the first browser that asks for it."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def invite(self) -> str:
        """An address with a new token, for one browser more."""
        with self._lock:
            self.token, self._unused = secrets.token_urlsafe(32), True
        return self.url

    def redeem(self, offered: str) -> bool:
        """Whether this is the token, which nobody has used; it cannot be used again."""
        with self._lock:
            admitted = self._unused and _equal(offered, self.token)
            self._unused = self._unused and not admitted
            return admitted

    @property
    def cookie(self) -> str:
        """The cookie's name: browsers send the cookies of one host to all of its ports."""
        return f"factory-review-{self.port}"

    def admits(self, offered: str) -> bool:
        """Whether this is the secret of the page."""
        return _equal(offered, self.session)


class Guard:
    """Stands before the application: refuses and logs, or lets through and adds the headers."""

    def __init__(self, app: ASGIApp, access: Access, log: Log) -> None:
        self.app, self.access, self.log = app, access, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            objection = self._objection(scope)
            if objection is None:
                await self.app(scope, _counted(receive), self._with_headers(scope, send))
            else:
                await self.refuse(scope, *objection)(scope, receive, self._with_headers(scope, send))

    def refuse(self, scope: Scope, status: int, why: str) -> Response:
        """Log the request in one line, its path cut and made printable, and give the answer that refuses it."""
        self.log(f"refused {status} {scope['method'][:10]} {scope['path'][:120]!a}: {why}")
        return PlainTextResponse(why + "\n", status, headers={"Connection": "close"})

    def _objection(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if not is_loopback(headers.getlist("host")):
            return 403, "the request names another host: open the page as http://127.0.0.1:PORT or localhost:PORT"
        if not self._comes_from_here(scope, headers):
            return 403, "the request comes from another page"
        if not self._has_token(scope, headers):
            return 403, "no token, or one that was used: start `factory review` again for a new address"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > MAX_BODY:
            return 413, f"the body is over the limit of {MAX_BODY:,} bytes"
        return None

    def _comes_from_here(self, scope: Scope, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None or scope["method"] not in ("GET", "HEAD"):
            return origin == f"http://{headers['host']}"
        # Opening the page from a link elsewhere is fine; loading its parts from elsewhere is not.
        return site in (None, "none", "same-origin") or (scope["path"] == "/" and _is_navigation(headers))

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.access.cookie)
        except CookieError:
            return False
        if cookie is not None and self.access.admits(cookie.value):
            return True
        scope[ADMITTED] = scope["path"] == "/" and self.access.redeem(_token_in_address(scope))
        return bool(scope[ADMITTED])

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(ALWAYS)
                headers.setdefault("Cache-Control", "no-store")
                if message["status"] == 200 and scope.get(ADMITTED):
                    secret = f"{self.access.cookie}={self.access.session}"
                    headers["Set-Cookie"] = f"{secret}; Path=/; HttpOnly; SameSite=Strict"
            await send(message)

        return sending


def _equal(offered: str, secret: str) -> bool:
    """Takes the same time wherever the first wrong letter is."""
    return secrets.compare_digest(offered.encode(), secret.encode())


def _is_navigation(headers: Headers) -> bool:
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _token_in_address(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _counted(receive: Receive) -> Receive:
    """The body as it comes, up to the limits: one sent in chunks claims no length, one sent slowly never ends."""
    seen, whole = 0, False

    async def receiving() -> Message:
        nonlocal seen, whole
        if whole:  # what is waited for now is that the browser goes
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), http_server.REQUEST_SECONDS)
        except TimeoutError:
            raise HTTPException(408, f"nothing came for {http_server.REQUEST_SECONDS:.0f} s") from None
        seen, whole = seen + len(message.get("body", b"")), not message.get("more_body", False)
        if seen > MAX_BODY:
            raise HTTPException(413, f"the body is over the limit of {MAX_BODY:,} bytes")
        return message

    return receiving
