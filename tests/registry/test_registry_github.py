"""GitHub Releases as a registry, against a stand-in of the REST API on loopback."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Draft, Move
from clip_factory.registry.backends.github_registry import GitHubRegistry
from clip_factory.runtime import Model
from clip_factory.runtime.releases.release_index import Index
from clip_factory.runtime.releases.release_record import Release
from support.fake_github import READER, REPO, ROUTES, WRITER, Downloads, FakeGitHub
from support.loopback import Response
from support.registry_contract import Contract, a_draft, another, some_runs, to

NAME = "red-ball"
assert a_draft and some_runs  # fixtures


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    with Downloads() as downloads, FakeGitHub(downloads) as server:
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        monkeypatch.setenv("GITHUB_TOKEN", WRITER)
        yield server


@pytest.fixture
def registry(github: FakeGitHub) -> GitHubRegistry:
    return GitHubRegistry(f"github://{REPO}", sleep=lambda seconds: None)


class TestContract(Contract):
    @pytest.fixture
    def registry(self, github: FakeGitHub) -> GitHubRegistry:
        self.github = github
        return GitHubRegistry(f"github://{REPO}")

    def tamper(self, release: Release, file: str, data: bytes) -> None:
        assets = self.github.posted(f"{release.name}-v{release.version}")["assets"]
        assets[file] = (assets[file][0], data)


def test_calls_of_publish_move_and_read(github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft) -> None:
    registry.publish(a_draft)
    github.calls.clear()
    release = registry.publish(another(a_draft, 2))
    load = ["GET /git/ref/heads/clip-factory", "GET /contents/index.json", "GET /contents/history.json"]
    number = github.posted(f"{NAME}-v2")["id"]
    upload = ["POST /releases", *[f"POST /releases/{number}/assets"] * 7, f"PATCH /releases/{number}"]
    head = r"GET /git/commits/\w+"
    commit = [head, "POST /git/trees", "POST /git/commits", "PATCH /git/refs/heads/clip-factory"]
    asset = r"/releases/assets/\d+"
    index = github.posted("registry-index")["id"]
    replace_index = ["GET /releases/tags/registry-index", f"POST /releases/{index}/assets"]
    show = [*load, *replace_index, f"DELETE {asset}", f"PATCH {asset}", "GET /git/ref/heads/clip-factory"]
    _expect(github, [*load, *upload, *commit, *show])
    registry.move(NAME, to(NAME, "champion", 2))
    _expect(github, [*load, *commit, *show])
    registry.read(release, "model.onnx")
    _expect(github, [f"GET /releases/tags/{NAME}-v2", f"GET {asset}"])


def _expect(github: FakeGitHub, calls: list[str]) -> None:
    seen = [call.replace(f" /repos/{REPO}", " ") for call in github.seen()]
    assert len(seen) == len(calls), seen
    for found, expected in zip(seen, calls, strict=True):
        assert re.fullmatch(expected, found), (found, expected)
    github.calls.clear()


def test_a_busy_service_is_asked_again(github: FakeGitHub, a_draft: Draft) -> None:
    waited: list[float] = []
    registry = GitHubRegistry(f"github://{REPO}", waited.append)
    limits = {"Retry-After": "7"}
    github.failures += [Response(429, headers=limits), Response(502), Response(403, headers=limits), Response(503)]
    assert registry.publish(a_draft).version == 1
    assert waited == [7.0, 2.0, 7.0, 8.0]


def test_a_service_that_stays_busy_is_given_up(github: FakeGitHub, registry: GitHubRegistry) -> None:
    github.failures += [Response(503)] * 5
    with pytest.raises(RegistryError, match="503"):
        registry.index()
    assert len(github.calls) == 5
    github.failures += [Response(429, headers={"Retry-After": "3600"})]
    with pytest.raises(RegistryError, match="429"):
        registry.index()


@pytest.mark.parametrize(
    ("token", "message", "hint"),
    [
        ("ghp_wrong", "the token is refused", "is GITHUB_TOKEN still valid"),
        (READER, "not allowed .403: Resource not accessible", "Contents: read and write"),
        (None, "not found .404", "GITHUB_TOKEN is not set"),
    ],
)
def test_refusals_say_what_to_do(
    github: FakeGitHub, a_draft: Draft, monkeypatch: pytest.MonkeyPatch, token: str | None, message: str, hint: str
) -> None:
    if token is None:
        monkeypatch.delenv("GITHUB_TOKEN")
    else:
        monkeypatch.setenv("GITHUB_TOKEN", token)
    registry = GitHubRegistry(f"github://{REPO}")
    with pytest.raises(RegistryError, match=message) as caught:
        registry.publish(a_draft)
    assert hint in str(caught.value)
    assert "ghp_" not in str(caught.value) + repr(registry) + repr(registry._branch())


def test_a_missing_repository_is_an_error_not_an_empty_registry(github: FakeGitHub) -> None:
    with pytest.raises(RegistryError, match="acme/nothing: not found"):
        GitHubRegistry("github://acme/nothing").index()


def test_decide_is_asked_again_where_somebody_was_quicker(
    github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft
) -> None:
    registry.publish(a_draft)
    registry.publish(another(a_draft, 2))
    github.rival_before = "PATCH /repos/acme/models/git/refs"
    github.rival = lambda: registry.move(NAME, to(NAME, "champion", 2, "Bob"))
    registry.move(NAME, to(NAME, "champion", 1, "Ada"))
    assert [(move.before, move.after, move.by) for move in registry.history(NAME)] == [(None, 2, "Bob"), (2, 1, "Ada")]


@pytest.mark.parametrize("call", ["PATCH /repos/acme/models/git/refs", "POST /repos/acme/models/git/refs"])
def test_a_move_whose_answer_is_lost_is_made_once(
    github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft, call: str
) -> None:
    if call.startswith("PATCH"):
        registry.publish(a_draft)
    asked = []

    def always(history):
        asked.append(len(history))
        return Move(NAME, "champion", None, 1, "2026-11-21T10:00:00Z", "Ada", "promote")

    github.lost = call
    if call.startswith("POST"):  # the very first commit makes the branch; it is a release's
        assert registry.publish(a_draft) == a_draft.to_release(1)
        registry.move(NAME, always)
    else:
        registry.move(NAME, always)
    assert len(registry.history(NAME)) == 1 and len(asked) == 1
    assert list(registry.index().models[NAME].versions) == [1]


def test_a_tag_that_somebody_has_is_passed_over(github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft) -> None:
    other = {"tag_name": f"{NAME}-v1", "name": "by hand", "draft": False, "id": 99, "body": "", "assets": {}}
    github.releases[99] = other
    assert registry.publish(a_draft).version == 2


def test_the_same_bytes_at_the_same_time_leave_one_release(
    github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft
) -> None:
    github.rival_before = "POST /repos/acme/models/git/refs"
    github.rival = lambda: registry.publish(a_draft)
    assert registry.publish(a_draft).version == 2
    assert [release["tag_name"] for release in github.releases.values() if not release["draft"]] == [
        f"{NAME}-v2",
        "registry-index",
    ]
    assert f"tags/{NAME}-v1" not in github.refs


def test_a_publisher_that_dies_before_the_commit_changes_nothing(
    github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft
) -> None:
    registry.publish(a_draft)
    before = registry.index()

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_factory.registry.backends.github_registry._Branch.save", lambda *_: die())
        with pytest.raises(KeyboardInterrupt):
            registry.publish(another(a_draft, 2))
    assert registry.index() == before
    assert registry.publish(another(a_draft, 3)).version == 3  # 2 is a tag that the books do not know


def test_anybody_reads_a_public_registry_without_token_or_api(
    github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(another(a_draft, 2))
    registry.publish(a_draft)
    registry.move(NAME, to(NAME, "champion", 2))
    github.private = False
    monkeypatch.delenv("GITHUB_TOKEN")
    address = f"{github.url}/{REPO}/releases/download/registry-index"
    model = Model.load(f"{NAME}@champion", registry=address)
    assert model.sha256 == registry.index().models[NAME].versions[2].sha256


def test_the_copy_of_the_index_keeps_up_with_racing_writers(
    github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft
) -> None:
    for number in (1, 2):
        registry.publish(another(a_draft, number))
    moves = [to(NAME, f"alias-{number}", 1 + number % 2) for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda decide: registry.move(NAME, decide), moves))
    copy = github.posted("registry-index")["assets"]
    assert list(copy) == ["index.json"]
    assert copy["index.json"][1] == github.read("heads/clip-factory", "index.json")
    assert len(Index.parse(copy["index.json"][1]).models[NAME].aliases) == 6


def test_books_changed_by_hand_are_refused(github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft) -> None:
    registry.publish(a_draft)
    registry.move(NAME, to(NAME, "champion", 1))
    tree = json.loads(github.read("heads/clip-factory", "index.json"))
    tree["models"][NAME]["aliases"] = {}
    github.write("heads/clip-factory", "index.json", json.dumps(tree).encode())
    with pytest.raises(RegistryError, match="disagree"):
        registry.index()


def test_a_file_that_is_gone_is_named(github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft) -> None:
    release = registry.publish(a_draft)
    del github.posted(f"{NAME}-v1")["assets"]["gate.json"]
    with pytest.raises(RegistryError, match=f"{NAME}@1 has lost its file gate.json"):
        registry.read(release, "gate.json")


@pytest.mark.parametrize("url", ["github://acme", "github://acme/models/more", "github:///x", "github://a/../b"])
def test_wrong_addresses(github: FakeGitHub, url: str) -> None:
    with pytest.raises(RegistryError, match="names no repository"):
        GitHubRegistry(url).index()


def test_the_token_travels_over_https_alone() -> None:
    with pytest.raises(RegistryError, match="in the clear"):
        GitHubRegistry(f"github://{REPO}?api=http://example.org").index()


def test_a_pinned_key_is_a_file_of_the_branch(github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft) -> None:
    assert registry.pinned_key() is None
    registry.publish(a_draft)
    assert registry.pinned_key() is None
    github.write("heads/clip-factory", "signer.pem", b"PEM")
    assert registry.pinned_key() == b"PEM"
    registry.move(NAME, to(NAME, "champion", 1))
    assert registry.pinned_key() == b"PEM"  # a commit of the books keeps it


def test_a_draft_that_cannot_be_filled_is_taken_away(
    github: FakeGitHub, registry: GitHubRegistry, a_draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = (r"POST /releases/(\d+)/assets", lambda *_: Response(507))
    monkeypatch.setattr("support.fake_github.ROUTES", [full, *ROUTES])
    with pytest.raises(RegistryError, match="507"):
        registry.publish(a_draft)
    assert github.releases == {}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Response(200, b"<html>Log in to the network</html>"), "does not answer in JSON"),
        (Response(409, b'{"message": "Git Repository is empty."}'), "give it a first commit"),
        (Response(403, b'{"message": "API rate limit exceeded for 1.2.3.4"}'), "wait an hour, or set GITHUB_TOKEN"),
        (Response(500), "500"),
    ],
)
def test_odd_answers(github: FakeGitHub, registry: GitHubRegistry, answer: Response, message: str) -> None:
    github.failures += [answer] * 5
    with pytest.raises(RegistryError) as caught:
        registry.index()
    assert message in str(caught.value)
