"""The factory in one page: the stages in order, each from files to files.

    scenario.yaml -> images.parquet -> labels.parquet -> student.ckpt -> model.onnx -> gate.json -> report.html

A stage runs when what it reads has changed since it last ended well, and not otherwise. So a run that was killed goes
on where it was, a corrected label retrains without reading an image anew, and a new bar for the gate trains nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clip_factory import __version__, export, readiness, report
from clip_factory import encoders as teacher
from clip_factory import run_folder as files
from clip_factory import students as student
from clip_factory.errors import GoldError, RunError
from clip_factory.gate.evidence import judge as judge_model
from clip_factory.gate.verdict import Verdict
from clip_factory.gate.verdict import read as read_verdict
from clip_factory.gold import gold_csv as gold
from clip_factory.gold.journal import Journal, Ledger
from clip_factory.images import scan as images
from clip_factory.label_sources import zero_shot as labeling
from clip_factory.progress import bar, console
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario, load

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
    """A step from files to files; `reads` names files of the run and keys of the scenario."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    work: Callable[[Job], None]


def find(job: Job) -> None:
    """Find, check and group the photos."""
    with bar("checking photos") as progress:
        table = images.scan(_root(job), job.store / "scan.sqlite", progress)
    images.write(table, job.run.file(files.IMAGES))
    skipped = table.num_rows - table["reason"].null_count
    if skipped:
        console.print(f"{skipped} of {table.num_rows} files cannot be used; images.parquet says why", style="yellow")


def label(job: Job) -> None:
    """Embed the photos, ask the question, split."""
    found = job.run.table(files.IMAGES, "label")
    golden, picked = _gold(job, found)
    usable = _distinct(found)
    start = time.perf_counter()
    model = teacher.load(job.scenario.teacher)
    loaded = time.perf_counter() - start
    store = teacher.EmbeddingStore(job.store)
    names, paths = usable["sha256"].to_pylist(), usable["path"].to_pylist()
    pairs = [(sha256, _root(job) / path) for sha256, path in zip(names, paths, strict=True)]
    with bar("embedding") as progress:
        embedded = teacher.embed(model, pairs, store, job.scenario.teacher.batch_size, progress)
    table = labeling.build(job.scenario, model, usable, store.get(model.key, names), golden, picked)
    if golden:
        console.print(json.loads(table.schema.metadata[b"probe"])["says"], markup=False)
    with files.atomic(job.run.file(files.LABELS)) as temporary:
        pq.write_table(table, temporary)
    job.run.log("labeled", images=len(names), embedded=embedded, seconds_to_load_teacher=round(loaded, 3))


def train(job: Job) -> None:
    """Teach the student."""
    student.train(job.scenario, job.run, teacher.EmbeddingStore(job.store))


def ship(job: Job) -> None:
    """Turn the student into one ONNX file that fits the budget; where only target or test labels are new, stamp it."""
    if job.run.file(files.MODEL).is_file() and _changed(job, EXPORT) <= {"target", files.LABELS}:
        export.recut(job.scenario, job.run)
    else:
        export.export(job.scenario, job.run)


def judge(job: Job) -> None:
    """Hold the file against the rule."""
    judge_model(job.scenario, job.run)


def tell(job: Job) -> None:
    """Write the report and the model card."""
    report.write_report(job.scenario, job.run)
    report.write_card(job.scenario, job.run)


