"""Servers on loopback: of files, of one handler, of stand-ins that record calls and can be told to fail; with TLS."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """Percent signs decoded, without the query."""
    raw_path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in small letters."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def token(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() in ("bearer", "token") else None


@dataclass(frozen=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def reply(value: Any, status: int = 200, **headers: str) -> Response:
    """JSON; `x_error_code` becomes the header X-Error-Code."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


class Quiet(BaseHTTPRequestHandler):
    """A handler that logs nothing; subclasses answer."""

    def log_message(self, *_: object) -> None:
        pass


class _Files(Quiet, SimpleHTTPRequestHandler):
    """Shows a folder."""


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler], certificate: Path | None = None) -> Iterator[str]:
    """The address of a server that answers by `handler`, each request in a thread of its own, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files_of(folder: Path | str) -> Callable[..., BaseHTTPRequestHandler]:
    """For `serving`: a folder as a plain web server shows it."""
    return partial(_Files, directory=folder)


class Loopback:
    """Serves `answer` of a subclass, one request at a time, from a thread.

    Use as a context manager. `calls` are the requests so far. `failures` are answered, one each, in the place of
    `answer`. The next call that begins with `lost` is carried out, and its answer lost on the way. `rival` is called
    once, just before the next call that begins with `rival_before` is answered. Calls to `aside` get 404, unrecorded.
    """

    def __init__(self) -> None:
        self.calls: list[Request] = []
        self.failures: deque[Response] = deque()
        self.lost: str | None = None
        self.rival: Callable[[], object] | None = None
        self.rival_before = ""
        self.aside = ""
        self.lock = threading.RLock()
        self.url = ""
        self._serving = serving(self._handler())

    def __enter__(self):
        self.url = self._serving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def seen(self) -> list[str]:
        """The calls so far as `METHOD path`."""
        return [f"{call.method} {call.path}" for call in self.calls]

    def _respond(self, request: Request) -> Response:
        if request.path == self.aside:
            return Response(404)
        if self.rival is not None and f"{request.method} {request.path}".startswith(self.rival_before):
            rival, self.rival = self.rival, None
            rival()  # makes calls of its own, so the lock must be free
        with self.lock:
            self.calls.append(request)
            if self.failures:
                return self.failures.popleft()
            answer = self.answer(request)
            if self.lost and f"{request.method} {request.path}".startswith(self.lost):
                self.lost = None
                return Response(502)
            return answer

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(Quiet):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer on a kept connection waits 40 ms for an acknowledgment

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(parts.query))
                path = unquote(parts.path)
                response = server._respond(Request(self.command, path, parts.path, query, headers, body))
                self.send_response(response.status)
                for name, value in response.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(response.body)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        return Handler


def self_signed(path: Path) -> Path:
    """Key and certificate for 127.0.0.1 in one PEM file; nobody vouches for it."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = made.add_extension(here, critical=True).sign(key, hashes.SHA256())
    private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(s.Encoding.PEM))
    return path
