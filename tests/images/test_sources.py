"""Where photos come from: folders, archives that may be hostile or damaged, and URLs that may have changed."""

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from clip_factory.errors import ImagesError
from clip_factory.images import archives, sources, url_lists
from clip_factory.images.left_out import read_left_out
from clip_factory.images.sources import locate
from clip_factory.runtime import find_images
from clip_factory.scenario import Images
from support.loopback import Quiet, files_of, serving


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
    """All files and links below a folder, without the lists of what was left out."""
    files = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    return {name for name in files if not name.endswith(".left-out.json")}


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
    monkeypatch.setattr(archives, "_members", lambda archive: pytest.fail("unpacked again"))
    assert locate(put(tmp_path, zip_of("x.png"), "same.zip"), store) == first
    monkeypatch.undo()
    assert locate(put(tmp_path, zip_of("y.png")), store) != first


def test_many_at_once_unpack_one_archive(tmp_path, store):
    source = put(tmp_path, zip_of(*(f"{i}.png" for i in range(20))))
    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(lambda _: locate(source, store), range(6)))
    assert [len(find_images(folder)) for folder in folders] == [20]
    assert [p.name for p in (store / "archives").iterdir() if p.is_dir()] == [p.name for p in folders]


# --- hostile archives

OUTSIDE = [
    *("../x.png", "a/../../x.png", "../../../../x.png", "/x.png", "//x.png"),
    *("..\\x.png", "a\\..\\..\\x.png", "\\x.png", "\\\\server\\share\\x.png"),
    *("C:\\x.png", "C:x.png", "c:/x.png"),
]


