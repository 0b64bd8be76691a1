"""Before training: what the labels are worth, the page that shows it, and the run that stops where they are nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from clip_factory import pipeline, report
from clip_factory import run_folder as files
from clip_factory.cli import main as cli
from clip_factory.errors import LabelsError
from clip_factory.labels import Labels
from clip_factory.readiness import Readiness, assess, refusal
from clip_factory.readiness.facts import auc_interval, separation
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario, dump

SURE_YES, SURE_NO, HUDDLED = (4.0, 0.7), (-4.0, 0.7), (-0.2, 0.25)
"""Mean and spread of log-odds."""


def draw(*sides: tuple[int, tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Probabilities of so many photos whose log-odds have this mean and spread."""
    random = np.random.default_rng(seed)
    logits = np.concatenate([random.normal(mean, spread, count) for count, (mean, spread) in sides])
    return 1 / (1 + np.exp(-logits))


def labels_of(p: np.ndarray, people: dict[int, bool] | None = None, picked: set[int] = frozenset()) -> Labels:
    """Labels with these probabilities, and people's answers by row."""
    rows = range(len(p))
    gold = np.array([(people or {}).get(row, np.nan) for row in rows], np.float64)
    return Labels(
        sha256=np.array([f"{row:064x}" for row in rows], object),
        path=np.array([f"<b>{row:03}.jpg" for row in rows], object),
        group=np.arange(len(p), dtype=np.int32),
        p_teacher=p.astype(np.float32),
        scores=np.full((len(p), 2), 0.5, np.float32),
        gold=gold,
        picked=np.array([row in picked for row in rows], bool),
        split=np.full(len(p), "train"),
        weight=np.where(np.isnan(gold), np.maximum(0.05, abs(2 * p - 1)), 1).astype(np.float32),
    )


def verdict_of(p: np.ndarray, **people: object) -> tuple[str, str]:
    found = assess(labels_of(p, **people))
    return found.verdict, found.cause


# The figures


def test_separation_is_the_auc_that_right_probabilities_have() -> None:
    random = np.random.default_rng(1)
    p = random.beta(0.6, 1.4, 40_000)
    truth = random.random(len(p)) < p

    assert separation(p) == pytest.approx(roc_auc_score(truth, p), abs=0.01)


def test_separation_is_a_half_where_all_photos_are_alike_and_counts_no_photo_against_itself() -> None:
    assert separation(np.full(30, 0.2)) == 0.5
    assert separation(np.array([0.0, 1.0])) == 1.0

    p = np.array([0.1, 0.4, 0.4, 0.9])
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    mass = [p[i] * (1 - p[j]) for i, j in pairs]
    ranked = [(p[i] > p[j]) + (p[i] == p[j]) / 2 for i, j in pairs]
    assert separation(p) == pytest.approx(np.average(ranked, weights=mass))


def test_the_interval_of_an_auc_covers_it_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        yes, no = random.normal(1.5, 1, 12), random.normal(0, 1, 25)
        auc = roc_auc_score([1] * 12 + [0] * 25, np.concatenate([yes, no]))
        low, high = auc_interval(auc, 12, 25)
        covered += low <= 0.8556 <= high  # Phi(1.5 / sqrt 2)

    assert covered / 300 > 0.92


def test_a_perfect_ranking_of_few_photos_is_no_certainty() -> None:
    low, high = auc_interval(1.0, 5, 5)

    assert high == 1
    assert 0.5 < low < 0.8


# The verdict


def test_two_clear_sides_are_ready() -> None:
    found = assess(labels_of(draw((60, SURE_YES), (340, SURE_NO))))

    assert (found.verdict, found.cause) == ("ready", "apart")
    assert found.sentence == "The teacher tells them apart: it says yes to 60 of 400 photos, and is sure of 100 %."
    assert found.command(Path("runs/ball/1")) == "factory run runs/ball/1"


def test_no_yes_at_all_and_a_question_beyond_the_teacher_get_different_words() -> None:
    none, beyond = assess(labels_of(draw((400, SURE_NO)))), assess(labels_of(draw((400, HUDDLED))))

    assert none.verdict == beyond.verdict == "carries nothing"
    assert "is sure that hardly any photo is a yes: 0 of 400, and the likeliest has" in none.sentence
    assert none.advice.startswith("add photos that show it")
    assert re.match(
        r"The teacher cannot tell: most of its probabilities lie between 0\.3\d and 0\.5\d, and it is sure of 0 %",
        beyond.sentence,
    )
    assert beyond.advice.startswith("name look-alikes as negatives, use other words or another teacher")
    assert beyond.command(Path("runs/ball/1")) == "factory review runs/ball/1"


