"""Where photos come from: folders, archives that may be hostile or damaged, and URLs that may have changed."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from clip_factory.errors import ImagesError
from clip_factory.images import sources
from clip_factory.images.sources import locate
from clip_factory.runtime import find_images
from clip_factory.scenario import Images


def png(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for number, name in enumerate(names):
            info = zipfile.ZipInfo()
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED  # as it is: ZipInfo(name) would tidy it
            bundle.writestr(info, png(number))
    return buffer.getvalue()


def tar_of(*names: str, mode: str = "w", links: dict[str, str] | None = None, hard: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as bundle:
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, target
            bundle.addfile(link)
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = len(png(number))
            bundle.addfile(info, io.BytesIO(png(number)))
    return buffer.getvalue()


def everything(folder: Path) -> set[str]:
    """All files and links below a folder."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "a" / "b" / "store"


def put(tmp_path: Path, content: bytes, name: str = "photos.bin") -> Images:
    (tmp_path / name).write_bytes(content)
    return Images(path=str(tmp_path / name))


def refusal(source: Images, store: Path) -> str:
    with pytest.raises(ImagesError) as caught:
        locate(source, store)
    assert not store.exists() or everything(store) == set(), "nothing is left on disk"
    return str(caught.value)


# --- folders and archives


def test_a_folder_is_taken_as_it_is(tmp_path, store):
    assert locate(Images(path=str(tmp_path)), store) == tmp_path
    assert not store.exists()


def test_nothing_named_and_nothing_there(tmp_path, store):
    assert "names no images" in refusal(Images(), store)
    assert "no such folder or archive" in refusal(Images(path=str(tmp_path / "none")), store)


@pytest.mark.parametrize(
    "content",
    [
        zip_of("x.png", "deep/er/y.JPG", "notes.txt"),
        tar_of("x.png", "deep/er/y.JPG", "notes.txt"),
        tar_of("x.png", "deep/er/y.JPG", "notes.txt", mode="w:gz"),
        tar_of("x.png", "deep/er/y.JPG", "notes.txt", mode="w:bz2"),
        tar_of("x.png", "deep/er/y.JPG", "notes.txt", mode="w:xz"),
    ],
    ids=["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"],
)
def test_the_images_of_an_archive_are_unpacked(tmp_path, store, content):
    folder = locate(put(tmp_path, content), store)
    assert everything(folder) == {"x.png", "deep/er/y.JPG"}
    assert (folder / "deep/er/y.JPG").read_bytes() == png(1)


def test_an_archive_is_unpacked_once_for_each_content(tmp_path, store, monkeypatch):
    first = locate(put(tmp_path, zip_of("x.png")), store)
    monkeypatch.setattr(sources, "_members", lambda archive: pytest.fail("unpacked again"))
    assert locate(put(tmp_path, zip_of("x.png"), "same.zip"), store) == first
    monkeypatch.undo()
    assert locate(put(tmp_path, zip_of("y.png")), store) != first


def test_many_at_once_unpack_one_archive(tmp_path, store):
    source = put(tmp_path, zip_of(*(f"{i}.png" for i in range(20))))
    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(lambda _: locate(source, store), range(6)))
    assert [len(find_images(folder)) for folder in folders] == [20]
    assert [p.name for p in (store / "archives").iterdir()] == [p.name for p in folders]


# --- hostile archives

OUTSIDE = [
    *("../x.png", "a/../../x.png", "../../../../x.png", "/x.png", "//x.png"),
    *("..\\x.png", "a\\..\\..\\x.png", "\\x.png", "\\\\server\\share\\x.png"),
    *("C:\\x.png", "C:x.png", "c:/x.png", "x.png:stream.png"),
]


