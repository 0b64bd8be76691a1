"""What `factory predict` is given: files, folders, patterns and lists of paths become one list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from typing import IO

from factory.runtime.images import find_images

STDIN = "-"


def expand(arguments: Iterable[str | os.PathLike[str]], stdin: IO[str] | None = None) -> Iterator[str]:
    """The files that the arguments stand for, in order, each once; read as they are asked for.

    Args:
        arguments: Each one a file (any extension), a folder (its images, recursively), a glob pattern (`**` crosses
            folders; its matches in sorted order) or `-` for the lines of `stdin`, which are files or folders. A path
            that exists is never taken for a pattern.
        stdin: Where the paths for `-` come from, one a line; empty lines are passed over.

    Yields:
        Paths. Whatever stands for no file (a missing path, an empty folder, a pattern without match) is passed on as
        it is: reading it then gives that path's own error, and nothing drops out silently.
    """
    seen: set[str] = set()
    for path in _expand(arguments, stdin):
        key = os.path.normcase(os.path.abspath(path))
        if key not in seen:
            seen.add(key)
            yield path


def _expand(arguments: Iterable[str | os.PathLike[str]], stdin: IO[str] | None) -> Iterator[str]:
    for given in arguments:
        argument = os.fspath(given)
        if argument == STDIN:
            for line in stdin or ():
                if path := line.rstrip("\r\n"):
                    yield from _below(path)
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            yield from _below(argument)
        else:
            for match in sorted(glob.iglob(argument, recursive=True)) or [argument]:
                yield from _below(match)


def _below(path: str) -> Iterator[str]:
    if os.path.isdir(path):
        yield from [str(file) for file in find_images(path)] or [path]
    else:
        yield path
