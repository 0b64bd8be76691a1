"""The registry of files: in a folder, in memory, on S3; publishers that race, publishers that are killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clip_factory.errors import RegistryError
from clip_factory.registry import open_registry
from clip_factory.registry.backend import Draft, current_aliases
from clip_factory.registry.backends import folder_store as folder
from clip_factory.registry.backends import fsspec_store as remote
from clip_factory.registry.backends.file_registry import FileRegistry
from clip_factory.runtime.releases.release_record import Release
from support.registry_contract import Contract, a_draft, another, some_runs, to
from support.s3_server import bucket, s3_address

__all__ = ["a_draft", "bucket", "s3_address", "some_runs"]

EACH = 50
"""Releases that each of two racing publishers adds."""


class FilesContract(Contract):
    def tamper(self, release: Release, file: str, data: bytes) -> None:
        sha256 = release.files[file].sha256
        self.files.store.put(f"blobs/{sha256[:2]}/{sha256}", data)

    def opened(self, address: str) -> FileRegistry:
        self.files = open_registry(address)
        return self.files


class TestFolder(FilesContract):
    @pytest.fixture
    def registry(self, tmp_path_factory: pytest.TempPathFactory) -> FileRegistry:
        return self.opened(str(tmp_path_factory.mktemp("registry")))


class TestMemory(FilesContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> FileRegistry:
        return self.opened(f"memory://{tmp_path.name}")


class TestS3(FilesContract):
    @pytest.fixture
    def registry(self, bucket: str) -> FileRegistry:
        return self.opened(f"{bucket}/team")


@pytest.fixture
def small(a_draft: Draft) -> Draft:
    """A draft of one file, so that many can be published quickly."""
    return replace(a_draft, files={"model.onnx": b"a model"})


def numbered(draft: Draft, number: int) -> Draft:
    return replace(draft, files={"model.onnx": b"model %d" % number})


def in_child(work: Callable[[], None]) -> int:
    """Fork a process that works and leaves without cleaning up; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()  # pytest shows it
    finally:
        os._exit(code)


def race(address: str, draft: Draft, *, promote: bool) -> None:
    """Two processes publish, and promote, at once; check that nothing is lost, nothing is given twice."""

    def publisher(first: int) -> None:
        registry = open_registry(address)
        for number in range(first, first + EACH):
            release = registry.publish(numbered(draft, number))
            if promote:
                registry.move(draft.name, to(draft.name, "champion", release.version))

    children = [in_child(lambda first=first: publisher(first)) for first in (0, EACH)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]

    registry = open_registry(address)
    entry = registry.index().models[draft.name]
    assert sorted(entry.versions) == list(range(1, 2 * EACH + 1))
    contents = {registry.read(release, "model.onnx") for release in entry.versions.values()}
    assert contents == {b"model %d" % number for number in range(2 * EACH)}
    moves = registry.history(draft.name)
    assert sorted(move.after for move in moves) == (list(range(1, 2 * EACH + 1)) if promote else [])
    assert [move.before for move in moves] == [None, *(move.after for move in moves)][: len(moves)]
    assert registry.written_index() == registry.index()


def test_two_publishers_race_in_a_folder(tmp_path: Path, small: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder.os, "fsync", lambda handle: None)  # a power cut is no matter here, and disks are slow

    race(str(tmp_path / "registry"), small, promote=True)


@pytest.mark.slow
def test_two_publishers_race_on_s3(bucket: str, small: Draft) -> None:
    race(bucket, small, promote=False)