@pytest.mark.parametrize("sides", [[(400, SURE_NO)], [(400, HUDDLED)], [(60, (1.0, 1.0)), (340, (-1.0, 1.0))]])
def test_where_no_phrase_was_compared_the_advice_is_to_ask_otherwise(
    sides: list[tuple[int, tuple[float, float]]],
) -> None:
    columns = {"phrases": {"positive": ["yes"], "negative": ["no"]}}
    asked = assess(replace(labels_of(draw(*sides)), metadata=columns))

    assert asked.cause == assess(labels_of(draw(*sides))).cause
    assert "ask in other words" in asked.advice and "look-alikes" not in asked.advice
    assert "the words" not in asked.sentence


def test_a_folder_of_nothing_but_yes_lacks_the_no() -> None:
    found = assess(labels_of(draw((400, SURE_YES))))

    assert (found.verdict, found.cause) == ("carries nothing", "one side")
    assert "hardly any photo is a no: 0 of 400, and the least likely has" in found.sentence
    assert found.advice.startswith("add photos that do not show it")


def test_sides_that_overlap_are_doubtful() -> None:
    found = assess(labels_of(draw((80, (0.6, 1.2)), (320, (-2.0, 1.2)))))

    assert found.verdict == "doubtful"
    assert "tells them apart in part" in found.sentence
    assert found.command(Path("runs/ball/1")) == "factory review runs/ball/1"


def test_a_handful_of_clear_yes_is_not_refused_for_being_rare() -> None:
    assert verdict_of(draw((12, SURE_YES), (388, SURE_NO))) == ("ready", "apart")


# People's labels


def random_answers(count: int, yes: int) -> dict[int, bool]:
    """Answers about the first rows of each side, of a table whose first `yes` rows are above 0.5."""
    return {row: row < yes for row in (*range(count), *range(yes, yes + count))}


def coins(count: int) -> dict[int, bool]:
    """Answers that have nothing to do with the teacher's, about rows of both sides of 100 yes and 300 no."""
    return {row: bool(row % 2) for row in (*range(count), *range(200, 200 + count))}


def test_people_find_out_a_teacher_that_is_sure_and_wrong() -> None:
    p = draw((100, SURE_YES), (300, SURE_NO))
    found = assess(labels_of(p, coins(50)))

    assert verdict_of(p) == ("ready", "apart"), "without people nothing shows it"
    assert verdict_of(p, people=coins(10)) == ("doubtful", "unclear"), "twenty are a doubt and no proof"
    assert (found.verdict, found.cause) == ("carries nothing", "beyond")
    assert "by 100 labels from people it ranks a yes above a no" in found.sentence
    assert "guessing: 50" in found.sentence


def test_people_show_that_a_timid_teacher_ranks_rightly() -> None:
    p = draw((80, (0.15, 0.15)), (320, (-0.6, 0.15)))

    assert verdict_of(p) == ("carries nothing", "beyond")
    assert verdict_of(p, people=random_answers(15, 80))[0] != "carries nothing"


def test_answers_that_were_asked_for_because_of_doubt_measure_nothing() -> None:
    p, picked = draw((100, SURE_YES), (300, SURE_NO)), coins(50)

    assert assess(labels_of(p, picked, set(picked))).facts.people is None
    assert verdict_of(p, people=picked, picked=set(picked)) == ("ready", "apart")


def test_a_folder_that_people_have_labeled_needs_no_teacher() -> None:
    p = draw((100, HUDDLED))

    assert verdict_of(p, people={row: row < 30 for row in range(80)}) == ("ready", "people")


def test_people_who_answer_one_way_only_leave_nothing_to_learn() -> None:
    found = assess(labels_of(draw((40, HUDDLED)), {row: True for row in range(40)}))

    assert (found.verdict, found.cause) == ("carries nothing", "people")
    assert found.advice == "add images of the rarer answer"


# The refusal


