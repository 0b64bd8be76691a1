"""Which files of a folder are photos, why the others are not, and how their bytes are read."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePath
from typing import NamedTuple

from clip_factory.runtime.runtime_errors import ImageError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".avif"}
)
"""Extensions of the kinds that Pillow reads by itself."""
HEIF_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})
"""What telephones write; read where the package pillow-heif is installed."""
OTHER_KINDS = frozenset(
    {".jp2", ".j2k", ".jxl", ".jxr", ".psd", ".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".raf", ".rw2"}
    | {".svg", ".eps", ".ico", ".tga", ".exr", ".hdr", ".ppm", ".pgm", ".pbm", ".dcm"}
)
"""Extensions of pictures that the factory does not read."""
VIDEOS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts"}
)
"""Extensions of videos; those of a folder are sampled, and the frames are the photos."""
LITTER = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "#recycle", "@recycle", "#snapshot", "system volume information"}
    | {"lost+found", "lost.dir", "recycler", "thumbs.db", "desktop.ini", "found.000"}
)
"""Files and folders, in lower case, that systems and storage boxes leave among photos: their thumbnails and bins."""

MAX_FILE_BYTES = 1_000_000_000
"""Larger files are not read: no photo is so large."""

READ_BY = {
    ".avif": "this installation of Pillow was built without AVIF; pip install --force-reinstall pillow",
    **dict.fromkeys(HEIF_EXTENSIONS, "to read it, pip install 'clip-factory[sources]'"),
}
"""What makes an installation read a kind that it does not."""
INSTALL_VIDEO = "pip install 'clip-factory[video]'"

_NO_UTF8 = re.compile(r"[\udc80-\udcff]")


class SeenFile(NamedTuple):
    """A file, or a folder that could not be looked into, below the folder of the photos."""

    path: Path
    reason: str | None
    """Why it is not used; None for a file that has an image's extension."""

    @property
    def is_video(self) -> bool:
        """Whether it is a video, and passed over for that alone."""
        return self.reason is not None and self.reason == _a_video()


def find_files(root: str | os.PathLike[str]) -> list[SeenFile]:
    """Every file under `root`, recursively, sorted by path: photos, and what is passed over with the reason.

    Links to folders are followed; a real folder is looked into once, however many ways lead to it. Bins and thumbnail
    folders of systems, and hidden folders, count as one entry each: what they hold is not listed.
    """
    return sorted(_walk(Path(root), set()))


def find_images(root: str | os.PathLike[str]) -> list[Path]:
    """The photos among `find_files`: image files under `root` by extension in any letter case, sorted by path."""
    return [file.path for file in find_files(root) if file.reason is None]


