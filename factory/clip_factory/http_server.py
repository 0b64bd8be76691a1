"""What the servers of the factory share: a port, HTTP that waits for nobody for ever, and an end in order."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clip_factory.errors import RunError

REQUEST_SECONDS = 30.0
"""How long a request is waited for that has begun and does not go on."""
LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")


class PatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, which would wait for ever for the end of a request that has begun."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = self.loop.call_later(REQUEST_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait no longer once all headers are there; begin anew with the next request of the connection."""
        super().data_received(data)
        begun = self.cycle is not None and not self.cycle.response_complete
        if begun and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        elif not begun and self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.close)


def is_loopback(hosts: list[str]) -> bool:
    """Whether the Host headers of a request name this machine, by any port: a tunnel has another at its other end.

    A name that someone else's server has made point here (DNS rebinding) is none of these.
    """
    return len(hosts) == 1 and LOOPBACK.fullmatch(hosts[0]) is not None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens: a client that is quicker than the server waits, and nobody else can have the port.

    Args:
        host: A name or an address of this machine.
        port: 0 for any that is free.

    Raises:
        RunError: The host is none of this machine's, or the port is taken.
    """
    listener = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family)
        if os.name == "posix":  # elsewhere this would share the port with a server that is still there
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        if listener is not None:
            listener.close()
        raise RunError(
            f"port {port} cannot be used: {error.strerror or error}",
            hint="name another with --port; 0 is any that is free",
        ) from None
    return listener


@contextmanager
def ended_by(serving: uvicorn.Server, *signals: signal.Signals) -> Iterator[None]:
    """Have signals end the server in order, also while it starts: an exception raised then would break the start.

    A second one has it wait for nobody.
    """

    def end(*_: object) -> None:
        serving.force_exit, serving.should_exit = serving.should_exit, True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, end) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
