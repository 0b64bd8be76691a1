"""What Tab offers: models and aliases of a registry that is a folder, runs, scenario files; the network is never asked.

Functions of this module give words that begin with what was typed. Where they give none, the shell completes paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clip_factory.run_folder import LATEST, RUNS, SCENARIO

if TYPE_CHECKING:
    from clip_factory.runtime.releases.release_index import Index

WORDS, PLACE = "COMP_WORDS", "COMP_CWORD"
"""Where bash says what stands on the line, and which word of it is to be completed."""


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Model files, runs, and what a registry holds, as NAME, NAME@ALIAS and NAME@VERSION."""
    here = Path(incomplete).parent
    files = (str(path) for path in _listed(here, "*.onnx"))
    return _matching([*_references(_index(ctx)), LATEST, *files, *_run_folders(RUNS)], incomplete)


def references(ctx: typer.Context, incomplete: str) -> list[str]:
    """What a registry holds, as NAME, NAME@ALIAS and NAME@VERSION."""
    return _matching(_references(_index(ctx)), incomplete)


def names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of a registry's models."""
    index = _index(ctx)
    return _matching(index.models if index else (), incomplete)


def aliases(ctx: typer.Context, incomplete: str) -> list[str]:
    """The aliases of the model that the command names already; of all models where it names none."""
    index = _index(ctx)
    if index is None:
        return _matching(["champion"], incomplete)
    wanted = str(ctx.params.get("reference") or ctx.params.get("name") or "").partition("@")[0]
    entries = [index.models[wanted]] if wanted in index.models else index.models.values()
    return _matching({alias for entry in entries for alias in entry.aliases} | {"champion"}, incomplete)


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Runs: `latest`, folders of runs, and their runs."""
    return _matching([LATEST, *_run_folders(Path(ctx.params.get("runs") or RUNS))], incomplete)


def targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Scenario files and runs."""
    here = Path(incomplete).parent
    return _matching([str(path) for ending in ("yaml", "yml") for path in _listed(here, f"*.{ending}")], incomplete) + (
        runs(ctx, incomplete)
    )


def measurable(ctx: typer.Context, incomplete: str) -> list[str]:
    """What can be evaluated: models, runs, scenario files."""
    return list(dict.fromkeys([*models(ctx, incomplete), *targets(ctx, incomplete)]))


@contextmanager
def for_bash(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Undo what bash does to `ball@champion`: it breaks the line at @, and keeps what stands before it.

    Args:
        environment: Of a process that bash asks for completions, which are printed within the context; changed in
            place.
    """
    typed = _rejoined(environment)
    printed = StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            print(line.removeprefix(typed))  # noqa: T201


def _rejoined(environment: MutableMapping[str, str]) -> str:
    """Put the words around each @ together again; what bash keeps of the one that is completed."""
    line = environment.get(WORDS, "")
    between = "\n" if "\n" in line else " "
    words = line.split(between)[: int(environment.get(PLACE) or 0) + 1]
    joined: list[str] = []
    for before, word in pairwise(["", *words]):
        if joined and "@" in (before, word):
            joined[-1] += word
        else:
            joined.append(word)
    environment[WORDS], environment[PLACE] = between.join(joined), str(len(joined) - 1)
    head, at, _ = joined[-1].rpartition("@")
    return head + at


def _matching(known: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in dict.fromkeys(known) if word.startswith(incomplete)]


def _listed(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _run_folders(home: Path) -> list[str]:
    """Folders of runs and the runs in them, the newest of each first."""
    folders: list[Path] = []
    for folder in sorted(home.glob("[!.]*/")):
        runs_of = sorted((path.parent for path in folder.glob(f"[!.]*/{SCENARIO}")), reverse=True)
        folders += [folder, *runs_of] if runs_of else []
    return [str(path) for path in folders]


def _references(index: Index | None) -> Iterable[str]:
    for name, entry in (index.models if index else {}).items():
        yield name
        yield from (f"{name}@{alias}" for alias in sorted(entry.aliases))
        yield from (f"{name}@{version}" for version in sorted(entry.versions, reverse=True))


def _index(ctx: typer.Context) -> Index | None:
    """The index of the registry that the command or the environment names, if it is a folder that has a sound one."""
    from clip_factory.errors import RegistryError
    from clip_factory.runtime.releases.location import root_of
    from clip_factory.runtime.releases.release_index import INDEX, Index

    given = ctx.params.get("registry") or os.environ.get("FACTORY_REGISTRY")
    try:
        root = root_of(given) if given else ""
        if not root or "://" in root:
            return None
        return Index.parse(Path(root, INDEX).read_bytes())
    except (OSError, RegistryError):  # Tab is no place for an error
        return None
