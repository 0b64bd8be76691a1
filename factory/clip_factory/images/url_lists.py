"""Lists of addresses of photos, one a line, as image data sets are published: each is fetched once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from clip_factory.images.left_out import LeftOut
from clip_factory.progress import bar
from clip_factory.runtime.atomic import write_bytes
from clip_factory.runtime.photo_files import EXTENSIONS, HEIF_EXTENSIONS
from clip_factory.runtime.releases import transport
from clip_factory.runtime.releases.transport import UnreachableError
from clip_factory.runtime.runtime_errors import RegistryError
from clip_factory.runtime.safe_text import without_secrets

SCHEMES = ("http", "https")
MAX_LIST_BYTES = 1_000_000_000
MAX_PHOTO_BYTES = 100_000_000
TRIES = 3
FIRST_WAIT = 1.0
"""Seconds before the second try; twice as long before each one after."""
WORKERS = 16


def addresses(data: bytes) -> list[str] | None:
    """The addresses in a list: one a line, empty lines and lines after a `#` passed over; None if it is no list."""
    try:
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        return None
    listed = [line for line in lines if line and not line.startswith("#")]
    return listed if listed and all(urlsplit(line).scheme in SCHEMES for line in listed) else None


def fetch_all(urls: Sequence[str], folder: Path) -> list[LeftOut]:
    """Fetch each photo that the folder does not hold yet.

    Returns:
        The addresses that gave nothing now; they are asked again the next time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    distinct = list(dict.fromkeys(urls))
    left_out = [LeftOut(without_secrets(url), "twice in the list") for url in _repeated(urls)]
    with bar("fetching photos") as progress, ThreadPoolExecutor(WORKERS) as pool:
        for done, (url, reason) in enumerate(pool.map(lambda url: (url, _fetch(url, folder)), distinct), start=1):
            progress(done, len(distinct))
            if reason is not None:
                left_out.append(LeftOut(without_secrets(url), reason))
    return left_out


def _repeated(urls: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    return [url for url in urls if url in seen or seen.add(url)]  # type: ignore[func-returns-value]


def _fetch(url: str, folder: Path) -> str | None:
    """Fetch one photo; the reason where it cannot be had."""
    file = folder / _file_name(url)
    if file.is_file():
        return None
    root, _, name = url.rpartition("/")
    for tried in range(1, TRIES + 1):
        try:
            write_bytes(file, transport.read(root, name, MAX_PHOTO_BYTES), sync=False)
            return None
        except UnreachableError as error:
            reason = error.what
            if tried < TRIES:
                time.sleep(FIRST_WAIT * 2 ** (tried - 1))
        except RegistryError as error:
            reason = error.what
            break
    return reason.removeprefix(f"{url}: ")


def _file_name(url: str) -> str:
    """A name that no other address gives: the end of the path as far as it is readable, and a hash."""
    last = PurePosixPath(unquote(urlsplit(url).path)).name
    stem, suffix = os.path.splitext(last)
    suffix = suffix.lower() if suffix.lower() in EXTENSIONS | HEIF_EXTENSIONS else ".jpg"
    readable = "".join(sign for sign in stem if sign.isascii() and (sign.isalnum() or sign in "-_"))[:80]
    return f"{readable or 'photo'}-{hashlib.sha256(url.encode()).hexdigest()[:16]}{suffix}"
