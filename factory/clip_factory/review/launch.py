"""From a run folder to an open page: session, secret, port, browser."""

from __future__ import annotations

import hashlib
import html
import os
import secrets
import shlex
import shutil
import signal
import socket
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_factory import run_folder as files
from clip_factory.errors import RunError
from clip_factory.gold.journal import default_reviewer
from clip_factory.http_server import ended_by, listen
from clip_factory.images.scenario_region import scenario_region
from clip_factory.progress import console
from clip_factory.review.access import Access, Guard
from clip_factory.review.requests import About, RequestHandler
from clip_factory.review.server import application, server
from clip_factory.review.session import Session
from clip_factory.review.thumbnails import Thumbnails
from clip_factory.review.words import WordTrials
from clip_factory.run_folder import find_run, read_json
from clip_factory.runtime.atomic import atomic
from clip_factory.runtime.preprocessing import RULES
from clip_factory.scenario import load

ADDRESS_LIFETIME = 12 * 3600.0
"""Seconds for which a server started anew on the same run keeps its address, so that a page left open keeps working."""
LANDING_SECONDS = 20.0
"""How long the file that leads a browser to the page is kept."""
PROVE = "#prove"
"""Ends the address of a page that begins with random test photos."""


@dataclass(frozen=True)
class Page:
    """A review page, bound to its port and not yet served."""

    url: str
    """The address with the token; the first browser that opens it can answer."""
    app: Guard
    listener: socket.socket

    def serve(self, announce: Callable[[str], None], *, browser: bool) -> None:
        """Announce the page's address, open it in the user's browser, if wanted, and serve it until Ctrl-C."""
        serving = server(self.app)
        with ended_by(serving, signal.SIGINT):  # who has read the address may end it at once
            announce(self.url)
            if browser:
                _open_in_browser(self.url)
            serving.run(sockets=[self.listener])


def _open_in_browser(url: str) -> None:
    """Have the user's browser open an address that no list of processes shows: by way of a file that leads to it."""
    folder = Path(tempfile.mkdtemp(prefix="factory-review-"))  # which only the user can look into
    landing = folder / "open.html"
    refresh = f'<meta http-equiv="refresh" content="0; url={html.escape(url)}">'
    landing.write_text(f"<!doctype html>{refresh}\n", encoding="utf-8")
    webbrowser.open(landing.as_uri())
    threading.Timer(LANDING_SECONDS, shutil.rmtree, [folder], {"ignore_errors": True}).start()


def prepare(
    target: Path, store: Path, reviewer: str | None = None, port: int | None = None, *, prove: bool = False
) -> Page:
    """Make ready the page for a run.

    Args:
        target: The run folder, or what else `find_run` knows.
        store: Thumbnails, and the page's last address, are kept below it.
        reviewer: Who answers; the name of the user by default.
        port: On 127.0.0.1; by default the last one used for this run, else any that is free.
        prove: The page begins with random test photos, which show whether the student is right.

    Raises:
        FactoryError: It is no run, it has no labels, or the port is taken.
    """
    run = find_run(target)
    reviewer = reviewer or default_reviewer()
    session = Session.open(run, reviewer, store)
    table = session.items()
    paths = dict(zip(table["sha256"].to_pylist(), table["path"].to_pylist(), strict=True))
    scenario = load(run.file(files.SCENARIO))
    name = hashlib.sha256(f"{run.path.resolve()}\n{reviewer}".encode()).hexdigest()[:32]
    region = scenario_region(scenario)
    shown = (region.says, region.key) if region else ("", "")
    about = About(name, scenario.asked, reviewer, shlex.quote(str(run.path)), *shown)
    cache = store / "thumbs" / (f"rules-{RULES}-region-{region.key}" if region else f"rules-{RULES}")
    thumbs = Thumbnails(Path(scenario.images.path or ""), paths, cache, region)
    # The address is kept outside the run, which is handed on to others.
    listener, access = _address(store / "review" / f"{about.id}.json", port)
    thumbs.warm(_shown_first(table))
    words = WordTrials(run, session, store)
    app = application(
        RequestHandler(session, about, words), thumbs, access, lambda line: console.print(line, markup=False)
    )
    return Page(access.url + PROVE * prove, app, listener)


def _shown_first(table: Any) -> list[str]:
    """The photos in the order of the page: those labeled yes, then no, the doubtful first."""
    order = zip(table["predicted"].to_pylist(), table["doubt"].to_pylist(), table["sha256"].to_pylist(), strict=True)
    return [sha256 for _, _, sha256 in sorted(order, key=lambda row: (not row[0], -row[1]))]


def _address(memory: Path, port: int | None) -> tuple[socket.socket, Access]:
    session, last = _last_address(memory)
    listener = _bound(port if port is not None else last, strict=port is not None)
    access = Access(listener.getsockname()[1], session)
    memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic(memory) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f'{{"port": {access.port}, "session": "{session}"}}\n')
    return listener, access


def _last_address(memory: Path) -> tuple[str, int]:
    """The page's secret and port of a server that ran lately; else a new secret, and 0."""
    try:
        if time.time() - memory.stat().st_mtime < ADDRESS_LIFETIME:
            known = read_json(memory)
            return str(known["session"]), int(known["port"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return secrets.token_urlsafe(32), 0


def _bound(port: int, *, strict: bool) -> socket.socket:
    """A socket on 127.0.0.1.

    Raises:
        RunError: The port is taken, and `strict` forbids another.
    """
    try:
        return listen("127.0.0.1", port)
    except RunError:
        if strict:
            raise
        return listen("127.0.0.1", 0)
