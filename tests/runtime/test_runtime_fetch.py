"""Models loaded from registries: folders, servers and file systems that answer, lie, stall or are not there."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from platformdirs import windows
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from clip_factory.registry import open_registry
from clip_factory.registry.keys import Signer
from clip_factory.runtime import Model, ModelError, OfflineWarning, RegistryError
from clip_factory.runtime.releases import transport
from clip_factory.runtime.releases.cache import Cache, default_folder
from clip_factory.runtime.releases.fetch import fetch, read_index
from clip_factory.runtime.releases.location import root_of
from clip_factory.runtime.releases.release_index import Entry, Index
from clip_factory.runtime.releases.transport import UnreachableError, read
from support.loopback import Quiet, files_of, self_signed, serving
from support.red_model import graph, outside, save
from support.releases import keep, release_of, write

RED = [np.full((4, 4, 3), [255, 0, 0], np.uint8)]


@pytest.fixture
def model_bytes(tmp_path: Path) -> bytes:
    return save(tmp_path / "red.onnx").read_bytes()


@pytest.fixture
def registry(tmp_path: Path, model_bytes: bytes) -> Path:
    """A folder with red@1, the champion, and red@2."""
    root = tmp_path / "registry"
    second = save(tmp_path / "two.onnx", gate="second").read_bytes()
    for data in (model_bytes, second, b"# red"):
        keep(root, data)
    write(root, release_of(model_bytes, 1), release_of(second, 2))
    return root


@pytest.fixture
def web(registry: Path) -> Iterator[str]:
    with serving(files_of(registry.parent)) as url:
        yield url


def refusal(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(RegistryError) as caught:
        call(*arguments, **named)
    return str(caught.value)


# --- what works


def test_a_folder_a_file_url_a_server_and_fsspec(registry: Path, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").put(str(registry), "/shelf/red", recursive=True)
    monkeypatch.chdir(registry.parent)
    for number, root in enumerate(["registry", registry, registry.as_uri(), f"{web}/registry/", "memory://shelf/red"]):
        monkeypatch.setenv("FACTORY_CACHE", str(registry.parent / f"cache{number}"))
        model = Model.load("red@champion", registry=root)
        assert model.predict(RED)[0].label == "yes"
        assert (str(model.release), model.metadata.get("gate")) == ("red@1", None)
        assert Model.load("red@2", registry=root).metadata["gate"] == "second"
        assert fetch("red", root, file="card.md").data == b"# red"
    fsspec.filesystem("memory").rm("/shelf", recursive=True)


def test_a_model_from_a_file_has_no_release(tmp_path: Path) -> None:
    path = save(tmp_path / "red.onnx")
    assert Model.load(path).release is None
    assert refusal(Model.load, path, public_key="key.pem") == (
        f"{path}: a public key, and no registry to check\n  a file alone has no signature"
    )
    for name, hint in (
        (
            "red@champion",
            "check the path; a release of a registry: --registry, or Model.load(..., registry=...)",
        ),
        ("no/red.onnx", "check the path"),
    ):
        with pytest.raises(ModelError) as caught:
            Model.load(name)
        assert str(caught.value) == f"{name}: cannot be opened (No such file or directory)\n  {hint}"


def test_a_layout_of_its_own_on_the_web(registry: Path, web: str, model_bytes: bytes) -> None:
    (registry.parent / "red-v1").mkdir()
    (registry.parent / "red-v1" / "model.onnx").write_bytes(model_bytes)
    write(registry, release_of(model_bytes, 1), layout="../{name}-v{version}/{file}")
    assert Model.load("red", registry=f"{web}/registry").name == "red"


# --- the key that a registry pins


@pytest.fixture
def signers() -> tuple[Signer, Signer]:
    return Signer(Ed25519PrivateKey.generate()), Signer(Ed25519PrivateKey.generate())


def sign_all(registry: Path, signer: Signer, model_bytes: bytes) -> None:
    """Sign the one release of the registry, red@1."""
    release = release_of(model_bytes, 1)
    write(registry, replace(release, signature=signer.sign(release.canonical())))


@pytest.mark.parametrize("from_web", [False, True], ids=["folder", "web"])
def test_the_key_that_a_registry_pins_is_checked_by_who_loads_a_model(
    registry: Path, web: str, model_bytes: bytes, signers: tuple[Signer, Signer], from_web: bool
) -> None:
    root = f"{web}/registry" if from_web else str(registry)
    (registry / "signer.pem").write_bytes(signers[0].public_key)
    assert "red@1: not signed" in refusal(Model.load, "red", registry=root)
    sign_all(registry, signers[1], model_bytes)
    assert "the signature is not of this key" in refusal(Model.load, "red", registry=root)
    sign_all(registry, signers[0], model_bytes)
    assert Model.load("red", registry=root).name == "red"


def test_a_pinned_key_that_changes_or_goes_is_noticed(
    registry: Path, web: str, model_bytes: bytes, signers: tuple[Signer, Signer]
) -> None:
    root = f"{web}/registry"
    (registry / "signer.pem").write_bytes(signers[0].public_key)
    sign_all(registry, signers[0], model_bytes)
    Model.load("red", registry=root)
    (registry / "signer.pem").write_bytes(signers[1].public_key)
    sign_all(registry, signers[1], model_bytes)
    assert "its signer.pem is another than when it was last seen" in refusal(Model.load, "red", registry=root)
    (registry / "signer.pem").unlink()
    assert "its signer.pem is gone" in refusal(Model.load, "red", registry=root)
    assert Model.load("red@1", registry=root).name == "red", "what was fetched before asks no network"


def test_a_record_that_was_signed_for_another_registry_is_refused(
    registry: Path, web: str, model_bytes: bytes, signers: tuple[Signer, Signer]
) -> None:
    root, release = f"{web}/registry", release_of(model_bytes, 1)
    (registry / "signer.pem").write_bytes(signers[0].public_key)
    (registry / "registry-id").write_text("ours\n")
    for identity in (None, "theirs"):
        write(registry, replace(release, signature=signers[0].sign(release.canonical(identity))))
        assert "the signature is not of this key" in refusal(Model.load, "red", registry=root)
    write(registry, replace(release, signature=signers[0].sign(release.canonical("ours"))))
    assert Model.load("red", registry=root).name == "red"
    (registry / "registry-id").write_text("theirs\n")
    write(registry, replace(release, signature=signers[0].sign(release.canonical("theirs"))))
    assert "its registry-id is another than when it was last seen" in refusal(Model.load, "red", registry=root)


def test_a_version_in_a_folder_is_read_from_the_folder(registry: Path, model_bytes: bytes) -> None:
    assert fetch("red@1", registry, file="card.md").data == b"# red"
    card = hashlib.sha256(b"# red").hexdigest()
    (registry / "blobs" / card[:2] / card).write_bytes(b"# bad")
    assert "was altered or damaged" in refusal(fetch, "red@1", registry, file="card.md")
    (registry / "index.json").unlink()
    assert "no such file" in refusal(fetch, "red@1", registry, file="card.md")


def test_what_systems_leave_in_a_registry_is_no_matter(registry: Path) -> None:
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (registry / name).write_bytes(b"x")
    (registry / "@eaDir").mkdir()
    assert Model.load("red", registry=registry).name == "red"
    assert open_registry(str(registry)).index().models == {}, "its records, which this one has none of, are read"


# --- the cache


def test_a_version_that_was_fetched_needs_no_registry(registry: Path, web: str) -> None:
    url = f"{web}/registry"
    Model.load("red@1", registry=url)
    (registry / "index.json").unlink()
    assert str(Model.load("red@1", registry=url).release) == "red@1"
    assert refusal(Model.load, "red", registry=url) == (
        f"{url}/index.json: no such file\n  check the address of the registry"
    )


def test_when_the_registry_does_not_answer_the_last_index_decides(registry: Path) -> None:
    with serving(files_of(registry)) as url:
        Model.load("red", registry=url)
    with pytest.warns(OfflineWarning) as warned:
        assert str(Model.load("red@champion", registry=url).release) == "red@1"
    said = str(warned[0].message)
    assert said.startswith(
        f"{url}/index.json: cannot be reached ([Errno 111] Connection refused); going by its index as"
    )
    assert warned[0].filename == __file__
    with pytest.warns(OfflineWarning):
        message = refusal(Model.load, "red@2", registry=url)
    assert message.startswith(f"{url}/blobs/") and message.endswith(
        "cannot be reached ([Errno 111] Connection refused)"
    )


def test_a_registry_never_seen_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError) as caught:
        Model.load("red@1", registry=f"http://127.0.0.1:{port}")
    assert str(caught.value) == (
        f"http://127.0.0.1:{port}/index.json: cannot be reached ([Errno 111] Connection refused)"
    )


def test_the_alias_follows_the_registry_and_not_the_cache(registry: Path) -> None:
    assert str(Model.load("red", registry=registry).release) == "red@1"
    index = Index.parse((registry / "index.json").read_bytes())
    write(registry, *index.models["red"].versions.values(), champion=2)
    assert str(Model.load("red", registry=registry).release) == "red@2"


def cached_files() -> list[Path]:
    return [path for path in default_folder().rglob("*") if path.is_file()]


@pytest.mark.parametrize("damage", ["shorter", "other"])
def test_what_is_damaged_in_the_cache_is_fetched_again(registry: Path, web: str, damage: str) -> None:
    root = f"{web}/registry"
    Model.load("red@1", registry=root)
    for path in cached_files():
        data = path.read_bytes()
        path.write_bytes(data[:-1] if damage == "shorter" else data[:-1] + bytes([data[-1] ^ 1]))
    assert str(Model.load("red@1", registry=root).release) == "red@1"
    (registry / "index.json").unlink()
    assert str(Model.load("red@1", registry=root).release) == "red@1", "the cache was mended"


def test_a_cache_that_cannot_be_written_is_no_error(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FACTORY_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert str(Model.load("red@1", registry=registry).release) == "red@1"


@pytest.mark.parametrize("raises", [True, False])
def test_a_user_without_a_home_is_served_and_keeps_nothing(
    registry: Path, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    for name in ("FACTORY_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if raises:  # as platformdirs does since 4.7

        def no_home(*_: object, **__: object) -> Path:
            raise RuntimeError("could not determine the home directory")

        monkeypatch.setattr(platformdirs, "user_cache_path", no_home)
    else:
        monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: Path("~/.cache/clip-factory"))
    assert str(Model.load("red@1", registry=registry).release) == "red@1"
    assert default_folder() == Path(os.devnull, "clip-factory")


def test_processes_that_share_a_cold_cache(web: str) -> None:
    program = f"""
