"""From photos to a model file with a detector or a segmenter as the teacher, by way of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from clip_factory import pipeline
from clip_factory import run_folder as files
from clip_factory.images.photo import Photo
from clip_factory.label_sources.localization import LocatingSource
from clip_factory.label_sources.source import Scores, find_label_source
from clip_factory.label_sources.visual_evidence import read_evidence
from clip_factory.labels import Labels
from clip_factory.run_folder import RunFolder, read_json, sha256_file
from clip_factory.runtime import Model
from clip_factory.runtime.atomic import write_text
from clip_factory.scenario import Gate, Images, Labeling, Scenario, Student, Teacher, dump, load
from support.pictures import draw_shape
from support.tiny_locators import make_clipseg, make_owl

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(60):
        size = (96, 64) if number % 2 else (64, 96)
        draw_shape(("disc", "bar")[number % 2], number, 96).resize(size).save(folder / f"{number:02d}.png")
    return folder


def made_run(folder: Path, photos: Path, tiny_clip: Path, source: str, model: Path) -> RunFolder:
    """A run that asks a tiny model whose answers mean nothing; the score that counts is one that half of them reach."""
    labels = Labeling(source=source, model=f"local-dir:{model}", refine="none", min_area=0.02)
    zero = {"recall": 0, "precision": 0, "balanced_agreement": 0, "agreement": 0, "gold_accuracy": 0, "parity": 1}
    scenario = Scenario(
        name="disc",
        positive=("disc",),
        images=Images(path=str(photos)),
        labels=labels,
        teacher=Teacher(model=f"local-dir:{tiny_clip}"),
        student=Student(backbone="resnet-mini", image_size=32, epochs=2),
        gate=Gate(**zero),
    )
    some = [Photo.of(path) for path in sorted(photos.glob("*.png"))[:20]]
    reached = float(np.median(asked(scenario, some).log_odds)) + np.log(
        labels.score or (0.25 if source == "detection" else 1)
    )
    score = 1 / (1 + np.exp(-reached))
    scenario = scenario.model_copy(update={"labels": labels.model_copy(update={"score": score})})
    run = RunFolder(folder / "run")
    run.path.mkdir(parents=True)
    write_text(run.file(files.SCENARIO), dump(scenario))
    return run


def asked(scenario: Scenario, photos: list[Photo]) -> Scores:
    return find_label_source(scenario)(scenario, None, None).score(photos, scenario)  # type: ignore[arg-type]


@pytest.mark.parametrize(("source", "make"), [("detection", make_owl), ("segmentation", make_clipseg)])
def test_a_student_is_distilled_from_boxes_and_masks(
    tmp_path: Path, photos: Path, tiny_clip: Path, source: str, make: Callable[[Path], Path]
) -> None:
    model = make(tmp_path / "model")
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    run = made_run(tmp_path, photos, tiny_clip, source, model)

    pipeline.run(run, tmp_path / "store", go_on=True)

    labels, evidence = Labels.of_run(run), read_evidence(run)
    alone = asked(load(run.file(files.SCENARIO)), labels.photos(photos, None))
    assert alone.evidence is not None
    assert labels.p_teacher == pytest.approx(alone.p, abs=1e-5)
    assert evidence == dict(zip(labels.sha256.tolist(), alone.evidence, strict=True))
    assert 10 < int((labels.p_teacher >= 0.5).sum()) < 50
    assert labels.teacher["name"] == f"local-dir:{model}" and labels.teacher["license"] == "apache-2.0"
    teacher = json.loads(Model.load(run.file(files.MODEL)).metadata["teacher"])
    assert (teacher["name"], teacher["license"]) == (f"local-dir:{model}", "apache-2.0")
    manifest = read_json(run.file(files.MANIFEST))
    assert manifest["files"][files.EVIDENCE] == sha256_file(run.file(files.EVIDENCE))
    for page in (files.REPORT, files.LABELS_PAGE):
        text = run.file(page).read_text(encoding="utf-8")
        assert '<svg class="seen"' in text and "license apache-2.0" in text
        assert ("<rect" if source == "detection" else "data:image/png;base64,") in text.split('class="seen"')[1]
        assert "Everyday things" not in text, "nothing stood in for the negatives that are not named"


def test_evidence_is_made_anew_where_it_is_lost_and_goes_with_its_source(
    tmp_path: Path, photos: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_run(tmp_path, photos, tiny_clip, "detection", make_owl(tmp_path / "model"))
    pipeline.run(run, tmp_path / "store", "label", go_on=True)
    written = run.file(files.EVIDENCE).read_bytes()
    monkeypatch.setattr(LocatingSource, "score", None)  # all is in the store: nothing is asked again

    pipeline.run(run, tmp_path / "store", "label", go_on=True)
    assert len(stages(run, "label")) == 1, "nothing has changed"
    run.file(files.EVIDENCE).unlink()
    pipeline.run(run, tmp_path / "store", "label", go_on=True)
    assert run.file(files.EVIDENCE).read_bytes() == written

    scenario = load(run.file(files.SCENARIO))
    write_text(run.file(files.SCENARIO), dump(scenario.model_copy(update={"labels": Labeling()})))
    pipeline.run(run, tmp_path / "store", "label", go_on=True)
    assert not run.file(files.EVIDENCE).exists()
    pipeline.run(run, tmp_path / "store", "label", go_on=True)
    assert len(stages(run, "label")) == 3, "the third is up to date"


def test_other_weights_in_the_same_folder_label_anew(tmp_path: Path, photos: Path, tiny_clip: Path) -> None:
    run = made_run(tmp_path, photos, tiny_clip, "detection", make_owl(tmp_path / "model"))
    pipeline.run(run, tmp_path / "store", "label", go_on=True)
    before = pq.read_table(run.file(files.LABELS))["p_teacher"]

    make_owl(tmp_path / "model", side=56)
    pipeline.run(run, tmp_path / "store", "label", go_on=True)

    assert len(stages(run, "label")) == 2
    assert not pq.read_table(run.file(files.LABELS))["p_teacher"].equals(before)


def stages(run: RunFolder, name: str) -> list[dict[str, object]]:
    return [event for event in run.done_events() if event["stage"] == name]