def killed_at(call: int, targets: dict[object, tuple[str, ...]], work: Callable[[], None]) -> bool:
    """Do `work` in a process that gets SIGKILL just before the `call`-th call of the targets; was it killed?"""

    def child() -> None:
        calls = 0

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def wrapper(*arguments: object, **options: object) -> object:
                nonlocal calls
                calls += 1
                if calls == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return wrapper

        for target, names in targets.items():
            for name in names:
                setattr(target, name, counted(getattr(target, name)))
        work()

    status = os.waitpid(in_child(child), 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0


def check_every_kill(address: str, draft: Draft, targets: dict[object, tuple[str, ...]]) -> int:
    """Kill a publisher at each of its steps in turn; return at how many.

    The registry must be as before or as after, whole in either case, and the same call must then do it.
    """
    opened = open_registry(address)
    opened.publish(numbered(draft, 0))
    opened.move(draft.name, to(draft.name, "champion", 1))
    kills = 0
    while True:
        before = opened.index()
        newest = len(before.models[draft.name].versions)

        def work(newest: int = newest) -> None:
            registry = open_registry(address)
            release = registry.publish(numbered(draft, newest))
            registry.move(draft.name, to(draft.name, "champion", release.version))

        # the n-th kill is at the n-th step: fewer steps than that, and the work is done
        if not killed_at(kills + 1, targets, work):
            return kills
        kills += 1
        seen, told = open_registry(address).index(), open_registry(address).written_index()
        entry = seen.models[draft.name]
        assert len(entry.versions) in (newest, newest + 1)
        assert {k: v for k, v in entry.versions.items() if k <= newest} == before.models[draft.name].versions
        assert entry.aliases["champion"] in (newest, newest + 1)
        assert told in (before, seen) or told.models[draft.name].versions == entry.versions
        for release in entry.versions.values():
            assert opened.read(release, "model.onnx") == b"model %d" % (release.version - 1)
        work()
        after = opened.index().models[draft.name]
        assert (len(after.versions), after.aliases) == (newest + 1, {"champion": newest + 1})
        assert opened.written_index() == opened.index()


def test_a_publisher_killed_at_any_step_leaves_the_folder_whole(
    tmp_path: Path, small: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder.os, "fsync", lambda handle: None)
    steps = {os: ("link", "replace", "fsync"), Path: ("mkdir", "unlink")}

    assert check_every_kill(str(tmp_path / "registry"), small, steps) > 15


@pytest.mark.slow
def test_a_publisher_killed_at_any_request_leaves_s3_whole(bucket: str, small: Draft) -> None:
    steps = {remote.FsspecStore: ("_create", "put")}

    assert check_every_kill(bucket, small, steps) == 6


def test_a_damaged_blob_is_healed_by_publishing_its_bytes_again(tmp_path: Path, small: Draft) -> None:
    registry = open_registry(str(tmp_path))
    release = registry.publish(small)
    registry.store.put(f"blobs/{release.sha256[:2]}/{release.sha256}", b"A model")

    assert registry.publish(small) == release
    assert registry.read(release, "model.onnx") == b"a model"


def test_a_server_that_ignores_the_condition_is_refused(bucket: str, small: Draft, monkeypatch) -> None:
    """As some that speak S3 do: they write although the object is there."""
    import s3fs

    put = s3fs.S3FileSystem._pipe_file

    async def ignoring(self, path, data, mode="overwrite", **options):
        return await put(self, path, data, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", ignoring)
    s3fs.S3FileSystem.clear_instance_cache()

    with pytest.raises(RegistryError) as refused:
        open_registry(bucket).publish(small)
    assert str(refused.value) == (
        f"{bucket}: the server overwrites what it was asked only to create, so a version could be lost\n"
        "  use a newer server (S3: one that knows If-None-Match), or a folder"
    )


@pytest.mark.parametrize(("address", "package"), [("sftp://host/models", "paramiko"), ("gs://bucket/m", "gcsfs")])
def test_what_a_scheme_needs_is_named(address: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(RegistryError) as refused:
        open_registry(address)
    assert refused.value.hint == f"pip install 'clip-factory[registry]' {package}"


@pytest.mark.parametrize("where", ["folder", "memory", "s3"])
def test_many_files_are_read_as_one_is(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    address = {"folder": lambda: str(tmp_path), "memory": lambda: f"memory://{tmp_path.name}"}.get(
        where, lambda: request.getfixturevalue("bucket")
    )()
    store = open_registry(address).store
    for name, data in (("a", b"1"), ("b", b"22"), ("c", b"333")):
        store.put(name, data)

    assert store.read_all(["c", "a"], 3) == [b"333", b"1"]
    assert store.read_all([], 3) == []
    with pytest.raises(RegistryError, match=rf"^{store_url(store)}/c: larger than 2 bytes"):
        store.read_all(["a", "c"], 2)
    with pytest.raises(RegistryError, match=rf"^{store_url(store)}/x: no such file"):
        store.read_all(["a", "x"], 3)


def store_url(store: folder.FolderStore | remote.FsspecStore) -> str:
    return store.url if isinstance(store, remote.FsspecStore) else str(store.root)


def test_the_records_of_a_registry_on_s3_are_asked_for_at_once(bucket: str, small: Draft, monkeypatch) -> None:
    """One after the other, some hundred versions would take a minute."""
    registry = open_registry(bucket)
    for number in range(3):
        registry.publish(numbered(small, number))
    asked = []

    class Noting(remote.FsspecStore):
        def read_all(self, paths, limit):
            asked.append(len(paths))
            return super().read_all(paths, limit)

    monkeypatch.setattr(remote, "FsspecStore", Noting)

    assert sorted(open_registry(bucket).index().models[small.name].versions) == [1, 2, 3]
    assert asked == [3]


def test_a_release_that_comes_while_s3_is_listed_is_found_by_the_next_look(
    bucket: str, small: Draft, monkeypatch
) -> None:
    """s3fs asks a second time where it has found nothing, and would take the model's folder for a file."""
    import s3fs

    look, came = s3fs.S3FileSystem._info, list[str]()

    async def late(self, path, *arguments, **options):
        if not came and path.endswith("/versions"):
            came.append(path)
            await self._pipe_file(f"{path}/000001.json", json.dumps(small.to_release(1).to_json()).encode())
        return await look(self, path, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_info", late)

    release = open_registry(bucket).publish(replace(small, files={"model.onnx": b"another model"}))

    assert came
    assert release.version == 2


def test_a_disk_without_hard_links_is_refused(tmp_path: Path, small: Draft, monkeypatch) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(folder.os, "link", link)

    with pytest.raises(RegistryError) as refused:
        open_registry(str(tmp_path)).publish(small)
    assert str(refused.value) == (
        f"{tmp_path}: this file system has no hard links, without which two publishers could overwrite each other\n"
        "  keep the registry on another disk, or on S3 or the like"
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_registry_that_cannot_be_reached_says_so(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()

    with pytest.raises(RegistryError, match=rf"^{bucket}/models: cannot be reached \(\w+: "):
        open_registry(bucket).index()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "the registry's address is empty\n  give a folder or a URL"),
        (
            "s3://models/../other",
            "s3://models/../other: `..` in the address of a registry\n  write the address out",
        ),
        (
            "ftp://host/models",
            "ftp://host/models: ftp:// cannot create a file only if there is none, so a version could be lost\n"
            "  use a folder, or one of abfs, abfss, az, gcs, gs, s3, s3a, sftp, ssh",
        ),
    ],
)
def test_addresses_that_are_refused(address: str, message: str) -> None:
    with pytest.raises(RegistryError) as refused:
        open_registry(address)
    assert str(refused.value) == message


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("in the way")

    with pytest.raises(RegistryError) as refused:
        open_registry(str(tmp_path / "registry"))
    assert str(refused.value) == f"{tmp_path}/registry: not a folder\n  name the folder of the registry"


@pytest.mark.parametrize("path", ["../x", "models/../../x", "/etc/passwd", "models//x", "modèles/x", "a\x00b", "", "."])
def test_no_path_leads_out_of_the_folder(path: str, tmp_path: Path) -> None:
    store = open_registry(str(tmp_path / "registry")).store

    for use in (lambda: store.read(path, 10), lambda: store.create(path, b""), lambda: store.put(path, b"")):
        with pytest.raises(RegistryError, match="no path inside a registry"):
            use()
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("linked", ["models", "models/red-ball", "models/red-ball/versions", "blobs"])
def test_symbolic_links_are_not_followed(linked: str, tmp_path: Path, small: Draft) -> None:
    registry = open_registry(str(tmp_path / "registry"))
    release = registry.publish(small)
    place = tmp_path / "registry" / linked
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    message = (
        f"{place}: a symbolic link in a registry could lead out of it\n"
        "  put the file itself there; the registry's own folder may be a link, nothing in it"
    )
    uses = [lambda: registry.publish(numbered(small, 1))]
    uses += [lambda: registry.read(release, "model.onnx")] if linked == "blobs" else [registry.index]
    for use in uses:
        with pytest.raises(RegistryError) as refused:
            use()
        assert str(refused.value) == message


@pytest.mark.parametrize("name", ["x.json", "000001.txt", "évil.json"])
def test_strangers_below_models_are_refused(name: str, tmp_path: Path, small: Draft) -> None:
    registry = open_registry(str(tmp_path))
    registry.publish(small)
    (tmp_path / "models/red-ball/versions" / name).write_text("{}")

    with pytest.raises(RegistryError) as refused:
        registry.index()
    shown = ascii(f"models/red-ball/versions/{name}")
    assert str(refused.value) == (
        f"{tmp_path}: {shown} is no record of a registry\n  only the factory may write below models/: move it elsewhere"
    )


def test_a_lost_record_is_noticed(tmp_path: Path, small: Draft) -> None:
    registry = open_registry(str(tmp_path))
    for number in (0, 1):
        release = registry.publish(numbered(small, number))
        registry.move(small.name, to(small.name, "champion", release.version))
    (tmp_path / "models/red-ball/versions/000002.json").unlink()

    with pytest.raises(RegistryError) as refused:
        open_registry(str(tmp_path)).index()
    assert str(refused.value) == (
        f"{tmp_path}: champion of red-ball was moved to version 2, which is not there\n"
        "  its record was deleted or lost: restore it from a backup"
    )

    (tmp_path / "models/red-ball/history/000001.json").unlink()
    with pytest.raises(RegistryError) as refused:
        open_registry(str(tmp_path)).history(small.name)
    assert str(refused.value) == (
        f"{tmp_path}: the history of red-ball has no record 1\n  it was deleted or lost: restore it from a backup"
    )


def test_a_record_under_another_number_is_refused(tmp_path: Path, small: Draft) -> None:
    registry = open_registry(str(tmp_path))
    registry.publish(small)
    versions = tmp_path / "models/red-ball/versions"
    (versions / "000002.json").write_bytes((versions / "000001.json").read_bytes())

    with pytest.raises(RegistryError) as refused:
        registry.index()
    assert str(refused.value) == f"{versions}/000002.json: the release calls itself red-ball@1"


def test_a_move_that_was_written_though_the_answer_was_lost_counts_once(tmp_path: Path, small: Draft) -> None:
    """A file system that tries again by itself finds what it has just created."""
    registry = open_registry(str(tmp_path))
    registry.publish(small)

    class Forgetful(folder.FolderStore):
        def create(self, path: str, data: bytes) -> bool:
            return super().create(path, data) and "history" not in path

    move = FileRegistry(str(tmp_path), Forgetful(tmp_path)).move(small.name, to(small.name, "champion", 1))
    assert move is not None
    assert list(registry.history(small.name)) == [move]
    assert current_aliases(registry.history(small.name)) == {"champion": 1}


def test_another_release_of_the_contract_is_told_apart(a_draft: Draft) -> None:
    assert another(a_draft, 1).find_in([a_draft.to_release(1)]) is None
    assert a_draft.find_in([a_draft.to_release(7)]) == a_draft.to_release(7)
