"""What commands print of a registry: models, versions, releases, moves of aliases, differences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from clip_factory.errors import RegistryError
from clip_factory.runtime.releases.release_index import Entry
from clip_factory.runtime.releases.release_record import Release
from clip_factory.terminal import NOT_PROVEN, REFUSED, err, plain

if TYPE_CHECKING:
    from clip_factory.registry import Change, Move


def print_json(tree: dict[str, Any]) -> None:
    """Print one object on one line."""
    print(json.dumps(tree, ensure_ascii=False))  # noqa: T201


@contextmanager
def gated() -> Iterator[None]:
    """Leave with the exit code of the verdict where the gate stands in the way."""
    from clip_factory.registry import GateRefusedError, NotProvenError

    try:
        yield
    except GateRefusedError as error:
        _stop("refused", error, REFUSED)
    except NotProvenError as error:
        _stop("not proven", error, NOT_PROVEN)


def _stop(state: str, error: RegistryError, code: int) -> NoReturn:
    err.print(f"{state}: {plain(error.what)}\n  {plain(error.hint)}".rstrip(), style="red")
    raise typer.Exit(code)


def print_move(move: Move | None, release: Release, alias: str) -> None:
    """Say where an alias has moved, or that it was there already."""
    err.print(move_text(move) if move else f"{alias} of {release.name} stands for version {release.version} already")


def move_text(move: Move) -> str:
    """A move in words."""
    return f"{move.alias} of {move.name}: version {move.before or 'none'} -> {move.after}"


def listed(name: str, entry: Entry) -> dict[str, Any]:
    """A model and its versions, for programs."""
    versions = [release_fields(release) for release in entry.versions.values()]
    return {"name": name, "question": entry.question, "aliases": dict(entry.aliases), "versions": versions}


def headline(gate: Any) -> str:
    """The sentence that leads the report; empty where the file has none, as one that a stranger wrote."""
    from clip_factory.gate.verdict import read

    try:
        return read(gate).headline
    except (ValueError, AttributeError, TypeError):
        return ""


def release_fields(release: Release) -> dict[str, Any]:
    """A release as its record says it, and the state that two of its flags stand for."""
    return release.to_json() | {"state": release.state}


def model_row(name: str, entry: Entry) -> tuple[object, ...]:
    """A model: name, aliases, newest version, when, kB, verdict, question."""
    newest = entry.versions[max(entry.versions)]
    aliases = ", ".join(f"{alias} {version}" for alias, version in sorted(entry.aliases.items()))
    size = f"{newest.size / 1000:.1f}"
    return name, aliases, newest.version, moment(newest.created), size, gate_text(newest), entry.question


def version_rows(entry: Entry) -> Iterable[tuple[object, ...]]:
    """A row a version, the newest first: number, aliases, when, who, kB, threshold, verdict."""
    for version, one in sorted(entry.versions.items(), reverse=True):
        aliases = ", ".join(entry.aliases_of(version))
        size, threshold = f"{one.size / 1000:.1f}", f"{one.threshold:g}"
        yield version, aliases, moment(one.created), one.by, size, threshold, gate_text(one)


def release_rows(release: Release, aliases: list[str], *, signed: bool) -> Iterable[tuple[str, object]]:
    """What a release says of itself, a row a fact."""
    mark = "checked" if signed else "not checked" if release.signature else "none"
    return (
        ("model", release),
        ("question", release.question),
        ("aliases", ", ".join(aliases) or "none"),
        ("gate", gate_text(release)),
        ("threshold", f"{release.threshold:g}"),
        ("size", f"{release.size / 1000:.1f} kB"),
        ("sha256", release.sha256),
        ("published", f"{moment(release.created)} by {release.by}"),
        ("signature", mark),
        ("files", ", ".join(sorted(release.files))),
    )


def moment(when: str) -> str:
    """A time of a record, to the second."""
    return f"{when[:19].replace('T', ' ')} UTC"


def gate_text(release: Release) -> str:
    """The verdict; that it was forced, where it is one that the gate refused."""
    return "REFUSED, forced" if release.state == "refused" else release.state


def change_row(change: Change) -> tuple[object, ...]:
    """What changed, before, after."""
    return change.what, _value(change.before), _value(change.after)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
