"""How pixels are read: the one definition that teacher, student and runtime share.

A photo may be gray, CMYK, palette, 16-bit, transparent or rotated by EXIF; `read_rgb` makes the same RGB of it
everywhere, and `to_square` is the whole of the student's preprocessing outside the ONNX graph.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from clip_factory.runtime.runtime_errors import ImageError

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | np.ndarray"

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
VIDEOS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts"}
)
"""Extensions of files that an error calls videos where they cannot be read as images."""
MAX_PIXELS = 178_000_000
"""Larger images are refused before decoding: a decompression bomb costs 3 bytes of memory a pixel. The figure lies
just below the one at which Pillow refuses by itself, and above the 108-megapixel mode of telephones."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here

MATTE = (255, 255, 255)
"""What shows through transparent pixels; white, as on a page."""

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


def find_images(root: str | os.PathLike[str]) -> list[Path]:
    """Image files under `root`, by extension in any letter case, recursively, sorted by path.

    Hidden files and folders (a name that starts with a dot) and `__MACOSX` folders are passed over.
    """
    images = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and s != "__MACOSX")
        images += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS
        ]
    return sorted(images)


def read_rgb(source: ImageSource, *, min_side: int | None = None) -> Image.Image:
    """Decode one image to upright RGB, 8 bits a channel.

    Args:
        source: A path, the bytes of a file, a PIL image, or an array: uint8 `(H, W)`, `(H, W, 3)` RGB or
            `(H, W, 4)` RGBA in [0, 255].
        min_side: When the caller will shrink the image, the side in pixels that it needs. JPEG files are then decoded
            at a half, quarter or eighth of their size (a JPEG's own DCT scaling) while both sides stay at least twice
            this, which is several times faster on photos from a camera.

    Returns:
        A new PIL image of mode RGB, EXIF orientation applied, transparency laid on white, 16-bit scaled to 8.

    Raises:
        ImageError: The source is empty, truncated, not an image, of an unknown format, or over `MAX_PIXELS`.
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__
    try:
        image = _open(source)
        try:
            return _decode(image, name, None if image is source else min_side)
        finally:
            if image is not source:
                image.close()
    except ImageError:
        raise
    except UnidentifiedImageError:
        if os.path.splitext(name)[1].lower() in VIDEOS:
            raise ImageError(f"{name}: a video: this version answers for photos; extract frames first") from None
        raise ImageError(f"{name}: not an image that can be read") from None
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: over the limit of {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError and more
        if isinstance(error, OSError) and error.errno is not None:  # from the disk, not from a decoder
            raise ImageError(f"{name}: cannot be opened ({error.strerror})") from error
        raise ImageError(f"{name}: damaged or truncated ({error or type(error).__name__})") from None


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """Squash the whole image to a square with Pillow's antialiased bilinear filter.

    The aspect ratio is given up on purpose: nothing at the edges is cropped away, and an object in a corner counts.

    Returns:
        uint8 `(size, size, 3)`, RGB in [0, 255].
    """
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=None))


def load_square(source: ImageSource, size: int) -> np.ndarray:
    """The student's whole preprocessing: decode, make RGB, squash. Training, export and runtime all call this.

    Returns:
        uint8 `(size, size, 3)`, RGB in [0, 255].

    Raises:
        ImageError: The image cannot be read.
    """
    return to_square(read_rgb(source, min_side=size), size)


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
        return Image.open(io.BytesIO(source), formats=FORMATS)
    if not isinstance(source, (str, os.PathLike)):
        raise ImageError(f"{type(source).__name__}: expected a path, bytes, a PIL image or an array")
    if os.path.isdir(source):
        raise ImageError(f"{source}: {_folder(source)}")
    if os.path.isfile(source) and os.path.getsize(source) == 0:
        raise ImageError(f"{source}: empty file")
    return Image.open(source, formats=FORMATS)


def _folder(path: str | os.PathLike[str]) -> str:
    """Why a folder cannot be read as an image."""
    names = os.listdir(path)
    if not names:
        return "an empty folder: no photo in it"
    if find_images(path):
        return "a folder, not an image: name it by itself to ask about all photos in it"
    if any(os.path.splitext(name)[1].lower() in VIDEOS for name in names):
        return "a folder with videos and no photo: this version answers for photos; extract frames first"
    return f"a folder without photos ({', '.join(sorted(EXTENSIONS))})"


def _decode(image: Image.Image, name: str, min_side: int | None) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{name}: {image.width} x {image.height} pixels is over the limit of {MAX_PIXELS:,}")
    if image.width * image.height == 0:
        raise ImageError(f"{name}: no pixels")
    if min_side is not None:
        image.draft(image.mode, (2 * min_side, 2 * min_side))
    image.load()
    return _to_rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it also rewrites the whole EXIF block, and fails, leaving the photo on its side,
    # when another tag is damaged.
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are sound; an unreadable EXIF block is no reason to lose the photo
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _gray_to_8_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (*MATTE, 255)), rgba).convert("RGB")
    return image.convert("RGB")


def _gray_to_8_bits(image: Image.Image) -> Image.Image:
    # Pillow's own convert() clips deep grays at 255, which turns such photos white.
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0.0, neginf=0.0)
    brightest = values.max(initial=0.0)
    if image.mode.startswith("I;16"):
        white = 65535.0
    else:  # 32-bit integers and floats do not say their range: take the smallest usual one that holds the values
        white = next((w for w in (1.0, 255.0, 65535.0) if brightest <= w), brightest)
    return Image.fromarray(np.clip(np.rint(values * (255.0 / white)), 0, 255).astype(np.uint8))
