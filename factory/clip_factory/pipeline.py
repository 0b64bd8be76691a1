"""The factory in one page: the stages in order, each from files to files.

    scenario.yaml -> images.parquet -> labels.parquet -> student.ckpt -> model.onnx -> gate.json -> report.html

A stage runs when what it reads has changed since it last ended well, and not otherwise (`fingerprints`). So a run that
was killed goes on where it was, a corrected label retrains without reading an image anew, and a new rule for the gate
trains nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pyarrow as pa

from clip_factory import __version__, readiness, students
from clip_factory import run_folder as files
from clip_factory.errors import GoldError
from clip_factory.exporters import export as export_student
from clip_factory.exporters import rethreshold
from clip_factory.fingerprints import PHOTOS, STAMPED, TRAINING_LABELS, USABLE, WEIGHTS, changed, fingerprint
from clip_factory.gate.evaluate_model import evaluate as apply_gate
from clip_factory.gate.gate_result import GateResult
from clip_factory.gold.gold_labels import collect
from clip_factory.images import scan as image_scan
from clip_factory.images.fixed_camera import warning
from clip_factory.images.photo import Photo
from clip_factory.images.scenario_region import scenario_region, small_regions
from clip_factory.images.scenario_region import warning as small_region_warning
from clip_factory.label_sources.labeling import label as label_photos
from clip_factory.label_sources.refinement import load_refinement
from clip_factory.label_sources.source import find_label_source
from clip_factory.label_sources.visual_evidence import write_evidence
from clip_factory.progress import bar, console, warn
from clip_factory.report import write_card, write_labels, write_report
from clip_factory.run_folder import RunFolder
from clip_factory.runtime.atomic import write_json
from clip_factory.scenario import Scenario, load
from clip_factory.scenario.prompts import may_deny
from clip_factory.seen_photos import write_splits
from clip_factory.store import EmbeddingStore

RECORDED = ("torch", "torchvision", "open_clip_torch", "timm", "lightning", "onnx", "onnxruntime", "numpy", "pillow")
"""Packages whose versions the manifest names."""


@dataclass(frozen=True)
class Job:
    """What a stage is given."""

    run: RunFolder
    scenario: Scenario
    store: Path


@dataclass(frozen=True)
class Stage:
    """A step from files to files; `reads` names what `fingerprints` knows: files, keys of the scenario, and more."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    work: Callable[[Job], None]
    packages: tuple[str, ...] = ()
    """Whose versions change what it makes; beside the factory's own."""
    may_write: tuple[str, ...] = ()
    """What it writes only for some scenarios."""

    def fingerprint(self, job: Job) -> dict[str, str]:
        """A hash of each thing that it reads now."""
        return fingerprint(job.run, job.scenario, self.reads, ("clip-factory", *self.packages))

    def changed(self, job: Job) -> set[str]:
        """What it reads and is not as it was when it last ended well."""
        return changed(job.run, job.scenario, self.name, self.reads, ("clip-factory", *self.packages))


def scan(job: Job) -> None:
    """Find, check and group the photos; of a scenario with a region, by what of them it shows."""
    region = scenario_region(job.scenario)
    with bar("checking photos") as progress:
        table = image_scan.scan(_root(job), job.store / "scan.sqlite", progress, region)
    image_scan.write(table, job.run.file(files.IMAGES))
    console.print(image_scan.summarize(table), markup=False)
    if frames := image_scan.frames_of_a_fixed_camera(table):
        _warn_and_log(job, warning(frames, table["reason"].null_count))
    of_videos, doubtful = image_scan.frames_of_videos(table)
    if doubtful:
        _warn_and_log(job, of_videos)
    elif of_videos:
        console.print(of_videos, markup=False)
    if region is None and job.scenario.region is not None:
        _warn_and_log(job, "warning: the region is the whole photo: nothing of it is left out")
    if region is not None:
        console.print(f"of each photo a region is looked at: {region.says}", markup=False)
        if small := small_regions(table, region):
            _warn_and_log(job, small_region_warning(small, table["reason"].null_count))


def _warn_and_log(job: Job, message: str) -> None:
    console.print(message, markup=False, style="yellow")
    job.run.log("warning", text=message)


