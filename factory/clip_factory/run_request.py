"""How a run begins: the request made whole, its folder made or found again, and locked while it is worked on."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from clip_factory import run_folder as files
from clip_factory.errors import RunError, ScenarioError
from clip_factory.images import sources
from clip_factory.progress import console
from clip_factory.run_folder import RunFolder, find_run, means_run
from clip_factory.runtime.suggestions import nearest_file
from clip_factory.scenario import Scenario, Teacher, dump, load

ENDINGS = (".yaml", ".yml")
"""Of scenario files."""


def default_store() -> Path:
    """Where vectors and downloads are kept: $FACTORY_STORE, else the user's cache folder."""
    named = os.environ.get("FACTORY_STORE")
    return Path(named) if named else user_cache_path("clip-factory") / "store"


@dataclass(frozen=True)
class Changes:
    """What a command line overrides in a scenario file."""

    images: Path | None = None
    teacher: str | None = None
    gold: Path | None = None

    def apply(self, request: Scenario) -> Scenario:
        """The scenario with these changes, validated anew.

        Raises:
            ScenarioError: A changed value is not allowed.
        """
        update: dict[str, Any] = {}
        if self.images is not None:
            update["images"] = {"path": str(self.images.absolute())}
        if self.gold is not None:
            update["gold"] = str(self.gold.absolute())
        if self.teacher is not None:
            update["teacher"] = {**request.teacher.model_dump(), **_named(self.teacher)}
        return Scenario.model_validate({**request.model_dump(), **update})


def _named(teacher: str) -> dict[str, str | None]:
    """`MODEL/PRETRAINED` in two parts; hub and folder names keep their slashes."""
    if teacher.startswith(("hf-hub:", "local-dir:")) or "/" not in teacher:
        return {"model": teacher, "pretrained": None}
    model, _, pretrained = teacher.partition("/")
    return {"model": model, "pretrained": pretrained}


def enter(
    target: Path, changes: Changes, runs: Path, store: Path, *, resume: bool
) -> AbstractContextManager[RunFolder]:
    """The run that `target` means, locked: one that is there (see `find_run`), or a run of a scenario file.

    Raises:
        FactoryError: The target is neither, or the changes do not fit it.
    """
    if not means_run(target):
        request = changes.apply(_load(target, runs))
        console.print(f"{target}: {request.asked}", markup=False)
        return begin(request, runs, store, resume=resume)
    if changes != Changes():
        raise RunError(
            f"{target} is a run: its images, teacher and gold labels are settled",
            hint=f"edit {target / files.SCENARIO}, or start a new run from the scenario file",
        )
    run = find_run(target, runs)
    console.print(f"run {run.path}", markup=False)  # before anything that takes its time is imported
    return hold(run)


def _load(target: Path, runs: Path) -> Scenario:
    """The scenario of a file; for one that is not there, the error says what may have been meant."""
    if not target.exists():
        if meant := nearest_file(target, ENDINGS):
            raise ScenarioError(f"{target}: no such scenario file", hint=f"did you mean {meant}?")
        if target.suffix.lower() not in ENDINGS:
            find_run(target, runs)  # says that there is no such run
    return load(target)


def latest(runs: Path, scenario: Path) -> RunFolder:
    """The newest finished run of a scenario file.

    Raises:
        RunError: There is none.
    """
    home = runs / load(scenario).name
    finished = [r for r in map(RunFolder, sorted(home.glob("[!.]*/"))) if r.finished]
    if not finished:
        raise RunError(f"{home}: no finished run", hint=f"make one: factory run {scenario}")
    return finished[-1]


@contextmanager
def begin(request: Scenario, out: Path, store: Path, *, resume: bool) -> Iterator[RunFolder]:
    """The run for a request, locked for as long as the context lasts.

    With `resume`, the newest run of the very same request that was cut short, if no one is at work on it; else a new
    folder `OUT/NAME/TIME`, with a scenario.yaml in which teacher and images are settled.

    Raises:
        FactoryError: The images or the teacher cannot be had.
    """
    home = out / request.name
    identity = hashlib.sha256(dump(request).encode()).hexdigest()
    idle = (folder for folder in _unfinished(home, identity) if resume and _is_idle(folder))
    folder = next(idle, None)
    if folder:
        console.print(f"going on with {folder.path} (--fresh starts anew)")
    with hold(folder or _create(home, request, identity, store)) as held:
        yield held


@contextmanager
def hold(folder: RunFolder) -> Iterator[RunFolder]:
    """Lock a run for as long as the context lasts.

    Raises:
        RunError: Another process is at work on it.
    """
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{folder.path}: another process is at work on this run", hint="wait for it to end") from None
    try:
        yield folder
    finally:
        lock.release()


def _is_idle(folder: RunFolder) -> bool:
    try:
        with _lock(folder).acquire(timeout=0):
            return True
    except Timeout:
        return False


def _lock(folder: RunFolder) -> FileLock:
    return FileLock(folder.file(".lock"))


def _unfinished(home: Path, identity: str) -> list[RunFolder]:
    runs = [RunFolder(path) for path in sorted(home.glob("[!.]*/"), reverse=True)]
    return [r for r in runs if not r.finished and any(e["request"] == identity for e in r.events("start"))]


def _create(home: Path, request: Scenario, identity: str, store: Path) -> RunFolder:
    root = sources.locate(request.images, store)
    chosen = _settled_teacher(request.teacher)
    settled = request.model_copy(
        update={
            "teacher": chosen,
            "images": request.images.model_copy(update=_settled_at(root)),
            "answers": request.answers or str(home.absolute() / f"{request.name}.answers.jsonl"),
        }
    )
    home.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
    try:
        draft.chmod(0o755)
        (draft / files.SCENARIO).write_text(dump(settled), encoding="utf-8")
        RunFolder(draft).log("start", request=identity, images=request.images.model_dump(exclude_none=True))
        return RunFolder(_renamed(draft, home))
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _settled_teacher(wanted: Teacher) -> Teacher:
    if wanted.model != "auto":
        return wanted
    from clip_factory import encoders as teacher  # pulls torch

    chosen, warning = teacher.resolve(wanted)
    if warning:
        console.print(f"warning: {warning}", style="yellow")
    return chosen


def _settled_at(root: Path) -> dict[str, str | None]:
    return {"path": str(root.resolve()), "url": None, "sha256": None}


def _renamed(draft: Path, home: Path) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    for attempt in range(1, 1000):
        target = home / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            if not target.exists():
                return draft.rename(target)
        except OSError:  # another process took the name in between: a folder with files is never replaced
            continue
    raise RunError(f"{home}: a thousand runs in one second")
