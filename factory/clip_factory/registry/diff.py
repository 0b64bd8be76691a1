"""Which of two versions of a model is better, and what changed: figures, scenario, size, threshold, teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clip_factory.errors import RegistryError
from clip_factory.evaluation.gate_comparison import GateComparison, compare_gates, is_about_teacher
from clip_factory.registry.backend import Registry
from clip_factory.registry.release_reader import clauses, read_checked, read_gate, read_model
from clip_factory.registry.trust import DEFAULT_TRUST, Trust
from clip_factory.run_folder import SCENARIO
from clip_factory.runtime.releases.json_fields import loads
from clip_factory.runtime.releases.release_record import Release
from clip_factory.runtime.releases.release_reference import Reference

OF_RELEASE = ("question", "threshold", "size", "passed", "forced")
OF_MODEL = ("image_size", "backbone", "precision", "version", "license")
"""Keys of the file's metadata; `version` is the factory's."""
OF_TEACHER = (
    *("scenario.teacher.model", "scenario.teacher.pretrained", "scenario.positive", "scenario.negative"),
    *("scenario.labels.source", "scenario.labels.model", "scenario.labels.combine", "scenario.labels.doubt"),
)
"""How the names of facts begin that say which teacher labeled, and with which phrases."""
BY_WORDS = {"scenario.labels.source": "zero-shot"}
"""What a scenario means that says nothing of label sources."""
MAX_DEPTH = 20


@dataclass(frozen=True)
class Change:
    """One thing that two versions have different; None where one has none."""

    what: str
    """Dotted, such as gate.agreement.figure or scenario.positive."""
    before: Any
    after: Any


@dataclass(frozen=True)
class Diff:
    """Two releases compared."""

    releases: tuple[Release, Release]
    recorded: GateComparison
    """Which is better, by what their gate.json files say."""
    changes: list[Change]
    """Figures against a teacher are not among them where people's labels measured either release."""


def compare(registry: Registry, before: str, after: str, trust: Trust = DEFAULT_TRUST) -> list[Change]:
    """What the second release has different from the first; as `diff`."""
    return diff(registry, before, after, trust).changes


def diff(registry: Registry, before: str, after: str, trust: Trust = DEFAULT_TRUST) -> Diff:
    """Compare the second release with the first.

    Args:
        registry: Where both are.
        before: A reference.
        after: A reference; it may be to another model.
        trust: Whom both must be signed by, beside what the registry asks.

    Raises:
        RegistryError: A release is not there, not signed as asked, or was altered.
    """
    index = registry.index()
    first, second = (index.find(Reference.parse(text)) for text in (before, after))
    for release in (first, second):
        trust.check(registry, release)
    gates = read_gate(registry, first), read_gate(registry, second)
    old, new = (facts(registry, one, gate) for one, gate in zip((first, second), gates, strict=True))
    recorded = compare_records(gates, (old, new), (before, after))
    return Diff((first, second), recorded, without_teacher(changes(old, new), recorded))


def compare_records(
    gates: tuple[Any, Any], known: tuple[dict[str, Any], dict[str, Any]], names: tuple[str, str]
) -> GateComparison:
    """Which of two models is better, in one line, by their records.

    Args:
        gates: The content of their gate.json files.
        known: Their facts.
        names: What the line calls them.
    """
    first, second = map(_teacher, known)
    return compare_gates(*gates, names, same_teacher=first == second)


def _teacher(known: dict[str, Any]) -> dict[str, Any]:
    """Of a model's facts, those that say which teacher labeled, and what it was asked."""
    teacher = BY_WORDS | {key: known[key] for key in known if key.startswith(OF_TEACHER)}
    return teacher if teacher.items() >= BY_WORDS.items() else teacher | {"question": known.get("scenario.question")}


def without_teacher(listed: list[Change], recorded: GateComparison) -> list[Change]:
    """The changes without figures against a teacher, where people's labels measured either model."""
    return [change for change in listed if not (recorded.by_people and is_about_teacher(change.what))]


def facts(registry: Registry, release: Release, gate: Any) -> dict[str, Any]:
    """All that is compared, under dotted names; `gate` is the content of the release's gate.json."""
    metadata = read_model(registry, release).metadata
    teacher = loads(metadata.get("teacher", "{}"), f"{release}: the teacher in its file")
    return {
        **{name: getattr(release, name) for name in OF_RELEASE},
        **{f"model.{name}": metadata.get(name) for name in OF_MODEL},
        **_flat("teacher", teacher),
        **facts_of_files(gate, _scenario(registry, release)),
    }


def facts_without_model(registry: Registry, release: Release, gate: Any) -> dict[str, Any]:
    """Those of the facts that need no model to be loaded: what the record, gate.json and scenario.yaml say."""
    return {"threshold": release.threshold, "size": release.size, **facts_of_files(gate, _scenario(registry, release))}


def facts_of_files(gate: Any, scenario: Any) -> dict[str, Any]:
    """What a gate.json and a scenario.yaml say, decoded, under dotted names."""
    return {**_gate(gate), **_flat("scenario", scenario)}


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """What two collections of facts have different."""
    keys = [*old, *(key for key in new if key not in old)]
    return [Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _gate(gate: Any) -> dict[str, Any]:
    facts = {}
    for clause in clauses(gate):
        for key in ("verdict", "figure", "n", "rule"):
            facts[f"gate.{clause['name']}.{key}"] = clause.get(key)
    figures = gate.get("figures") if isinstance(gate, dict) else None
    return facts | _flat("figures", figures if isinstance(figures, dict) else {})


def _scenario(registry: Registry, release: Release) -> Any:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ModuleNotFoundError:
        raise RegistryError("ruamel.yaml is not installed", hint="pip install 'clip-factory[registry]'") from None

    try:
        return YAML(typ="safe", pure=True).load(read_checked(registry, release, SCENARIO))
    except (YAMLError, ValueError, RecursionError) as error:
        raise RegistryError(f"{release}: {SCENARIO} cannot be read ({str(error).splitlines()[0]})") from None


def _flat(name: str, tree: Any, depth: int = 0) -> dict[str, Any]:
    """The leaves of a tree of mappings under dotted names; lists are leaves."""
    if not isinstance(tree, dict) or depth > MAX_DEPTH:
        return {name: tree}
    return {
        key: leaf for part, below in tree.items() for key, leaf in _flat(f"{name}.{part}", below, depth + 1).items()
    }