def label(job: Job) -> None:
    """Embed the photos, score them, split, refine."""
    images = job.run.table(files.IMAGES, "label")
    gold = collect(job.scenario, images)
    usable = _distinct(images)
    names, paths = usable["sha256"].to_pylist(), usable["path"].to_pylist()
    photos = [Photo(sha256, _root(job) / path) for sha256, path in zip(names, paths, strict=True)]
    made = label_photos(job.scenario, photos, usable, EmbeddingStore(job.store), gold.labels, gold.picked)
    refinement = made.labels.refinement
    if gold.labels or refinement["used"]:
        console.print(refinement["says"], markup=False)
    job.run.log("refined", refinement=refinement)
    if made.evidence is not None:
        write_evidence(job.run, names, made.evidence)
    made.labels.write(job.run.file(files.LABELS))
    seconds = round(made.seconds_to_load, 3)
    job.run.log("labeled", images=len(names), embedded=made.embedded, seconds_to_load_teacher=seconds)


def train(job: Job) -> None:
    """Train the student."""
    students.train(job.scenario, job.run, EmbeddingStore(job.store))


def export(job: Job) -> None:
    """Turn the student into one ONNX file within the budget; where only target or test labels are new, restamp it."""
    if job.run.file(files.MODEL).is_file() and EXPORT.changed(job) <= RESTAMPED:
        rethreshold(job.scenario, job.run)
    else:
        export_student(job.scenario, job.run)


def evaluate(job: Job) -> None:
    """Measure the file on photos that the student never saw, and apply the gate's rule."""
    apply_gate(job.scenario, job.run)
    write_splits(job.run)


def report(job: Job) -> None:
    """Write the report and the model card."""
    write_report(job.scenario, job.run)
    write_card(job.scenario, job.run)