@pytest.mark.parametrize("pack", [zip_of, tar_of], ids=["zip", "tar"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_members_never_land_outside(tmp_path, store, pack, name):
    folder = locate(put(tmp_path, pack(name, "good.png")), store)
    found = everything(tmp_path) - {"photos.bin"}
    assert found == {(folder / "good.png").relative_to(tmp_path).as_posix()}
    assert not Path("/x.png").exists()


@pytest.mark.parametrize("pack", [zip_of, tar_of], ids=["zip", "tar"])
def test_names_that_not_every_system_can_keep_are_escaped(tmp_path, store, pack):
    names = ["a?.png", 'b"*.png', "c<d>/e|f.png", "g\nh.png", "g\rh.png"]
    found = everything(locate(put(tmp_path, pack(*names)), store))
    assert found == {"a%3F.png", "b%22%2A.png", "c%3Cd%3E/e%7Cf.png", "g%0Ah.png", "g%0Dh.png"}


@pytest.mark.parametrize("hard", [False, True], ids=["symbolic", "hard"])
def test_links_are_not_followed_and_not_made(tmp_path, store, hard):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(b"secret")
    links = {"door": str(tmp_path / "outside"), "stolen.png": str(tmp_path / "outside" / "secret.png")}
    folder = locate(put(tmp_path, tar_of("door/x.png", links=links, hard=hard)), store)
    assert everything(folder) == {"door/x.png"}
    assert not (folder / "door").is_symlink()
    assert everything(tmp_path / "outside") == {"secret.png"}
    assert (tmp_path / "outside" / "secret.png").read_bytes() == b"secret"


def test_a_member_that_claims_too_much_is_passed_over(tmp_path, store, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", len(png()) - 1)
    assert everything(locate(put(tmp_path, zip_of("x.png")), store)) == set()


# --- damaged archives


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_cut_tar(tmp_path, store, mode):
    whole = tar_of(*(f"{i}.png" for i in range(30)), mode=mode)
    assert "photos.bin" in refusal(put(tmp_path, whole[: len(whole) // 2]), store)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_photos_behind_a_damaged_header_are_not_lost_without_a_word(tmp_path, store, mode):
    plain = bytearray(tar_of("x.png", "y.png", "z.png"))
    plain[plain.index(b"y.png")] ^= 0xFF  # the header's checksum no longer fits
    content = bytes(plain) if mode == "w" else gzip.compress(bytes(plain))
    assert "it breaks off at byte" in refusal(put(tmp_path, content), store)


def test_a_zip_with_altered_content(tmp_path, store):
    damaged = bytearray(zip_of("x.png", "y.png"))
    damaged[60] ^= 0xFF
    assert "damaged or encrypted archive" in refusal(put(tmp_path, bytes(damaged)), store)


def test_an_encrypted_zip(tmp_path, store):
    locked = bytearray(zip_of("x.png"))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the bit that says: encrypted
        locked[locked.index(signature) + flags] |= 1
    assert "password required" in refusal(put(tmp_path, bytes(locked)), store)


def test_not_an_archive(tmp_path, store):
    assert "neither a folder nor a zip or tar archive" in refusal(put(tmp_path, b"plain text"), store)


def test_a_file_where_a_folder_must_be(tmp_path, store):
    assert "cannot be unpacked" in refusal(put(tmp_path, zip_of("a.png", "a.png/b.png")), store)


def test_damage_anywhere_raises_nothing_but_images_error(tmp_path, store):
    chance = np.random.default_rng(0)
    whole = [zip_of("x.png", "y/z.png"), tar_of("x.png"), tar_of("x.png", mode="w:gz"), tar_of("x.png", mode="w:xz")]
    refused = 0
    for turn in range(160):
        damaged = bytearray(whole[turn % len(whole)])
        for place in chance.integers(0, len(damaged), 3):
            damaged[place] = chance.integers(256)
        try:
            locate(put(tmp_path, bytes(damaged)), store)
        except ImagesError:
            refused += 1
    assert refused > 80
    assert not list(store.glob("archives/.*")), "no half-unpacked folder is left"


# --- URLs


@pytest.fixture
def memory():
    """A file system in this process: the edge of the network."""
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


def test_a_file_url(tmp_path, store):
    content = zip_of("x.png")
    put(tmp_path, content, "photos.zip")
    url = (tmp_path / "photos.zip").as_uri()
    folder = locate(Images(url=url, sha256=hashlib.sha256(content).hexdigest()), store)
    assert everything(folder) == {"x.png"}


def test_a_remote_url_is_fetched_once(store, memory):
    content = tar_of("x.png", mode="w:gz")
    memory.pipe("/photos.tgz", content)
    source = Images(url="memory://photos.tgz", sha256=hashlib.sha256(content).hexdigest())
    folder = locate(source, store)
    assert everything(folder) == {"x.png"}
    memory.rm("/photos.tgz")
    assert locate(source, store) == folder


def test_a_wrong_sha256(store, memory):
    memory.pipe("/photos.zip", zip_of("x.png"))
    message = refusal(Images(url="memory://photos.zip", sha256="0" * 64), store)
    assert hashlib.sha256(zip_of("x.png")).hexdigest() in message
    assert "not " + "0" * 64 in message


@pytest.mark.parametrize("url", ["memory://none.zip", "file:///none/at/all.zip", "nosuch://bucket/photos.zip"])
def test_a_url_that_cannot_be_fetched(store, url):
    assert f"{url}: cannot be fetched (" in refusal(Images(url=url, sha256="0" * 64), store)


def test_a_connection_that_breaks_off(store, memory, monkeypatch):
    """Clients raise classes of their own, which are no OSError."""

    class ClientPayloadError(Exception):
        pass

    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() >= 100:
                raise ClientPayloadError("connection lost")
            return super().read(100)

    monkeypatch.setattr(type(memory), "_open", lambda *args, **kwargs: Broken(bytes(1000)))
    message = refusal(Images(url="memory://photos.zip", sha256="0" * 64), store)
    assert message == "memory://photos.zip: cannot be fetched (connection lost)"
