"""From the text of a path, as tables hold it, back to the file: file systems know names that are no text."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

from clip_factory.errors import ImagesError

_ESCAPE = re.compile(r"\\\\|\\x([0-9a-f]{2})")


def file_at(root: Path, text: str) -> Path:
    """The file below `root` that `path_text` named.

    Raises:
        ImagesError: The path leads out of `root`.
    """
    inside = PurePath(text)
    if inside.is_absolute() or ".." in inside.parts or "\0" in text:
        raise ImagesError(
            f"{text!r}: leads out of the folder of the photos", hint="do not use this run: it was altered"
        )
    path = root / inside
    return path if "\\" not in text or os.path.lexists(path) else root / _ESCAPE.sub(_unescaped, text)


def _unescaped(sign: re.Match[str]) -> str:
    return os.fsdecode(bytes.fromhex(sign[1])) if sign[1] else "\\"