from clip_factory.runtime import Model
for version in (1, 2) * 10:
    assert Model.load(f"red@{{version}}", registry={web!r} + "/registry", threads=1).release.version == version
"""
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(4)]
    assert [one.wait() for one in started] == [0] * 4
    names = sorted(path.name for path in cached_files())
    assert len(names) == 3
    assert not [name for name in names if name.endswith(".tmp")]


def test_the_cache_is_where_version_0_1_0_had_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACTORY_CACHE", "here")
    assert default_folder() == Path("here")
    monkeypatch.delenv("FACTORY_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(platformdirs, "PlatformDirs", Unix)
    assert default_folder() == tmp_path / "xdg" / "clip-factory"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == tmp_path / ".cache" / "clip-factory"
    monkeypatch.setattr(platformdirs, "PlatformDirs", MacOS)
    assert default_folder() == tmp_path / "Library" / "Caches" / "clip-factory"
    monkeypatch.setattr(platformdirs, "PlatformDirs", Windows)
    local = {"CSIDL_LOCAL_APPDATA": str(tmp_path / "AppData" / "Local")}  # %LOCALAPPDATA%
    monkeypatch.setattr(windows, "get_win_folder", local.__getitem__)
    assert default_folder() == tmp_path / "AppData" / "Local" / "clip-factory"


# --- what was altered


def blob(registry: Path, data: bytes) -> Path:
    return registry / "blobs" / hashlib.sha256(data).hexdigest()[:2] / hashlib.sha256(data).hexdigest()


def test_an_altered_model_or_card(registry: Path, model_bytes: bytes) -> None:
    altered = model_bytes[:-1] + b"X"
    blob(registry, model_bytes).write_bytes(altered)
    expected, found = (hashlib.sha256(data).hexdigest() for data in (model_bytes, altered))
    assert refusal(Model.load, "red", registry=registry) == (
        f"red@1: model.onnx at {registry} has sha256 {found}, the index says {expected}\n"
        "  the file was altered or damaged: do not use it; ask who runs the registry"
    )
    blob(registry, b"# red").write_bytes(b"# rad")
    assert refusal(fetch, "red", registry, file="card.md").startswith(f"red@1: card.md at {registry} has sha256 ")
    assert cached_files() == [], "nothing of it was kept"


def test_a_file_of_another_size(registry: Path, model_bytes: bytes) -> None:
    path = blob(registry, model_bytes)
    path.write_bytes(model_bytes + b"X")
    assert refusal(Model.load, "red", registry=registry) == (
        f"{path}: larger than {len(model_bytes):,} bytes\n  the index says less, or it is no index"
    )
    path.write_bytes(model_bytes[:-1])
    assert refusal(Model.load, "red", registry=registry).startswith(f"red@1: model.onnx at {registry} has sha256 ")
    path.unlink()
    assert refusal(Model.load, "red", registry=registry) == (
        f"{path}: no such file\n  check the address of the registry"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0.1}, "red@1: its file has threshold 0.5, the registry says 0.1"),
        ({"question": "Is it safe?"}, "red@1: its file has question 'Is it red?', the registry says 'Is it safe?'"),
    ],
)
def test_an_index_that_says_other_than_the_file(
    registry: Path, model_bytes: bytes, changes: dict[str, Any], message: str
) -> None:
    write(registry, release_of(model_bytes, 1, **changes))
    assert refusal(Model.load, "red", registry=registry) == (f"{message}\n  do not use it; ask who runs the registry")


def test_a_model_under_a_false_name(registry: Path, model_bytes: bytes) -> None:
    false = release_of(model_bytes, 1, name="safe")
    index = Index({"safe": Entry("Is it red?", {}, {1: false})})
    (registry / "index.json").write_text(json.dumps(index.to_json()))
    assert refusal(Model.load, "safe", registry=registry).startswith(
        "safe@1: its file has name 'red', the registry says 'safe'"
    )


def test_a_model_whose_data_lie_outside(registry: Path, tmp_path: Path) -> None:
    proto = graph()
    outside(proto.graph.initializer[1])
    data = save(tmp_path / "outside.onnx", proto).read_bytes()
    keep(registry, data)
    write(registry, release_of(data, 1))
    with pytest.raises(ModelError) as caught:
        Model.load("red", registry=registry)
    assert str(caught.value) == (
        f"red@1 of {registry}: refers to data in another file\n  a model of this factory is one file: export it again"
    )


def test_another_sha256_than_asked_for(registry: Path) -> None:
    with pytest.raises(ModelError, match=f"^red@1 of {registry}: sha256 is [0-9a-f]{{64}}, not 00ff"):
        Model.load("red", registry=registry, sha256="00ff")


@pytest.mark.parametrize("name", ["../red@1", "red/../../x", "/etc/passwd", "red@../1", "..", "registry\\red"])
def test_names_that_are_paths(registry: Path, name: str) -> None:
    assert refusal(Model.load, name, registry=registry) == (
        f"{json.dumps(name)} names no model\n  expected NAME, NAME@VERSION or NAME@ALIAS"
    )


def test_an_index_that_points_outside_its_folder(registry: Path, model_bytes: bytes) -> None:
    (registry.parent / "model.onnx").write_bytes(model_bytes)
    write(registry, release_of(model_bytes, 1), layout="../{file}")
    assert refusal(Model.load, "red", registry=registry) == (
        f"{registry}: its index points outside it, to ../model.onnx\n  do not use it"
    )


def test_an_index_that_is_none(registry: Path) -> None:
    (registry / "index.json").write_text("<html>")
    assert refusal(Model.load, "red", registry=registry) == (
        f"{registry}/index.json: not JSON (JSONDecodeError: Expecting value: line 1 column 1 (char 0))"
    )


# --- signatures


def test_with_a_key_only_what_it_signed_is_loaded(registry: Path, model_bytes: bytes, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(pem)
    unsigned = "red@1: not signed, and a public key is configured\n  publish it with the key"
    assert refusal(Model.load, "red", registry=registry, public_key=pem) == unsigned
    Model.load("red@1", registry=registry)
    assert refusal(Model.load, "red@1", registry=registry, public_key=pem) == unsigned, "also from the cache"
    plain = release_of(model_bytes, 3)
    signed = replace(plain, signature=base64.b64encode(private.sign(plain.canonical())).decode())
    write(registry, signed, champion=3)
    for key in (pem, pem.decode(), tmp_path / "public.pem", str(tmp_path / "public.pem")):
        assert str(Model.load("red", registry=registry, public_key=key).release) == "red@3"
    write(registry, replace(signed, by="Eve"), champion=3)
    assert refusal(Model.load, "red", registry=registry, public_key=pem) == (
        "red@3: the signature is not of this key, or the release was altered after it was signed\n"
        "  do not use it; ask who runs the registry"
    )
    assert refusal(Model.load, "red", registry=registry, public_key="none.pem") == (
        "none.pem: the public key cannot be read (No such file or directory)"
    )


# --- addresses


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/srv/models/", "/srv/models"),
        ("/srv/x/../models", "/srv/models"),
        ("~/models", f"{Path.home()}/models"),
        ("/srv/models:2", "/srv/models:2"),
        ("file:///srv/my%20models/", "/srv/my models"),
        ("HTTPS://example.org/models//", "https://example.org/models"),
        ("s3://bucket/models/", "s3://bucket/models"),
        ("github://Owner/repo", "https://github.com/Owner/repo/releases/download/registry-index"),
    ],
)
def test_addresses(given: str, expected: str) -> None:
    assert root_of(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "the registry's address is empty\n  give a folder or a URL"),
        ("s3:/bucket/m", "s3:/bucket/m: neither a URL nor a folder\n  a URL has :// in it; a folder of that name is"
         " ./s3:/bucket/m"),
        ("github:owner/repo", "github:owner/repo: neither a URL nor a folder\n  a URL has :// in it; a folder of that"
         " name is ./github:owner/repo"),
        ("file://host/models", "file://host/models: a file on another machine\n  write it as file:///FOLDER"),
        ("https://ana:secret@example.org/m", "a password in the address of example.org\n  leave it out: addresses are"
         " logged"),
        ("https://example.org/a/../b", "https://example.org/a/../b: `..` in the address of a registry\n  write the"
         " address out"),
        ("s3://bucket/../b", "s3://bucket/../b: `..` in the address of a registry\n  write the address out"),
        ("https://example.org/?key=1", "https://example.org/?key=1: a query in the address of a registry\n  give the"
         " address of its root alone"),
        ("http://[::1", "http://[::1: no address of a registry (Invalid IPv6 URL)"),
        ("mlflow://host", "mlflow://host: an MLflow server has no index that the runtime could read\n  factory models"
         " pull, or MLflow's own client"),
    ],
)  # fmt: skip
def test_addresses_that_are_refused(given: str, message: str) -> None:
    assert refusal(root_of, given) == message


def test_addresses_that_need_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    assert refusal(Model.load, "red", registry="nosuch://x/y") == (
        "nosuch://x/y: Protocol not known: nosuch\n  pip install 'clip-factory[registry]'"
    )
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert refusal(Model.load, "red", registry="s3://bucket/models") == (
        "s3://bucket/models: s3:// needs fsspec, which is not installed\n  pip install 'clip-factory[registry]'"
    )


def test_folders_that_are_none(tmp_path: Path) -> None:
    assert refusal(Model.load, "red", registry=tmp_path / "none") == (
        f"{tmp_path}/none/index.json: no such file\n  check the address of the registry"
    )
    os.mkfifo(tmp_path / "index.json")
    assert refusal(Model.load, "red", registry=tmp_path) == f"{tmp_path}/index.json: not a file"


# --- servers that misbehave


class Bad(Quiet):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802
        what = self.path.split("/")[1]
        if what.isdigit():
            self.send_response(int(what))
            self.send_header("Content-Length", "0")
            if what.startswith("3"):
                self.send_header("Location", "file:///etc/passwd" if what == "302" else "ftp://127.0.0.1/x")
            self.end_headers()
        elif what == "loop":
            self.send_response(302)
            self.send_header("Location", self.path + "x")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            getattr(self, what)()
        self.close_connection = True

    def announced(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(10**12))
        self.end_headers()

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except OSError:
            pass

    def short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"{}")

    def silent(self) -> None:
        self.rfile.read(1)

    def gibberish(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n")


@pytest.fixture
def bad() -> Iterator[str]:
    with serving(Bad) as url:
        yield url


BUSY, WRONG = UnreachableError, RegistryError


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("404", WRONG, "no such file\n  check the address of the registry"),
        ("403", WRONG, "the server refuses (HTTP 403)\n  check the address and your rights"),
        ("503", BUSY, "cannot be reached (HTTP 503)"),
        ("302", WRONG, "the server refuses (HTTP 302)\n  check the address and your rights"),
        ("301", WRONG, "the server refuses (HTTP 301)\n  check the address and your rights"),
        ("announced", WRONG, "larger than 1,000 bytes\n  the index says less, or it is no index"),
        ("endless", WRONG, "larger than 1,000 bytes\n  the index says less, or it is no index"),
        ("short", BUSY, "cut short after 2 of 100 bytes"),
        ("silent", BUSY, "cannot be reached (timed out)"),
        ("gibberish", BUSY, "cannot be reached (SSH-2.0-OpenSSH)"),
        ("loop", WRONG, "the server refuses (HTTP 302)\n  check the address and your rights"),
    ],
)
def test_servers_that_misbehave(
    bad: str, what: str, kind: type[RegistryError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "STALL_TIMEOUT", 0.3)
    with pytest.raises(RegistryError) as caught:
        read(f"{bad}/{what}", "index.json", 1000)
    assert type(caught.value) is kind
    assert str(caught.value) == f"{bad}/{what}/index.json: {message}"


def test_a_server_that_drips(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_SECONDS", 0.0)
    assert refusal(read, f"{bad}/endless", "index.json", 10**9) == f"{bad}/endless/index.json: took over 0 seconds"


def test_a_certificate_that_nobody_vouches_for(registry: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    with (
        serving(files_of(registry), self_signed(tmp_path / "server.pem")) as url,
        pytest.raises(RegistryError) as caught,
    ):
        read_index(url, Cache(tmp_path))
    assert type(caught.value) is RegistryError, "not unreachable: the cache must not paper over it"
    assert str(caught.value).startswith(
        f"{url}/index.json: its certificate cannot be trusted ([SSL: CERTIFICATE_VERIFY"
    )
    assert caught.value.hint == "do not go on: someone may be listening in, or the server's certificate has run out"
