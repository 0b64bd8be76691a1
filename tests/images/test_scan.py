"""Scanning a folder: what is skipped and why, which photos belong together, and what a second scan costs."""

import errno
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import PIL
import pillow_heif
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clip_factory.errors import ImagesError
from clip_factory.images import scan as images
from clip_factory.images.left_out import LeftOut, write_left_out
from clip_factory.images.scan import SCHEMA, ImageRecord, near_duplicates, scan
from clip_factory.runtime import photo_files, preprocessing


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """A picture with shapes of its own, as unlike others as two photos are."""
    chance = np.random.default_rng(seed)
    coarse = Image.fromarray(chance.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def run(root: Path, cache: Path) -> dict[str, dict]:
    """Scan, and give the rows by path."""
    table = scan(root, cache, lambda done, total: None)
    assert table.schema == SCHEMA
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    return {row["path"]: row for row in rows}


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    return folder


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache" / "seen.sqlite"


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The hashes of the bytes that are really decoded, in any order."""
    hashes: list[str] = []
    real = images._properties

    def look(data, region):
        hashes.append(hashlib.sha256(data).hexdigest())
        return real(data, region)

    monkeypatch.setattr(images, "_properties", look)
    return hashes


@pytest.fixture(autouse=True)
def settled(monkeypatch) -> None:
    """Files that were written this moment are taken for old ones."""
    monkeypatch.setattr(images, "SETTLED_SECONDS", -60.0)


# --- rows and reasons


def test_a_row_says_what_a_file_is(root, cache):
    scene(1).save(root / "sub" / "A.JPG", "JPEG")
    row = run(root, cache)["sub/A.JPG"]
    assert (row["width"], row["height"], row["format"]) == (160, 120, "JPEG")
    assert row["bytes"] == (root / "sub" / "A.JPG").stat().st_size
    assert (row["reason"], row["group"]) == (None, 0)
    assert (len(row["sha256"]), len(row["phash"]), len(row["dhash"])) == (64, 16, 16)


def test_what_cannot_be_used_is_listed_with_its_reason_and_the_rest_go_on(root, cache):
    scene(1).save(root / "good.png")
    whole = (root / "good.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "empty.jpg").touch()
    (root / "text.png").write_text("hello")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    rows = run(root, cache)
    assert {path: row["reason"] for path, row in rows.items() if "truncated" not in (row["reason"] or "")} == {
        "good.png": None,
        "empty.jpg": "empty file",
        "text.png": "not an image that can be read",
        "gone.jpg": "cannot be opened (No such file or directory)",
    }
    assert rows["cut.png"]["reason"].startswith("damaged or truncated")
    assert {path for path, row in rows.items() if row["group"] == -1} == {*rows} - {"good.png"}


REASONS = {
    "notes.txt": "not an image, by its name",
    "film.MP4": "a video: its frames are sampled where it lies in a folder, not in an archive",
    "raw.CR2": "a CR2 picture, a kind that is not read: convert it to JPEG or PNG",
    "phone.heic": "a HEIC photo: to read it, pip install 'clip-factory[sources]'",
    "Thumbs.db": "left by the system, not by a person",
    "@eaDir": "left by the system, not by a person",
    "$RECYCLE.BIN": "left by the system, not by a person",
    "sub/#recycle": "left by the system, not by a person",
    ".thumbnails": "hidden: its name begins with a dot",
    "sub/.hidden.png": "hidden: its name begins with a dot",
    "pipe.png": "a pipe, not a file",
    "dir.png": None,  # a folder, which is looked into
}


def test_every_file_is_accounted_for(root, cache, monkeypatch):
    monkeypatch.setattr(photo_files, "heif_is_read", lambda: False)
    scene(1).save(root / "a.png")
    scene(2).save(root / "sub" / "b.jfif", "JPEG")
    scene(3).save(root / "sub" / "c.avif", "AVIF")
    for name in ("notes.txt", "film.MP4", "raw.CR2", "phone.heic", "Thumbs.db", "sub/.hidden.png"):
        (root / name).write_bytes(b"x")
    for name in ("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/x.jpg", "sub/#recycle/x.jpg", ".thumbnails/x.jpg"):
        (root / name).parent.mkdir(parents=True)
        scene(4).save(root / name)
    os.mkfifo(root / "pipe.png")
    (root / "dir.png").mkdir()
    table = scan(root, cache, lambda done, total: None)
    reasons = {row["path"]: row["reason"] for row in table.to_pylist()}
    used = {"a.png": None, "sub/b.jfif": None, "sub/c.avif": None}
    assert reasons == used | {path: reason for path, reason in REASONS.items() if reason}
    assert images.summarize(table) == (
        "14 files seen, 3 are used, 11 are not (images.parquet names each): 4 left by the system, not by a person; "
        "2 hidden; 1 a video; 1 not an image, by its name; 1 a HEIC photo; 1 a pipe, not a file; "
        "1 a CR2 picture, a kind that is not read"
    )


def test_where_everything_is_used_it_is_said_in_short(root, cache):
    scene(1).save(root / "a.png")
    assert images.summarize(scan(root, cache, lambda done, total: None)) == "1 files seen, all are used"


def test_links_to_folders_are_followed_once(root, cache, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    scene(1).save(tmp_path / "elsewhere" / "deep" / "a.png")
    scene(2).save(root / "sub" / "b.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "sub" / "loop").symlink_to(root)
    (root / "again").symlink_to(root / "sub")
    (root / "self.png").symlink_to("self.png")
    rows = run(root, cache)
    seen = "a link to a folder that is looked into already"
    assert {path: row["reason"] for path, row in rows.items()} == {
        "linked/deep/a.png": None,
        "sub/b.png": None,
        "again": seen,
        "sub/loop": seen,
        "self.png": "a link that leads in a circle",
    }


def test_a_folder_that_cannot_be_opened_is_listed(root, cache, monkeypatch):
    scene(1).save(root / "a.png")
    real = os.scandir

    def closed(path):
        if Path(path).name == "sub":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(photo_files.os, "scandir", closed)
    assert run(root, cache)["sub"]["reason"] == "a folder that cannot be opened (Permission denied)"


def test_a_name_that_is_no_text_is_used_and_shown_escaped(root, cache, tmp_path):
    scene(1).save(root / "a.png")
    (root / "a.png").rename(root / os.fsdecode(b"caf\xe9.png"))
    scene(2).save(root / "b.png")
    table = scan(root, cache, lambda done, total: None)
    assert table["path"].to_pylist() == ["b.png", r"caf\xe9.png"]
    assert table["reason"].null_count == 2
    images.write(table, tmp_path / "images.parquet")
    assert images.near_duplicate_groups(root, table["path"].to_pylist()) == [0, 1]


def test_a_file_over_the_limit_is_listed(root, cache, monkeypatch):
    monkeypatch.setattr(photo_files, "MAX_FILE_BYTES", 10)
    scene(1).save(root / "a.png")
    (root / "b.png").write_bytes(b"x")
    with pytest.raises(ImagesError) as told:
        run(root, cache)
    size = (root / "a.png").stat().st_size
    assert (
        str(told.value) == f"{root}: none of 2 files can be read\n  the first: {size:,} bytes are over the limit of 10"
    )


def test_what_an_archive_did_not_give_is_listed_too(root, cache):
    scene(1).save(root / "a.png")
    write_left_out(root, [LeftOut("../b.png", "its path leads out of the archive")])
    assert {path: row["reason"] for path, row in run(root, cache).items()} == {
        "a.png": None,
        "../b.png": "its path leads out of the archive",
    }


def test_progress_counts_to_the_end(root, cache):
    for seed in range(3):
        scene(seed).save(root / f"{seed}.png")
    seen = []
    scan(root, cache, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_images_and_no_readable_images(root, cache):
    (root / "notes.txt").touch()
    with pytest.raises(ImagesError, match="no image files") as told:
        run(root, cache)
    assert told.value.hint == "1 not an image, by its name"
    (root / "a.png").write_text("hello")
    with pytest.raises(ImagesError, match=r"none of 1 files can be read\n.*not an image that can be read"):
        run(root, cache)


def test_images_parquet_holds_the_table(root, cache, tmp_path):
    scene(1).save(root / "a.png")
    table = scan(root, cache, lambda done, total: None)
    images.write(table, tmp_path / "images.parquet")
    assert pq.read_table(tmp_path / "images.parquet").equals(table)


# --- groups


def test_copies_and_near_copies_share_a_group_and_others_do_not(root, cache):
    first = scene(1)
    first.save(root / "first.png")
    (root / "sub" / "copy.png").write_bytes((root / "first.png").read_bytes())
    first.resize((80, 60)).save(root / "resized.png")
    first.save(root / "recompressed.jpg", quality=40)
    first.convert("L").save(root / "gray.png")
    first.point(lambda v: min(255, v * 5 // 4)).save(root / "brighter.png")
    for seed in range(2, 22):
        scene(seed).save(root / f"other{seed:02}.png")
    rows = run(root, cache)
    others = {path for path in rows if path.startswith("other")}
    assert len({rows[path]["group"] for path in {*rows} - others}) == 1
    assert len({rows[path]["group"] for path in others}) == 20
    assert rows["first.png"]["group"] not in {rows[path]["group"] for path in others}


def test_a_burst_is_one_group(root, cache):
    wide = scene(7, 240, 180)
    for frame in range(6):  # a camera that pans by about 1 % of its view each time
        wide.crop((2 * frame, 0, 160 + 2 * frame, 120)).save(root / f"burst{frame}.jpg")
    scene(8).save(root / "other.jpg")
    rows = run(root, cache)
    assert [rows[path]["group"] for path in sorted(rows)] == [0] * 6 + [1]


def record(phash: int, dhash: int = 0) -> ImageRecord:
    return ImageRecord("", "", 0, 0, 0, "", f"{phash:016x}", f"{dhash:016x}", None)


def test_groups_are_transitive_and_numbered_by_first_appearance():
    step = (1 << 8) - 1  # 8 bits: near; two steps are 16: not near by themselves
    chain = [record(0), record(0xFFFF << 40), record(step), record(step << 8 | step), record(0xFFFF << 40)]
    assert near_duplicates(chain) == [0, 1, 0, 0, 1]
    assert near_duplicates([chain[0], chain[3]]) == [0, 1]
    assert near_duplicates([]) == []


def test_both_hashes_must_be_near():
    assert near_duplicates([record(0, 0), record(0, (1 << 16) - 1)]) == [0, 0]
    assert near_duplicates([record(0, 0), record(0, (1 << 17) - 1)]) == [0, 1]
    assert near_duplicates([record(0, 0), record((1 << 10) - 1, 0)]) == [0, 0]
    assert near_duplicates([record(0, 0), record((1 << 11) - 1, 0)]) == [0, 1]


def test_groups_equal_those_of_a_plain_search(monkeypatch):
    """The blocked search against the definition, on hashes that form many chains; blocks of a few rows."""
    monkeypatch.setattr(images, "PAIRS_AT_ONCE", 2000)
    chance = np.random.default_rng(5)
    centers = chance.integers(0, 2**63, (12, 2))
    flips = 1 << chance.integers(0, 63, (300, 2, 7))
    hashes = centers[chance.integers(0, 12, 300)] ^ np.bitwise_xor.reduce(flips, axis=2)
    records = [record(int(p), int(d)) for p, d in hashes]
    groups = list(range(300))
    for i in range(300):
        for j in range(i):
            p, d = ((int(hashes[i, k]) ^ int(hashes[j, k])).bit_count() for k in (0, 1))
            if p <= images.PHASH_BITS and d <= images.DHASH_BITS:
                groups = [groups[i] if g == groups[j] else g for g in groups]
    numbers: dict[int, int] = {}
    assert near_duplicates(records) == [numbers.setdefault(g, len(numbers)) for g in groups]


def test_thousands_of_frames_of_a_fixed_camera_are_grouped_at_once():
    chance = np.random.default_rng(0)
    frames = [record(0xABCDEF ^ 1 << int(bit), 0x123456) for bit in chance.integers(0, 64, 3000)]
    assert set(near_duplicates(frames)) == {0}


# --- memory


def test_a_second_scan_decodes_nothing(root, cache, decoded):
    for seed in range(4):
        scene(seed).save(root / f"{seed}.png")
    (root / "text.png").write_text("hello")
    first = run(root, cache)
    assert len(decoded) == 5
    decoded.clear()
    assert run(root, cache) == first
    assert decoded == []


def test_a_second_scan_does_not_even_read_the_files(root, cache, monkeypatch):
    scene(1).save(root / "a.png")
    first = run(root, cache)
    monkeypatch.setattr(images, "read_file", lambda path: pytest.fail(f"{path} was read"))
    assert run(root, cache) == first


def test_equal_bytes_under_another_name_are_not_decoded_again(root, cache, decoded):
    scene(1).save(root / "a.png")
    run(root, cache)
    (root / "a.png").rename(root / "b.png")
    assert run(root, cache)["b.png"]["width"] == 160
    assert len(decoded) == 1


def test_a_changed_file_is_seen_anew(root, cache):
    scene(1).save(root / "a.bmp")
    before = run(root, cache)["a.bmp"]
    scene(2).save(root / "a.bmp")  # the same number of bytes
    after = run(root, cache)["a.bmp"]
    assert before["bytes"] == after["bytes"]
    assert before["sha256"] != after["sha256"]
    assert before["phash"] != after["phash"]


def test_a_repaired_file_becomes_usable(root, cache):
    scene(1).save(root / "b.png")
    (root / "a.png").write_bytes((root / "b.png").read_bytes()[:500])
    assert run(root, cache)["a.png"]["reason"] is not None
    scene(2).save(root / "a.png")
    assert run(root, cache)["a.png"]["reason"] is None


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "Input/output error"), MemoryError()], ids=["disk", "memory"])
def test_a_failure_of_the_machine_is_not_remembered(root, cache, monkeypatch, failure):
    scene(1).save(root / "a.png")
    scene(2).save(root / "b.png")
    bad = (root / "a.png").read_bytes()
    real_open = preprocessing.Image.open

    def fail_to_read(descriptor, mode):
        if isinstance(failure, OSError) and os.fstat(descriptor).st_size == len(bad):
            raise failure
        return open(descriptor, mode)

    def fail_to_decode(stream, **options):
        if isinstance(failure, MemoryError) and stream.getvalue() == bad:
            raise failure
        return real_open(stream, **options)

    monkeypatch.setattr(photo_files, "open", fail_to_read, raising=False)
    monkeypatch.setattr(preprocessing.Image, "open", fail_to_decode)
    said = "cannot be opened (Input/output error)" if isinstance(failure, OSError) else "there is not enough memory"
    assert said in run(root, cache)["a.png"]["reason"]
    monkeypatch.undo()
    assert run(root, cache)["a.png"]["reason"] is None


def test_a_file_just_written_is_hashed_again_the_next_time(root, cache, monkeypatch):
    """It could change once more within the same tick of the file system's clock."""
    monkeypatch.setattr(images, "SETTLED_SECONDS", 2.0)
    scene(1).save(root / "a.bmp")
    first, times = run(root, cache)["a.bmp"], (root / "a.bmp").stat()
    real = images._stamp
    monkeypatch.setattr(images, "_stamp", lambda status: real(times))
    scene(2).save(root / "a.bmp")
    assert run(root, cache)["a.bmp"]["sha256"] != first["sha256"]


def test_another_decoder_looks_again(root, cache, decoded, monkeypatch):
    scene(1).save(root / "a.png")
    run(root, cache)
    monkeypatch.setattr(images, "decoder", lambda: "another")
    run(root, cache)
    assert len(decoded) == 2
    run(root, cache)
    assert len(decoded) == 2


def test_the_decoder_is_named_with_all_that_decides():
    assert (
        preprocessing.decoder()
        == f"rules {preprocessing.RULES}, pillow {PIL.__version__}, heif {pillow_heif.__version__}"
    )


def test_a_cache_that_another_process_is_making_is_waited_for(cache):
    """SQLite refuses, without waiting, to turn its log on while another connection is about to write."""
    cache.parent.mkdir()
    other = sqlite3.connect(cache, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, other.execute, ["COMMIT"])
    release.start()
    with images._ScanCache(cache) as seen:
        assert seen._query("PRAGMA journal_mode") == ("wal",)
    release.join()
    other.close()


def test_killed_scans_leave_a_cache_that_works(root, cache, decoded):
    for seed in range(12):
        scene(seed).save(root / f"{seed:02}.png")
    program = (
        "import os, sys; from pathlib import Path; from clip_factory.images import scan as s; s.SETTLED_SECONDS = -60\n"
        "s.scan(Path(sys.argv[1]), Path(sys.argv[2]), lambda done, total: done == 6 and os.kill(os.getpid(), 9))"
    )
    command = [sys.executable, "-c", program, str(root), str(cache)]
    both = [subprocess.Popen(command), subprocess.Popen(command)]
    assert [process.wait() for process in both] == [-9, -9]
    rows = run(root, cache)
    assert len(decoded) <= 6, "what was seen before the kill is remembered"
    assert rows == run(root, cache.with_name("fresh.sqlite"))
