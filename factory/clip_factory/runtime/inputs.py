"""What `factory predict` is given: files, folders, patterns and lists of paths become one list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from clip_factory.runtime.photo_files import find_media

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One file that an argument stands for."""

    path: str
    name: str
    """The path below the folder that was named, or below the part of a pattern without wildcards, with `/` between the
    parts; of a file that was named, its name."""


def expand(arguments: Iterable[str | os.PathLike[str]], stdin: IO[str] | None = None) -> Iterator[str]:
    """The paths of `inputs`."""
    return (one.path for one in inputs(arguments, stdin))


def inputs(
    arguments: Iterable[str | os.PathLike[str]], stdin: IO[str] | None = None, unread: list[Path] | None = None
) -> Iterator[Input]:
    """The files that the arguments stand for, in order, each once; read as they are asked for.

    Args:
        arguments: Each one a file (any extension), a folder (its photos and videos, recursively), a glob pattern
            (`**` crosses folders; its matches in sorted order) or `-` for the lines of `stdin`, which are files or
            folders. A path that exists is never taken for a pattern.
        stdin: Where the paths for `-` come from, one a line; empty lines are passed over.
        unread: Gets the videos in folders that are passed over because PyAV is not installed.

    Yields:
        Files. Whatever stands for no file (a missing path, an empty folder, a pattern without match) is passed on as
        it is: reading it then gives that path's own error, and nothing drops out silently.
    """
    seen: set[str] = set()
    for one in _inputs(arguments, stdin, [] if unread is None else unread):
        key = os.path.normcase(os.path.abspath(one.path))
        if key not in seen:
            seen.add(key)
            yield one


def covers(argument: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether photos that are put into `folder` would be among the files of this argument the next time.

    Args:
        argument: A file, a folder or a pattern, as `inputs` takes it; for `-` the answer is no.
        folder: A folder, which need not be there.
    """
    pattern = os.fspath(argument)
    into = Path(os.path.realpath(folder)).parts
    if pattern != STDIN and os.path.isdir(pattern):
        root = Path(os.path.realpath(pattern)).parts
        return into[: len(root)] == root
    if pattern == STDIN or os.path.lexists(pattern) or not glob.has_magic(pattern):
        return False
    fixed, rest = _fixed(pattern)
    root = Path(os.path.realpath(fixed or os.curdir)).parts
    below = into[len(root) :]
    if into[: len(root)] != root or (len(below) < len(rest) - 1 and "**" not in rest):
        return False
    folders = rest[: rest.index("**")] if "**" in rest else rest
    return all(fnmatch(part, one) for part, one in zip(below, folders, strict=False))


def _inputs(arguments: Iterable[str | os.PathLike[str]], stdin: IO[str] | None, unread: list[Path]) -> Iterator[Input]:
    for argument in (os.fspath(one) for one in arguments):
        if argument == STDIN:
            for line in stdin or ():
                if path := line.removeprefix("\ufeff").rstrip("\r\n"):  # a list that Windows wrote begins with a mark
                    yield from _below(path, path, unread)
        elif os.path.lexists(argument) or not glob.has_magic(argument):
            yield from _below(argument, argument, unread)
        else:
            fixed, _ = _fixed(argument)
            for match in sorted(glob.iglob(argument, recursive=True)) or [argument]:
                yield from _below(match, fixed or os.curdir, unread)


def _fixed(pattern: str) -> tuple[str, list[str]]:
    """The leading parts of a pattern that have no wildcards, as a path, and the other parts."""
    parts = Path(pattern).parts
    first = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return os.path.join(*parts[:first]) if first else "", list(parts[first:])


def _below(path: str, root: str, unread: list[Path]) -> Iterator[Input]:
    """A file itself, or the photos and videos in a folder; named by their way from `root`."""
    media, others = find_media(path) if os.path.isdir(path) else ([], [])
    unread += others
    for file in map(str, media) if media else [path]:
        name = os.path.relpath(file, root) if file != root else os.path.basename(os.path.abspath(file))
        yield Input(file, Path(name).as_posix())
