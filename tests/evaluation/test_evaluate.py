"""`factory evaluate`: what a user is told of a model on a labeled folder, and what is left out and why."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_score, recall_score, roc_auc_score
from typer.testing import CliRunner

from clip_factory.cli.main import app
from clip_factory.evaluation.difference_intervals import area
from clip_factory.evaluation.measure import BREAK_EVEN, FEW_ALARMS, HIGH_RECALL, named_thresholds
from clip_factory.runtime import Model
from support.labeled_photos import Photos, RunTables, draw, make_model, make_photos, make_red_run, write_labels

runner = CliRunner()


def call(*arguments: object) -> Result:
    return runner.invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return make_photos(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "model.onnx", threshold="0.6")


def told(*arguments: object) -> dict:
    done = call(*arguments, "--format", "json")
    assert done.exit_code in (0, 3), done.output
    return json.loads(done.stdout)


def probabilities(model: Path, photos: Photos) -> np.ndarray:
    return np.array([one.probability for one in Model.load(model).predict([photos.root / p for p in photos.path])])


def test_figures_are_those_of_scikit_learn(model: Path, photos: Photos) -> None:
    p = probabilities(model, photos)
    answers = p >= 0.6
    found = told(model, "--gold", photos.gold, "--images", photos.root)
    by_name = {one["name"].split(":")[0]: one for one in found["figures"]}

    (rejections, alarms), (misses, hits) = confusion_matrix(photos.truth, answers)
    assert found["confusion"] == {
        "hits": hits, "misses": misses, "false_alarms": alarms, "correct_rejections": rejections,
    }  # fmt: skip
    assert hits and misses and alarms, "a set that shows nothing tests nothing"
    assert by_name["recall"]["figure"] == pytest.approx(recall_score(photos.truth, answers))
    assert by_name["precision"]["figure"] == pytest.approx(precision_score(photos.truth, answers))
    assert by_name["false alarms"]["figure"] == pytest.approx(alarms / (alarms + rejections))
    assert by_name["balanced accuracy"]["figure"] == pytest.approx(balanced_accuracy_score(photos.truth, answers))
    assert by_name["area under the ROC curve"]["figure"] == pytest.approx(roc_auc_score(photos.truth, p))
    for one in found["figures"]:
        assert one["interval"][0] <= one["figure"] <= one["interval"][1]
    assert found["headline"] == (
        f"red: finds {hits} of 20 ({100 * by_name['recall']['interval'][0]:.0f} to "
        f"{100 * by_name['recall']['interval'][1]:.0f} %), misses {misses}; {alarms} false alarms among 40 "
        f"({100 * by_name['false alarms']['interval'][0]:.0f} to "
        f"{100 * by_name['false alarms']['interval'][1]:.0f} %), by people's labels"
    )


def test_the_console_leads_with_found_and_missed_and_exits_0(model: Path, photos: Photos) -> None:
    done = call(model, "--gold", photos.gold, "--images", photos.root)

    assert done.exit_code == 0
    assert done.stdout.startswith("red: finds ")
    assert "right answer yes" in done.stdout
    assert "as shipped" in done.stdout
    assert "What it was trained on is not known" in done.stderr
    assert "\N{REPLACEMENT CHARACTER}" not in done.stdout


def test_every_threshold_has_its_counts(model: Path, photos: Photos) -> None:
    p = probabilities(model, photos)
    cuts = told(model, "--gold", photos.gold, "--images", photos.root)["thresholds"]

    assert [cut["threshold"] for cut in cuts] == sorted(cut["threshold"] for cut in cuts)
    assert {"as shipped", BREAK_EVEN, FEW_ALARMS, HIGH_RECALL} <= {w for cut in cuts for w in cut["what"].split(", ")}
    for cut in cuts:
        answers = p >= cut["threshold"]
        assert cut["hits"] == (answers & photos.truth).sum()
        assert cut["false_alarms"] == (answers & ~photos.truth).sum()


@pytest.mark.parametrize("seed", range(20))
def test_named_thresholds_serve_what_they_name(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.arange(130) < 30
    p = np.round(np.clip(random.normal(0.35 + 0.25 * truth, 0.2), 0, 1), 2)  # with ties
    chosen = named_thresholds(truth, p)

    def counts(threshold: float) -> tuple[int, int]:
        return int((truth & (p >= threshold)).sum()), int((~truth & (p >= threshold)).sum())

    every = [counts(threshold) for threshold in np.unique(p)]
    hits, alarms = counts(chosen[BREAK_EVEN])
    assert abs(alarms - (30 - hits)) == min(abs(a - (30 - h)) for h, a in every)
    hits, alarms = counts(chosen[FEW_ALARMS])
    assert alarms <= 1
    assert hits == max(h for h, a in every if a <= 1)
    hits, alarms = counts(chosen[HIGH_RECALL])
    assert hits >= 27
    assert alarms == min(a for h, a in every if h >= 27)


def split_of(photos: Photos) -> list[str]:
    return [("train", "train", "val", "test")[i % 4] for i in range(len(photos.path))]


def test_a_run_is_measured_on_photos_it_never_saw(photos: Photos, tmp_path: Path) -> None:
    split = split_of(photos)
    run = make_red_run(tmp_path / "run", photos, RunTables(split, [None] * len(split)))
    done = call(run, "--gold", photos.gold, "--out", tmp_path / "out", "--format", "json")
    found = json.loads(done.stdout)
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))

    assert found["photos"]["measured"] == split.count("test") == 15
    assert found["photos"]["trained_on"] == 45
    assert sum(found["confusion"].values()) == 15
    assert "45 photos that run was trained or tuned on left out" in found["remarks"][0]
    assert {row["path"]: row["split"] for row in rows} == dict(zip(photos.path, split, strict=True))


def test_labels_of_photos_that_it_was_trained_on_alone_measure_nothing(photos: Photos, tmp_path: Path) -> None:
    run = make_red_run(tmp_path / "run", photos, RunTables(["train"] * 60, [None] * 60))
    done = call(run, "--gold", photos.gold)

    assert "run was trained on all 60 labeled photos: they measure nothing" in str(done.exception)
    assert "factory review --prove" in str(done.exception)


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(model: Path, photos: Photos, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photos.root, tmp_path / "photos"))
    (root / "a" / "broken.jpg").write_bytes(b"no photo")
    for i in range(3):
        draw(root / "c" / f"{i}.png", 0.5, 9000 + i)
    gold = write_labels(tmp_path / "truth.csv", [*photos.path, "a/broken.jpg"], [*photos.truth, True])
    done = call(model, "--gold", gold, "--images", root, "--out", tmp_path / "out")

    assert done.exit_code == 3
    assert "1 labeled photo could not be read:\n  a/broken.jpg: " in done.stderr
    assert "3 photos without a label." in done.stderr
    assert "finds" in done.stdout
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert sum(found["confusion"].values()) == 60
    assert [one["path"] for one in found["photos"]["unreadable"]] == ["a/broken.jpg"]


def test_a_label_that_names_no_photo_is_an_error(model: Path, photos: Photos, tmp_path: Path) -> None:
    gold = write_labels(tmp_path / "truth.csv", [photos.path[0], "a/nowhere.png"], [True, False])
    done = call(model, "--gold", gold, "--images", photos.root)

    assert f"1 gold labels name no image: {gold}:3: a/nowhere.png" in str(done.exception)


def test_a_folder_without_photos_is_an_error_that_names_the_option(model: Path, photos: Photos, tmp_path: Path) -> None:
    gold = shutil.copy(photos.gold, tmp_path / "truth.csv")

    assert str(call(model, "--gold", gold).exception) == (
        f"{tmp_path}: holds no photos\n  name the folder of the labeled photos: --images DIR"
    )


def test_answers_asked_for_their_doubt_do_not_measure(model: Path, photos: Photos, tmp_path: Path) -> None:
    table = {
        "sha256": photos.sha256,
        "label": ["yes" if yes else "no" for yes in photos.truth],
        "random": [i % 3 > 0 for i in range(60)],
    }
    pq.write_table(pa.table(table), tmp_path / "red.gold.parquet")
    found = told(model, "--gold", tmp_path / "red.gold.parquet", "--images", photos.root)

    assert sum(found["confusion"].values()) == 40
    assert "20 labels asked for because the photo looked doubtful left out: such photos are harder." in found["remarks"]


def test_exact_copies_count_once_and_near_duplicates_are_said(model: Path, photos: Photos, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photos.root, tmp_path / "photos"))
    shutil.copy(root / photos.path[0], root / "copy.png")
    from PIL import Image

    Image.open(root / photos.path[1]).convert("RGB").point(lambda v: min(255, v + 2)).save(root / "alike.png")
    gold = write_labels(
        tmp_path / "truth.csv", [*photos.path, "copy.png", "alike.png"], [*photos.truth, photos.truth[0], True]
    )
    found = told(model, "--gold", gold, "--images", root)

    assert sum(found["confusion"].values()) == 61
    assert "1 exact copy set aside." in found["remarks"]
    assert any(remark.startswith("1 of these photos look like another one") for remark in found["remarks"])


def test_the_page_shows_each_mistake_and_obeys_no_name(model: Path, photos: Photos, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photos.root, tmp_path / "photos"))
    hostile = "<img src=x onerror=alert(1)>.png"
    draw(root / hostile, 0.0, 5)
    gold = write_labels(tmp_path / "truth.csv", [*photos.path, hostile], [*photos.truth, True])
    call(model, "--gold", gold, "--images", root, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    wrong = [row["path"] for row in rows if row["outcome"] in ("missed", "false alarm")]

    assert hostile in wrong
    assert page.count("data:image/jpeg") == len(wrong)
    for path in wrong:
        assert path.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "<img src=x" not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_a_wholly_right_model_is_not_certain() -> None:
    """Where the two answers lie apart, DeLong's variance is 0, which five photos do not show."""
    truth = np.arange(25) < 5
    figure, (low, high) = area(truth, truth.astype(float))

    assert figure == high == 1
    assert low < 0.7


