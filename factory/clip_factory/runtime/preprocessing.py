"""How pixels are read: the one definition that teacher, student and runtime share.

A photo may be gray, CMYK, palette, 16-bit, transparent or rotated by EXIF; `read_rgb` makes the same RGB of it
everywhere, and `to_square` is the whole of the student's preprocessing outside the ONNX graph.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from contextlib import nullcontext
from typing import TypeAlias

import numpy as np
import PIL
from PIL import ExifTags, Image, UnidentifiedImageError

from clip_factory.runtime.photo_files import (
    EXTENSIONS,
    INSTALL_VIDEO,
    find_images,
    heif_is_read,
    heif_version,
    is_video,
    read_file,
    video_is_read,
)
from clip_factory.runtime.region import Region
from clip_factory.runtime.runtime_errors import ImageError

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray"

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF")
"""As Pillow names them."""
RULES = 2
"""Counts the ways in which pixels were read; higher by one whenever some photo is read otherwise than before, so that
what was computed from its pixels is computed anew."""
MAX_PIXELS = 178_000_000
"""Larger images are refused before decoding: a decompression bomb costs 3 bytes of memory a pixel. The figure lies
just below the one at which Pillow refuses by itself, and above the 108-megapixel mode of telephones."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here

MAX_COST = 1_600_000_000
"""Bytes that decoding a picture may take; see `_cost`."""
LARGE = 256_000_000
"""Bytes of memory from which pictures are decoded one at a time: a thread each would take gigabytes."""
_LARGE_LOCK = threading.Lock()

PNG = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")

MATTE = (255, 255, 255)
"""What shows through transparent pixels; white, as on a page."""

MAX_DATA_ALPHA = 1
"""A picture that is nowhere more opaque than this (of 255) would show nothing: its alpha is data, and is left out."""
MIN_RANGE = 0.5
"""Deep gray whose values span less than this share of the range is stretched ..."""
STRETCH = (0.1, 99.9)
"""... from one to the other of these percentiles, so that a hot pixel or two decide nothing."""
BAND_PIXELS = 4_000_000
BYTES_A_PIXEL = {"1": 5, "L": 5, "P": 10, "RGB": 8, "RGBX": 8, "YCbCr": 8, "LAB": 8, "CMYK": 8, "F": 13, "I": 13}
"""Memory while a pixel is decoded and made RGB: what Pillow keeps of the mode, and of RGB; for others, 10."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright (Exif 3.0, section 4.6.5, tag 274)."""


