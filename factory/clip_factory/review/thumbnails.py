"""Small pictures of the run's photos, by content: made in threads, kept on disk, the latest ones in memory too.

Where a region is asked about, a thumbnail shows it alone, and a photo shown large has it marked.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import posixpath
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from PIL import Image

from clip_factory.errors import ImageError
from clip_factory.images.region_picture import marked
from clip_factory.runtime.atomic import write_bytes
from clip_factory.runtime.preprocessing import FORMATS, read_rgb
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.region import Region

SIDE = 224
"""Shorter side of a thumbnail, in pixels: sharp on a tile of 112 on a dense screen. Smaller photos stay as they are."""
MAX_SIDE = 448
ZOOMED = 1600
"""Longer side of a photo shown alone."""
QUALITY = 80
MEMORY = 64_000_000
"""Bytes of thumbnails kept in memory, about 6,000."""
LARGE = 16_000_000
"""Pixels from which photos are decoded one at a time: eight threads with a poster each would take gigabytes."""
END = b"\xff\xd9"
"""How every whole JPEG ends."""


class Thumbnails:
    """Thumbnails and larger views of photos, asked for by sha256."""

    def __init__(self, root: Path, paths: Mapping[str, str], cache: Path, region: Region | None = None) -> None:
        """The folder of the photos, their paths below it by sha256, and the folder to keep thumbnails in.

        `region`: the part of photos that is asked about; thumbnails of another one need another folder.
        """
        self._root, self._paths, self._cache, self._region = root, paths, cache, region
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._lock, self._large = threading.Lock(), threading.Lock()
        self._pool = ThreadPoolExecutor(usable_cpus(), thread_name_prefix="thumbs")
        # Making a file can take longer than making its picture: nobody waits for it.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="thumbs-kept")
        self._waiting = 0
        self._closed = threading.Event()

    async def thumb(self, sha256: str) -> bytes | None:
        """A JPEG of the photo made small; None if its file is gone, changed or unreadable.

        Raises:
            KeyError: The run has no such photo.
        """
        with self._lock:
            held = self._memory.get(sha256)
            if held is not None:
                self._memory.move_to_end(sha256)
                return held
        return await self._in_thread(partial(self._thumb, sha256))

    async def photo(self, sha256: str) -> bytes | None:
        """A JPEG of the photo, large enough to fill a screen; None and KeyError as above."""
        return await self._in_thread(partial(self._made, sha256, None, ZOOMED))

    def warm(self, sha256s: Iterable[str]) -> None:
        """Begin to make the missing thumbnails in this order, one at a time, whenever nobody waits for another."""
        threading.Thread(target=self._warm, args=(list(sha256s),), name="thumbs-ahead", daemon=True).start()

    def close(self) -> None:
        """Stop the threads; what was made is kept first."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown()

    async def _in_thread(self, make: Callable[[], bytes | None]) -> bytes | None:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, make)
        finally:
            self._waiting -= 1

    def _warm(self, sha256s: list[str]) -> None:
        for sha256 in sha256s:
            while self._waiting and not self._closed.wait(0.05):
                pass
            if self._closed.is_set():
                return
            if not self._file(sha256).is_file():
                jpeg = self._made(sha256, SIDE, MAX_SIDE)
                if jpeg is not None:
                    self._keep(sha256, jpeg)

    def _thumb(self, sha256: str) -> bytes | None:
        jpeg = self._kept(sha256)
        if jpeg is None:
            jpeg = self._made(sha256, SIDE, MAX_SIDE)
            if jpeg is not None:
                with suppress(RuntimeError):  # closed meanwhile
                    self._writer.submit(self._keep, sha256, jpeg)
        if jpeg is not None:
            self._remember(sha256, jpeg)
        return jpeg

    def _file(self, sha256: str) -> Path:
        return self._cache / sha256[:2] / f"{sha256}.jpg"

    def _kept(self, sha256: str) -> bytes | None:
        with suppress(OSError):
            jpeg = self._file(sha256).read_bytes()
            if jpeg.endswith(END):
                return jpeg
        return None

    def _keep(self, sha256: str, jpeg: bytes) -> None:
        """Write to the cache; not flushed to disk, since one cut short by a power cut is seen and made anew."""
        file = self._file(sha256)
        with suppress(OSError):  # a full disk costs speed, not the review
            if not file.parent.is_dir():
                file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, jpeg, sync=False)

    def _remember(self, sha256: str, jpeg: bytes) -> None:
        with self._lock:
            self._held += len(jpeg) - len(self._memory.pop(sha256, b""))
            self._memory[sha256] = jpeg
            while self._held > MEMORY:
                self._held -= len(self._memory.popitem(last=False)[1])

    def _made(self, sha256: str, shorter: int | None, longest: int) -> bytes | None:
        path = self._paths[sha256]
        inside = posixpath.normpath(path)
        if inside.startswith(("/", "..")) or "\0" in path:
            return None
        try:
            data = (self._root / inside).read_bytes()
            # a file that was replaced since the run is another photo: an answer about it would be filed under this one
            return self._drawn(data, shorter, longest) if hashlib.sha256(data).hexdigest() == sha256 else None
        except (ImageError, Image.DecompressionBombError, OSError, ValueError):
            return None

    def _drawn(self, data: bytes, shorter: int | None, longest: int) -> bytes:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            pixels = header.width * header.height
        if pixels <= LARGE:
            return self._shrunk(data, shorter, longest)
        with self._large:
            return self._shrunk(data, shorter, longest)

    def _shrunk(self, data: bytes, shorter: int | None, longest: int) -> bytes:
        if shorter is not None or self._region is None:
            return _jpeg(_fitted(read_rgb(data, min_side=shorter or longest, region=self._region), shorter, longest))
        return _jpeg(marked(_fitted(read_rgb(data, min_side=longest), shorter, longest), self._region))


def _fitted(image: Image.Image, shorter: int | None, longest: int) -> Image.Image:
    scale = min(1.0, longest / max(image.size), (shorter or longest) / min(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