def test_too_few_of_one_answer_are_counted_with_a_histogram() -> None:
    found = assess(labels_of(np.linspace(0.01, 0.03, 12)))
    said = str(refusal(found, Path("runs/ball/1"), Path("runs/ball/1/labels.html")))

    assert said.startswith("1 of 12 images are labeled yes; at least 3 of each answer are needed. The teacher is sure")
    assert "The teacher's probabilities of yes:\n  0.0-0.1 ######################################## 12\n" in said
    assert "look at them: runs/ball/1/labels.html" in said
    assert "next: factory review runs/ball/1" in said
    assert "--go-on" in said


# The page


def make_labeled(folder: Path, **changes: object) -> tuple[Scenario, RunFolder]:
    """A run of 120 photos that has come as far as labels."""
    said = {"name": "red-ball", "question": "Is there a red ball?", "positive": ["red ball"], "negative": ["apple"]}
    rest = {"images": {"path": str(folder / "images")}, "teacher": {"model": "offline"}}
    scenario = Scenario.model_validate(said | rest | changes)
    run = RunFolder(folder / "run")
    run.path.mkdir()
    (folder / "images").mkdir()
    labels = labels_of(np.full(120, 0.5))
    for row, path in enumerate(labels.path):
        Image.new("RGB", (40, 30), (2 * row, 80, 80)).save(folder / "images" / path)
    run.file(files.SCENARIO).write_text(dump(scenario), encoding="utf-8")
    about = {"phrases": {"positive": scenario.positive, "negative": scenario.negative}, "probe": {"says": "Zero-shot."}}
    replace(labels, metadata=about).write(run.file(files.LABELS))
    return scenario, run


@pytest.fixture
def labeled(tmp_path: Path) -> tuple[Scenario, RunFolder]:
    return make_labeled(tmp_path)


def relabel(run: RunFolder, p: np.ndarray, group: list[int] | None = None) -> None:
    labels = replace(Labels.of_run(run), p_teacher=p.astype(np.float32), group=np.array(group or range(120), np.int32))
    labels.write(run.file(files.LABELS))


def gallery(page: str, title: str) -> list[str]:
    """The paths of the photos below a heading."""
    section = page.split(f"<h2>{title}</h2>")[1].split("</section>")[0]
    return [unescape(path) for path in re.findall(r'<bdi class="path">(.*?)</bdi>', section)]


def written(run: RunFolder, scenario: Scenario) -> tuple[Readiness, str]:
    return report.write_labels(scenario, run), run.file(files.LABELS_PAGE).read_text(encoding="utf-8")


def test_the_page_has_the_sentence_the_command_and_the_photos_in_order(labeled: tuple[Scenario, RunFolder]) -> None:
    scenario, run = labeled
    p = np.random.default_rng(3).permutation(np.linspace(0.01, 0.99, 120))
    relabel(run, p)
    paths = pq.read_table(run.file(files.LABELS))["path"].to_pylist()
    found, page = written(run, scenario)

    assert found.sentence in page.replace("&#39;", "'")
    assert f"<code>factory review {run.path}</code>" in page or f"<code>factory run {run.path}</code>" in page
    assert gallery(page, "The likeliest") == [paths[i] for i in np.argsort(-p)[:10]]
    assert gallery(page, "The least likely") == [paths[i] for i in np.argsort(p)[:10]]
    assert set(gallery(page, "The most doubtful")) == {paths[i] for i in np.argsort(np.abs(p - 0.5))[:10]}
    assert page.count("data:image/jpeg;base64,") == 30
    assert not re.search(r'(?:src|href)="(?!data:|#)', page), "it loads nothing"


def test_near_duplicates_are_shown_once(labeled: tuple[Scenario, RunFolder]) -> None:
    scenario, run = labeled
    p = np.linspace(0.99, 0.01, 120)
    relabel(run, p, [0] * 9 + list(range(1, 112)))
    paths = pq.read_table(run.file(files.LABELS))["path"].to_pylist()
    _, page = written(run, scenario)

    assert gallery(page, "The likeliest") == [paths[0], *paths[9:18]]


def test_photos_that_are_likeliest_and_most_doubtful_are_shown_once(labeled: tuple[Scenario, RunFolder]) -> None:
    scenario, run = labeled
    relabel(run, np.linspace(0.15, 0.01, 120))
    _, page = written(run, scenario)

    assert "<h2>The most doubtful</h2>" not in page
    assert "Carries nothing" in page
    assert "A run stops here" in page


