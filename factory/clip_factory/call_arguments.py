"""What callers of the API may pass, and what is made of it: paths, scenarios, runs, models, options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict, Unpack, cast

from clip_factory.errors import ModelError
from clip_factory.run_folder import RUNS, SCENARIO_SUFFIXES, RunFolder
from clip_factory.run_result import Run

if TYPE_CHECKING:
    from clip_factory.evaluation.candidates import Candidate
    from clip_factory.runtime import Model
    from clip_factory.scenario import Scenario

FilePath: TypeAlias = str | PathLike[str]
Target: TypeAlias = "FilePath | Scenario | Run"
"""A scenario, its file, a run, or what names a run: its folder, a folder of runs for the newest in it, `latest`."""


class RunOptions(TypedDict, total=False):
    """What every stage takes, with the meaning and the defaults that it has in `api.run`."""

    images: FilePath | None
    teacher: str | None
    gold: FilePath | None
    runs: FilePath
    store: FilePath | None
    resume: bool
    go_on: bool


class PipelineOptions(TypedDict):
    """What `pipeline.run` takes beside a run and the stages."""

    store: Path
    again: bool
    go_on: bool


@contextmanager
def open_target(target: Target, **options: Unpack[RunOptions]) -> Iterator[tuple[RunFolder, PipelineOptions]]:
    """The run that a target means, made or resumed, and locked as long as the context lasts.

    Raises:
        TypeError: The target is of another type, or an option is not known.
        FactoryError: There is no such scenario or run, or the options do not fit it.
    """
    check_options(options)
    from clip_factory import run_request  # pulls pydantic
    from clip_factory.scenario import Scenario

    if not isinstance(target, str | PathLike | Run | Scenario):
        raise TypeError(f"expected a scenario, its file, or a run, not {target!r}")
    overrides = run_request.Overrides(
        optional_path(options.get("images")), options.get("teacher"), optional_path(options.get("gold"))
    )
    store, resume = store_path(options.get("store")), options.get("resume", True)
    named = as_path(target) if isinstance(target, str | PathLike | Run) else target
    with run_request.open_run(named, overrides, Path(options.get("runs", RUNS)), store, resume=resume) as folder:
        yield folder, {"store": store, "again": not resume, "go_on": options.get("go_on", False)}


def check_options(options: Mapping[str, object]) -> None:
    """Refuse options that no stage takes; a TypedDict checks nothing when the program runs.

    Raises:
        TypeError: There is one; the message names it and those that there are.
    """
    for name in options.keys() - RunOptions.__annotations__.keys():
        raise TypeError(f"{name!r} is no option; known: {', '.join(RunOptions.__annotations__)}")


def as_path(named: FilePath | Run) -> Path:
    """The path that was named, or the folder of a run."""
    return named.path if isinstance(named, Run) else Path(named)


def optional_path(path: FilePath | None) -> Path | None:
    """A path, where one was named."""
    return None if path is None else Path(path)


def store_path(store: FilePath | None) -> Path:
    """The store that was named, else the user's."""
    if store is not None:
        return Path(store)
    from clip_factory.run_request import default_store

    return default_store()


def measurable(target: Target | Model) -> FilePath | Run | Model | None:
    """What labels can measure: a model, a run, or a name of one; None for a scenario or its file."""
    if isinstance(target, str | PathLike):
        return None if Path(target).suffix.lower() in SCENARIO_SUFFIXES else target
    if isinstance(target, Run):
        return target
    from clip_factory.runtime import Model

    return target if isinstance(target, Model) else None


def runnable(target: Target | Model) -> Target:
    """What the stages can be run on: anything but a model.

    Raises:
        ModelError: It is a model, or a file that is no scenario.
    """
    if isinstance(target, str | PathLike):
        if measurable(target) is None or not Path(target).is_file():
            return target
    elif measurable(target) is None or isinstance(target, Run):
        return cast("Scenario | Run", target)
    raise ModelError(f"{target}: a model is measured by people's labels", hint="name them: --gold truth.csv")


def candidates(
    models: Sequence[FilePath | Run | Model], registry: str | None, public_key: FilePath | None
) -> list[Candidate]:
    """One model to measure, or several to compare, each with what is known of its training."""
    from clip_factory.evaluation.candidates import Candidate, find_candidate, find_candidates
    from clip_factory.model_lookup import load

    def loader(path: Path) -> Model:
        return load(path, registry, optional_path(public_key))

    one = models[0] if len(models) == 1 else None
    if one is not None and not isinstance(one, str | PathLike | Run):
        return [Candidate(one.name, one)]
    paths = [as_path(model) for model in models if isinstance(model, str | PathLike | Run)]
    return [find_candidate(paths[0], loader)] if one is not None else find_candidates(paths, loader)


def photo_root(models: Sequence[Candidate], images: FilePath | None, gold: FilePath) -> Path:
    """Where labeled photos lie: in the folder that was named, else with the first run, else beside their labels."""
    if images is not None:
        return Path(images)
    return next((one.images for one in models if one.images is not None), Path(gold).parent)