def test_the_interval_of_the_area_covers(model: Path) -> None:
    random = np.random.default_rng(0)
    true, covered = 0.8556, 0  # of two normals 1.5 apart: the normal distribution at 1.5 / sqrt(2)
    for _ in range(400):
        truth = np.arange(120) < 30
        _, (low, high) = area(truth, random.normal(1.5 * truth, 1))
        covered += low <= true <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_release_is_named_by_its_reference(photos: Photos, tmp_path: Path) -> None:
    from clip_factory.registry import open_registry, publish
    from clip_factory.registry.draft_from_run import PublishOptions
    from support.finished_run import finished

    publish(
        finished(tmp_path / "run"),
        open_registry(str(tmp_path / "registry")),
        None,
        PublishOptions(force=True, allow_unproven=True),
    )
    found = told("red-ball@1", "--registry", tmp_path / "registry", "--gold", photos.gold, "--images", photos.root)

    assert found["model"]["given_as"] == "red-ball@1"
    assert sum(found["confusion"].values()) == 60


def test_the_labels_are_never_written_over(tmp_path: Path) -> None:
    from clip_factory.errors import FactoryError
    from clip_factory.evaluation.evaluation_files import check_folder

    (tmp_path / "file").write_text("x")
    with pytest.raises(FactoryError, match="would be written over"):
        check_folder(tmp_path, tmp_path / "predictions.csv")
    with pytest.raises(FactoryError, match="is a file, not a folder"):
        check_folder(tmp_path / "file", tmp_path / "truth.csv")
    check_folder(tmp_path / "new", tmp_path / "truth.csv")
