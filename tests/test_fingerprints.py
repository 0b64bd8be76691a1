"""What counts as changed: logs that version 0.1.0 wrote, and keys that it did not know."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_factory import run_folder as files
from clip_factory.encoders.weights import weights_state
from clip_factory.fingerprints import PHOTOS, STAMPED, USABLE, VERSION, WEIGHTS, changed, fingerprint
from clip_factory.run_folder import RunFolder
from clip_factory.run_request import start_run
from clip_factory.scenario import Gate, Labeling, Scenario, Teacher, parse

TEXT = """\
name: ball
question: Is there a ball?
positive: [ball]
negative: [box]
teacher: {model: offline}
images: {path: /photos}
"""
REQUEST = "cb3f5f8bcf205efd42d70b8a8ed5e9429d5a176d2d3df2140df6c343171def33"
"""What version 0.1.0 wrote in the log of a run of this scenario: the sha256 of the resolved file."""
LABEL = ("positive", "negative", "templates", "teacher", "student.seed")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with a log that names no key `labels`, and the stages as version 0.1.0 called them."""
    run, scenario = RunFolder(tmp_path / "ball" / "2026-11-21T09-00-00"), parse(TEXT)
    run.path.mkdir(parents=True)
    run.file(files.SCENARIO).write_text(TEXT, encoding="utf-8")
    run.log("start", request=REQUEST, images={"path": "/photos"})
    for stage, reads in (("images", ("images",)), ("label", LABEL), ("gate", ("target", "gate"))):
        run.log("done", stage=stage, seconds=1.0, reads=fingerprint(run, scenario, reads))
    return run


def test_stages_of_version_0_1_0_count_under_their_new_names(run: RunFolder) -> None:
    scenario = parse(TEXT)
    assert [event["stage"] for event in run.done_events()] == ["scan", "label", "evaluate"]
    assert changed(run, scenario, "scan", ("images",)) == set()
    assert changed(run, scenario, "evaluate", ("target", "gate")) == set()
    assert changed(run, scenario, "train", ("student",)) == {"student"}, "it never ended well"


def test_the_value_of_a_key_is_hashed_as_version_0_1_0_did(run: RunFolder) -> None:
    seed = hashlib.sha256(json.dumps(0).encode()).hexdigest()
    assert fingerprint(run, parse(TEXT), ["student.seed"]) == {"student.seed": seed}


def test_a_key_that_the_log_does_not_know_has_changed_only_where_it_is_not_at_its_default(run: RunFolder) -> None:
    scenario = parse(TEXT)
    assert changed(run, scenario, "label", (*LABEL, "labels")) == set()
    other = scenario.model_copy(update={"labels": Labeling(refine="none")})
    assert changed(run, other, "label", (*LABEL, "labels")) == {"labels"}
    assert changed(run, parse(TEXT.replace("[ball]", "[balloon]")), "label", (*LABEL, "labels")) == {"positive"}


