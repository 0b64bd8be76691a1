"""Where photos come from: a folder, an archive that is unpacked once, a URL that is downloaded once and checked.

The frames of videos, alone or in a folder, are sampled once, and stand among the photos.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import IO, Any

import fsspec

from clip_factory import scenario
from clip_factory.errors import ImagesError
from clip_factory.images.archives import DAMAGED, UNPACKING, unpack
from clip_factory.images.left_out import write_left_out
from clip_factory.images.url_lists import MAX_LIST_BYTES, addresses, fetch_all
from clip_factory.images.videos import KEPT, gather
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.atomic import atomic, atomic_folder, sweep
from clip_factory.runtime.photo_files import is_video
from clip_factory.runtime.safe_text import without_secrets

MAX_DOWNLOAD_BYTES = 500_000_000_000
MAX_DOWNLOAD_SECONDS = 24 * 3600.0
FREE_BYTES = 200_000_000
"""What is left on the disk when a download is stopped."""
CHUNK = 1 << 20


def locate(source: scenario.Images, store: Path) -> Path:
    """The folder that holds the images; archives, URLs and videos are unpacked below `store`, once for each content.

    Raises:
        ImagesError: Nothing is named, nothing is there, or the bytes differ from the sha256 given.
    """
    for kept in ("downloads", "archives", "lists", *KEPT):
        sweep(store / kept)
    if source.url is not None:
        downloaded = _downloaded(source.url, source.sha256 or "", store)
        return _listed(downloaded, store) or _unpacked(downloaded, store)
    if source.path is None:
        raise ImagesError("the scenario names no images", hint="add `images: {path: photos/}` or pass --images DIR")
    path = Path(source.path)
    if path.is_dir() or (path.is_file() and is_video(path)):
        return gather(path, source.every, store)
    if path.is_file():
        return _listed(path, store) or _unpacked(path, store)
    raise ImagesError(f"{path}: no such folder or archive", hint="check the path")


def _downloaded(url: str, sha256: str, store: Path) -> Path:
    target, named = store / "downloads" / sha256, without_secrets(url)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic(target) as temporary:
            with fsspec.open(url, "rb", **_options(url)) as remote, open(temporary, "wb") as local:
                _copy(remote, local, named, temporary.parent)
            digest = sha256_file(temporary)
            if digest != sha256:
                raise ImagesError(f"{named}: sha256 is {digest}, not {sha256}", hint="the file has changed: check it")
    except ImagesError:
        raise
    except Exception as error:  # each file system behind fsspec has its own
        reason = str(error).replace(url, named) or type(error).__name__
        raise ImagesError(f"{named}: cannot be fetched ({reason})") from None
    return target


def _options(url: str) -> dict[str, Any]:
    """What fsspec is told beside the address: on the web, to go by the proxy that the environment names."""
    return {"client_kwargs": {"trust_env": True}} if url.startswith(("http://", "https://")) else {}


def _copy(remote: IO[bytes], local: IO[bytes], named: str, folder: Path) -> None:
    """Copy what comes, as long as it is no more, and takes no longer, than photos may."""
    left, deadline = MAX_DOWNLOAD_BYTES, time.monotonic() + MAX_DOWNLOAD_SECONDS
    while chunk := remote.read(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise ImagesError(f"{named}: more than {MAX_DOWNLOAD_BYTES:,} bytes", hint="name a smaller archive")
        if time.monotonic() > deadline:
            raise ImagesError(f"{named}: took over {MAX_DOWNLOAD_SECONDS:,.0f} s", hint="fetch it yourself")
        if shutil.disk_usage(folder).free < FREE_BYTES:
            raise ImagesError(f"{named}: no room for it in {folder}", hint="free some space, or set FACTORY_STORE")
        local.write(chunk)


def _listed(file: Path, store: Path) -> Path | None:
    """The folder of the photos that a list of addresses names; None if the file is none."""
    if file.stat().st_size > MAX_LIST_BYTES or (urls := addresses(file.read_bytes())) is None:
        return None
    folder = store / "lists" / sha256_file(file)
    left_out = fetch_all(urls, folder)
    write_left_out(folder, left_out)
    if not any(folder.iterdir()):
        raise ImagesError(
            f"{file}: none of {len(urls):,} addresses gives a photo", hint=f"the first: {left_out[0].reason}"
        )
    return folder


def _unpacked(archive: Path, store: Path) -> Path:
    """Unpack the images of a zip or tar once; nothing can land outside the new folder."""
    target = store / "archives" / f"{sha256_file(archive)}-{UNPACKING}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_folder(target) as temporary:
            left_out = unpack(archive, temporary)
            write_left_out(target, left_out)
    except ImagesError as error:
        what = error.what.removeprefix(f"{archive}: ")
        raise ImagesError(f"{archive}: {what}", hint=error.hint) from None
    except DAMAGED as error:
        raise ImagesError(f"{archive}: damaged or encrypted archive ({error})") from None
    except OSError as error:
        if not target.is_dir():  # else another process was quicker, with the same content
            raise ImagesError(f"{archive}: cannot be unpacked ({error})", hint=f"is there room in {store}?") from None
    return target
