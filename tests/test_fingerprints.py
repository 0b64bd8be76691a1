"""What counts as changed: logs that version 0.1.0 wrote, and keys that it did not know."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from clip_factory import run_folder as files
from clip_factory.fingerprints import changed, fingerprint
from clip_factory.run_folder import RunFolder
from clip_factory.run_request import start_run
from clip_factory.scenario import Labeling, parse

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
