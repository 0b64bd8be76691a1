"""A review page served in a thread, as `factory review` serves it in a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clip_factory.review import launch
from clip_factory.review.server import server


@contextmanager
def served(run: Path, store: Path, reviewer: str = "ann", port: int | None = None) -> Iterator[launch.Page]:
    """The page of a run, answering requests for as long as the context lasts."""
    page = launch.prepare(run, store, reviewer, port)
    serving = server(page.app)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [page.listener]})
    thread.start()
    try:
        yield page
    finally:
        serving.should_exit = True
        thread.join()
