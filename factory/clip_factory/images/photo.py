"""One photo as the stages hand it on: plain data, no pixels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Photo(NamedTuple):
    """A photo that was scanned."""

    sha256: str
    """Hex, of the file's bytes."""
    path: Path
