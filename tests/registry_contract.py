"""What every back-end of the registry must do. A test module subclasses `Contract` and gives the fixture `registry`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType

import pytest
from fake_run import make_run

from factory.errors import RegistryError
from factory.registry.backend import Decide, Draft, Move, Registry
from factory.runtime import Model
from factory.runtime.index import Reference, Release

FILES = ("model.onnx", "card.md", "manifest.json", "gate.json", "report.html", "scenario.yaml")


@pytest.fixture(scope="session")
def a_draft(tmp_path_factory: pytest.TempPathFactory) -> Draft:
    """A release of a model file that the runtime accepts, ready to be published."""
    folder = tmp_path_factory.mktemp("to-publish")
    _, run = make_run(folder)
    for file in FILES:
        if not run.file(file).is_file():
            run.file(file).write_text(f"---\nlicense: apache-2.0\ntags:\n- clip-factory\n---\n\n# {file}\n")
    model = Model.load(run.file("model.onnx"))
    return Draft(
        name=model.name,
        question=model.question,
        threshold=model.threshold,
        passed=True,
        forced=False,
        created="2026-11-21T09:00:00Z",
        by="Ada <ada@example.org>",
        files=MappingProxyType({file: run.file(file).read_bytes() for file in FILES}),
    )


def another(draft: Draft, number: int) -> Draft:
    """The same model with another report: a release of its own."""
    report = draft.files["report.html"] + b"<!-- %d -->" % number
    return replace(draft, files=MappingProxyType({**draft.files, "report.html": report}))


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
        assert first == a_draft.seal(1)
        for release, draft in ((first, a_draft), (second, another(a_draft, 2))):
            assert {file: registry.read(release, file) for file in release.files} == dict(draft.files)

    def test_the_same_bytes_are_no_new_version(self, registry: Registry, a_draft: Draft) -> None:
        first = registry.publish(a_draft)
        registry.publish(another(a_draft, 2))
        assert registry.publish(replace(a_draft, by="Bob", created="2026-11-22T00:00:00Z")) == first
        assert sorted(registry.index().models[a_draft.name].versions) == [1, 2]

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
        with pytest.raises(RegistryError, match="more than"):
            registry.read(release, "card.md")

    def tamper(self, release: Release, file: str, data: bytes) -> None:
        """Change the stored bytes of a file behind the registry's back."""
        raise NotImplementedError


__all__ = ["Contract", "a_draft", "another", "to"]
