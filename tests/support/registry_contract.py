"""What every back-end of the registry must do. A test module subclasses `Contract` and gives the fixture `registry`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clip_factory.cli.main import app
from clip_factory.errors import RegistryError
from clip_factory.registry.aliases import promote, rollback
from clip_factory.registry.backend import PROVENANCE, Decide, Draft, Move, Registry
from clip_factory.registry.draft_from_run import GateRefusedError, NotProvenError, PublishOptions, draft_from_run
from clip_factory.registry.keys import Signer, make_pair
from clip_factory.registry.publish import publish
from clip_factory.registry.pull import pull
from clip_factory.registry.trust import Trust
from clip_factory.registry.verify import verify_release
from clip_factory.runtime.releases.release_record import Release
from clip_factory.runtime.releases.release_reference import Reference
from support import finished_run

NAME = "red-ball"


@dataclass(frozen=True)
class Runs:
    """Finished runs of one scenario."""

    first: Path
    second: Path
    not_proven: Path
    """Nothing is broken, and nobody has checked the teacher."""
    refused: Path
    """By the gate."""


@pytest.fixture(scope="session")
def some_runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("to-publish")
    first = finished_run.finished(folder / "first")
    short, refused = (
        finished_run.finished(folder / name, getattr(finished_run, name)) for name in ("NOT_PROVEN", "REFUSED")
    )
    return Runs(first, finished_run.another(first, folder / "second", threshold="0.5"), short, refused)


@pytest.fixture(scope="session")
def a_draft(some_runs: Runs) -> Draft:
    """A release of a model file that the runtime accepts, ready to be published."""
    return replace(draft_from_run(some_runs.first), created="2026-11-21T09:00:00Z", by="Ada <ada@example.org>")


def another(draft: Draft, number: int) -> Draft:
    """The same model with another report: a release of its own."""
    report = draft.files["report.html"] + b"<!-- %d -->" % number
    return replace(draft, files={**draft.files, "report.html": report})


def to(name: str, alias: str, after: int, by: str = "Ada") -> Decide:
    """Move an alias to a version, wherever it stands."""

    def decide(history: Sequence[Move]) -> Move | None:
        before = next((move.after for move in reversed(history) if move.alias == alias), None)
        if before == after:
            return None
        return Move(name, alias, before, after, "2026-11-21T10:00:00Z", by, "promote")

    return decide


class Contract:
    """Tests of one back-end; `registry` is empty at first."""

    @pytest.fixture
    def registry(self) -> Registry:
        raise NotImplementedError

    def test_versions_count_up_and_hold_what_was_given(self, registry: Registry, a_draft: Draft) -> None:
        first = registry.publish(a_draft)
        second = registry.publish(another(a_draft, 2))
        assert (first.version, second.version) == (1, 2)
        assert registry.index().models[a_draft.name].versions == {1: first, 2: second}
        assert first == a_draft.to_release(1)
        for release, draft in ((first, a_draft), (second, another(a_draft, 2))):
            assert {file: registry.read(release, file) for file in release.files} == dict(draft.files)

    def test_the_same_bytes_are_no_new_version(self, registry: Registry, a_draft: Draft) -> None:
        first = registry.publish(a_draft)
        registry.publish(another(a_draft, 2))
        assert registry.publish(replace(a_draft, by="Bob", created="2026-11-22T00:00:00Z")) == first
        assert sorted(registry.index().models[a_draft.name].versions) == [1, 2]

    def test_how_it_came_about_makes_no_other_bytes(self, registry: Registry, a_draft: Draft) -> None:
        told = [replace(a_draft, files={**a_draft.files, PROVENANCE: text}) for text in (b"{}", b'{"run": 2}')]
        first = registry.publish(told[0])
        assert registry.publish(told[1]) == registry.publish(a_draft) == first
        assert registry.read(first, PROVENANCE) == b"{}"

    def test_aliases_move_and_history_tells(self, registry: Registry, a_draft: Draft) -> None:
        name = a_draft.name
        registry.publish(a_draft)
        registry.publish(another(a_draft, 2))
        assert registry.history(name) == []
        for after, by in ((1, "Ada"), (2, "Bob"), (1, "Cyd")):
            assert registry.move(name, to(name, "champion", after, by)) is not None
        registry.move(name, to(name, "shadow", 2))
        assert registry.index().models[name].aliases == {"champion": 1, "shadow": 2}
        told = [(move.alias, move.before, move.after, move.by) for move in registry.history(name)]
        assert told == [
            ("champion", None, 1, "Ada"),
            ("champion", 1, 2, "Bob"),
            ("champion", 2, 1, "Cyd"),
            ("shadow", None, 2, "Ada"),
        ]

    def test_no_move_where_there_is_nothing_to_do(self, registry: Registry, a_draft: Draft) -> None:
        registry.publish(a_draft)
        assert registry.move(a_draft.name, to(a_draft.name, "champion", 1)) is not None
        assert registry.move(a_draft.name, to(a_draft.name, "champion", 1)) is None
        assert len(registry.history(a_draft.name)) == 1

    def test_an_error_of_decide_changes_nothing(self, registry: Registry, a_draft: Draft) -> None:
        registry.publish(a_draft)

        def refuse(history: Sequence[Move]) -> Move | None:
            raise RegistryError("no")

        with pytest.raises(RegistryError, match="no"):
            registry.move(a_draft.name, refuse)
        assert registry.history(a_draft.name) == []

    def test_index_answers_references(self, registry: Registry, a_draft: Draft) -> None:
        name = a_draft.name
        registry.publish(a_draft)
        registry.publish(another(a_draft, 2))
        registry.move(name, to(name, "champion", 1))
        index = registry.index()
        assert index.find(Reference.parse(name)).version == 1
        assert index.find(Reference.parse(f"{name}@2")).version == 2
        with pytest.raises(RegistryError, match=f"{name} has no version 7"):
            index.find(Reference.parse(f"{name}@7"))

    def test_publishers_at_once_lose_nothing(self, registry: Registry, a_draft: Draft) -> None:
        drafts = [another(a_draft, number % 4) for number in range(8)]  # each is published twice
        with ThreadPoolExecutor(4) as pool:
            releases = list(pool.map(registry.publish, drafts))
        found = registry.index().models[a_draft.name].versions
        assert len(found) == 4
        for draft, release in zip(drafts, releases, strict=True):
            assert found[release.version] == release
            assert dict(release.files) == draft.entries

    def test_altered_bytes_do_not_match(self, registry: Registry, a_draft: Draft) -> None:
        """The caller compares hashes; a back-end hands out what is there, but no more than the release says."""
        release = registry.publish(a_draft)
        self.tamper(release, "card.md", b"x" * release.files["card.md"].size)
        found = registry.read(release, "card.md")
        assert hashlib.sha256(found).hexdigest() != release.files["card.md"].sha256
        self.tamper(release, "card.md", b"x" * (release.files["card.md"].size + 1))
        with pytest.raises(RegistryError, match=r"(more|larger) than"):
            registry.read(release, "card.md")

    def tamper(self, release: Release, file: str, data: bytes) -> None:
        """Change the stored bytes of a file behind the registry's back."""
        raise NotImplementedError

    def test_publish_promote_roll_back_pull_verify(self, registry: Registry, some_runs: Runs, tmp_path: Path) -> None:
        first = publish(some_runs.first, registry, "champion", PublishOptions(by="Ada"))
        assert (first.release.version, first.new, first.release.passed) == (1, True, True)
        again = publish(some_runs.first, registry, "champion")
        assert (again.release, again.new, again.move) == (first.release, False, None)
        assert publish(some_runs.second, registry).release.version == 2
        promote(registry, f"{NAME}@2", "champion", "Bob")
        assert registry.index().find(Reference.parse(NAME)).version == 2
        rollback(registry, NAME, "champion", "Cyd")
        told = [(move.before, move.after, move.by, move.why) for move in registry.history(NAME)]
        assert told == [(None, 1, "Ada", "publish"), (1, 2, "Bob", "promote"), (2, 1, "Cyd", "rollback")]
        path = pull(registry, f"{NAME}@champion", tmp_path)
        for file in first.release.files:
            assert (path.parent / file).read_bytes() == (some_runs.first / file).read_bytes()
        checked = verify_release(registry, f"{NAME}@2")
        assert checked.model.threshold == 0.5 and checked.difference < 0.001

    def test_a_refused_run_is_published_by_force_alone(self, registry: Registry, some_runs: Runs) -> None:
        with pytest.raises(GateRefusedError, match="the gate refused this run"):
            publish(some_runs.refused, registry)
        assert registry.index().models == {}
        release = publish(some_runs.refused, registry, options=PublishOptions(force=True)).release
        assert (release.passed, release.forced) == (False, True)
        assert b"Published by force" in registry.read(release, "card.md")
        with pytest.raises(GateRefusedError, match=f"{NAME}@1: the gate refused it"):
            promote(registry, str(release), "champion", "Ada")
        assert registry.history(NAME) == []

    def test_a_run_that_is_not_proven_is_published_only_where_that_is_allowed(
        self, registry: Registry, some_runs: Runs
    ) -> None:
        publish(some_runs.first, registry, "champion")
        with pytest.raises(NotProvenError, match="nobody has checked the teacher"):
            publish(some_runs.not_proven, registry, options=PublishOptions(force=True))
        assert sorted(registry.index().models[NAME].versions) == [1]

        ada, bob = (PublishOptions(by=name, allow_unproven=True) for name in ("Ada", "Bob"))
        release = publish(some_runs.not_proven, registry, options=ada).release
        assert (release.state, release.version) == ("not proven", 2)
        assert b"Published although it is not proven.** ` Ada ` allowed it." in registry.read(release, "card.md")
        assert publish(some_runs.not_proven, registry, options=bob).release == release
        assert registry.index().models[NAME].versions[2].state == "not proven"

    def test_the_champion_is_not_proven_only_where_that_is_allowed(self, registry: Registry, some_runs: Runs) -> None:
        allowed = PublishOptions(by="Ada", allow_unproven=True)
        publish(some_runs.first, registry, "champion")
        publish(some_runs.not_proven, registry, options=allowed)
        promote(registry, f"{NAME}@2", "shadow", "Ada")
        for options in (PublishOptions(), PublishOptions(force=True)):
            with pytest.raises(NotProvenError, match=f"{NAME}@2: it is not proven; champion does not stand for such"):
                promote(registry, f"{NAME}@2", "champion", "Ada", options=options)
        assert registry.index().models[NAME].aliases == {"champion": 1, "shadow": 2}

        assert promote(registry, f"{NAME}@2", "champion", "Ada", options=allowed) is not None
        assert promote(registry, f"{NAME}@2", "champion", "Ada") is None
        promote(registry, f"{NAME}@1", "champion", "Ada")
        assert rollback(registry, NAME, "champion", "Ada").after == 2

    def test_an_altered_file_is_not_pulled(self, registry: Registry, some_runs: Runs, tmp_path: Path) -> None:
        release = publish(some_runs.first, registry).release
        data = bytearray((some_runs.first / "gate.json").read_bytes())
        data[-3] ^= 1
        self.tamper(release, "gate.json", bytes(data))
        with pytest.raises(
            RegistryError, match=f"{NAME}@1: gate.json .*the release says {release.files['gate.json'].sha256}"
        ):
            pull(registry, f"{NAME}@1", tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("blue-ball", "no model blue-ball in the registry"),
            (f"{NAME}@3", f"{NAME} has no version 3"),
            (f"{NAME}@shadow", f"{NAME} has no alias shadow"),
        ],
    )
    def test_what_is_not_there_is_named(self, registry: Registry, a_draft: Draft, reference: str, message: str) -> None:
        registry.publish(a_draft)
        with pytest.raises(RegistryError, match=message):
            promote(registry, reference, "champion", "Ada")
        with pytest.raises(RegistryError, match=f"{NAME} has no alias champion"):
            rollback(registry, NAME, "champion", "Ada")

    def test_signatures_are_kept(self, registry: Registry, some_runs: Runs, tmp_path: Path) -> None:
        private, public = make_pair(tmp_path / "keys")
        publish(some_runs.first, registry, options=PublishOptions(signer=Signer.read(private)))
        assert verify_release(registry, f"{NAME}@1", Trust.read(public)).signed
        publish(some_runs.second, registry)
        with pytest.raises(RegistryError, match=f"{NAME}@2: not signed"):
            pull(registry, f"{NAME}@2", tmp_path / "pulled", Trust.read(public))

    def test_all_of_it_by_commands(self, registry: Registry, some_runs: Runs, tmp_path: Path) -> None:
        def factory(*words: str) -> list[str]:
            result = CliRunner().invoke(app, list(words))
            assert result.exit_code == 0, (words, result.output, result.exception)
            return result.stdout.splitlines()

        there = ("--registry", registry.url)
        first = factory("publish", str(some_runs.first), "--to", registry.url, "--alias", "champion", "--by", "Ada")
        assert first == [f"{NAME}@1"]
        assert factory("publish", str(some_runs.second), *there) == [f"{NAME}@2"]
        assert factory("models", "promote", f"{NAME}@2", "champion", *there) == [f"{NAME}@2"]
        assert factory("models", "rollback", NAME, "champion", *there) == [f"{NAME}@1"]
        assert "champion 1" in " ".join(factory("models", "list", *there))
        assert "rollback" in " ".join(factory("models", "show", f"{NAME}@champion", *there))
        [pulled] = factory("models", "pull", f"{NAME}@champion", *there, "--out", str(tmp_path))
        assert Path(pulled).read_bytes() == (some_runs.first / "model.onnx").read_bytes()
        assert factory("models", "verify", pulled, *there)[-1].split() == ["ok", f"{NAME}@1"]
        assert any("threshold" in line for line in factory("models", "diff", f"{NAME}@1", f"{NAME}@2", *there))


__all__ = ["Contract", "Runs", "a_draft", "another", "some_runs", "to"]
