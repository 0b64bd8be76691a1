"""MLflow's client as the registry needs it: imported late, quiet, limited in time, with errors that say what to do."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from clip_factory.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

TIMEOUT = 10.0
"""Seconds within which a server must take the connection."""
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds; its default is two minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",  # on 429 and 5xx, with back-off; its default of 7 takes four minutes
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for results
}
"""Environment variables that MLflow reads; what the user has set stays."""
ADDRESS = re.compile(r"mlflow(?:\+(https?://[^/?#@]+(?:/[^?#]*)?)|://)")
LOGIN = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
EXISTS, MISSING = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"


class MlflowError(RegistryError):
    """MLflow refuses, or does not answer."""

    code: str = ""
    """MLflow's own, such as RESOURCE_DOES_NOT_EXIST."""


def connect(url: str) -> MlflowClient:
    """The client for mlflow+http(s)://HOST, or for mlflow://, the server of MLFLOW_TRACKING_URI.

    Raises:
        RegistryError: The address is none, MLflow is not installed, or the server does not take connections.
    """
    match = ADDRESS.fullmatch(url)
    written = match[1] if match else None
    server = written or (os.environ.get("MLFLOW_TRACKING_URI") if match else None)
    if not server:
        hint = "expected mlflow+http://HOST:PORT, or mlflow:// with MLFLOW_TRACKING_URI set"
        raise RegistryError(f"{url}: no address of an MLflow server", hint=hint)
    registry = server if written else os.environ.get("MLFLOW_REGISTRY_URI", server)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError:
        raise RegistryError(
            "MLflow is not installed, and mlflow:// needs it", hint="pip install 'clip-factory[mlflow]'"
        ) from None
    _check_connection(server)
    return MlflowClient(tracking_uri=server, registry_uri=registry)


def _check_connection(server: str) -> None:
    """Report at once that no server answers, which MLflow does after minutes of retries."""
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or parts.scheme in getproxies():
        return
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), TIMEOUT).close()
    except (OSError, ValueError) as error:
        hint = "is it running? check the address"
        raise RegistryError(f"{server}: no MLflow server answers ({error})", hint=hint) from None


@contextmanager
def mlflow_errors(what: str) -> Iterator[None]:
    """Turn MLflow's exceptions into ours.

    Args:
        what: What was being done to what, for the message.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise _mlflow_error(what, error) from None
    except OSError as error:
        raise MlflowError(f"{what}: {error}", hint="check the server and the network") from None


def _mlflow_error(what: str, error: Any) -> MlflowError:
    text = str(error)
    status = next((int(code) for code in re.findall(r"error code (\d{3})", text)), error.get_http_status_code())
    first = re.sub(r"^[A-Z_]+: ", "", text.strip().partition("\n")[0])[:300]
    if status in (401, 403):
        problem = MlflowError(f"{what}: not allowed ({status}: {first})", hint=f"{LOGIN} of one who may write to it")
    elif error.error_code == MISSING:
        problem = MlflowError(f"{what}: {first}", hint="check the name: factory models list")
    else:
        problem = MlflowError(f"{what}: {first}", hint="see the log of the MLflow server")
    problem.code = str(error.error_code)
    return problem


def iterate_pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """All items of a list that MLflow gives page by page; `ask` is given the token of a page."""
    token: str | None = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