def test_no_name_and_no_question_is_obeyed_as_markup(tmp_path: Path) -> None:
    scenario, run = make_labeled(tmp_path, question="<script>alert(1)</script>?", positive=["<i>ball"])
    _, page = written(run, scenario)

    assert "<script" not in page
    assert "<b>0" not in page.split("<h2>The figures</h2>")[0]
    assert "&lt;i&gt;ball" in page


# The run


@pytest.fixture
def stopped(labeled: tuple[Scenario, RunFolder], monkeypatch: pytest.MonkeyPatch) -> tuple[RunFolder, list[str]]:
    """A run whose labels carry nothing, with stages that only write down that they were called."""
    _, run = labeled
    relabel(run, np.linspace(0.15, 0.01, 120))
    called: list[str] = []

    def stub(stage: pipeline.Stage) -> pipeline.Stage:
        def work(job: pipeline.Job) -> None:
            called.append(stage.name)
            for name in stage.writes:
                job.run.file(name).touch()

        return replace(stage, work=work)

    monkeypatch.setattr(pipeline, "STAGES", tuple(stub(stage) for stage in pipeline.STAGES))
    return run, called


def test_a_run_stops_before_training_and_keeps_labels_and_page(
    stopped: tuple[RunFolder, list[str]], tmp_path: Path
) -> None:
    run, called = stopped
    before = run.file(files.LABELS).read_bytes()

    with pytest.raises(LabelsError, match=r"these labels carry nothing\. The teacher is sure that hardly any photo"):
        pipeline.run(run, tmp_path / "store", "train")

    assert called == ["scan", "label"]
    assert run.file(files.LABELS).read_bytes() == before
    assert run.file(files.LABELS_PAGE).is_file()


def test_a_run_that_is_told_to_go_on_trains_and_need_not_be_told_again(
    stopped: tuple[RunFolder, list[str]], tmp_path: Path
) -> None:
    run, called = stopped
    pipeline.run(run, tmp_path / "store", "train", go_on=True)
    pipeline.run(run, tmp_path / "store", "train")

    assert called == ["scan", "label", "train"]


def test_labels_that_are_ready_stop_nothing(stopped: tuple[RunFolder, list[str]], tmp_path: Path) -> None:
    run, called = stopped
    relabel(run, draw((40, SURE_YES), (80, SURE_NO)))
    pipeline.run(run, tmp_path / "store", "train")

    assert called == ["scan", "label", "train"]


@pytest.mark.parametrize("verb", ["label", "train"])
def test_the_command_is_refused_with_the_page_and_the_way_on(
    stopped: tuple[RunFolder, list[str]], tmp_path: Path, verb: str
) -> None:
    run, _ = stopped
    done = CliRunner().invoke(cli.app, [verb, str(run.path), "--store", str(tmp_path / "store")])

    assert done.exit_code == 1, done.output
    assert "refused: these labels carry nothing." in done.stderr
    assert f"look at them: {run.file(files.LABELS_PAGE)}" in done.stderr
    assert done.stdout.splitlines()[-1] == str(run.path)


def test_label_ends_with_the_verdict_the_page_and_the_next_command(
    stopped: tuple[RunFolder, list[str]], tmp_path: Path
) -> None:
    run, _ = stopped
    relabel(run, draw((40, SURE_YES), (80, SURE_NO)))
    done = CliRunner().invoke(cli.app, ["label", str(run.path), "--store", str(tmp_path / "store")])

    assert done.exit_code == 0, done.output
    assert "ready: The teacher tells them apart: it says yes to 40 of 120 photos" in done.stderr
    assert f"labels: {run.file(files.LABELS_PAGE)}\nnext: factory run {run.path}\n" in done.stderr


def test_go_on_labels_without_refusal(stopped: tuple[RunFolder, list[str]], tmp_path: Path) -> None:
    run, _ = stopped
    done = CliRunner().invoke(cli.app, ["label", str(run.path), "--go-on", "--store", str(tmp_path / "store")])

    assert done.exit_code == 0, done.output
    assert "carries nothing: The teacher is sure" in done.stderr


def test_the_page_is_no_file_that_a_manifest_vouches_for(labeled: tuple[Scenario, RunFolder]) -> None:
    scenario, run = labeled
    before = json.dumps(run.hashes(files.FILES))
    report.write_labels(scenario, run)

    assert json.dumps(run.hashes(files.FILES)) == before