def read_rgb(source: ImageSource, *, min_side: int | None = None, region: Region | None = None) -> Image.Image:
    """Decode one image to upright RGB, 8 bits a channel.

    Args:
        source: A path, the bytes of a file, a PIL image, or an array: uint8 `(H, W)`, `(H, W, 3)` RGB or
            `(H, W, 4)` RGBA in [0, 255].
        min_side: When the caller will shrink the image, the side in pixels that it needs. JPEG files are then decoded
            at a half, quarter or eighth of their size (a JPEG's own DCT scaling) while both sides stay at least twice
            this, which is several times faster on photos from a camera.
        region: The part that is wanted, instead of the whole image; `min_side` is then that of the part.

    Returns:
        A new PIL image of mode RGB: upright by EXIF, transparency laid on white, deep gray scaled to 8 bits (stretched
        where it spans less than half of its range); of that, the region.

    Raises:
        ImageError: The source is empty, truncated, not an image, of an unknown format, or over `MAX_PIXELS` or
            `MAX_COST`. Where the machine failed and not the picture, an OSError or MemoryError is the cause.
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__
    try:
        image = _open(source)
        needed = min_side if min_side is None or region is None else region.min_side(min_side)
        whole = _decode(image, name, None if image is source else needed)
        return whole if region is None else region.crop(whole)
    except ImageError:
        raise
    except UnidentifiedImageError:
        if is_video(name):
            raise ImageError(f"{name}: a video, not a photo: predict_video answers for it") from None
        raise ImageError(f"{name}: not an image that can be read") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: over the limit of {MAX_PIXELS:,} pixels") from None
    except MemoryError as error:
        raise ImageError(f"{name}: there is not enough memory to read it") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more
        raise ImageError(f"{name}: damaged or truncated ({error or type(error).__name__})") from None


def header(data: bytes) -> tuple[int, int, str]:
    """Width and height in pixels, as stored, and the name of the format, of the bytes of an image that can be read."""
    with _open_bytes(data) as image:
        return image.width, image.height, image.format or ""


def decoder() -> str:
    """What decides how bytes become pixels: these rules, Pillow, and what reads HEIC."""
    return f"rules {RULES}, pillow {PIL.__version__}, heif {heif_version()}"


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """Squash the whole image to a square with Pillow's antialiased bilinear filter.

    The aspect ratio is given up on purpose: nothing at the edges is cropped away, and an object in a corner counts.

    Returns:
        uint8 `(size, size, 3)`, RGB in [0, 255].
    """
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=None))


def load_square(source: ImageSource, size: int, region: Region | None = None) -> np.ndarray:
    """The student's whole preprocessing: decode, make RGB, crop, squash. Training, export and runtime all call this.

    Args:
        source: As `read_rgb` takes it.
        size: Side in pixels.
        region: The part of the image that is squashed; None: the whole.

    Returns:
        uint8 `(size, size, 3)`, RGB in [0, 255].

    Raises:
        ImageError: The image cannot be read.
    """
    return to_square(read_rgb(source, min_side=size, region=region), size)


def _open(source: ImageSource) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or source.shape[2:] not in ((), (3,), (4,)):
            raise ImageError(f"array of {source.dtype} {source.shape}: expected uint8 (H, W), (H, W, 3) or (H, W, 4)")
        return Image.fromarray(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        if len(source) == 0:
            raise ImageError("bytes: empty")
        return _open_bytes(bytes(source))
    if not isinstance(source, (str, os.PathLike)):
        raise ImageError(f"{type(source).__name__}: expected a path, bytes, a PIL image or an array")
    if os.path.isdir(source):
        raise ImageError(f"{source}: {_folder(source)}")
    return _open_bytes(read_file(source))


def _open_bytes(data: bytes) -> Image.Image:
    if data[4:8] == b"ftyp" and heif_is_read():
        import pillow_heif

        pillow_heif.register_heif_opener()
        return Image.open(io.BytesIO(data), formats=("HEIF", "AVIF"))
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except ValueError:  # Pillow gives up on a text or color profile that is huge; the pixels are sound
        if not data.startswith(PNG):
            raise
        return Image.open(io.BytesIO(_without_texts(data)), formats=FORMATS)


def _without_texts(png: bytes) -> bytes:
    """A PNG file without its texts and color profile: those parts alone that say what the pixels are (PNG, 5.6)."""
    kept, place = [PNG], len(PNG)
    while place < len(png):
        end = place + 12 + int.from_bytes(png[place : place + 4])  # length, type, data, checksum
        if png[place + 4 : place + 8] not in TEXTS:
            kept.append(png[place:end])
        place = end
    return b"".join(kept)


def _folder(path: str | os.PathLike[str]) -> str:
    """Why a folder cannot be read as an image."""
    names = os.listdir(path)
    if not names:
        return "an empty folder: no photo in it"
    if find_images(path):
        return "a folder, not an image: name it by itself to ask about all photos in it"
    if any(map(is_video, names)):
        return "a folder with videos and no photo: " + (
            "name each video" if video_is_read() else f"to read them, {INSTALL_VIDEO}"
        )
    return f"a folder without photos ({', '.join(sorted(EXTENSIONS))})"


def _decode(image: Image.Image, name: str, min_side: int | None) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{name}: {image.width} x {image.height} pixels is over the limit of {MAX_PIXELS:,}")
    if image.width * image.height == 0:
        raise ImageError(f"{name}: no pixels")
    whole = image.width * image.height
    if min_side is not None:
        image.draft(image.mode, (2 * min_side, 2 * min_side))
    cost = _cost(image, whole)
    if cost > MAX_COST:
        raise ImageError(f"{name}: decoding it takes {cost:,} bytes, over the limit of {MAX_COST:,}")
    with _LARGE_LOCK if cost > LARGE else nullcontext():
        image.load()
        return _to_rgb(_upright(image))


def _cost(image: Image.Image, whole: int) -> int:
    """Bytes of memory that decoding and `_to_rgb` take, about; `whole`: pixels before a JPEG's draft."""
    bands = image.width * image.height * BYTES_A_PIXEL.get(image.mode, 10)
    return bands + (6 * whole if image.info.get("progressive") else 0)  # all coefficients of a progressive JPEG


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it also rewrites the whole EXIF block, and fails, leaving the photo on its side,
    # when another tag is damaged.
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are sound; an unreadable EXIF block is no reason to lose the photo
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """A new image of mode RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _gray_to_8_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        if np.asarray(alpha).max() <= MAX_DATA_ALPHA:
            return rgba.convert("RGB")
        shown = Image.new("RGB", rgba.size, MATTE)
        shown.paste(rgba, mask=alpha)
        return shown
    return image.convert("RGB")  # of an RGB image a copy: the caller's own stays as it is


def _gray_to_8_bits(image: Image.Image) -> Image.Image:
    """Deep gray to 8 bits a pixel: from 0 to the white of its range, or stretched where it uses little of that.

    A camera's 12 bits in a 16-bit file, or temperatures from 7000 to 8000, would be a single shade of gray otherwise.
    Pillow's own convert() clips deep grays at 255, which turns such photos white.
    """
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    darkest, brightest = float(values.min()), float(values.max())
    if image.mode.startswith("I;16"):
        white = 65535.0
    else:  # 32-bit integers and floats do not say their range: take the smallest usual one that holds the values
        white = next((w for w in (1.0, 255.0, 65535.0) if brightest <= w), brightest)
    black = 0.0
    if darkest < 0 or 0 < brightest - darkest < MIN_RANGE * white:
        low, high = (float(end) for end in np.percentile(values, STRETCH))
        black, white = (low, high) if low < high else (darkest, brightest)
    rows = max(1, BAND_PIXELS // image.width)  # in bands: a whole picture of floats takes four times its memory
    bands = (values[top : top + rows].astype(np.float32) for top in range(0, image.height, rows))
    scale = 255.0 / (white - black)
    scaled = [np.clip(np.rint((band - black) * scale), 0, 255).astype(np.uint8) for band in bands]
    return Image.fromarray(np.concatenate(scaled))
