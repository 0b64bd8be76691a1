"""What is written down when the factory itself is at fault: enough to find the place, and nothing that is secret."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from clip_factory.runtime.safe_text import without_secrets

PACKAGES = (
    *("clip-factory", "numpy", "pillow", "onnxruntime", "torch", "torchvision", "open_clip_torch", "timm"),
    *("lightning", "onnx", "pyarrow", "pydantic", "typer", "rich"),
)
"""Whose versions a report names."""
SECRETS = re.compile(r"\b(hf_|gh[pousr]_|github_pat_|AKIA|xox[bap]-)[A-Za-z0-9_-]{6,}")
"""Keys of services that say by their first letters what they are."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+")
_ASSIGNED = re.compile(r"(?i)\b([a-z_]*(?:token|password|passwd|secret|api_?key)[a-z_]*)(\s*[=:]\s*)\S+")


def write_report(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write a report on an error beside the user's work, else in the temporary folder; None where neither can be.

    It names versions, the command, and the lines of code that were being run: no values of variables, no pictures, no
    environment; addresses without user and query, and the user's own folder as `~`.
    """
    text = "\n".join(_lines(error, arguments)) + "\n"
    name = f"factory-fault-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}Z-{os.getpid()}.txt"
    for folder in (Path.cwd, lambda: Path(tempfile.gettempdir())):
        try:
            path = folder() / name
            path.write_text(text, encoding="utf-8")
            return path
        except OSError:
            continue
    return None


def without_private(text: str) -> str:
    """A text without what looks like a secret, and with the user's folder as `~`."""
    text = _URL.sub(lambda url: without_secrets(url[0]), text)
    text = _ASSIGNED.sub(r"\1\2...", SECRETS.sub("...", text))
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text


def _lines(error: BaseException, arguments: Sequence[str]) -> Iterable[str]:
    yield f"clip-factory, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f"Python {sys.version.split()[0]}, {platform.platform()}"
    yield ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    yield without_private(f"command: factory {' '.join(arguments)}")
    yield ""
    yield without_private("".join(traceback.format_exception(error)).rstrip())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
