"""How a run begins: the request resolved, its folder made or resumed, and locked while it is worked on."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from clip_factory import run_folder as files
from clip_factory.errors import RunError, ScenarioError
from clip_factory.progress import console
from clip_factory.run_folder import SCENARIO_SUFFIXES, RunFolder, find_run, means_run, runs_below
from clip_factory.runtime.atomic import sweep
from clip_factory.runtime.photo_files import find_images
from clip_factory.runtime.safe_text import without_secrets
from clip_factory.runtime.suggestions import nearest_file
from clip_factory.scenario import Labeling, Scenario, Teacher, anchored_region, dump, load, validated

if TYPE_CHECKING:
    from clip_factory.scenario import Images


def default_store() -> Path:
    """Where vectors and downloads are kept: $FACTORY_STORE, else the user's cache folder."""
    named = os.environ.get("FACTORY_STORE")
    return Path(named) if named else user_cache_path("clip-factory") / "store"


@dataclass(frozen=True)
class Overrides:
    """What a caller sets in the place of a scenario's own values."""

    images: Path | None = None
    teacher: str | None = None
    gold: Path | None = None

    def apply(self, request: Scenario) -> Scenario:
        """The scenario with these values, validated anew.

        Raises:
            ScenarioError: A value is not allowed.
        """
        update: dict[str, Any] = {}
        if self.images is not None:
            update["images"] = {"path": str(self.images.absolute()), "every": request.images.every}
        if self.gold is not None:
            update["gold"] = str(self.gold.absolute())
        if self.teacher is not None:
            update["teacher"] = {
                **request.teacher.model_dump(),
                **Teacher.parse(self.teacher).model_dump(include={"model", "pretrained"}),
            }
        return validated({**request.model_dump(), **update}, request.name)


def open_run(
    target: Path | Scenario, overrides: Overrides, runs: Path, store: Path, *, resume: bool
) -> AbstractContextManager[RunFolder]:
    """The run that `target` means, locked: one that is there (see `find_run`), or a run of a scenario.

    Args:
        target: A scenario, its file, or a run.
        overrides: Values in the place of the scenario's own; none for a run, whose values are settled.
        runs: Folder of runs.
        store: Folder of vectors and downloads.
        resume: Go on with a run of the same request that was cut short.

    Raises:
        FactoryError: The target is none of these, or the overrides do not fit it.
    """
    if isinstance(target, Scenario) or not means_run(target):
        scenario = _anchored(target) if isinstance(target, Scenario) else _load(target, runs)
        request = overrides.apply(scenario)
        console.print(f"{target if isinstance(target, Path) else request.name}: {request.asked}", markup=False)
        return start_run(request, runs, store, resume=resume)
    if overrides != Overrides():
        raise RunError(
            f"{target} is a run: its images, teacher and gold labels are settled",
            hint=f"edit {target / files.SCENARIO}, or start a new run from the scenario file",
        )
    run = find_run(target, runs)
    console.print(f"run {run.path}", markup=False)  # before anything that takes its time is imported
    return locked(run)


def _anchored(scenario: Scenario) -> Scenario:
    """The scenario with absolute paths, which start at the working folder: it lies in no file."""
    path, gold, answers = (
        name and str(Path(name).expanduser().absolute())
        for name in (scenario.images.path, scenario.gold, scenario.answers)
    )
    images, region = scenario.images.model_copy(update={"path": path}), anchored_region(scenario.region, Path.cwd())
    return scenario.model_copy(update={"images": images, "region": region, "gold": gold, "answers": answers})


def _load(target: Path, runs: Path) -> Scenario:
    """The scenario of a file; for one that is not there, the error says what may have been meant."""
    if not target.exists():
        if name := nearest_file(target, SCENARIO_SUFFIXES):
            raise ScenarioError(f"{target}: no such scenario file", hint=f"did you mean {name}?")
        if target.suffix.lower() not in SCENARIO_SUFFIXES:
            find_run(target, runs)  # says that there is no such run
    return load(target)


