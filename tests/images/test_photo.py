"""Photos as the stages read them: the very bytes that were scanned, or an error that names the file."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_factory.errors import ImagesError
from clip_factory.images import photo as photos
from clip_factory.images.photo import CHANGED, Photo, read_photo, read_photo_rgb, read_squares
from clip_factory.images.photo_paths import file_at
from clip_factory.runtime.photo_files import path_text
from clip_factory.runtime.preprocessing import load_square


@pytest.fixture
def three(tmp_path: Path) -> list[Photo]:
    chance = np.random.default_rng(4)
    for number in range(3):
        pixels = chance.integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return [Photo.of(tmp_path / f"{number}.png") for number in range(3)]


def refusal(photo: Photo) -> str:
    """What every way to read a photo says, which is the same."""
    said = []
    for read in (read_photo, read_photo_rgb, lambda one: read_squares([one], 8)):
        with pytest.raises(ImagesError) as told:
            read(photo)
        said.append(str(told.value))
    assert len(set(said)) == 1
    return said[0]


def test_photos_are_decoded_as_the_runtime_decodes_them(three: list[Photo]) -> None:
    found = read_squares(three, 20)
    assert (found.shape, found.dtype) == ((3, 20, 20, 3), np.uint8)
    assert [one.tolist() for one in found] == [load_square(photo.path, 20).tolist() for photo in three]
    assert read_squares([], 20).shape == (0, 20, 20, 3)


def test_many_photos_are_memory_mapped(three: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MEMORY_BYTES", 100)
    mapped = read_squares(three, 16, tmp_path / "tmp" / "x.npy")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, read_squares(three, 16))


def test_a_photo_that_has_changed_is_named_and_never_read(three: list[Photo]) -> None:
    before = three[1].path.stat()
    data = bytearray(three[1].path.read_bytes())
    data[-1] ^= 1  # of the last checksum: the picture still decodes, and size and time stay
    three[1].path.write_bytes(data)
    os.utime(three[1].path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert refusal(three[1]) == f"{three[1].path}: it has changed since it was scanned\n  {CHANGED}"


def test_a_photo_that_is_gone_is_named(three: list[Photo]) -> None:
    three[1].path.unlink()
    where = three[1].path
    assert refusal(three[1]) == f"{where}: no such file: it was there when the photos were scanned\n  {CHANGED}"


def test_a_photo_that_has_become_a_pipe_is_not_waited_for(three: list[Photo]) -> None:
    three[1].path.unlink()
    os.mkfifo(three[1].path)
    assert f"{three[1].path}: a pipe, not a file" in refusal(three[1])


def test_a_photo_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"hello")
    with pytest.raises(ImagesError) as told:
        read_squares([Photo.of(tmp_path / "a.png")], 8)
    assert str(told.value).startswith(f"{tmp_path / 'a.png'}: not an image that can be read: it could be read when")


@pytest.mark.parametrize(
    "name", [b"caf\xe9.jpg", b"a\\b\xff.jpg", b"plain.jpg", b"a\\xe9.jpg", "caf\u00e9.jpg".encode()]
)
def test_every_name_of_a_file_has_a_text_that_leads_back_to_it(tmp_path: Path, name: bytes) -> None:
    file = tmp_path / os.fsdecode(name)
    file.touch()
    text = path_text(file.relative_to(tmp_path))
    assert text.encode().decode() == text, "a table can hold it"
    assert os.fsencode(file_at(tmp_path, text)) == os.fsencode(file)


def test_bytes_that_are_no_text_are_shown_escaped() -> None:
    assert path_text(Path(os.fsdecode(b"caf\xe9/a\\b.jpg"))) == r"caf\xe9/a\\b.jpg"


@pytest.mark.parametrize("text", ["/etc/passwd", "../a.jpg", "a/../../b.jpg", "a\0b.jpg"])
def test_no_path_of_a_table_leads_out_of_the_folder(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImagesError, match="leads out of the folder of the photos"):
        file_at(tmp_path, text)