def test_a_run_that_version_0_1_0_left_unfinished_is_resumed_by_the_same_request(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_run(parse(TEXT), tmp_path, tmp_path / "store", resume=True) as resumed:
        assert resumed == run
    monkeypatch.setattr("clip_factory.run_request._create", lambda *_: RunFolder(tmp_path))
    other = parse(TEXT + "labels: {refine: none}\n")
    with start_run(other, tmp_path, tmp_path / "store", resume=True) as new:
        assert new.path == tmp_path


@pytest.fixture
def today(tmp_path: Path) -> tuple[RunFolder, Scenario]:
    """A run whose stage `scan` has just ended well, with one photo."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    run, scenario = RunFolder(tmp_path / "run"), parse(TEXT.replace("/photos", str(tmp_path / "photos")))
    run.path.mkdir()
    run.log("done", stage="scan", seconds=1.0, reads=fingerprint(run, scenario, READS, ("pillow",)))
    return run, scenario


READS = ("images", PHOTOS, WEIGHTS, STAMPED)


def now_changed(today: tuple[RunFolder, Scenario]) -> set[str]:
    return changed(*today, "scan", READS, ("pillow",))


def test_photos_that_come_go_or_change_are_seen(today: tuple[RunFolder, Scenario]) -> None:
    folder = Path(today[1].images.path or "")
    assert now_changed(today) == set()
    (folder / "b.jpg").write_bytes(b"b")
    assert now_changed(today) == {PHOTOS}
    (folder / "b.jpg").unlink()
    assert now_changed(today) == set()
    before = (folder / "a.jpg").stat()
    (folder / "a.jpg").write_bytes(b"c")
    os.utime(folder / "a.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert now_changed(today) == {PHOTOS}, "the same size, and the old time put back"


def test_another_version_of_a_package_is_seen(
    today: tuple[RunFolder, Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_factory.fingerprints._version", lambda package: "0.0.1")
    assert now_changed(today) == {f"{VERSION}pillow"}


def test_any_change_of_the_scenario_changes_what_a_model_holds(today: tuple[RunFolder, Scenario]) -> None:
    run, scenario = today
    other = scenario.model_copy(update={"gate": Gate(agreement=0.5)})
    assert now_changed((run, other)) == {STAMPED}
    moved = scenario.model_copy(update={"answers": "elsewhere.jsonl"})
    assert now_changed((run, moved)) == set()


def test_a_package_that_is_not_installed_has_no_version(today: tuple[RunFolder, Scenario]) -> None:
    run, scenario = today
    assert set(fingerprint(run, scenario, (), ("no-such-package",))) == {f"{VERSION}no-such-package"}


def test_weights_are_told_apart_without_loading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"1")
    here = Teacher(model=f"local-dir:{tmp_path}")
    first = weights_state(here)
    assert weights_state(here) == first
    (tmp_path / "model.safetensors").write_bytes(b"22")
    assert weights_state(here) != first

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub = Teacher(model="hf-hub:some/clip")
    empty = weights_state(hub)
    (tmp_path / "models--some--clip" / "refs").mkdir(parents=True)
    (tmp_path / "models--some--clip" / "refs" / "main").write_text("abc123")
    assert weights_state(hub) != empty
    assert weights_state(Teacher(model="offline")) != weights_state(Teacher(model="ViT-B-32", pretrained="openai"))


def test_files_that_are_no_photos_change_nothing(today: tuple[RunFolder, Scenario]) -> None:
    """The folder of the photos may hold the runs as well, which grow while the stages work."""
    folder = Path(today[1].images.path or "")
    (folder / "report.html").write_text("x")
    (folder / "runs").mkdir()
    (folder / "runs" / "model.onnx").write_text("x")
    assert now_changed(today) == set()


def test_of_the_scan_the_labels_read_the_photos_alone(tmp_path: Path) -> None:
    run, scenario = RunFolder(tmp_path), parse(TEXT)
    columns = {"path": ["a.jpg"], "sha256": ["1"], "group": [0], "reason": pa.array([None], pa.string()), "bytes": [5]}
    pq.write_table(pa.table(columns), run.file(files.IMAGES))
    run.log("done", stage="label", seconds=1.0, reads=fingerprint(run, scenario, (USABLE,)))
    more = pa.table({"path": ["notes.txt"], "sha256": [""], "group": [-1], "reason": ["no image"], "bytes": [7]})
    pq.write_table(pa.concat_tables([pa.table(columns), more]), run.file(files.IMAGES))
    assert changed(run, scenario, "label", (USABLE,)) == set()
    pq.write_table(pa.table(columns | {"group": [3]}), run.file(files.IMAGES))
    assert changed(run, scenario, "label", (USABLE,)) == {USABLE}


def test_what_is_not_looked_at_any_more_has_not_changed(run: RunFolder) -> None:
    assert changed(run, parse(TEXT.replace("[ball]", "[balloon]")), "label", ("negative",)) == set()