@pytest.mark.parametrize("pack", [zip_of, tar_of], ids=["zip", "tar"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_members_never_land_outside(tmp_path, store, pack, name):
    folder = locate(put(tmp_path, pack(name, "good.png")), store)
    found = everything(tmp_path) - {"photos.bin"}
    assert found == {(folder / "good.png").relative_to(tmp_path).as_posix()}
    assert not Path("/x.png").exists()
    assert [reason for _, reason in read_left_out(folder)] == ["its path leads out of the archive"]


@pytest.mark.parametrize("pack", [zip_of, tar_of], ids=["zip", "tar"])
def test_names_that_not_every_system_can_keep_are_escaped(tmp_path, store, pack):
    names = ["a?.png", 'b"*.png', "c<d>/e|f.png", "g\nh.png", "g\rh.png", "x.png:stream.png"]
    found = everything(locate(put(tmp_path, pack(*names)), store))
    assert found == {"a%3F.png", "b%22%2A.png", "c%3Cd%3E/e%7Cf.png", "g%0Ah.png", "g%0Dh.png", "x.png%3Astream.png"}


@pytest.mark.parametrize("hard", [False, True], ids=["symbolic", "hard"])
def test_links_are_not_followed_and_not_made(tmp_path, store, hard):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(b"secret")
    links = {"door": str(tmp_path / "outside"), "stolen.png": str(tmp_path / "outside" / "secret.png")}
    folder = locate(put(tmp_path, tar_of("door/x.png", links=links, hard=hard)), store)
    assert everything(folder) == {"door/x.png"}
    assert read_left_out(folder) == [("door", "a link"), ("stolen.png", "a link")]
    assert not (folder / "door").is_symlink()
    assert everything(tmp_path / "outside") == {"secret.png"}
    assert (tmp_path / "outside" / "secret.png").read_bytes() == b"secret"


def test_a_member_of_too_many_bytes_is_left_out(tmp_path, store, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", len(png()) - 1)
    folder = locate(put(tmp_path, zip_of("x.png")), store)
    assert everything(folder) == set()
    assert read_left_out(folder) == [("x.png", f"over the limit of {len(png()) - 1:,} bytes")]


def test_bytes_are_counted_as_they_are_written_and_not_as_they_are_claimed(tmp_path, store, monkeypatch):
    monkeypatch.setattr(archives, "FREE_GROWTH", 0)
    monkeypatch.setattr(archives, "MAX_GROWTH", 1)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("x.png", bytes(1_000_000))
    lying = bomb.getvalue().replace((1_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    for content in (bomb.getvalue(), lying):
        assert "photos.bin: " in refusal(put(tmp_path, content), store)
    assert "unpacks to more bytes than photos would" in refusal(put(tmp_path, bomb.getvalue()), store)


def test_an_archive_of_too_many_members_or_of_too_much_time_is_refused(tmp_path, store, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    assert "more than 2 members" in refusal(put(tmp_path, zip_of("a.png", "b.txt", "c.txt")), store)
    monkeypatch.setattr(archives, "MAX_SECONDS", -1.0)
    assert "took over" in refusal(put(tmp_path, zip_of("a.png")), store)


def test_a_sparse_member_is_left_out(tmp_path, store):
    with open(tmp_path / "hole.png", "wb") as file:
        file.truncate(5_000_000)
    subprocess.run(["tar", "--sparse", "-cf", "photos.bin", "hole.png"], cwd=tmp_path, check=True)
    folder = locate(Images(path=str(tmp_path / "photos.bin")), store)
    assert everything(folder) == set()
    assert read_left_out(folder) == [("hole.png", "a sparse file, whose size is not that of its bytes")]


@pytest.mark.parametrize("pack", [zip_of, tar_of], ids=["zip", "tar"])
def test_every_member_becomes_a_file_or_is_listed(tmp_path, store, pack):
    names = ["2024-05-01T12:30:00.jpg", "2024-05-01T12:31:00.jpg", "a.png", "A.png", "a.png", "notes.txt", "b.raw"]
    names += ["@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "x/.thumbnails/a.jpg", "é" * 180 + ".png", "é" * 181 + ".png"]
    folder = locate(put(tmp_path, pack(*names)), store)
    unpacked, left_out = everything(folder), read_left_out(folder)
    assert len(unpacked) + len(left_out) == len(names)
    assert {"2024-05-01T12%3A30%3A00.jpg", "2024-05-01T12%3A31%3A00.jpg", "a.png", "A~2.png", "a~3.png"} <= unpacked
    assert {(folder / name).read_bytes() for name in unpacked} == {png(i) for i in (0, 1, 2, 3, 4, 9, 10)}
    assert [name for name, _ in left_out] == [names[i] for i in (5, 6, 7, 8)]


def test_a_name_in_another_encoding_is_kept_in_a_tar(tmp_path, store):
    folder = locate(put(tmp_path, tar_of(os.fsdecode(b"caf\xe9.jpg"))), store)
    assert [os.fsencode(path.name) for path in folder.iterdir()] == [b"caf\xe9.jpg"]


def test_what_a_killed_process_has_left_is_swept(tmp_path, store):
    old, young = (store / "archives" / f".{name}.x.tmp" for name in ("old", "young"))
    for left in (old, young):
        (left / "deep").mkdir(parents=True)
        (left / "deep" / "a.png").touch()
    long_ago = time.time() - 2 * 3600
    for path in (old / "deep" / "a.png", old / "deep", old):
        os.utime(path, (long_ago, long_ago))
    locate(Images(path=str(tmp_path)), store)
    assert (old.exists(), young.exists()) == (False, True)


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


def test_a_download_has_a_budget(store, memory, monkeypatch):
    memory.pipe("/photos.zip", zip_of("x.png"))
    source = Images(url="memory://photos.zip", sha256="0" * 64)
    for name, value, said in [
        ("MAX_DOWNLOAD_BYTES", 10, "more than 10 bytes"),
        ("MAX_DOWNLOAD_SECONDS", -1.0, "took over -1 s"),
        ("FREE_BYTES", 1 << 60, "no room for it"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(sources, name, value)
            assert said in refusal(source, store)


def test_a_url_keeps_its_secrets(store):
    message = refusal(Images(url="http://me:hunter2@127.0.0.1:1/photos.zip?token=hunter2", sha256="0" * 64), store)
    assert message.startswith("http://127.0.0.1:1/photos.zip: cannot be fetched (")
    assert "hunter2" not in message


def test_the_web_is_asked_through_the_proxy_of_the_environment(store, monkeypatch):
    content, asked = zip_of("x.png"), []

    class Proxy(Quiet):
        def do_GET(self):  # noqa: N802
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

    source = Images(url="http://photos.example/a.zip", sha256=hashlib.sha256(content).hexdigest())
    with serving(Proxy) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        folder = locate(source, store)
    assert everything(folder) == {"x.png"}
    assert set(asked) == {"http://photos.example/a.zip"}


# --- lists of addresses


@pytest.fixture
def site(tmp_path) -> Iterator[str]:
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(png(1))
    (folder / "sub" / "b").write_bytes(png(2))
    with serving(files_of(folder)) as url:
        yield url


def listed(tmp_path, *lines: str) -> Images:
    return put(tmp_path, "\n".join(lines).encode("utf-8-sig"), "photos.txt")


def test_a_list_of_addresses_is_fetched_and_the_dead_ones_are_listed(tmp_path, store, site, monkeypatch):
    monkeypatch.setattr(url_lists, "FIRST_WAIT", 0.0)
    dead = "http://127.0.0.1:1/c.jpg"
    lines = [f"{site}/a.jpg", "", "# a remark", f"{site}/sub/b", f"{site}/gone.jpg", dead, f"{site}/a.jpg"]
    folder = locate(listed(tmp_path, *lines), store)
    assert {file.read_bytes() for file in folder.iterdir()} == {png(1), png(2)}
    assert len(find_images(folder)) == 2
    reasons = dict(read_left_out(folder))
    assert reasons[f"{site}/a.jpg"] == "twice in the list"
    assert reasons[f"{site}/gone.jpg"] == "no such file"
    assert reasons[dead].startswith("cannot be reached")


def test_a_dead_address_is_asked_again_and_a_fetched_one_is_not(tmp_path, store, site):
    source = listed(tmp_path, f"{site}/a.jpg", f"{site}/late.jpg")
    folder = locate(source, store)
    assert [reason for _, reason in read_left_out(folder)] == ["no such file"]
    (tmp_path / "site" / "late.jpg").write_bytes(png(3))
    (tmp_path / "site" / "a.jpg").unlink()
    assert locate(source, store) == folder
    assert {file.read_bytes() for file in folder.iterdir()} == {png(1), png(3)}
    assert read_left_out(folder) == []


def test_a_list_in_which_every_address_is_dead(tmp_path, store, monkeypatch):
    monkeypatch.setattr(url_lists, "FIRST_WAIT", 0.0)
    assert "none of 1 addresses gives a photo" in refusal(listed(tmp_path, "http://127.0.0.1:1/c.jpg"), store)


@pytest.mark.parametrize("line", ["file:///etc/passwd", "s3://bucket/a.jpg", "a.jpg", "/etc/passwd"])
def test_a_list_leads_to_the_web_alone(tmp_path, store, line):
    assert "neither a folder nor a zip or tar archive" in refusal(listed(tmp_path, "http://a/b.jpg", line), store)