LEARNED = "labels of train and val"
"""What a stage reads that leaves the test split alone: an answer to a test photo judges a student, and trains none."""
EXPORT = Stage(
    "export",
    (
        *(files.LABELS, LEARNED, files.STUDENT, files.HELD_OUT),
        *("name", "question", "target", "student.budget_kb", "student.precision"),
        *("gate.parity", "gate.false_yes_cost", "gate.false_no_cost"),
    ),
    (files.MODEL,),
    ship,
)
STAGES = (
    Stage("images", ("images",), (files.IMAGES,), find),
    Stage(
        "label",
        (files.IMAGES, "positive", "negative", "templates", "gold", "answers", "teacher", "student.seed"),
        (files.LABELS,),
        label,
    ),
    Stage("train", (LEARNED, "student"), (files.STUDENT, files.TRAINING, files.HELD_OUT), train),
    EXPORT,
    Stage("gate", (files.LABELS, files.STUDENT, files.MODEL, "target", "gate"), (files.PREDICTIONS, files.GATE), judge),
    Stage("report", (files.LABELS, files.TRAINING, files.MODEL, files.GATE), (files.REPORT, files.CARD), tell),
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
            _heed_labels(job, go_on=go_on)
        folder.file(files.MANIFEST).unlink(missing_ok=True)
        start = time.perf_counter()
        stage.work(job)
        seconds = round(time.perf_counter() - start, 3)
        folder.log("done", stage=stage.name, seconds=seconds, reads=_fingerprint(job, stage))
    if until == "label":
        found = _heed_labels(job, go_on=go_on)
        console.print(f"next: {found.command(folder.path)}", markup=False)
    if until == STAGE_NAMES[-1] and not folder.finished:
        _write_manifest(job)


def _heed_labels(job: Job, *, go_on: bool) -> readiness.Readiness:
    """Say in a line, and on a page, what the labels are worth; stop where they carry nothing, unless told to go on."""
    found, page = report.write_labels(job.scenario, job.run), job.run.file(files.LABELS_PAGE)
    if found.verdict == "carries nothing" and not go_on:
        raise readiness.refusal(found, job.run.path, page)
    console.print(f"{found.verdict}: {found.sentence}\nlabels: {page}", markup=False)
    return found


def _check_early(scenario: Scenario) -> None:
    """Refuse what only a late stage would notice, before hours of work."""
    student.choose(scenario.student.backbone, scenario.student.budget_kb, scenario.student.precision)
    if scenario.gold and not Path(scenario.gold).is_file():
        raise GoldError(f"{scenario.gold}: no such file of gold labels", hint="check the path")


def verdict(folder: RunFolder) -> Verdict:
    """The gate's last word on a run.

    Raises:
        RunError: The gate has not judged it yet, or what it wrote is damaged.
    """
    try:
        return read_verdict(folder.json(files.GATE, "gate"))
    except (ValueError, AttributeError) as error:
        raise RunError(
            f"{folder.file(files.GATE)}: {error}", hint=f"judge it again: factory gate {folder.path}"
        ) from None


def _up_to_date(job: Job, stage: Stage) -> bool:
    return all(job.run.file(name).is_file() for name in stage.writes) and not _changed(job, stage)


def _changed(job: Job, stage: Stage) -> set[str]:
    """Of what a stage reads, that which is not as it was when the stage last ended well; all, where it never did."""
    done = [event["reads"] for event in job.run.events("done") if event["stage"] == stage.name]
    now = _fingerprint(job, stage)
    before = done[-1] if done else {}
    return {key for key in now.keys() | before.keys() if now.get(key) != before.get(key)}


def _fingerprint(job: Job, stage: Stage) -> dict[str, str]:
    """Hashes of all that a stage reads: files by their bytes, keys by their values, gold by its file's bytes."""
    prints = job.run.hashes(tuple(name for name in stage.reads if name in files.FILES))
    if LEARNED in stage.reads:
        prints[LEARNED] = _learned(job)
    for key in (name for name in stage.reads if name not in files.FILES and name != LEARNED):
        value = job.scenario.model_dump(mode="json")
        for part in key.split("."):
            value = value[part]
        prints[key] = hashlib.sha256(json.dumps(value).encode()).hexdigest()
    if "gold" in stage.reads and job.scenario.gold and Path(job.scenario.gold).is_file():
        prints["gold"] = files.sha256_file(Path(job.scenario.gold))
    if "answers" in stage.reads:
        prints["answers"] = _answers(job).digest()
    return prints


def _learned(job: Job) -> str:
    """Hash of the labels that shape a student, without those of the test split."""
    labels = job.run.table(files.LABELS, "label")
    rows = labels.filter(pc.not_equal(labels["split"], "test")).combine_chunks()
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows)
    return hashlib.sha256(stream.getbuffer()).hexdigest()


def _answers(job: Job) -> Ledger:
    return Journal(Path(job.scenario.answers)).ledger() if job.scenario.answers else Ledger.of([])


def _gold(job: Job, found: pa.Table) -> tuple[dict[str, bool], set[str]]:
    """Gold labels by sha256, and which of them were asked for because they looked doubtful."""
    golden = gold.read_gold(Path(job.scenario.gold), found) if job.scenario.gold else {}
    ledger, known = _answers(job), set(found["sha256"].to_pylist())
    withheld = ledger.withheld & known
    reviewed = {sha: answer for sha, answer in ledger.gold.items() if sha in known}
    if reviewed or withheld:
        kept = f"{len(reviewed)} labels from {job.scenario.answers}"
        left = f"; {len(withheld)} photos with no clear answer count as unlabeled" if withheld else ""
        console.print(f"people's answers: {kept}{left}", markup=False)
    golden = {sha: answer for sha, answer in golden.items() if sha not in withheld}
    return golden | reviewed, set(reviewed) - ledger.drawn - set(golden)


def _root(job: Job) -> Path:
    return Path(job.scenario.images.path or ".")


def _distinct(found: pa.Table) -> pa.Table:
    """Usable images, one row a content (the first path of exact copies), sorted by sha256."""
    usable = found.filter(pc.is_null(found["reason"])).select(["sha256", "path", "group"])
    usable = usable.sort_by([("sha256", "ascending"), ("path", "ascending")])
    names = usable["sha256"].to_pylist()
    return usable.take([i for i, name in enumerate(names) if i == 0 or name != names[i - 1]])


def _write_manifest(job: Job) -> None:
    started = job.run.events("start")
    seconds = {event["stage"]: event["seconds"] for event in job.run.events("done")}
    manifest = {
        "scenario": job.scenario.name,
        "passed": verdict(job.run).passed,
        "verdict": verdict(job.run).state,
        "images_from": started[0]["images"] if started else None,
        "files": job.run.hashes(files.FILES),
        "versions": {"clip-factory": __version__, **{name: metadata.version(name) for name in RECORDED}},
        "seconds": seconds,
    }
    files.write_json(job.run.file(files.MANIFEST), manifest)
