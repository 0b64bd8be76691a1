"""The one atomic writer: whole or not at all, through a kill, a race and a power cut."""

from __future__ import annotations

import ast
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from clip_factory.runtime import atomic as writer
from clip_factory.runtime.atomic import (
    NO_LINKS,
    atomic,
    atomic_folder,
    atomic_new,
    sync_folder,
    write_bytes,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[2]
KILLED = """
import os, signal, sys
from pathlib import Path
from clip_factory.runtime import atomic as writer
with getattr(writer, sys.argv[1])(Path(sys.argv[2])) as temporary:
    (temporary / "a" if temporary.is_dir() else temporary).write_bytes(b"new")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was flushed to the disk, in order, and when the file got its name."""
    events: list[str] = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def spy(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(os, "replace", lambda *args: (events.append("named"), replace(*args))[1])
    monkeypatch.setattr(os, "link", lambda *args: (events.append("named"), link(*args))[1])
    return events


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("kind", ["atomic", "atomic_new", "atomic_folder"])
def test_killed_between_write_and_rename(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "x.json"
    if kind == "atomic":
        target.write_bytes(b"old")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "factory")}
    done = subprocess.run([sys.executable, "-c", KILLED, kind, str(target)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old" if kind == "atomic" else not target.exists()
    assert all(name.startswith(".") and name.endswith(".tmp") for name in names(tmp_path) if name != "x.json")


def test_file_then_name_then_folder_are_flushed(tmp_path: Path, synced: list[str]) -> None:
    write_bytes(tmp_path / "a", b"1")
    assert synced == ["file", "named", "folder"]
    synced.clear()
    with atomic_new(tmp_path / "b") as temporary:
        temporary.write_bytes(b"2")
    assert synced == ["file", "named", "folder"]


def test_a_cache_is_not_flushed(tmp_path: Path, synced: list[str]) -> None:
    write_bytes(tmp_path / "a", b"1", sync=False)
    with atomic_new(tmp_path / "b", sync=False) as temporary:
        temporary.write_bytes(b"2")
    assert synced == ["named", "named"]


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a"
    write_text(target, "old")
    for writes in (atomic, atomic_new, atomic_folder):

        def fail(writes: Callable[[Path], AbstractContextManager[Path]] = writes) -> None:
            with writes(target if writes is atomic else tmp_path / "b") as temporary:
                (temporary / "x" if temporary.is_dir() else temporary).write_text("half")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
    with pytest.raises(FileNotFoundError), atomic(target):
        pass  # a block that writes nothing
    assert target.read_text() == "old" and names(tmp_path) == ["a"]


def test_content(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": [1]})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "ä": [\n    1\n  ]\n}\n'.encode()
    write_text(tmp_path / "a.json", "x\r\ny\n")
    assert (tmp_path / "a.json").read_bytes() == b"x\r\ny\n"
    long = tmp_path / ("ä" * 120 + ".json")  # 245 bytes: the longest that most file systems take is 255
    write_json(long, 1)
    assert json.loads(long.read_bytes()) == 1 and names(tmp_path) == ["a.json", long.name]


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
        with atomic_new(tmp_path / "b") as temporary:
            temporary.write_bytes(b"")
        with atomic_folder(tmp_path / "c"):
            pass
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"] == [0o640, 0o640, 0o750]


@pytest.mark.skipif(os.name != "posix", reason="Windows flushes only what may be written")
def test_a_read_only_copy_is_flushed_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, before = [], os.open
    monkeypatch.setattr(os, "open", lambda path, flag: (flags.append(flag), before(path, flag))[1])
    with atomic(tmp_path / "a") as temporary:
        temporary.write_bytes(b"1")
        temporary.chmod(0o444)
    assert (tmp_path / "a").read_bytes() == b"1" and set(flags) == {os.O_RDONLY}  # root could write to it


def test_of_many_writers_of_a_new_file_one_succeeds(tmp_path: Path) -> None:
    start, outcomes = threading.Barrier(8), []

    def write(number: int) -> None:
        start.wait()
        try:
            with atomic_new(tmp_path / "a") as temporary:
                temporary.write_bytes(bytes([number]) * 1000)
            outcomes.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1 and (tmp_path / "a").read_bytes() == bytes(outcomes) * 1000
    assert names(tmp_path) == ["a"]


def test_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="no links") as caught, atomic_new(tmp_path / "a") as temporary:
        temporary.write_bytes(b"1")
    assert caught.value.errno in NO_LINKS and names(tmp_path) == []
    for free in (True, False):
        try:
            with atomic_new(tmp_path / "a", need_links=False) as temporary:
                temporary.write_bytes(b"first" if free else b"second")
        except FileExistsError:
            assert not free
        else:
            assert free
    assert (tmp_path / "a").read_bytes() == b"first" and names(tmp_path) == ["a"]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a"
    with atomic_folder(target) as temporary:
        (temporary / "x").write_text("1")
    with pytest.raises(OSError, match="not empty"), atomic_folder(target) as temporary:
        (temporary / "x").write_text("2")
    assert (target / "x").read_text() == "1" and names(target.parent) == ["a"]


@pytest.mark.parametrize(("number", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: bool
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    if raised:
        with pytest.raises(OSError, match="no"):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)
    sync_folder(tmp_path / "not there")


CALLS = {"os.replace", "os.rename", "os.renames", "os.fsync", "tempfile.NamedTemporaryFile", "tempfile.mkstemp"}
KEPT = {
    "runtime/atomic.py": CALLS,
    "gold/journal.py": {"os.fsync"},  # appends to a file
}


def test_nothing_else_of_the_package_writes_by_renaming() -> None:
    house = ROOT / "factory" / "clip_factory"
    for path in house.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        inside = path.relative_to(house).as_posix()
        assert not used & CALLS - KEPT.get(inside, set()), f"{inside}: use clip_factory.runtime.atomic"


def test_the_writer_imports_nothing_else_of_the_package() -> None:
    assert "clip_factory" not in {
        name.split(".")[0]
        for node in ast.walk(ast.parse(Path(writer.__file__).read_text(encoding="utf-8")))
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")])
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
