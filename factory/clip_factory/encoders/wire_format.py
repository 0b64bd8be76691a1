"""What an encoder's client and its server send each other: pixels as they are, vectors as they are, and who it is.

A photo travels as decoded RGB, so the server opens no file and decodes nothing: both sides see the same pixels, and a
body is as long as its header says or it is refused. Whole numbers of 32 bits and floats are little-endian.

    photos:   count, then width and height of each, then the pixels of each: RGB, 8 bits, row after row
    vectors:  float32 (N, D), row after row
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clip_factory.runtime.preprocessing import RULES

if TYPE_CHECKING:
    from clip_factory.encoders.encoder import Encoder

PROTOCOL = 1
"""Counts the ways in which both sides spoke; clients and servers of different numbers do not understand each other."""
KEY_HEADER = "X-Encoder-Key"
"""Names the encoder in each answer, so that no vector of another one is ever kept for its own."""
SHAPE_HEADER = "X-Vectors-Shape"
"""N,D of the vectors."""
BINARY = "application/octet-stream"
TOKEN_VARIABLE = "FACTORY_ENCODER_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable that holds the token, for the server and for its clients."""
IMAGES, TEXTS, WORDS, ENCODER = "/v1/embed/images", "/v1/embed/texts", "/v1/check/texts", "/v1/encoder"
"""Where the server answers."""
BYTES_A_PIXEL = 3
BODY_BYTES, HEADER_BYTES = 16_000_000, 1_000
"""Of a body with photos: what clients send at once where one photo alone has no more, and what comes before pixels."""
MAX_SIDE = 65_536
"""Of vectors, in numbers, and of what the image tower sees, in pixels."""


class WireError(ValueError):
    """What came is not what the other side should send; says what is wrong."""


class TooManyPixelsError(WireError):
    """A photo is larger than the server allows."""


@dataclass(frozen=True)
class Limits:
    """How much a server allows in one request."""

    photos: int
    texts: int
    pixels: int
    """Of one photo."""
    bytes: int
    """Of a body."""
    seconds: int
    """That a request waits for its answer at most."""

    @classmethod
    def of_pixels(cls, pixels: int, seconds: int, photos: int = 64, texts: int = 256) -> Limits:
        """Limits by the pixels of the largest photo: its body fits, and so does one with many that are small."""
        return cls(photos, texts, pixels, max(BODY_BYTES, BYTES_A_PIXEL * pixels) + HEADER_BYTES, seconds)


@dataclass(frozen=True)
class EncoderFacts:
    """What a server says of its encoder, and what it allows."""

    name: str
    key: str
    license: str
    dim: int
    image_size: int
    logit_scale: float
    logit_bias: float
    about: Mapping[str, Any]
    limits: Limits
    protocol: int = PROTOCOL
    rules: int = RULES
    """How pixels are read; part of what the key stands for, and done by the client."""

    @classmethod
    def of(cls, encoder: Encoder, limits: Limits) -> EncoderFacts:
        """Those of an encoder that is loaded."""
        return cls(
            name=encoder.name,
            key=encoder.key,
            license=encoder.license,
            dim=int(encoder.dim),
            image_size=int(encoder.image_size),
            logit_scale=float(encoder.logit_scale),
            logit_bias=float(encoder.logit_bias),
            about=dict(encoder.about),
            limits=limits,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Any) -> EncoderFacts:
        """What `to_json` made, in another process.

        Raises:
            WireError: It is something else, or of another version.
        """
        fields = tree if isinstance(tree, dict) else {}
        versions = {"protocol": PROTOCOL, "rules": RULES}
        for name, own in versions.items():
            if fields.get(name) != own:
                raise WireError(f"its {name} is {fields.get(name)!r:.20}, and {own} is spoken here")
        limits, about = fields.get("limits"), fields.get("about")
        if not isinstance(limits, dict) or not isinstance(about, dict):
            raise WireError("its limits or what it is about are missing")
        allowed = {name: _size(limits, name, 2**53) for name in ("photos", "texts", "pixels", "bytes", "seconds")}
        names = {name: _text(fields, name) for name in ("name", "key", "license")}
        dim = _size(fields, "dim", MAX_SIDE)
        return cls(
            name=names["name"],
            key=names["key"],
            license=names["license"],
            dim=dim,
            image_size=_size(fields, "image_size", MAX_SIDE),
            logit_scale=_number(fields, "logit_scale"),
            logit_bias=_number(fields, "logit_bias"),
            about={**about, **names, "dim": dim},
            limits=Limits(**allowed),
        )


def pack_photos(images: Sequence[Image.Image]) -> bytes:
    """N RGB images as a body."""
    sizes = [side for image in images for side in image.size]
    return b"".join([struct.pack(f"<{1 + len(sizes)}I", len(images), *sizes), *(image.tobytes() for image in images)])


def packed_bytes(image: Image.Image) -> int:
    """Bytes that an image takes in a body."""
    return 8 + image.width * image.height * BYTES_A_PIXEL


def unpack_photos(body: memoryview, limits: Limits) -> list[tuple[tuple[int, int], memoryview]]:
    """Width and height, and the pixels, of each photo of a body; nothing is copied.

    Raises:
        TooManyPixelsError: A photo is over the limit; the message names it by its place.
        WireError: The body is not as long as it says, or says something that is not allowed.
    """
    count = struct.unpack_from("<I", body)[0] if len(body) >= 4 else 0
    if not 0 < count <= limits.photos:
        raise WireError(f"{count:,} photos: a body holds from 1 to {limits.photos}")
    place = 4 + 8 * count
    if len(body) < place:
        raise WireError("the body ends before the sizes of its photos")
    sides = struct.unpack_from(f"<{2 * count}I", body, 4)
    sizes = list(zip(sides[::2], sides[1::2], strict=True))
    for index, (width, height) in enumerate(sizes):
        if width * height == 0:
            raise WireError(f"photo {index} has no pixels")
        if width * height > limits.pixels:
            what = f"photo {index} is {width:,} x {height:,}, over the limit of {limits.pixels:,} pixels"
            raise TooManyPixelsError(what)
    whole = place + sum(width * height for width, height in sizes) * BYTES_A_PIXEL
    if whole != len(body):
        raise WireError(f"the body has {len(body):,} bytes; by the sizes of its photos it should have {whole:,}")
    photos = []
    for size in sizes:
        end = place + size[0] * size[1] * BYTES_A_PIXEL
        photos.append((size, body[place:end]))
        place = end
    return photos


def pack_vectors(vectors: np.ndarray) -> bytes:
    """Float32 `(N, D)` as a body."""
    return np.ascontiguousarray(vectors, "<f4").tobytes()


def unpack_vectors(body: bytes, count: int, dim: int) -> np.ndarray:
    """Float32 `(count, dim)` of a body.

    Raises:
        WireError: It has another length, or its rows are no vectors of length 1.
    """
    if len(body) != 4 * count * dim:
        raise WireError(f"{len(body):,} bytes for {count} vectors of {dim} numbers")
    vectors = np.frombuffer(body, "<f4").reshape(count, dim).astype(np.float32)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not (np.abs(lengths - 1) < 0.01).all():  # a NaN is no less than anything
        raise WireError("vectors whose length is not 1")
    return vectors


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 500:
        raise WireError(f"its {name} is no text")
    return value


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WireError(f"its {name} is no number")
    return float(value)


def _size(fields: Mapping[str, Any], name: str, most: int) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise WireError(f"its {name} is not a number from 1 to {most:,}")
    return value
