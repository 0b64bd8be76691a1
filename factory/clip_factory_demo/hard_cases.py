"""Files as they lie about in real folders: broken, doubled, rotated, in odd color modes. Each writer makes one kind.

A writer takes the folder, the number of the first file and a generator. It returns (file name, class) for every file
that a reader should be able to open; the broken ones are written too but not returned.
"""

import io
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from clip_factory_demo.staging import KINDS, burst, photograph

Truth = list[tuple[str, str]]
ORIENTATION = 0x0112
"""The EXIF tag that says which way up a picture was held (Exif 2.32, section 4.6.4)."""


def _picture(rng: Generator) -> tuple[Image.Image, str]:
    """A photograph of a random class, and the class."""
    name = list(KINDS)[rng.integers(len(KINDS))]
    return Image.fromarray(photograph(name, rng)), name


def truncated_jpeg(folder: Path, number: int, rng: Generator) -> Truth:
    """A JPEG whose second half is missing, as after a broken download."""
    whole = io.BytesIO()
    _picture(rng)[0].save(whole, "JPEG", quality=85)
    (folder / f"img_{number:04d}.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    return []


def empty_file(folder: Path, number: int, rng: Generator) -> Truth:
    """A file of no bytes."""
    (folder / f"img_{number:04d}.jpg").write_bytes(b"")
    return []


def text_as_png(folder: Path, number: int, rng: Generator) -> Truth:
    """A text that claims to be a picture."""
    (folder / f"img_{number:04d}.png").write_text("This is a note, whatever its name says.\n", encoding="utf-8")
    return []


def exact_copy(folder: Path, number: int, rng: Generator) -> Truth:
    """The same bytes under two names."""
    picture, name = _picture(rng)
    files = [f"img_{number:04d}.jpg", f"img_{number + 1:04d}.jpg"]
    picture.save(folder / files[0], quality=85)
    (folder / files[1]).write_bytes((folder / files[0]).read_bytes())
    return [(file, name) for file in files]


def near_duplicates(folder: Path, number: int, rng: Generator) -> Truth:
    """Three frames of one burst."""
    name = list(KINDS)[rng.integers(len(KINDS))]
    truth = []
    for offset, frame in enumerate(burst(name, rng, 3)):
        file = f"img_{number + offset:04d}.jpg"
        Image.fromarray(frame).save(folder / file, quality=85)
        truth.append((file, name))
    return truth


def gray_16_bit(folder: Path, number: int, rng: Generator) -> Truth:
    """A gray PNG of 16 bits a pixel, as scanners and machine-vision cameras write."""
    picture, name = _picture(rng)
    gray = np.asarray(picture.convert("L"), np.uint16) * 257
    Image.fromarray(gray).save(folder / f"img_{number:04d}.png")
    return [(f"img_{number:04d}.png", name)]


def cmyk_jpeg(folder: Path, number: int, rng: Generator) -> Truth:
    """A JPEG in the four inks of a printing press."""
    picture, name = _picture(rng)
    picture.convert("CMYK").save(folder / f"img_{number:04d}.jpg", quality=88)
    return [(f"img_{number:04d}.jpg", name)]


def rotated_by_exif(folder: Path, number: int, rng: Generator) -> Truth:
    """A picture stored on its side, with the EXIF mark that turns it upright."""
    picture, name = _picture(rng)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / f"img_{number:04d}.jpg", quality=85, exif=exif)
    return [(f"img_{number:04d}.jpg", name)]


def transparent_png(folder: Path, number: int, rng: Generator) -> Truth:
    """A PNG whose corners fade to nothing."""
    picture, name = _picture(rng)
    y, x = np.mgrid[-1 : 1 : picture.height * 1j, -1 : 1 : picture.width * 1j]
    alpha = np.clip(2.6 - 1.7 * np.hypot(x, y), 0, 1) * 255
    picture.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    picture.save(folder / f"img_{number:04d}.png")
    return [(f"img_{number:04d}.png", name)]


def upper_case_name(folder: Path, number: int, rng: Generator) -> Truth:
    """A name as cameras give it."""
    picture, name = _picture(rng)
    picture.save(folder / f"IMG_{number:04d}.JPG", "JPEG", quality=85)
    return [(f"IMG_{number:04d}.JPG", name)]


WRITERS = {
    truncated_jpeg: 1,
    empty_file: 1,
    text_as_png: 1,
    exact_copy: 2,
    near_duplicates: 3,
    gray_16_bit: 1,
    cmyk_jpeg: 1,
    rotated_by_exif: 1,
    transparent_png: 1,
    upper_case_name: 1,
}
"""Every writer and the number of files it makes."""
