"""What an archive or a list of addresses named and did not give: kept beside the folder of the photos that it gave."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from clip_factory.runtime.atomic import write_json


class LeftOut(NamedTuple):
    """A member of an archive, or an address, that gave no photo."""

    name: str
    reason: str


def write_left_out(folder: Path, left_out: Iterable[LeftOut]) -> None:
    """Keep what gave no photo, beside the folder of what did."""
    write_json(_file(folder), [tuple(one) for one in left_out])


def read_left_out(folder: Path) -> list[LeftOut]:
    """What gave no photo; nothing for a folder that came from no archive and no list."""
    try:
        rows = json.loads(_file(folder).read_bytes())
        return [LeftOut(str(name), str(reason)) for name, reason in rows]
    except (OSError, ValueError, TypeError):
        return []


def _file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.left-out.json")
