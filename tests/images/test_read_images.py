"""How pixels are read: every kind of image becomes the same upright RGB, and what is no image is refused in words."""

import io
import os
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from clip_factory.runtime import ImageError, find_images, preprocessing, read_rgb, to_square

# Channels that lie far apart, and no symmetry: any swap of channels, flip or turn shows.
Y, X = np.mgrid[0:24, 0:36]
PIXELS = np.stack([7 * X, 10 * Y, 255 - 3 * (X + Y)], axis=2).astype(np.uint8)
RGB = Image.fromarray(PIXELS)
GRAY = RGB.convert("L")


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source, **options) -> np.ndarray:
    image = read_rgb(source, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def difference(a, b) -> float:
    """Mean absolute difference, in levels of 255."""
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean())


def reason(source) -> str:
    with pytest.raises(ImageError) as caught:
        read_rgb(source)
    return str(caught.value)


# --- formats and modes


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 2),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 2),
        ("GIF", {}, 12),  # 256 colors, and a palette chosen by Pillow
    ],
)
def test_formats(kind, options, tolerance):
    assert difference(pixels(encode(RGB, kind, **options)), PIXELS) <= tolerance


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P", "YCbCr"])
def test_modes_without_transparency_look_as_pillow_shows_them(mode):
    image = RGB.convert(mode)
    np.testing.assert_array_equal(pixels(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("1", "PNG"), ("CMYK", "TIFF"), ("P", "PNG"), ("P", "GIF")])
def test_modes_survive_a_file(mode, kind):
    image = RGB.convert(mode)
    np.testing.assert_array_equal(pixels(encode(image, kind)), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_is_not_inverted():
    assert difference(pixels(encode(RGB.convert("CMYK"), "JPEG", quality=95)), PIXELS) < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode):
    image = RGB.convert(mode)
    image.putalpha(Image.fromarray(np.where(X < 18, 0, 255).astype(np.uint8)))
    found = pixels(encode(image))
    assert (found[:, :18] == 255).all()
    np.testing.assert_array_equal(found[:, 18:], np.asarray(image.convert("RGB"))[:, 18:])


def test_half_transparency_is_half_white():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    np.testing.assert_allclose(pixels(encode(image)), 127, atol=1)


def test_palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    found = pixels(encode(image, transparency=0))
    assert found.tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_gray_and_rgb_png_with_a_transparent_color():
    gray = Image.new("L", (2, 1), 10)
    gray.putpixel((1, 0), 200)
    assert pixels(encode(gray, transparency=10))[0, :, 0].tolist() == [255, 200]
    rgb = Image.new("RGB", (2, 1), (9, 8, 7))
    rgb.putpixel((1, 0), (1, 2, 3))
    assert pixels(encode(rgb, transparency=(9, 8, 7)))[0].tolist() == [[255, 255, 255], [1, 2, 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_keeps_its_brightness(kind):
    deep = Image.fromarray(np.asarray(GRAY).astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    for channel in range(3):
        np.testing.assert_array_equal(pixels(encode(deep, kind))[..., channel], np.asarray(GRAY))


def test_16_bit_rgb_png():
    # Pillow cannot write one: three 16-bit channels a pixel, big-endian (PNG specification, section 7.2).
    wide = (PIXELS.astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", 36, 24, 16, 2, 0, 0, 0)
    file = png_of((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    np.testing.assert_array_equal(pixels(file), PIXELS)


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0])
def test_float_and_integer_images_do_not_clip(scale):
    image = Image.fromarray((np.linspace(0, scale, 12, dtype=np.float32)).reshape(3, 4))
    assert pixels(image)[0, 0, 0] == 0
    assert pixels(image)[2, 3, 0] == 255
    assert len(np.unique(pixels(image))) == 12


@pytest.mark.parametrize("opaque", [0, 1])
def test_an_alpha_that_would_show_nothing_is_data(opaque):
    picture = np.dstack([PIXELS, np.where(X < 18, 0, opaque).astype(np.uint8)])
    np.testing.assert_array_equal(pixels(encode(Image.fromarray(picture))), PIXELS)


@pytest.mark.parametrize(
    ("darkest", "brightest"), [(0, 4095), (7000, 8000), (60_000, 65_535), (0, 32_000)], ids=lambda end: f"{end}"
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_gray_that_uses_little_of_its_range_is_stretched(kind, darkest, brightest):
    ramp = np.linspace(darkest, brightest, 240 * 100).round().astype(np.uint16).reshape(100, 240)
    found = pixels(encode(Image.fromarray(ramp), kind))[..., 0].astype(float)
    low, high = np.percentile(ramp, [0.1, 99.9])
    wanted = np.clip((ramp.astype(float) - low) / (high - low), 0, 1) * 255
    assert np.abs(found - wanted).max() <= 0.51


def test_a_hot_pixel_does_not_decide_how_dark_a_picture_is():
    values = np.random.default_rng(0).integers(7000, 8000, (100, 100)).astype(np.uint16)
    values[50, 50] = 20_000
    assert pixels(Image.fromarray(values)).std() > 60


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_gray_of_one_value_or_with_one_speck_has_a_picture(dtype):
    flat = np.full((50, 50), 9000, dtype)
    assert len(np.unique(pixels(Image.fromarray(flat)))) == 1
    flat[0, 0] = 9100
    assert np.unique(pixels(Image.fromarray(flat))).tolist() == [0, 255]


def test_degrees_below_zero_are_not_all_black():
    degrees = np.linspace(-20, 35, 12, dtype=np.float32).reshape(3, 4)
    assert len(np.unique(pixels(Image.fromarray(degrees)))) == 12


def test_gray_of_several_bands_is_one_picture(monkeypatch):
    values = np.random.default_rng(0).integers(0, 65536, (37, 20)).astype(np.uint16)
    whole = pixels(Image.fromarray(values))
    monkeypatch.setattr(preprocessing, "BAND_PIXELS", 60)
    np.testing.assert_array_equal(pixels(Image.fromarray(values)), whole)


def test_float_images_with_holes():
    assert pixels(Image.fromarray(np.array([[np.nan, np.inf, 1.0]], np.float32)))[0, :, 0].tolist() == [0, 0, 255]


def test_heic_photos_are_read(tmp_path):
    stored = pillow_heif.from_pillow(RGB)
    stored.save(tmp_path / "a.heic", quality=-1)  # without loss
    assert difference(pixels(tmp_path / "a.heic"), PIXELS) < 4, "color is kept at half the size"
    assert find_images(tmp_path) == [tmp_path / "a.heic"]


def test_avif_photos_are_read(tmp_path):
    RGB.save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    assert difference(pixels(tmp_path / "a.avif"), PIXELS) < 2


def test_animated_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "lime", "blue")]
    file = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(file)).n_frames == 3
    assert (pixels(file) == (255, 0, 0)).all()


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_upright_image(orientation):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = RGB.transpose(undo[orientation]) if orientation in undo else RGB
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encode(stored, exif=exif)), PIXELS)
    assert difference(pixels(encode(stored, "JPEG", quality=95, subsampling=0, exif=exif)), PIXELS) < 2


