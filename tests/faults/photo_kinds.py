"""Bad photos, names, archives and tables of labels."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pyarrow as pa
from PIL import Image

from clip_factory.gold.gold_csv import read_gold
from clip_factory.images import scan as images
from clip_factory.images.left_out import read_left_out
from clip_factory.images.photo_paths import file_at
from clip_factory.images.sources import locate
from clip_factory.runtime import Model
from clip_factory.scenario import Images
from faults.trials import Trial, command

KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")


def picture(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size)


def encoded(kind: str, seed: int = 0) -> bytes:
    stream = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(picture(seed)).save(stream, quality=80)
    else:
        picture(seed).save(stream, kind)
    return stream.getvalue()


def scanned(root: Path) -> pa.Table:
    return images.scan(root, root.parent / f"{root.name}.sqlite", lambda done, total: None)


def damaged(data: bytes, chance: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    yield "whole", data
    yield "empty", b""
    for share in (0.1, 0.5, 0.95):
        yield f"cut at {share:.0%}", data[: int(len(data) * share)]
    for places in (1, 5, 50):
        changed = bytearray(data)
        for place in chance.integers(0, len(data), places):
            changed[place] = chance.integers(256)
        yield f"{places} bytes changed", bytes(changed)
    yield "text", b"this is no picture at all"
    yield "zeros", bytes(len(data))


def pictures(folder: Path, model: Model) -> Iterator[Trial]:
    """Image files of every kind, whole and damaged, under the extension of their kind and under another one."""
    chance = np.random.default_rng(1)
    number = itertools.count()
    for kind, suffix in itertools.product(KINDS, (".jpg", ".png")):
        for name, data in damaged(encoded(kind), chance):
            root = folder / str(next(number))
            root.mkdir()
            picture(99).save(root / "good.png")
            (root / f"tried{suffix}").write_bytes(data)

            def trial(root: Path = root, suffix: str = suffix) -> str:
                rows = {row["path"]: row for row in scanned(root).to_pylist()}
                assert set(rows) == {"good.png", f"tried{suffix}"}, "a file is lost"
                answered = {Path(one.path).name: one for one in model.predict(root)}
                assert set(answered) == set(rows), "a file has no answer"
                used = rows[f"tried{suffix}"]["reason"] is None
                assert used == (answered[f"tried{suffix}"].error is None), "scan and predict disagree"
                return "used" if used else "listed with a reason"

            yield f"{kind} as {suffix}, {name}", trial


NAMES = [
    *(b"plain.jpg", b"UPPER.JPG", b"caf\xe9.jpg", b"\xff\xfe.jpg", b"a\\b.jpg", b"a\\xe9.jpg", b"line\nend.jpg"),
    *(b"tab\there.jpg", b"esc\x1b[31mred.jpg", "rtl\u202egpj.jpg".encode(), "e\u0301.jpg".encode(), b"-rf.jpg"),
    *(b" leading.jpg", b"trailing .jpg", b"'quote\".jpg", b"[red]markup[bold].jpg", b"%41.jpg", b"a?b#c.jpg"),
    *("\U0001f415.jpg".encode(), "\u72d7.jpg".encode(), b"=cmd|x.jpg", b"a,b;c.jpg", b"x" * 251 + b".jpg"),
    *(b"<b>.jpg", b"$(touch x).jpg", b"~.jpg", b"con.jpg", b"a..jpg", "\u0130.jpg".encode(), b"{}.jpg"),
]


def names(folder: Path, model_file: Path) -> Iterator[Trial]:
    """Names of files: no UTF-8, control characters, direction overrides, quotes, markup, 255 bytes."""
    for number, name in enumerate(NAMES):
        root = folder / str(number)
        root.mkdir()
        picture(number).save(root / "saved.png")
        (root / "saved.png").rename(root / os.fsdecode(name.replace(b".jpg", b".png")))
        (root / f"{number}.csv").touch()

        def trial(root: Path = root, number: int = number) -> str:
            table = scanned(root)
            (row,) = [row for row in table.to_pylist() if row["reason"] is None]
            assert file_at(root, row["path"]).is_file(), "the text does not lead back to the file"
            quoted = row["path"].replace('"', '""')
            (root.parent / f"{number}.gold.csv").write_text(f'path,label\n"{quoted}",yes\n', encoding="utf-8")
            said = read_gold(root.parent / f"{number}.gold.csv", table).labels
            assert said == {row["sha256"]: True}, "the label is lost"
            return command("predict", model_file, root, "--format", "csv")

        yield ascii(name), trial


def _zip(members: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members:
            info = zipfile.ZipInfo()
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
            bundle.writestr(info, data)
    return stream.getvalue()


def _tar(members: list[tuple[str, bytes]], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as bundle:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return stream.getvalue()


MEMBERS = [
    *("../x.png", "a/../../x.png", "/x.png", "//x.png", "..\\x.png", "C:\\x.png", "c:/x.png", "a/b/../c.png"),
    *("2024-05-01T12:30:00.png", "a?.png", 'b"*.png', "c<d>/e|f.png", "g\nh.png", ".hidden/x.png", "x" * 300 + ".png"),
    *("@eaDir/x.png", "notes.txt", "film.mp4", "x.raw", "deep/" * 60 + "x.png"),
]


def archives(folder: Path) -> Iterator[Trial]:
    """Zip and tar: members that lead out, share a name, have impossible names; cut, altered, bombs."""
    photo, chance, number = encoded("PNG"), np.random.default_rng(2), itertools.count()

    def trial_of(content: bytes, members: int | None) -> Trial:
        here = folder / str(next(number))
        here.mkdir()
        (here / "archive").write_bytes(content)

        def trial() -> str:
            unpacked = locate(Images(path=str(here / "archive")), here / "store")
            left_out = read_left_out(unpacked)
            files = [path for path in unpacked.rglob("*") if path.is_file()]
            everything = [path for path in here.rglob("*") if path.is_file()]
            assert len(everything) == len(files) + 2, "something landed outside"
            if members is not None:
                assert len(files) + len(left_out) == members, "a member is lost"
            return "unpacked" if not left_out else "unpacked, the rest listed" if files else "listed with a reason"

        return here.name, trial

    for pack in (_zip, _tar):
        for name in MEMBERS:
            yield trial_of(pack([(name, photo), ("good.png", photo)]), 2)
        yield trial_of(pack([("a.png", photo), ("A.png", photo), ("a.png", photo)]), 3)
        yield trial_of(pack([("a:b.png", photo), ("a%3Ab.png", photo)]), 2)
        yield trial_of(pack([]), 0)
        yield trial_of(pack([("zeros.png", bytes(50_000_000))]), 1)
    for whole in (
        _zip([("a.png", photo)] * 3),
        *(_tar([("a.png", photo)] * 3, f"w{mode}") for mode in ("", ":gz", ":xz")),
    ):
        for _, content in damaged(whole, chance):
            yield trial_of(content, 3 if content == whole else None)


LABELS = {"yes/no": ("yes", "no"), "TRUE/FALSE": ("TRUE", "FALSE"), "1.0/0.0": ("1.0", "0.0"), "Y/N": ("Y", "N")}
WRONG_TABLES = [
    *("", "\n", "path\na.jpg\n", "label\nyes\n", "path,label\na.jpg,maybe\n", "path,label\nz.jpg,yes\n"),
    *("path,label\na.jpg,yes\na.jpg,no\n", "path,label\nsame.jpg,yes\n", 'path,label\n"a.jpg,yes\n', "\0\0\0"),
    *("path,label\na.jpg,2\n", "path,label\na.jpg,yes no\n", "<html>", "{}", "path,label\n../../etc/passwd,yes\n"),
]


def label_tables(folder: Path) -> Iterator[Trial]:
    """Tables of labels: separators, encodings, line ends, words of spreadsheets; blank, contradicting, unknown rows."""
    table = pa.table({"path": ["a.jpg", "b/\u00e9.jpg", "x/same.jpg", "y/same.jpg"], "sha256": ["1", "2", "3", "4"]})
    number = itertools.count()

    def trial_of(data: bytes, wanted: dict[str, bool] | None) -> Trial:
        file = folder / f"{next(number)}.csv"
        file.write_bytes(data)

        def trial() -> str:
            gold = read_gold(file, table)
            assert wanted is None or gold.labels == wanted, "labels are lost or wrong"
            return "read"

        return file.name, trial

    choices = (
        ",;\t|",
        ("utf-8", "utf-8-sig", "utf-16"),
        ("\n", "\r\n"),
        LABELS.values(),
        ("b/\u00e9.jpg", "b\\e\u0301.jpg"),
    )
    for separator, encoding, end, (yes, no), name in itertools.product(*choices):
        rows = (("Path", "Label"), ("a.jpg", yes), (name, no))
        text = end.join(separator.join(row) for row in rows) + end
        yield trial_of(text.encode(encoding), {"1": True, "2": False})
    for text in WRONG_TABLES:
        yield trial_of(text.encode(), None)
    for data in (b"\xff\xfe\x00", b"path,label\n\xe9.jpg,yes\n", b"\xef\xbb\xbf", bytes(1000)):
        yield trial_of(data, None)