def newest_finished(runs: Path, scenario: Path) -> RunFolder:
    """The newest finished run of a scenario file.

    Raises:
        RunError: There is none.
    """
    home = runs / load(scenario).name
    finished = [run for run in runs_below(home) if run.finished]
    if not finished:
        raise RunError(f"{home}: no finished run", hint=f"make one: factory run {scenario}")
    return finished[-1]


@contextmanager
def start_run(request: Scenario, runs: Path, store: Path, *, resume: bool) -> Iterator[RunFolder]:
    """The run for a request, locked for as long as the context lasts.

    With `resume`, the newest run of the very same request that was cut short, if no one is at work on it; else a new
    folder `RUNS/NAME/TIME`, with a scenario.yaml in which teacher and images are settled.

    Raises:
        FactoryError: The images or the teacher cannot be had.
    """
    home = runs / request.name
    identities = _identities(request)
    idle = (folder for folder in _unfinished(home, identities) if resume and _is_idle(folder))
    folder = next(idle, None)
    if folder:
        console.print(f"going on with {folder.path} (--fresh starts anew)")
    with locked(folder or _create(home, request, identities[0], store)) as run:
        yield run


@contextmanager
def locked(folder: RunFolder) -> Iterator[RunFolder]:
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
        sweep(folder.path)
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


def _identities(request: Scenario) -> list[str]:
    """The hash of a request; then the one that version 0.1.0 gave it, which knew no key `labels`."""
    texts = [dump(request)]
    if request.labels == Labeling():
        texts.append(dump(request, exclude={"labels"}))
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def _unfinished(home: Path, identities: list[str]) -> list[RunFolder]:
    unfinished = [run for run in reversed(runs_below(home)) if not run.finished]
    return [run for run in unfinished if any(event["request"] in identities for event in run.events("start"))]


def _create(home: Path, request: Scenario, identity: str, store: Path) -> RunFolder:
    images = _resolved_images(request.images, store)
    settled = request.model_copy(
        update={
            "images": images,
            "teacher": _resolved_teacher(request.teacher, Path(images.path or ".")),
            "answers": request.answers or str(home.absolute() / f"{request.name}.answers.jsonl"),
        }
    )
    home.mkdir(parents=True, exist_ok=True)
    sweep(home)
    draft = Path(tempfile.mkdtemp(prefix=".new-", suffix=".tmp", dir=home))
    try:
        draft.chmod(0o755)
        (draft / files.SCENARIO).write_text(dump(settled), encoding="utf-8")
        return _named(draft, home, request, identity)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _resolved_images(wanted: Images, store: Path) -> Images:
    from clip_factory.images import sources  # pulls fsspec

    root = sources.locate(wanted, store)
    return wanted.model_copy(update={"path": str(root.resolve()), "url": None, "sha256": None})


def _resolved_teacher(wanted: Teacher, photos: Path) -> Teacher:
    if wanted.model != "auto":
        return wanted
    from clip_factory import encoders  # pulls torch

    return encoders.with_faster_engine(encoders.resolve_with_warning(wanted), lambda: len(find_images(photos)))


def _source(images: Images) -> dict[str, str]:
    """What a log says of where the photos come from."""
    return {key: without_secrets(value) for key, value in images.model_dump(exclude_none=True).items()}


def _named(draft: Path, home: Path, request: Scenario, identity: str) -> RunFolder:
    """Log when the run begins, and give its folder the name of that moment, in UTC.

    The clock may jump back and several processes may begin at once: a run begins after all that are there, so that
    their names and the times in their logs have one order.
    """
    with FileLock(home / ".begin.lock"):
        begun = max([time.time(), *(run.begun + 0.001 for run in runs_below(home))])
        stamp = datetime.fromtimestamp(begun, UTC).strftime("%Y-%m-%dT%H-%M-%S")
        RunFolder(draft).log("start", time=round(begun, 3), request=identity, images=_source(request.images))
        names = [f"{stamp}Z", *(f"{stamp}Z.{count:03d}" for count in range(1, 1000))]
        free = next((name for name in names if not (home / name).exists()), None)
        if free is None:
            raise RunError(f"{home}: a thousand runs in one second")
        return RunFolder(draft.rename(home / free))