def find_media(root: str | os.PathLike[str]) -> tuple[list[Path], list[Path]]:
    """Photos and, where PyAV is installed, videos under `root`, sorted by path; and the videos that are not read."""
    seen = find_files(root)
    read = video_is_read()
    media = [file.path for file in seen if file.reason is None or (file.is_video and read)]
    return media, [file.path for file in seen if file.is_video and not read]


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file; pipes, devices and sockets are never waited for.

    Raises:
        ImageError: It is not there, is no regular file, is empty, over `MAX_FILE_BYTES`, or the disk fails; of these
            an OSError is the cause.
    """
    try:
        # not blocking: opening a pipe that no one writes to would wait for ever
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{path}: {_special(status.st_mode)}")
            if status.st_size > MAX_FILE_BYTES:
                raise ImageError(f"{path}: {status.st_size:,} bytes are over the limit of {MAX_FILE_BYTES:,}")
            data = file.read()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except ValueError:  # a null byte
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror})") from error
    if not data:
        raise ImageError(f"{path}: empty file")
    return data


def path_text(path: str | PurePath) -> str:
    r"""A path as tables hold it: POSIX; where a name is no UTF-8, its other bytes are escaped as in `caf\xe9.jpg`."""
    text = path if isinstance(path, str) else path.as_posix()
    if not _NO_UTF8.search(text):
        return text
    return text.replace("\\", "\\\\").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def why_not_by_name(name: str, *, file: bool = False) -> str | None:
    """Why a file or folder is passed over unopened, by its name; None where it is not.

    Args:
        name: The last part of its path.
        file: Whether it is a file, which must have the extension of an image.
    """
    if name.lower() in LITTER:
        return "left by the system, not by a person"
    if name.startswith("."):
        return "hidden: its name begins with a dot"
    return _why_not_by_suffix(os.path.splitext(name)[1].lower()) if file else None


def _why_not_by_suffix(suffix: str) -> str | None:
    missing = {".avif": not avif_is_read(), **dict.fromkeys(HEIF_EXTENSIONS, not heif_is_read())}
    if suffix in EXTENSIONS | HEIF_EXTENSIONS:
        return f"a {suffix[1:].upper()} photo: {READ_BY[suffix]}" if missing.get(suffix) else None
    if suffix in OTHER_KINDS:
        return f"a {suffix[1:].upper()} picture, a kind that is not read: convert it to JPEG or PNG"
    return _a_video() if suffix in VIDEOS else "not an image, by its name"


def _a_video() -> str:
    if video_is_read():
        return "a video: its frames are sampled where it lies in a folder, not in an archive"
    return f"a video: to sample its frames, {INSTALL_VIDEO}"


@cache
def video_is_read() -> bool:
    """Whether PyAV is installed, and so videos are read."""
    return importlib.util.find_spec("av") is not None


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a video, by its name."""
    return os.path.splitext(os.fspath(path))[1].lower() in VIDEOS


@cache
def heif_is_read() -> bool:
    """Whether pillow-heif is installed, and so HEIC photos are read."""
    return importlib.util.find_spec("pillow_heif") is not None


def heif_version() -> str | None:
    """The version of pillow-heif; None where it is not installed."""
    from importlib import metadata  # takes its time, and only the scan asks

    return metadata.version("pillow-heif") if heif_is_read() else None


@cache
def avif_is_read() -> bool:
    """Whether Pillow was built with AVIF."""
    from PIL import features  # Pillow takes its time, and `--help` does not need it

    return bool(features.check("avif"))


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[SeenFile]:
    try:
        status = folder.stat()
        if (place := (status.st_dev, status.st_ino)) in seen and status.st_ino:
            yield SeenFile(folder, "a link to a folder that is looked into already")
            return
        seen.add(place)
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: (entry.is_symlink(), entry.name))  # links last: folders first
    except OSError as error:
        yield SeenFile(folder, f"a folder that cannot be opened ({error.strerror})")
        return
    for entry in entries:
        path = Path(folder, entry.name)
        if reason := why_not_by_name(entry.name):
            yield SeenFile(path, reason)
            continue
        try:
            if entry.is_dir():
                yield from _walk(path, seen)
            else:
                yield SeenFile(path, _why_not(entry))
        except OSError as error:  # a link that leads to itself
            broken = "a link that leads in a circle" if error.errno == errno.ELOOP else f"{error.strerror}"
            yield SeenFile(path, broken)


def _why_not(entry: os.DirEntry[str]) -> str | None:
    """Why a file is no photo, by its kind and name."""
    mode = _mode(entry)
    if mode is not None and not stat.S_ISREG(mode):
        return _special(mode)
    return why_not_by_name(entry.name, file=True)


def _mode(entry: os.DirEntry[str]) -> int | None:
    """None where a link leads nowhere: reading it gives the error."""
    try:
        return entry.stat().st_mode
    except FileNotFoundError:
        return None


def _special(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder, not an image",
        stat.S_IFIFO: "a pipe, not a file",
        stat.S_IFSOCK: "a socket, not a file",
    }
    return kinds.get(stat.S_IFMT(mode), "a device, not a file")