def test_orientation_counts_even_when_another_exif_tag_is_damaged():
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x0100, 2, 5, 5)  # width, as text
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0)
    assert read_rgb(encode(RGB, "JPEG", exif=exif)).size == (24, 36)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_unreadable_exif_does_not_lose_the_photo(exif):
    assert read_rgb(encode(RGB, "JPEG", exif=exif)).size == RGB.size


# --- sources


def test_the_same_pixels_from_path_bytes_pil_and_array(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(encode(RGB))
    for source in (file, str(file), file.read_bytes(), bytearray(file.read_bytes()), RGB, PIXELS):
        np.testing.assert_array_equal(pixels(source), PIXELS)


def test_gray_and_rgba_arrays():
    gray = np.asarray(GRAY)
    np.testing.assert_array_equal(pixels(gray), np.repeat(gray[..., None], 3, axis=2))
    clear = np.dstack([PIXELS, np.where(X < 18, 0, 255).astype(np.uint8)])
    assert (pixels(clear)[:, :18] == 255).all()
    np.testing.assert_array_equal(pixels(clear)[:, 18:], PIXELS[:, 18:])


def test_the_callers_image_is_left_alone():
    lazy = Image.open(io.BytesIO(encode(Image.new("RGB", (800, 600), "red"), "JPEG")))
    read_rgb(lazy, min_side=32).putpixel((5, 5), (0, 0, 0))
    assert lazy.size == (800, 600)
    assert lazy.getpixel((5, 5)) == (254, 0, 0)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros((4, 4, 3), np.float32), "array of float32 (4, 4, 3): expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), "array of uint8 (4, 4, 2): expected uint8"),
        (np.zeros((1, 4, 4, 3), np.uint8), "array of uint8 (1, 4, 4, 3): expected uint8"),
        (None, "NoneType: expected a path, bytes, a PIL image or an array"),
    ],
)
def test_wrong_sources(array, expected):
    assert expected in reason(array)


