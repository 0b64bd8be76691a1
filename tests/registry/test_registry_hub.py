"""The Hugging Face Hub as a registry, against a stand-in on loopback of the calls that huggingface_hub makes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Draft, Move
from clip_factory.registry.backends.hub_registry import HubRegistry
from clip_factory.runtime import Model
from clip_factory.runtime.releases.release_record import Release
from support.fake_hub import NARROW, READER, WRITER, FakeHub, Store
from support.loopback import Response
from support.registry_contract import Contract, a_draft, another, some_runs, to

NAME, REPO = "red-ball", "acme/red-ball"
assert a_draft and some_runs  # fixtures


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its storage has a protocol of its own
    own = tmp_path_factory.mktemp("hub") / "harnesses.json"
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(own))  # a cache in the user's home otherwise
    monkeypatch.setenv("HF_TOKEN", WRITER)
    with Store() as store, FakeHub(store) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)  # HF_ENDPOINT is read when the library is imported
        files = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        yield server


@pytest.fixture
def registry(hub: FakeHub) -> HubRegistry:
    return HubRegistry(f"hf://{REPO}", sleep=lambda seconds: None)


class TestContract(Contract):
    @pytest.fixture
    def registry(self, hub: FakeHub) -> HubRegistry:
        self.hub = hub
        return HubRegistry("hf://acme")

    def tamper(self, release: Release, file: str, data: bytes) -> None:
        sha = release.files[file].sha256
        repo = self.hub.repos[REPO]
        repo.add(repo.commits[repo.head] | {f"blobs/{sha[:2]}/{sha}": data}, "by hand")


def test_calls_of_publish_move_and_read(hub: FakeHub, registry: HubRegistry, a_draft: Draft) -> None:
    at = f"/api/models/{REPO}"
    missing = [f"GET {at}/refs", "POST /api/repos/create"]
    empty = [f"GET {at}/refs", *_files(2)]
    store = [f"POST {at}/preupload/main", f"POST /{REPO}.git/info/lfs/objects/batch"]
    tag = [f"GET {at}/refs", f"GET {at}/commits/main", rf"POST {at}/tag/\w+"]
    registry.publish(a_draft)
    commit = ["POST /api/validate-yaml", *store, f"POST {at}/commit/main"]
    _expect(hub, [*missing, *empty, f"GET {at}/refs", *commit, *tag])
    assert [call.split()[0] for call in hub.store.seen()] == ["PUT", "PUT"]  # model.onnx at the root and its blob
    release = registry.publish(another(a_draft, 2))
    _expect(hub, [f"GET {at}/refs", *_files(2), f"GET {at}/refs", *commit, *tag])
    registry.move(NAME, to(NAME, "champion", 2))
    _expect(hub, [f"GET {at}/refs", *_files(2), f"POST {at}/preupload/main", f"POST {at}/commit/main"])
    registry.read(release, "model.onnx")
    _expect(hub, _files(1))


def _files(count: int) -> list[str]:
    return [rf"GET /{REPO}/resolve/\w+/.+"] * count


def _expect(hub: FakeHub, calls: list[str]) -> None:
    assert len(hub.calls) == len(calls), hub.seen()
    for found, expected in zip(hub.seen(), calls, strict=True):
        assert re.fullmatch(expected, found), (found, expected)
    hub.calls.clear()


def test_the_repository_is_one_that_the_hub_understands(hub: FakeHub, registry: HubRegistry, a_draft: Draft) -> None:
    first, second = registry.publish(a_draft), registry.publish(another(a_draft, 2))
    repo = hub.repos[REPO]
    assert repo.private
    for release in (first, second):
        files = repo.commits[repo.tags[f"v{release.version}"]]
        assert files["README.md"] == a_draft.files["card.md"]
        assert files["model.onnx"] == release.sha256  # an LFS file, known by its hash
    assert repo.commits[repo.tags["v2"]]["report.html"] == another(a_draft, 2).files["report.html"]


def test_the_runtime_reads_a_repository_as_it_is(
    hub: FakeHub, registry: HubRegistry, a_draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(another(a_draft, 2))
    registry.publish(a_draft)
    registry.move(NAME, to(NAME, "champion", 2))
    hub.repos[REPO].private = False
    monkeypatch.delenv("HF_TOKEN")
    model = Model.load(f"{NAME}@champion", registry=f"{hub.url}/{REPO}/resolve/main")
    assert model.sha256 == registry.index().models[NAME].versions[2].sha256


def test_an_owner_is_the_registry_of_all_their_models(hub: FakeHub, a_draft: Draft) -> None:
    registry = HubRegistry("hf://acme")
    registry.publish(a_draft)
    registry.publish(replace(a_draft, name="forklift"))
    assert sorted(registry.index().models) == ["forklift", NAME]
    with pytest.raises(RegistryError, match=f"hf://{REPO} keeps {NAME}, not forklift"):
        HubRegistry(f"hf://{REPO}").publish(replace(a_draft, name="forklift"))


def test_a_busy_hub_is_asked_again(hub: FakeHub, a_draft: Draft) -> None:
    waited: list[float] = []
    hub.failures += [Response(503), Response(429), Response(500)]
    assert HubRegistry(f"hf://{REPO}", waited.append).publish(a_draft).version == 1
    assert waited == [1.0, 2.0, 4.0]
    hub.failures += [Response(503)] * 5
    with pytest.raises(RegistryError, match="the Hub answers 503"):
        HubRegistry(f"hf://{REPO}", waited.append).index()


@pytest.mark.parametrize(
    ("token", "message"),
    [("hf_wrong", "does not know you .401"), (READER, "not allowed .403"), (NARROW, "not allowed .403"), (None, "403")],
)
def test_refusals_say_what_to_do(
    hub: FakeHub,
    registry: HubRegistry,
    a_draft: Draft,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    message: str,
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(RegistryError, match=message) as caught:
        registry.publish(a_draft)
    assert f"with a token that may write to {REPO}" in str(caught.value)
    assert "hf_w" not in str(caught.value).replace("hf_wrong", "") and (token or "hf_") not in str(caught.value)


def test_a_narrow_token_publishes_to_a_repository_that_is_there(
    hub: FakeHub, registry: HubRegistry, a_draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(a_draft)
    monkeypatch.setenv("HF_TOKEN", NARROW)
    assert registry.publish(another(a_draft, 2)).version == 2


def test_a_missing_repository_is_an_error_not_an_empty_registry(hub: FakeHub) -> None:
    with pytest.raises(RegistryError, match="hf://acme/nothing: no such repository, or it is hidden"):
        HubRegistry("hf://acme/nothing").index()


def test_decide_is_asked_again_where_somebody_was_quicker(hub: FakeHub, registry: HubRegistry, a_draft: Draft) -> None:
    registry.publish(a_draft)
    registry.publish(another(a_draft, 2))
    hub.rival_before = f"POST /api/models/{REPO}/commit"
    hub.rival = lambda: registry.move(NAME, to(NAME, "champion", 2, "Bob"))
    registry.move(NAME, to(NAME, "champion", 1, "Ada"))
    assert [(move.before, move.after, move.by) for move in registry.history(NAME)] == [(None, 2, "Bob"), (2, 1, "Ada")]


def test_a_commit_whose_answer_is_lost_is_made_once(hub: FakeHub, registry: HubRegistry, a_draft: Draft) -> None:
    hub.lost = f"POST /api/models/{REPO}/commit"
    assert registry.publish(a_draft) == a_draft.to_release(1)

    def always(history):
        return Move(NAME, "champion", None, 1, "2026-11-21T10:00:00Z", "Ada", "promote")

    hub.lost = f"POST /api/models/{REPO}/commit"
    assert registry.move(NAME, always) == always([])
    assert len(registry.history(NAME)) == 1
    assert list(registry.index().models[NAME].versions) == [1]


def test_a_tag_that_was_not_made_is_made_next_time(hub: FakeHub, registry: HubRegistry, a_draft: Draft) -> None:
    registry.publish(a_draft)
    registry.publish(another(a_draft, 2))
    tag = hub.repos[REPO].tags.pop("v1")
    registry.publish(a_draft)
    assert hub.repos[REPO].tags["v1"] == tag


def test_a_number_that_somebody_tagged_is_passed_over(hub: FakeHub, registry: HubRegistry, a_draft: Draft) -> None:
    registry.publish(a_draft)
    repo = hub.repos[REPO]
    repo.tags["v7"] = repo.head
    assert registry.publish(another(a_draft, 2)).version == 8


def test_a_file_that_is_gone_is_named(hub: FakeHub, registry: HubRegistry, a_draft: Draft) -> None:
    release = registry.publish(a_draft)
    repo = hub.repos[REPO]
    sha = release.files["gate.json"].sha256
    left = {path: data for path, data in repo.commits[repo.head].items() if path != f"blobs/{sha[:2]}/{sha}"}
    repo.add(left, "by hand")
    with pytest.raises(RegistryError, match=f"{NAME}@1 has lost its file gate.json"):
        registry.read(release, "gate.json")


@pytest.mark.parametrize("url", ["hf://", "hf:///x", "hf://acme/a/b", "hf://acme/../x"])
def test_wrong_addresses(url: str) -> None:
    with pytest.raises(RegistryError, match="no address of the Hub"):
        HubRegistry(url)


def test_offline_is_said_at_once(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    waited: list[float] = []
    with pytest.raises(RegistryError, match="offline mode is enabled") as caught:
        HubRegistry(f"hf://{REPO}", waited.append).index()
    assert "HF_HUB_OFFLINE" in str(caught.value) and not waited


def test_a_pinned_key_is_a_file_of_the_repository(hub: FakeHub, registry: HubRegistry, a_draft: Draft) -> None:
    assert registry.pinned_key() is None
    owner = HubRegistry("hf://acme")
    assert owner.pinned_key() is None
    registry.publish(a_draft)
    repo = hub.repos[REPO]
    repo.add(repo.commits[repo.head] | {"signer.pem": b"PEM"}, "by hand")
    assert registry.pinned_key() == owner.pinned_key() == b"PEM"
    owner.publish(replace(a_draft, name="forklift"))
    with pytest.raises(RegistryError, match="acme/forklift, acme/red-ball ask for different signatures"):
        owner.pinned_key()


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RegistryError, match="huggingface_hub is not installed") as caught:
        HubRegistry("hf://acme").index()
    assert "pip install 'clip-factory[registry]'" in str(caught.value)
