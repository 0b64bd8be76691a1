"""From an encoder's name to a server: token, port, encoder, an end in order."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn

from clip_factory.encoders import Encoder, load_encoder, resolve_with_warning
from clip_factory.encoders.wire_format import TOKEN_VARIABLE
from clip_factory.errors import RunError
from clip_factory.http_server import PatientProtocol, ended_by, listen
from clip_factory.scenario import Teacher
from clip_factory.serve.batching import Batcher
from clip_factory.serve.embedding_app import Settings, application
from clip_factory.serve.request_guard import RequestGuard

TOKEN = re.compile(r"[\x21-\x7e]{16,500}")
MAKE_TOKEN = "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"  # noqa: S105 - a hint
MAX_CONNECTIONS = 512
KEEP_ALIVE = 75
"""Seconds that a connection may be idle; clients come back after each batch."""
GRACE = 30
"""Seconds that requests have to end when the server ends."""


@dataclass(frozen=True)
class EncoderServer:
    """An encoder that is loaded, bound to its port and not yet served."""

    url: str
    encoder: Encoder
    batcher: Batcher
    serving: uvicorn.Server
    listener: socket.socket

    def serve(self, announce: Callable[[str], None]) -> None:
        """Announce the address, and answer until Ctrl-C or SIGTERM; requests that have begun are finished.

        This thread is the encoder's; another one speaks HTTP.
        """
        with ended_by(self.serving, signal.SIGINT, signal.SIGTERM):  # who has read the address may end it at once
            announce(self.url)
            speaking = threading.Thread(target=self._speak, name="http")
            speaking.start()
            try:
                self.batcher.work()
            finally:
                self.serving.should_exit = True
                speaking.join()

    def _speak(self) -> None:
        try:
            self.serving.run(sockets=[self.listener])
        finally:
            self.batcher.stop()


def prepare(load: Callable[[], Encoder], host: str, port: int, token: str | None, settings: Settings) -> EncoderServer:
    """Bind the port, and load the encoder.

    Args:
        load: Loads it; called once the port is bound.
        host: Address or name to listen at.
        port: 0 for any that is free.
        token: What clients must bring; None for none, on loopback alone.
        settings: Limits and batches.

    Raises:
        RunError: The port is taken, or the host can be reached from elsewhere and there is no token.
        TeacherError: The encoder cannot be loaded.
    """
    if token is None and not _is_loopback(host):
        raise RunError(
            f"{host} can be reached from other machines, and there is no token",
            hint=f"set {TOKEN_VARIABLE} or pass --token FILE; {MAKE_TOKEN}",
        )
    listener = listen(host, port)
    try:
        encoder = load()
        app, batcher = application(encoder, settings, token)
    except BaseException:
        listener.close()
        raise
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    return EncoderServer(url, encoder, batcher, _server(app), listener)


def _server(app: RequestGuard) -> uvicorn.Server:
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    limits: dict[str, Any] = {
        "limit_concurrency": MAX_CONNECTIONS,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": GRACE,
    }
    return uvicorn.Server(uvicorn.Config(app, http=PatientProtocol, ws="none", **quiet, **limits))


def load_named(teacher: Teacher) -> Encoder:
    """The encoder of a name, `auto` among them.

    Raises:
        TeacherError: It cannot be loaded.
    """
    return load_encoder(resolve_with_warning(teacher))


def read_token(file: Path | None) -> str | None:
    """The token in a file, else in the environment; None where there is none.

    Raises:
        RunError: The file cannot be read, or what it holds is no token.
    """
    where = str(file) if file is not None else f"${TOKEN_VARIABLE}"
    try:
        text = file.read_text(encoding="utf-8") if file is not None else os.environ.get(TOKEN_VARIABLE, "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise RunError(
            f"{file}: {reason}", hint="--token names a file that holds the token, so that no list of processes shows it"
        ) from None
    token = text.strip()
    if not token and file is None:
        return None
    if not TOKEN.fullmatch(token):
        raise RunError(f"{where}: a token has 16 to 500 letters, digits and signs, without spaces", hint=MAKE_TOKEN)
    return token


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