# --- what cannot be read


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_zero_bytes(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert reason(tmp_path / "a.jpg") == f"{tmp_path / 'a.jpg'}: empty file"
    assert reason(b"") == "bytes: empty"


def test_text_as_png(tmp_path):
    (tmp_path / "a.png").write_text("this is no image")
    assert reason(tmp_path / "a.png").endswith("a.png: not an image that can be read")


def test_formats_outside_the_list_are_refused():
    assert "not an image" in reason(encode(RGB, "PPM"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    file = encode(noise, kind)
    assert "damaged or truncated" in reason(file[: len(file) * 2 // 3]) or kind == "WEBP"
    reason(file[: len(file) // 2])


def test_what_is_no_file_of_a_photo_is_told_what_it_is(tmp_path):
    for name in ("void", "films", "texts", "photos"):
        (tmp_path / name).mkdir()
    (tmp_path / "films" / "a.MP4").write_bytes(b"\0\0\0\x18ftypmp42")
    (tmp_path / "texts" / "a.txt").write_text("a")
    RGB.save(tmp_path / "photos" / "a.jpg")
    assert reason(tmp_path / "none.png").endswith("none.png: no such file")
    assert reason(tmp_path / "void").endswith("void: an empty folder: no photo in it")
    assert "films: a folder with videos and no photo" in reason(tmp_path / "films")
    assert "texts: a folder without photos (.avif, .bmp, .dib, .gif," in reason(tmp_path / "texts")
    assert "photos: a folder, not an image: name it by itself" in reason(tmp_path / "photos")
    film = reason(tmp_path / "films" / "a.MP4")
    assert film.endswith("a.MP4: a video, not a photo: predict_video answers for it")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [60_000, 13_350])  # beyond Pillow's own limit, and between ours and Pillow's
def test_a_bomb_is_refused_before_it_is_decoded(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = png_of((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b""))
    assert "over the limit of 178,000,000" in reason(bomb)


def chunks(file: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG with further chunks behind its header, which takes the first 33 bytes."""
    return file[:33] + png_of(*extra)[8:] + file[33:]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"note\0\0" + zlib.compress(bytes(3_000_000))),
        (b"iTXt", b"note\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(90_000_000))),
        (b"tEXt", b"note\0" + b"x" * 80_000_000),
    ],
    ids=lambda chunk: chunk[0].decode(),
)
def test_texts_and_profiles_of_any_size_do_not_lose_the_photo(chunk):
    np.testing.assert_array_equal(pixels(chunks(encode(RGB), chunk)), PIXELS)


def test_a_jpeg_with_a_large_profile_and_a_large_comment():
    file = encode(RGB, "JPEG", quality=95, subsampling=0, icc_profile=bytes(3_000_000), comment=bytes(60_000))
    assert difference(pixels(file), PIXELS) < 2


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_is_refused_by_what_decoding_it_costs():
    side = 12_900  # 166 million pixels: within the limit of pixels
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    bomb = png_of((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b""))
    assert f"decoding it takes {10 * side * side:,} bytes, over the limit of 1,600,000,000" in reason(bomb)


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(preprocessing, "LARGE", 1000)
    at_once, most = [], []
    real = preprocessing._to_rgb

    def slow(image):
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()
        return real(image)

    monkeypatch.setattr(preprocessing, "_to_rgb", slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read_rgb, [encode(RGB)] * 4))
    assert max(most) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_line_of_pixels_is_a_picture(kind):
    line = Image.new("RGB", (60_000, 1), "red")
    assert to_square(read_rgb(encode(line, kind), min_side=8), 8).shape == (8, 8, 3)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert reason(tmp_path / "a.png").endswith("a.png: a pipe, not a file")


def test_damaged_bytes_raise_nothing_but_image_errors():
    chance = np.random.default_rng(0)
    files = [encode(RGB, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    refused = 0
    for turn in range(400):
        damaged = bytearray(files[turn % len(files)])
        for place in chance.integers(30, len(damaged), 5):  # behind the width and height
            damaged[place] = chance.integers(256)
        try:
            assert read_rgb(bytes(damaged), min_side=8).mode == "RGB"
        except ImageError:
            refused += 1
    assert refused > 100


# --- squares


def photo_like(width: int, height: int) -> Image.Image:
    """Smooth shapes and fine texture, as in a photo."""
    chance = np.random.default_rng(3)
    coarse = Image.fromarray(chance.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray(np.clip(smooth + chance.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8))


def test_to_square_squashes_the_whole_image():
    square = to_square(RGB, 8)
    assert (square.shape, square.dtype) == ((8, 8, 3), np.uint8)
    assert square[0, 0, 0] < square[0, -1, 0]  # red grows to the right
    assert square[0, 0, 1] < square[-1, 0, 1]  # green grows downwards


@pytest.mark.parametrize("size", [(1600, 1200), (1000, 2000), (700, 500)])
def test_draft_decoding_gives_nearly_the_same_square(size):
    file = encode(photo_like(*size), "JPEG", quality=90)
    drafted = read_rgb(file, min_side=64)
    assert min(drafted.size) >= 128
    assert drafted.width < size[0]
    apart = np.abs(to_square(drafted, 64).astype(int) - to_square(read_rgb(file), 64).astype(int))
    assert apart.mean() < 1.0, "levels of 255"
    assert apart.max() <= 12


def test_draft_decoding_leaves_other_formats_and_small_jpegs_alone():
    assert read_rgb(encode(photo_like(800, 600), "PNG"), min_side=32).size == (800, 600)
    assert read_rgb(encode(photo_like(100, 90), "JPEG"), min_side=64).size == (100, 90)


# --- finding


def test_find_images(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.WebP", "sub/deep/d.tiff", "no.txt", ".hidden.png", ".git/e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "f.png").touch()
    found = [file.relative_to(tmp_path).as_posix() for file in find_images(tmp_path)]
    assert found == ["a.png", "b.JPG", "sub/c.WebP", "sub/deep/d.tiff"]