RESTAMPED = {"target", files.LABELS, "gate.false_yes_cost", "gate.false_no_cost"}
"""What moves the threshold of a model, and leaves its weights."""
EXPORT = Stage(
    "export",
    (
        *(files.LABELS, TRAINING_LABELS, files.STUDENT, files.HELD_OUT),
        *("name", "question", "positive", "region", "target", "student.budget_kb", "student.precision"),
        *("gate.parity", "gate.false_yes_cost", "gate.false_no_cost"),
    ),
    (files.MODEL,),
    export,
    ("torch", "onnx", "onnxruntime", "numpy", "pillow", "scipy"),
)
STAGES = (
    Stage("scan", ("images", "region", PHOTOS), (files.IMAGES,), scan, ("pillow", "pillow-heif", "imagehash")),
    Stage(
        "label",
        (
            *(USABLE, "question", "positive", "negative", "templates", "gold", "answers", "labels"),
            *("teacher", WEIGHTS, "student.seed", "region"),
            files.EVIDENCE,
        ),
        (files.LABELS,),
        label,
        packages=("torch", "torchvision", "open_clip_torch", "timm", "transformers", "numpy", "pillow", "scikit-learn"),
        may_write=(files.EVIDENCE,),
    ),
    Stage(
        "train",
        (TRAINING_LABELS, "student", "region"),
        (files.STUDENT, files.TRAINING, files.HELD_OUT),
        train,
        ("torch", "torchvision", "timm", "lightning", "numpy", "pillow"),
    ),
    EXPORT,
    Stage(
        "evaluate",
        (files.LABELS, files.STUDENT, files.MODEL, files.HELD_OUT, "target", "gate", "region", STAMPED),
        (files.MODEL, files.PREDICTIONS, files.GATE),
        evaluate,
        ("torch", "onnxruntime", "numpy", "pillow"),
    ),
    Stage(
        "report",
        (
            *(files.IMAGES, files.LABELS, files.TRAINING, files.HELD_OUT, files.MODEL, files.PREDICTIONS, files.GATE),
            *("region", STAMPED, files.EVIDENCE),
        ),
        (files.REPORT, files.CARD),
        report,
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def run(
    folder: RunFolder,
    store: Path,
    until: str = STAGE_NAMES[-1],
    *,
    since: str = STAGE_NAMES[0],
    again: bool = False,
    go_on: bool = False,
) -> None:
    """Take a run through the stages, up to and with `until`; stages that are up to date are passed over.

    Args:
        folder: The run.
        store: Folder of the embedding store.
        until: Name of the last stage.
        since: Name of the first stage; what those before it have made is taken as it is.
        again: Do the last stage even if it is up to date.
        go_on: Train even on labels that carry nothing.

    Raises:
        LabelsError: The labels carry nothing, so that there is nothing to train on.
        FactoryError: A stage cannot be done; what earlier stages made stays.
    """
    job = Job(folder, load(folder.file(files.SCENARIO)), store)
    _check_early(job.scenario)
    for stage in STAGES[STAGE_NAMES.index(since) : STAGE_NAMES.index(until) + 1]:
        if _up_to_date(job, stage) and not (again and stage.name == until):
            continue
        if stage.name == "train":
            check_labels(job, go_on=go_on)
        folder.file(files.MANIFEST).unlink(missing_ok=True)
        for name in stage.may_write:
            folder.file(name).unlink(missing_ok=True)
        reads = stage.fingerprint(job)  # before its work: what changes while it works counts the next time
        start = time.perf_counter()
        stage.work(job)
        seconds = round(time.perf_counter() - start, 3)
        # the gate stamps the model, and evidence that is lost or changed is made anew
        reads |= folder.hashes(tuple(name for name in (*stage.writes, *stage.may_write) if name in stage.reads))
        folder.log("done", stage=stage.name, seconds=seconds, reads=reads)
    if until == "label":
        result = check_labels(job, go_on=go_on)
        console.print(f"next: {result.command(folder.path)}", markup=False)
    if until == STAGE_NAMES[-1] and not folder.finished:
        _write_manifest(job)


def check_labels(job: Job, *, go_on: bool) -> readiness.Readiness:
    """Write and print what the labels are worth.

    Raises:
        LabelsError: They carry nothing that a student could learn, and `go_on` is false; its `run` names the folder.
    """
    result, page = write_labels(job.scenario, job.run), job.run.file(files.LABELS_PAGE)
    if result.verdict == "carries nothing" and not go_on:
        error = readiness.refusal(result, job.run.path, page)
        error.run = job.run.path
        raise error
    console.print(f"{result.verdict}: {result.sentence}\nlabels: {page}", markup=False)
    return result


def _check_early(scenario: Scenario) -> None:
    """Refuse what only a late stage would notice, before hours of work."""
    for phrase in (*scenario.positive, *(scenario.negative or ())):
        if word := may_deny(phrase):
            warn(
                f"{phrase!r} may say by {word!r} that something is not there, which CLIP does not understand"
                " (only some words of some languages are known here): name what is to be seen"
            )
    scenario_region(scenario)
    find_label_source(scenario)
    load_refinement(scenario)
    students.choose(scenario.student.backbone, scenario.student.budget_kb, scenario.student.precision)
    if scenario.gold and not Path(scenario.gold).is_file():
        raise GoldError(f"{scenario.gold}: no such file of gold labels", hint="check the path")


def _up_to_date(job: Job, stage: Stage) -> bool:
    complete = all(job.run.file(name).is_file() for name in stage.writes)
    return complete and not stage.changed(job)


def _root(job: Job) -> Path:
    return Path(job.scenario.images.path or ".")


def _distinct(images: pa.Table) -> pa.Table:
    """Usable images, one row a content (the first path of exact copies), sorted by sha256."""
    usable = image_scan.usable_photos(images)
    names = usable["sha256"].to_pylist()
    return usable.take([i for i, name in enumerate(names) if i == 0 or name != names[i - 1]])


def _write_manifest(job: Job) -> None:
    started = job.run.events("start")
    seconds = {event["stage"]: event["seconds"] for event in job.run.done_events()}
    gate = GateResult.of_run(job.run)
    manifest = {
        "scenario": job.scenario.name,
        "passed": gate.verdict.passed,
        "verdict": gate.state,
        "images_from": started[0]["images"] if started else None,
        "files": job.run.hashes((*files.FILES, *files.OPTIONAL)),
        "versions": {"clip-factory": __version__, **{name: metadata.version(name) for name in RECORDED}},
        "seconds": seconds,
    }
    write_json(job.run.file(files.MANIFEST), manifest)
