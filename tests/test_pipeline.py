"""The main job, end to end on rendered shapes with a tiny CLIP: files, exit codes, resuming, second scenarios."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import BaseModel

from clip_factory import pipeline
from clip_factory import run_folder as files
from clip_factory.fingerprints import STAMPED
from clip_factory.gold.journal import Journal
from clip_factory.run_folder import RunFolder, read_json, sha256_file
from clip_factory.runtime import Model
from clip_factory.scenario import Gate, Images, Labeling, Student, dump, load

pytestmark = pytest.mark.slow

SCENARIO = """\
name: disc
question: Is there a disc?
positive: [disc]
negative: [bar, stripe]
teacher: {{model: "local-dir:{clip}", batch_size: 16}}
images: {{path: photos}}
student: {{backbone: resnet-mini, image_size: 32, epochs: 8}}
gate: {{recall: 0, precision: 0, balanced_agreement: 0, agreement: 0, gold_accuracy: {bar}, parity: 0.05}}
"""


def factory(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clip_factory", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def make_bench(shapes: Path, tiny_clip: Path, folder: Path, bar: float = 0.0) -> Path:
    """A user's folder: photos, gold labels and a scenario file. The tiny CLIP knows nothing; gold labels all."""
    shutil.copytree(shapes, folder, dirs_exist_ok=True)
    (folder / "photos" / "notes.jpg").write_text("not a picture", encoding="utf-8")
    (folder / "disc.yaml").write_text(SCENARIO.format(clip=tiny_clip, bar=bar), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(shapes: Path, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run, made by the command line."""
    bench = make_bench(shapes, tiny_clip, tmp_path_factory.mktemp("bench"))
    os.environ["FACTORY_STORE"] = str(bench / "store")
    done = factory("run", "disc.yaml", "--gold", "gold.csv", "--store", "store", cwd=bench)
    assert done.returncode == 0, done.stderr
    return RunFolder(bench / done.stdout.splitlines()[-1])


def test_a_run_holds_every_file_and_a_manifest_of_their_hashes(finished: RunFolder) -> None:
    manifest = read_json(finished.file(files.MANIFEST))

    assert manifest["files"] == {name: sha256_file(finished.file(name)) for name in files.FILES}
    assert set(manifest["seconds"]) == {"scan", "label", "train", "export", "evaluate", "report"}
    assert not [path.name for path in finished.path.iterdir() if path.suffix in (".tmp", ".data")]


def test_the_resolved_scenario_loads_and_names_its_sources(finished: RunFolder) -> None:
    resolved = load(finished.file(files.SCENARIO))

    assert Path(resolved.images.path or "").is_absolute()
    assert resolved.student.seed == 0


def test_bad_files_are_listed_with_their_reason(finished: RunFolder) -> None:
    rows = pq.read_table(finished.file(files.IMAGES)).to_pylist()
    bad = [row for row in rows if row["reason"]]

    assert [(row["path"], row["group"]) for row in bad] == [("notes.jpg", -1)]
    assert "not an image" in bad[0]["reason"]


def test_the_student_learned_the_shapes(finished: RunFolder) -> None:
    gate = read_json(finished.file(files.GATE))

    assert gate["figures"]["gold"]["student"]["auc"] > 0.6, "gold labels train it; eight epochs teach it something"
    assert gate["figures"]["bytes"] == finished.file(files.MODEL).stat().st_size


def test_the_model_file_stands_alone_and_says_what_it_is(finished: RunFolder) -> None:
    proto = onnx.load(finished.file(files.MODEL))
    onnx.checker.check_model(proto, full_check=True)
    said = {entry.key: entry.value for entry in proto.metadata_props}

    assert said["question"] == "Is there a disc?"
    assert json.loads(said["gate"])["parity"]["verdict"] == "pass"
    assert said["data_sha256"] == sha256_file(finished.file(files.LABELS))
    assert Model.load(finished.file(files.MODEL)).verify() < 1e-3


def test_predictions_are_the_shipped_files(finished: RunFolder) -> None:
    model = Model.load(finished.file(files.MODEL))
    labels = {row["sha256"]: row for row in pq.read_table(finished.file(files.LABELS)).to_pylist()}
    rows = pq.read_table(finished.file(files.PREDICTIONS)).to_pylist()[:5]
    root = Path(load(finished.file(files.SCENARIO)).images.path or "")
    again = model.predict([root / labels[row["sha256"]]["path"] for row in rows])

    assert [one.probability for one in again] == pytest.approx([row["probability"] for row in rows], abs=1e-5)
    assert {labels[row["sha256"]]["split"] for row in rows} <= {"val", "test"}


def test_nothing_runs_twice_and_a_new_bar_trains_nothing(finished: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    before = len(run.events("done"))
    store = finished.path.parent.parent.parent / "store"
    factory("evaluate", run.path, "--store", store, cwd=tmp_path)
    assert len(run.events("done")) == before

    scenario = run.file(files.SCENARIO)
    scenario.write_text(scenario.read_text().replace("gold_accuracy: 0.0", "gold_accuracy: 1.0"))
    refused = factory("evaluate", run.path, "--store", store, cwd=tmp_path)

    assert refused.returncode == 1
    assert "REFUSED: " in refused.stdout
    assert {event["stage"] for event in run.events("done")[before:]} == {"evaluate"}


def test_threshold_shows_needs_and_moves_the_line_without_training(finished: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    before, weights = len(run.events("done")), onnx.load(run.file(files.MODEL)).graph
    store = finished.path.parent.parent.parent / "store"
    shown = factory("threshold", run.path, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for need in ("break-even", "balanced", "false alarms on 1 % of the no photos", "finds 90 % of the yes photos"):
        assert need in shown.stdout
    assert len(run.events("done")) == before, "to look changes nothing"

    moved = factory("threshold", run.path, "--at", "0.9", "--store", store, cwd=tmp_path)

    assert moved.returncode in (0, 1, 4), moved.stderr
    model = Model.load(run.file(files.MODEL))
    assert model.threshold == 0.9
    assert onnx.load(run.file(files.MODEL)).graph == weights
    assert read_json(run.file(files.GATE))["figures"]["threshold"] == 0.9
    assert load(run.file(files.SCENARIO)).need.threshold == 0.9
    assert [event["stage"] for event in run.events("done")[before:]] == ["export", "evaluate", "report"]
    assert run.finished, "the manifest is renewed, so that the run can be published"
    two = factory("threshold", run.path, "--at", "0.9", "--balanced", cwd=tmp_path)
    assert (two.returncode, "name one need, not several" in two.stderr) == (2, True)


def test_an_answer_to_a_test_photo_judges_the_student_and_trains_none(finished: RunFolder, tmp_path: Path) -> None:
    bench = finished.path.parent.parent.parent
    run = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    scenario = run.file(files.SCENARIO)
    text = scenario.read_text(encoding="utf-8").replace("gold_accuracy: 0.0", "gold_accuracy: 0.9")
    answers = tmp_path / "disc.answers.jsonl"
    text = "\n".join(f"answers: {answers}" if line.startswith("answers:") else line for line in text.splitlines())
    scenario.write_text(text, encoding="utf-8")
    rows = {row["split"]: row for row in pq.read_table(run.file(files.LABELS)).to_pylist()}
    row = rows["test"]
    journal = Journal(answers)
    journal.record_batch("ada", {row["sha256"]: row["path"]}, [row["sha256"]], 1)
    journal.answer("ada", {row["sha256"]: row["path"]}, "no" if row["gold"] else "yes")
    before = len(run.events("done"))
    done = factory("evaluate", run.path, "--store", bench / "store", cwd=tmp_path)

    assert done.returncode in (0, 1, 4), done.stderr
    stages = [event["stage"] for event in run.events("done")[before:]]
    assert stages == ["label", "export", "evaluate"]
    assert sha256_file(run.file(files.STUDENT)) == sha256_file(finished.file(files.STUDENT))
    said = {entry.key: entry.value for entry in onnx.load(run.file(files.MODEL)).metadata_props}
    assert said["data_sha256"] == sha256_file(run.file(files.LABELS)) != sha256_file(finished.file(files.LABELS))
    row = rows["train"]
    journal.answer("ada", {row["sha256"]: row["path"]}, "no" if row["gold"] else "yes")
    factory("evaluate", run.path, "--store", bench / "store", cwd=tmp_path)
    assert "train" in {event["stage"] for event in run.events("done")[before + 3 :]}, "one to a training photo does"


def test_not_proven_has_its_own_exit_code_and_says_what_to_do(finished: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    scenario = run.file(files.SCENARIO)
    share = read_json(run.file(files.GATE))["figures"]["outcome"]["recall"]["figure"]
    scenario.write_text(scenario.read_text().replace("  recall: 0.0", f"  recall: {share}"), encoding="utf-8")
    store = finished.path.parent.parent.parent / "store"

    done = factory("evaluate", run.path, "--store", store, cwd=tmp_path)

    assert done.returncode == 4, done.stderr
    assert "NOT PROVEN: " in done.stdout
    assert "to prove it, add photos: all test photos are labeled" in done.stderr, "gold.csv labels every photo"
    assert factory("evaluate", run.path, "--store", store, "--allow-unproven", cwd=tmp_path).returncode == 0


def test_a_second_scenario_on_the_same_photos_embeds_nothing(finished: RunFolder, tiny_clip: Path) -> None:
    bench = finished.path.parent.parent.parent
    text = (bench / "disc.yaml").read_text().replace("name: disc", "name: bar").replace("[disc]", "[bar]")
    (bench / "bar.yaml").write_text(text.replace("[bar, stripe]", "[disc]"), encoding="utf-8")
    vectors = sorted((bench / "store" / "vectors").rglob("*.parquet"))
    done = factory("label", "bar.yaml", "--gold", "gold.csv", "--store", "store", cwd=bench)

    assert done.returncode == 0, done.stderr
    assert "embedding" not in done.stderr
    assert vectors
    assert sorted((bench / "store" / "vectors").rglob("*.parquet")) == vectors


def test_answers_of_a_review_are_picked_up_and_nothing_is_embedded(finished: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    scenario, store = run.file(files.SCENARIO), finished.path.parent.parent.parent / "store"
    text, told = scenario.read_text(encoding="utf-8"), str(tmp_path / "disc.answers.jsonl")
    scenario.write_text(text.replace(load(scenario).answers or "", told), encoding="utf-8")
    rows = pq.read_table(run.file(files.LABELS)).to_pylist()
    agreed, torn, drawn = rows[0], rows[1], rows[2]
    journal = Journal(Path(told))
    journal.record_batch("Ada", {drawn["sha256"]: drawn["path"]}, [drawn["sha256"]], 1)
    for row in (agreed, torn, drawn):
        journal.answer("Ada", {row["sha256"]: row["path"]}, "no" if row["gold"] else "yes")
    journal.answer("Bob", {torn["sha256"]: torn["path"]}, "yes" if torn["gold"] else "no")

    done = factory("label", run.path, "--store", store, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert f"people's answers: 2 labels from {told}; 1 photos with no clear answer" in done.stderr.replace("\n", " ")
    again = {row["sha256"]: row for row in pq.read_table(run.file(files.LABELS)).to_pylist()}
    assert [again[row["sha256"]]["gold"] for row in (agreed, torn, drawn)] == [
        not agreed["gold"],
        None,
        not drawn["gold"],
    ], "answers outrank the CSV, and a conflict outranks it, too"
    assert run.events("labeled")[-1]["embedded"] == 0
    before = len(run.events("done"))
    journal.record_batch("Ada", {}, [], 1)
    factory("label", run.path, "--store", store, cwd=tmp_path)
    assert len(run.events("done")) == before, "what was asked changes no label"


@pytest.mark.parametrize("name", [files.LABELS, files.STUDENT, files.GATE])
def test_a_damaged_file_is_named_and_mended(name: str, finished: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    whole = run.file(name).read_bytes()
    run.file(name).write_bytes(whole[: len(whole) // 2])
    store = finished.path.parent.parent.parent / "store"
    verb = {files.LABELS: "train", files.STUDENT: "export", files.GATE: "evaluate"}[name]

    refused = factory(verb, run.path, "--store", store, cwd=tmp_path)

    assert refused.returncode == 2, refused.stderr
    assert f"{name}: damaged" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_unknown_names_and_missing_gold_are_refused_before_any_work(finished: RunFolder, tmp_path: Path) -> None:
    bench = finished.path.parent.parent.parent
    text = (bench / "disc.yaml").read_text(encoding="utf-8")
    (bench / "vit.yaml").write_text(text.replace("resnet-mini", "vit"), encoding="utf-8")
    (bench / "oracle.yaml").write_text(f"{text}\nlabels: {{source: oracle}}\n", encoding="utf-8")
    (bench / "prob.yaml").write_text(f"{text}\nlabels: {{refine: prob}}\n", encoding="utf-8")

    for arguments, message in (
        (["vit.yaml"], "vit"),
        (["oracle.yaml"], "oracle: no such label source"),
        (["prob.yaml"], "prob: no such refinement"),
        (["disc.yaml", "--gold", "none.csv"], "no such file of gold"),
    ):
        done = factory("run", *arguments, "--out", tmp_path, "--store", "store", cwd=bench)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
        assert not list(tmp_path.rglob(files.IMAGES))


def test_ctrl_c_says_how_to_go_on(finished: RunFolder, tmp_path: Path) -> None:
    bench = finished.path.parent.parent.parent
    text = (bench / "disc.yaml").read_text(encoding="utf-8").replace("epochs: 8", "epochs: 500")
    (bench / "long.yaml").write_text(text.replace("name: disc", "name: long"), encoding="utf-8")
    command = [sys.executable, "-m", "clip_factory", "run", "long.yaml", "--gold", "gold.csv", "--store", "store"]
    process = subprocess.Popen(command, cwd=bench, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(bench.glob("runs/long/*/tmp/*/*.ckpt")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "the same command goes on from here" in told


@pytest.mark.parametrize("stage", ["scan", "label", "train", "export", "evaluate"])
def test_kill_9_in_any_stage_then_the_same_command(
    stage: str, finished: RunFolder, shapes: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    bench = make_bench(shapes, tiny_clip, tmp_path)
    shutil.copy(finished.path.parent.parent.parent / "gold.csv", bench / "gold.csv")
    arguments = ["run", "disc.yaml", "--gold", "gold.csv", "--store", "store"]
    process = subprocess.Popen(
        [sys.executable, "-m", "clip_factory", *arguments],
        cwd=bench,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _kill_in(process, bench, stage)

    done = factory(*arguments, cwd=bench)

    assert done.returncode == 0, done.stderr
    assert "going on with" in done.stderr
    run = RunFolder(bench / done.stdout.splitlines()[-1])
    assert len(list((bench / "runs" / "disc").glob("[!.]*"))) == 1
    for name in (files.IMAGES, files.LABELS):
        assert sha256_file(run.file(name)) == sha256_file(finished.file(name)), name


def _kill_in(process: subprocess.Popen[bytes], bench: Path, stage: str) -> None:
    """SIGKILL the run as soon as the stage before `stage` is done, so that it dies inside `stage`."""
    order = ["scan", "label", "train", "export", "evaluate", "report"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        logs = list(bench.glob("runs/disc/[!.]*/log.jsonl"))
        done = [e["stage"] for e in RunFolder(logs[0].parent).events("done")] if logs else None
        if done is not None and len(done) >= order.index(stage):
            break
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


class Recorded:
    """A section of a scenario that notes the keys that are read."""

    def __init__(self, section: BaseModel, seen: set[str], prefix: str = "") -> None:
        self.__dict__.update(_section=section, _seen=seen, _prefix=prefix)

    def __getattr__(self, name: str) -> object:
        section, key = self._section, self._prefix + name
        if name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, Student | Gate | Labeling | Images):
                return Recorded(value, self._seen, f"{key}.")
            self._seen.add(key)
            return value
        if isinstance(said := getattr(type(section), name), property):
            return said.fget(self)
        return lambda **options: self._dumped(getattr(section, name), options)

    def _dumped(self, dump: Callable[..., object], options: dict[str, set[str]]) -> object:
        whole = set(type(self._section).model_fields) - options.get("exclude", set())
        self._seen |= {self._prefix + name for name in whole} if self._prefix else {STAMPED}
        return dump(**options)


ELSEWHERE = {"images.path", "teacher.batch_size"}
"""Where photos lie and how many are embedded at a time changes no result; the teacher is watched as a whole."""


def test_every_key_that_a_stage_reads_is_in_its_fingerprint(finished: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    scenario, store = load(run.file(files.SCENARIO)), finished.path.parent.parent.parent / "store"
    for stage in pipeline.STAGES:
        seen: set[str] = set()
        stage.work(pipeline.Job(run, Recorded(scenario, seen), store))
        # the gate, which runs after every export, writes the scenario into the model
        declared = {*stage.reads, *ELSEWHERE, *({STAMPED} if stage.name == "export" else ())}
        unseen = {key for key in seen if key not in declared and key.split(".")[0] not in declared}
        assert unseen == set() or STAMPED in stage.reads, stage.name


def test_photos_that_come_and_go_are_seen_by_the_same_command(
    finished: RunFolder, shapes: Path, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(finished.path, tmp_path / "run")))
    store, photos = finished.path.parent.parent.parent / "store", Path(shutil.copytree(shapes, tmp_path / "bench"))
    scenario = load(run.file(files.SCENARIO)).model_copy(
        update={"images": Images(path=str(photos / "photos")), "gold": str(photos / "gold.csv"), "answers": None}
    )
    run.file(files.SCENARIO).write_text(dump(scenario), encoding="utf-8")

    def labeled() -> set[str]:
        assert factory("label", run.path, "--store", store, "--go-on", cwd=tmp_path).returncode == 0
        return {row["path"] for row in pq.read_table(run.file(files.LABELS)).to_pylist()}

    before = labeled()
    new = photos / "photos" / "new.png"
    Image.new("RGB", (72, 72), "red").save(new)
    assert labeled() == {*before, "new.png"}
    new.unlink()
    assert labeled() == before
    done = len(run.events("done"))
    assert labeled() == before
    assert len(run.events("done")) == done, "nothing was to be done"


def test_an_answer_that_is_given_while_a_stage_works_counts_the_next_time(tmp_path: Path) -> None:
    run, journal = RunFolder(tmp_path / "run"), Journal(tmp_path / "x.answers.jsonl")
    run.path.mkdir()
    text = f"name: x\npositive: [x]\nanswers: {journal.path}\nteacher: {{model: offline}}\n"
    run.file(files.SCENARIO).write_text(text, encoding="utf-8")
    seen: list[int] = []

    def work(job: pipeline.Job) -> None:
        seen.append(len(journal.ledger().gold))
        if len(seen) == 1:
            journal.answer("Ann", {"a" * 64: "a.jpg"}, "yes")
        job.run.file(files.IMAGES).write_bytes(b"x")

    stage = pipeline.Stage("scan", ("answers",), (files.IMAGES,), work)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "STAGES", (stage,))
        patch.setattr(pipeline, "STAGE_NAMES", ("scan",))
        patch.setattr(pipeline, "_write_manifest", lambda job: None)
        for _ in range(3):
            pipeline.run(run, tmp_path / "store", "scan", since="scan")
    assert seen == [0, 1], "once more for the answer, and no more"
