"""A real MLflow server on loopback, with a SQLite store and one worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 600.0
"""Seconds until it must answer; it imports for a quarter of a minute, minutes on a busy machine."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Start one that keeps everything below `folder`; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *place],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | quiet,
            start_new_session=True,  # it starts the worker as a child
        )
        try:
            _wait(process, url, folder / "log")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"the MLflow server did not start:\n{log.read_text(errors='replace')[-3000:]}")
