"""The Python API, which the commands call, too: a function a command, of the same name and with the same defaults.

    from clip_factory import api

    run = api.run(api.Scenario(name="forklift", positive=["forklift"]), images="photos/")
    print(run.gate.verdict.headline)
    for prediction in run.model.predict("new_photos/"):
        print(prediction.path, prediction.label, prediction.probability)

Progress goes to stderr. Errors are `clip_factory.errors.FactoryError` and say what, which and what next. Whatever takes
its time is imported where it is first used, so that importing this module pulls no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from clip_factory import call_arguments as arguments
from clip_factory.call_arguments import FilePath, RunOptions, Target, as_path, open_target, optional_path, store_path
from clip_factory.run_folder import RUNS
from clip_factory.run_result import Run, load_run
from clip_factory.run_tools import check_store, doctor, exchange_answers, new, review, serve_encoder, thresholds
from clip_factory.zero_shot_tools import (
    compare_encoders,
    compare_prompts,
    encoders,
    export_encoder,
    lint_prompts,
    search,
    suggest_prompts,
    zero_shot,
)

if TYPE_CHECKING:
    from clip_factory.demo import DemoSet
    from clip_factory.evaluation.joint_evaluation import JointEvaluation
    from clip_factory.evaluation.measure import Evaluation
    from clip_factory.registry.publish import Published
    from clip_factory.runtime import Model
    from clip_factory.scenario import Scenario

__all__ = [
    "RUNS",
    "Model",
    "Run",
    "Scenario",
    "check_store",
    "compare",
    "compare_encoders",
    "compare_prompts",
    "demo",
    "doctor",
    "encoders",
    "evaluate",
    "exchange_answers",
    "export",
    "export_encoder",
    "label",
    "lint_prompts",
    "load_model",
    "load_run",
    "new",
    "publish",
    "report",
    "review",
    "run",
    "scan",
    "search",
    "serve_encoder",
    "set_threshold",
    "suggest_prompts",
    "thresholds",
    "train",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    """The two names that pull onnxruntime and pydantic, when they are first used (PEP 562)."""
    if name == "Model":
        from clip_factory.runtime import Model

        return Model
    if name == "Scenario":
        from clip_factory.scenario import Scenario

        return Scenario
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Stages


def run(
    scenario: Target,
    *,
    images: FilePath | None = None,
    teacher: str | None = None,
    gold: FilePath | None = None,
    runs: FilePath = RUNS,
    store: FilePath | None = None,
    resume: bool = True,
    go_on: bool = False,
) -> Run:
    """Run all stages: photos and a question in, an evaluated model and a report out.

    Args:
        scenario: A scenario, its file, or a run: `Run`, its folder, a folder of runs for the newest in it, `latest`.
            In a run, the stages are done again whose files or settings have changed.
        images: Folder or archive of photos, in the place of the scenario's.
        teacher: `auto`, `offline`, `MODEL/WEIGHTS`, `hf-hub:...` or `local-dir:...`, in the place of the scenario's.
        gold: CSV of labels from a person, columns `path,label` (yes/no), in the place of the scenario's.
        runs: Folder of runs.
        store: Folder where image vectors are kept; by default $FACTORY_STORE, else the user's cache folder.
        resume: Go on with a run of the same scenario that was cut short; False starts anew, and does the last stage of
            a run again even if it is up to date.
        go_on: Train even on labels that carry nothing.

    Returns:
        The run, finished, whatever the verdict: see `run.gate.state`.

    Raises:
        ScenarioError: The scenario says something that is not allowed.
        LabelsError: The labels carry nothing, so that there is nothing to train on; they are kept.
        FactoryError: A stage cannot be done; what earlier stages made stays, and the same call goes on from there.

    Example:
        >>> run("forklift.yaml", images="photos/", teacher="offline")
    """
    options = RunOptions(images=images, teacher=teacher, gold=gold, runs=runs, store=store, resume=resume, go_on=go_on)
    with open_target(scenario, **options) as (folder, settings):
        from clip_factory import pipeline  # pulls torch: only now, so that wrong input is answered at once

        pipeline.run(folder, until="report", **settings)
    return Run(folder.path)


def scan(scenario: Target, **options: Unpack[RunOptions]) -> Run:
    """Find, check and group the photos; arguments and errors are those of `run`.

    Returns:
        The run, with images.parquet: every file, used or not, with the reason.

    Example:
        >>> scan("forklift.yaml", images="photos/")
    """
    with open_target(scenario, **options) as (folder, settings):
        from clip_factory import pipeline

        pipeline.run(folder, until="scan", **settings)
    return Run(folder.path)


def label(scenario: Target, **options: Unpack[RunOptions]) -> Run:
    """Label the photos with the teacher, split them, and check that a student could learn from them.

    Arguments and errors are those of `run`.

    Returns:
        The run, with `labels`.

    Example:
        >>> label("forklift.yaml", images="photos/").labels.to_pandas()
    """
    with open_target(scenario, **options) as (folder, settings):
        from clip_factory import pipeline

        pipeline.run(folder, until="label", **settings)
    return Run(folder.path)


def train(scenario: Target, **options: Unpack[RunOptions]) -> Run:
    """Train the student, after whatever stage before it is out of date; arguments and errors are those of `run`.

    Returns:
        The run, with student.ckpt and training.csv.

    Example:
        >>> train("latest", resume=False)
    """
    with open_target(scenario, **options) as (folder, settings):
        from clip_factory import pipeline

        pipeline.run(folder, until="train", **settings)
    return Run(folder.path)


def export(scenario: Target, **options: Unpack[RunOptions]) -> Run:
    """Export the student to one ONNX file within the budget; arguments and errors are those of `run`.

    Returns:
        The run, with `model`.

    Example:
        >>> export("latest").model.predict("photos/")
    """
    with open_target(scenario, **options) as (folder, settings):
        from clip_factory import pipeline

        pipeline.run(folder, until="export", **settings)
    return Run(folder.path)


@overload
def evaluate(scenario: Target, *, gold: None = None, **options: Any) -> Run: ...
@overload
def evaluate(scenario: FilePath | Run | Model, *, gold: FilePath, **options: Any) -> Evaluation: ...
@overload
def evaluate(scenario: Target | Model, *, gold: FilePath | None, **options: Any) -> Run | Evaluation: ...
def evaluate(
    scenario: Target | Model,
    *,
    gold: FilePath | None = None,
    images: FilePath | None = None,
    registry: str | None = None,
    public_key: FilePath | None = None,
    **options: Any,
) -> Run | Evaluation:
    """Apply the gate to a run; or, with `gold`, measure a model or a run on any labeled photos.

    Args:
        scenario: As for `run`; with `gold` a model, or a run. A model may be a file or a name in a registry.
        gold: Labels from people: a CSV with the columns `path,label`, or a gold.parquet. Of a scenario (object or
            file), its gold labels, as for `run`.
        images: Folder that the paths of the labels start from; else that of the run's photos, else that of the labels.
        registry: Where the name of a model is looked up.
        public_key: Refuse a release that the holder of this key (PEM) has not signed.
        **options: Without `gold`, those of `run`.

    Returns:
        The run, with `gate`; with `gold` the figures, which change nothing in a run.

    Raises:
        GoldError: The labels do not fit the photos.
        ModelError: It is a model, and there are no labels to measure it by.
        FactoryError: As of `run`.

    Example:
        >>> evaluate("latest").gate.verdict.headline
        >>> evaluate("model.onnx", gold="truth.csv", images="photos/").headline
    """
    if gold is not None and (model := arguments.measurable(scenario)) is not None:
        arguments.check_options(options)
        from clip_factory.evaluation import measure

        models = arguments.candidates([model], registry, public_key)
        return measure.evaluate(models[0], Path(gold), arguments.photo_root(models, images, gold))
    with open_target(arguments.runnable(scenario), images=images, gold=gold, **options) as (folder, settings):
        from clip_factory import pipeline

        pipeline.run(folder, until="evaluate", **settings)
    return Run(folder.path)


def report(scenario: Target, **options: Unpack[RunOptions]) -> Run:
    """Write the report and the model card; arguments and errors are those of `run`.

    Returns:
        The run, with `report`.

    Example:
        >>> report("latest").report.open()
    """
    with open_target(scenario, **options) as (folder, settings):
        from clip_factory import pipeline

        pipeline.run(folder, until="report", **settings)
    return Run(folder.path)


# Runs and models


def load_model(model: FilePath | Run, *, registry: str | None = None, public_key: FilePath | None = None) -> Model:
    """The model of a file, of a run, or of a registry.

    Args:
        model: A model file, what `load_run` takes, or NAME, NAME@VERSION or NAME@ALIAS of a release.
        registry: Folder or URL; by default, for a name that is no file, $FACTORY_REGISTRY.
        public_key: Refuse a release that the holder of this key (PEM) has not signed; by default $FACTORY_PUBLIC_KEY.

    Raises:
        ModelError: It is no model of this package.
        RegistryError: The registry lacks it, or it cannot be trusted.
        RunError: There is no such run, or it has no model yet.

    Example:
        >>> load_model("forklift@champion", registry="registry/")
    """
    from clip_factory.model_lookup import load

    return load(as_path(model), registry, optional_path(public_key))


def compare(
    models: Sequence[FilePath | Run],
    *,
    gold: FilePath | None = None,
    images: FilePath | None = None,
    registry: str | None = None,
    public_key: FilePath | None = None,
) -> JointEvaluation:
    """Which model is better, by the same people's labels on photos that none of them has seen.

    Args:
        models: Two or more, each as for `load_model`. The first is what the others are compared with.
        gold: Labels from people, as for `evaluate`; by default those that the runs hold.
        images: As for `evaluate`.
        registry: As for `load_model`.
        public_key: As for `load_model`.

    Raises:
        FactoryError: There are fewer than two, one is there twice, or they share no labeled photos.

    Example:
        >>> compare(["forklift@1", "forklift@2"], gold="truth.csv", registry="registry/")
    """
    from clip_factory.evaluation import joint_evaluation

    candidates = arguments.candidates(models, registry, public_key)
    if gold is None:
        return joint_evaluation.evaluate_runs(candidates)
    return joint_evaluation.evaluate_on_labels(candidates, Path(gold), arguments.photo_root(candidates, images, gold))


def set_threshold(run: FilePath | Run, target: Any, *, store: FilePath | None = None) -> Run:
    """Write another target into a run's scenario, move the threshold of its model, and evaluate it again.

    Takes seconds and trains nothing: the weights of model.onnx stay the same bytes.

    Args:
        run: As for `load_run`.
        target: As in a scenario file: `balanced`, `break-even`, `{"false_alarms": 0.01}`, `{"threshold": 0.5}` ...
        store: As for `run`.

    Raises:
        RunError: The run has no model yet, or no threshold reaches the target.
        ScenarioError: The target is not allowed, or the gate asks for more than it aims at.
    """
    from clip_factory.new_target import write_target
    from clip_factory.run_request import locked

    with locked(load_run(run).folder) as folder:
        write_target(folder, target)
        from clip_factory import pipeline

        pipeline.run(folder, store_path(store), since="export")
    return Run(folder.path)


def publish(
    run: FilePath | Run,
    registry: str,
    *,
    alias: str | None = None,
    force: bool = False,
    allow_unproven: bool = False,
    key: FilePath | None = None,
    by: str = "",
) -> Published:
    """Publish a finished run as the next version of its model.

    Args:
        run: As for `load_run`.
        registry: Folder or URL of the registry.
        alias: An alias to move to it, such as `champion`.
        force: Although the gate refused it; the card will say so.
        allow_unproven: Although it is not proven; the card will say so.
        key: Private key (PEM) to sign with.
        by: Who does this; by default user@machine.

    Returns:
        The release, whether it is new, and the move of the alias.

    Raises:
        GateRefusedError: The gate refused the run, and it was not forced.
        NotProvenError: The run is not proven, and that was not allowed.
        RegistryError: The registry cannot be written, or wants another signature.

    Example:
        >>> publish("latest", "registry/", alias="champion").release
    """
    from clip_factory import registry as releases

    signer = releases.Signer.read(Path(key)) if key else None
    options = releases.PublishOptions(force, by, signer, allow_unproven=allow_unproven)
    return releases.publish(load_run(run).path, releases.open_registry(registry), alias, options)


def demo(folder: FilePath = "demo", *, count: int = 400, store: FilePath | None = None) -> tuple[Run, DemoSet]:
    """Render a set of pictures and run all stages on them without a network; the run, and the pictures."""
    from clip_factory import demo as demo_set

    rendered = demo_set.make(Path(folder), count)
    return run(rendered.scenario, gold=rendered.truth, runs=Path(folder) / "runs", store=store), rendered
