"""`factory compare`: the verdict in one line, the photos that it rests on, and where else the line is said."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from automation import champion
from clip_factory.cli.main import app
from clip_factory.evaluation import Comparison, compare_answers, compare_counts
from clip_factory.evaluation.difference_intervals import area, area_difference, mcnemar, newcombe_paired, paired
from clip_factory.evaluation.gate_comparison import compare_gates
from clip_factory.statistics import Confusion
from support.labeled_photos import Photos, RunTables, make_model, make_photos, make_red_run, write_labels

runner = CliRunner()
YES, NO = 43, 300


def call(*arguments: object) -> Result:
    return runner.invoke(app, [str(argument) for argument in arguments])


# --- the statistics


@pytest.mark.parametrize(
    ("cells", "expected"),
    [((36, 2, 12, 0), (0.0569, 0.3404)), ((20, 2, 12, 16), (0.0562, 0.3292)), ((36, 12, 2, 0), (-0.3404, -0.0569))],
)
def test_the_paired_interval_is_newcombes(cells: tuple[int, ...], expected: tuple[float, float]) -> None:
    """Cells as both, first alone, second alone, neither; intervals of his method 10."""
    assert newcombe_paired(*cells) == pytest.approx(expected, abs=5e-5)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    for first in range(12):
        for second in range(12):
            if first + second:
                assert mcnemar(first, second) == pytest.approx(binomtest(first, first + second).pvalue)
    assert mcnemar(0, 0) == 1
    assert mcnemar(700, 640) == pytest.approx(binomtest(700, 1340).pvalue)


def test_the_difference_of_areas_is_delongs() -> None:
    """Against his formula, written out over all pairs."""
    random = np.random.default_rng(0)
    truth = np.arange(80) < 25
    ps = [np.round(random.normal(0.4 + 0.2 * truth, 0.2), 1) for _ in range(2)]
    found = area_difference(truth, *ps)
    kernels = [np.sign(p[truth][:, None] - p[~truth][None]) / 2 + 0.5 for p in ps]
    difference = kernels[1] - kernels[0]
    variance = difference.mean(axis=1).var(ddof=1) / 25 + difference.mean(axis=0).var(ddof=1) / 55

    assert found is not None
    assert found.first == pytest.approx(roc_auc_score(truth, ps[0]))
    assert found.second == pytest.approx(roc_auc_score(truth, ps[1]))
    reach = 1.959964 * np.sqrt(variance)
    assert found.interval == pytest.approx((found.figure - reach, found.figure + reach))


def test_a_burst_tells_no_more_than_one_photo() -> None:
    """Each photo four times, as a burst: the interval is that of the photos once."""
    random = np.random.default_rng(1)
    first, second = random.random(60) < 0.5, random.random(60) < 0.7
    once, burst = paired(first, second), np.arange(60).repeat(4)
    fourfold = paired(first.repeat(4), second.repeat(4), burst)
    unaware = paired(first.repeat(4), second.repeat(4))
    same = paired(first.repeat(4), first.repeat(4), burst)

    assert fourfold.interval == pytest.approx(once.interval)
    assert unaware.interval[0] > once.interval[0]
    assert same.interval == pytest.approx(paired(first, first).interval)
    truth, p = np.arange(60) < 20, random.random(60)
    assert area(truth.repeat(4), p.repeat(4), burst)[1] == pytest.approx(area(truth, p)[1], abs=0.01)


def test_equal_models_are_told_apart_in_one_comparison_of_ten_at_most() -> None:
    random = np.random.default_rng(2)
    truth = np.arange(YES + NO) < YES
    apart = 0
    for _ in range(500):
        easy = random.normal(2.2 * truth, 1)
        p, q = (easy + random.normal(0, 0.7, len(truth)) for _ in range(2))
        apart += compare_answers(truth, p > 1.3, q > 1.3, p, q).verdict != "equal"
    assert 0 < apart / 500 <= 0.1


# --- the line


def compared(found: tuple[int, int, int], raised: tuple[int, int, int], **options: object) -> Comparison:
    """By counts: found by both, by A alone, by B alone; false alarms likewise; probabilities are the answers."""
    sides = []
    for (both, first, second), n in ((found, YES), (raised, NO)):
        order = np.arange(n)
        a = order < both + first
        b = (order < both) | ((order >= both + first) & (order < both + first + second))
        sides.append((a, b))
    truth = np.arange(YES + NO) < YES
    a, b = (np.concatenate([side[i] for side in sides]) for i in range(2))
    return compare_answers(truth, a, b, a.astype(float), b.astype(float), **options)


@pytest.mark.parametrize(
    ("found", "raised", "verdict", "line"),
    [
        (
            (20, 1, 10),
            (5, 2, 2),
            "second",
            "B finds 9 more of 43 (3 to 15), same false alarms among 300 (−6 to 6)",
        ),
        (
            (20, 10, 1),
            (5, 2, 3),
            "first",
            "A finds 9 more of 43 (3 to 15), 1 fewer false alarm among 300 (−5 to 7), within chance",
        ),
        (
            (20, 0, 6),
            (5, 0, 12),
            "trade-off",
            "B finds 6 more of 43 (1 to 10) but raises 12 more false alarms among 300 (5 to 21)",
        ),
        (
            (20, 6, 0),
            (5, 12, 0),
            "trade-off",
            "A finds 6 more of 43 (1 to 10) but raises 12 more false alarms among 300 (5 to 21)",
        ),
        (
            (20, 3, 5),
            (5, 4, 3),
            "equal",
            "no difference outside chance: B finds 2 more of 43 (−4 to 8), 1 fewer false alarm among 300 (−5 to 8)",
        ),
        (
            (20, 1, 1),
            (5, 14, 1),
            "second",
            "B finds as many of 43 (−3 to 3), 13 fewer false alarms among 300 (6 to 22)",
        ),
        ((20, 0, 0), (5, 0, 0), "equal", "no difference: the same answers on all 343 photos"),
    ],
)
def test_the_verdict_in_one_line(
    found: tuple[int, int, int], raised: tuple[int, int, int], verdict: str, line: str
) -> None:
    said = compared(found, raised)

    assert (said.verdict, said.line) == (verdict, line)


@pytest.mark.parametrize("counts", [((20, 1, 10), (5, 2, 4)), ((20, 0, 6), (5, 0, 12)), ((20, 2, 2), (5, 30, 2))])
def test_the_order_changes_nothing_but_who_is_called_first(counts: tuple[tuple[int, int, int], ...]) -> None:
    turned = [(both, second, first) for both, first, second in counts]
    one, other = compared(*counts, names=("A", "B")), compared(*turned, names=("B", "A"))

    assert one.line == other.line
    assert other.verdict == {"first": "second", "second": "first"}.get(one.verdict, one.verdict)


def test_more_found_at_a_higher_price_is_no_better_model() -> None:
    """False alarms rise by less than chance can rule out, but by more than what is found."""
    truth = np.arange(230) < 200
    a = np.concatenate([np.arange(200) < 100, np.arange(30) < 2])
    b = np.concatenate([np.arange(200) < 110, np.arange(30) < 5])
    said = compare_answers(truth, a, b, a.astype(float), b.astype(float))

    assert said.recall.sign == 1
    assert said.false_alarms.sign == 0
    assert said.verdict == "trade-off"


def test_one_that_ranks_better_and_cuts_badly_is_named() -> None:
    random = np.random.default_rng(3)
    truth = np.arange(YES + NO) < YES
    worse = 1 / (1 + np.exp(-random.normal(1.2 * truth - 1, 1)))
    better = 1 / (1 + np.exp(-random.normal(3.0 * truth - 4, 1)))
    said = compare_answers(truth, worse > 0.4, better > 0.9, worse, better, ("old", "new"))
    areas = [f"{roc_auc_score(truth, p):.2f}".removeprefix("0") for p in (better, worse)]

    assert said.verdict != "second"
    assert said.ranks_better == 1
    assert said.note == (
        f"new ranks better (AUC {areas[0]} against {areas[1]}) but its threshold hides it: factory threshold RUN"
    )
    assert compare_answers(truth, worse > 0.4, better > 0.1, worse, better).note == "", "it shows in its answers"


def test_without_a_yes_nothing_is_told() -> None:
    truth = np.zeros(8, bool)
    said = compare_answers(truth, ~truth, truth, np.ones(8), np.zeros(8))

    assert (said.verdict, said.line) == ("equal", "cannot be told: of the 8 labeled photos none is a yes")
    assert said.recall is None
    empty = np.zeros(0)
    assert compare_answers(empty, empty, empty, empty, empty).line.startswith("cannot be told: no photo")


# --- which photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return make_photos(tmp_path_factory.mktemp("compare"))


def answered(photos: Photos, wrong: set[int]) -> list[float]:
    """Probabilities that are right but for some photos."""
    return [0.9 if yes != (i in wrong) else 0.1 for i, yes in enumerate(photos.truth.tolist())]


def two(photos: Photos, folder: Path, first: RunTables, second: RunTables) -> tuple[Path, Path]:
    return make_red_run(folder / "one", photos, first), make_red_run(folder / "two", photos, second)


def told(*arguments: object) -> dict:
    done = call("compare", *arguments, "--format", "json")
    assert done.exit_code in (0, 3), (done.output, done.exception)
    return json.loads(done.stdout)


def test_runs_are_compared_on_labels_that_none_of_them_has_seen(photos: Photos, tmp_path: Path) -> None:
    """Of 60 photos the first 40 are in both test splits; of these one is unlabeled, one picked, one contradicted."""
    truth = photos.truth.tolist()
    split = ["test"] * 40 + ["train"] * 20
    gold = [None if i == 3 else yes for i, yes in enumerate(truth)]
    other = [not yes if i == 5 else yes for i, yes in enumerate(gold) if yes is not None or i == 3]
    other = [None if i == 3 else yes for i, yes in enumerate(other)]
    mine = RunTables(split, gold, answered(photos, {0, 1, 2, 4, 5}), picked=[i == 4 for i in range(60)])
    theirs = RunTables(["test"] * 38 + ["val"] * 2 + ["train"] * 20, other, answered(photos, {5}))
    found = told(*two(photos, tmp_path, mine, theirs))

    assert found["photos"] == 40 - 1 - 1 - 1 - 2
    confusions = [one["confusion"] for one in found["contenders"]]
    assert [one["misses"] for one in confusions] == [3, 0], "photos 0, 1 and 2; 4 and 5 do not count"
    assert found["reference"] == "people"
    assert found["remarks"] == [
        "35 photos with a label from people that none of them was trained or tuned on.",
        "1 labels asked for because the photo looked doubtful left out.",
        "1 photos of which the runs hold opposite labels left out.",
    ]


def test_a_run_on_other_photos_is_asked_about_these(photos: Photos, tmp_path: Path) -> None:
    """The second run knows other photos: its model answers those of the first's test split now."""
    elsewhere = make_photos(tmp_path / "elsewhere", seed=7)
    gold = photos.truth.tolist()
    first = make_red_run(tmp_path / "one", photos, RunTables(["test"] * 60, gold, answered(photos, set())))
    second = make_red_run(tmp_path / "two", elsewhere, RunTables(["train"] * 60, [None] * 60))
    found = told(first, second)
    alone = json.loads(
        call("evaluate", second, "--gold", photos.gold, "--images", photos.root, "--format", "json").stdout
    )

    assert found["photos"] == 60
    assert found["contenders"][1]["confusion"] == alone["confusion"]


def test_without_labels_one_teacher_compares_and_says_so(photos: Photos, tmp_path: Path) -> None:
    said = RunTables(["test"] * 60, [None] * 60, answered(photos, set(range(12))))
    runs = two(photos, tmp_path, said, replace(said, probability=answered(photos, set())))
    done = call("compare", *runs)

    assert done.stdout.splitlines()[0] == (
        "two finds 12 more of 20 (7 to 16), same false alarms among 40 (−4 to 4), "
        "against the teacher, which nobody has checked"
    )
    assert told(*runs)["reference"] == "teacher"


def test_a_single_label_puts_the_teacher_aside(photos: Photos, tmp_path: Path) -> None:
    gold = [True if i == 0 else False if i == 59 else None for i in range(60)]
    said = RunTables(["test"] * 60, gold, answered(photos, set(range(12))))
    done = call("compare", *two(photos, tmp_path, said, replace(said, probability=answered(photos, set()))))

    assert "teacher" not in done.stdout
    assert "2 photos with a label from people" in done.stderr


@pytest.mark.parametrize("other", [{"about": {"teacher": {"key": "clip"}}}, {"teacher": [0.9] * 60}])
def test_different_teachers_and_no_labels_cannot_be_compared(
    other: dict[str, object], photos: Photos, tmp_path: Path
) -> None:
    said = RunTables(["test"] * 60, [None] * 60, answered(photos, set()))
    done = call("compare", *two(photos, tmp_path, said, replace(said, **other)))

    assert str(done.exception) == (
        "these runs cannot be compared: no photo that none was trained on has a label from people, and their teachers "
        "differ, so that each would be held against another truth\n"
        "  label some photos of their test splits: factory review RUN --prove, then run again; or give --gold truth.csv"
    )


def test_a_file_alone_needs_labels(photos: Photos, tmp_path: Path) -> None:
    models = [make_model(tmp_path / f"{name}.onnx") for name in "ab"]

    assert "--gold truth.csv --images DIR" in str(call("compare", *models).exception)
    assert "one alone cannot be compared" in str(call("compare", models[0]).exception)
    assert "is named twice" in str(call("compare", models[0], models[0], "--gold", photos.gold).exception)


def test_photos_that_one_was_trained_on_measure_neither(photos: Photos, tmp_path: Path) -> None:
    split = ["train", "val", "test"] * 20
    run = make_red_run(tmp_path / "run", photos, RunTables(split, [None] * 60))
    other = make_model(tmp_path / "other.onnx", threshold="0.7")
    done = call("compare", run, other, "--gold", photos.gold)

    assert told(run, other, "--gold", photos.gold)["photos"] == 20
    assert "40 photos that one of them was trained or tuned on left out" in done.stderr
    assert f"What {other} learned from is not known" in done.stderr


def test_three_are_compared_with_the_first(photos: Photos, tmp_path: Path) -> None:
    models = [make_model(tmp_path / f"{name}.onnx", threshold=t) for name, t in zip("abc", "579", strict=True)]
    models = [make_model(m, threshold=f"0.{t}") for m, t in zip(models, "579", strict=True)]
    done = call("compare", *models, "--gold", photos.gold, "--images", photos.root)

    assert [line.split(": ")[0] for line in done.stdout.splitlines()[:2]] == [
        f"{models[1]} against {models[0]}",
        f"{models[2]} against {models[0]}",
    ]


def test_the_page_shows_both_directions_apart(photos: Photos, tmp_path: Path) -> None:
    gold = photos.truth.tolist()
    said = RunTables(["test"] * 60, gold, answered(photos, {0, 1, 30}))
    runs = two(photos, tmp_path, said, replace(said, probability=answered(photos, {2})))
    done = call("compare", *runs, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    gained, lost = page.split("one right, two wrong")

    assert done.stdout.splitlines()[0] in page.replace("&#39;", "'")
    assert [photos.path[i] in gained for i in (0, 1, 30, 2, 3)] == [True, True, True, False, False]
    assert [photos.path[i] in lost for i in (0, 1, 30, 2, 3)] == [False, False, False, True, False]
    assert gained.count("people say: no") == 1, "photo 30"
    assert page.count("data:image/jpeg") == 4


def test_an_unreadable_photo_is_listed_and_the_rest_compared(photos: Photos, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for path in photos.path[:1] + photos.path[-1:]:
        (tmp_path / "photos" / Path(path).name).write_bytes((photos.root / path).read_bytes())
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"")
    names = [Path(photos.path[0]).name, Path(photos.path[-1]).name, "broken.jpg"]
    gold = write_labels(tmp_path / "photos" / "truth.csv", names, [True, False, True])
    models = [make_model(tmp_path / f"{t}.onnx", threshold=t) for t in ("0.5", "0.6")]
    done = call("compare", *models, "--gold", gold)

    assert done.exit_code == 3
    assert "broken.jpg" in done.stderr
    assert "on all 2 photos" in done.stdout.splitlines()[0]


# --- by what is recorded


def gate(counts: Confusion | None = None, teacher: Confusion | None = None, labels: str = "") -> dict:
    def plain(one: Confusion | None) -> dict | None:
        return one and dict(vars(one))

    figures = {"gold": counts and {"student": plain(counts)}, "against_teacher": plain(teacher)}
    return {"figures": figures, "inputs": {"labels.parquet": labels}}


GOOD, BAD = Confusion(38, 5, 6, 294), Confusion(20, 23, 6, 294)


def test_records_of_the_same_labels_are_compared_in_counts() -> None:
    said = compare_gates(gate(BAD, labels="x"), gate(GOOD, labels="x"), ("a@1", "a@2"), same_teacher=False)

    assert said.line == (
        "a@2 finds 18 more of 43 (10 to 25), same false alarms among 300 (−8 to 8), by people's labels"
    )
    assert said.comparison.verdict == "second"
    assert said.by_people


def test_records_of_different_labels_say_so() -> None:
    small = Confusion(10, 10, 2, 98)
    said = compare_gates(gate(small, labels="x"), gate(GOOD, labels="y"), ("a@1", "a@2"), same_teacher=True)

    assert said.line == (
        "a@2 finds 38 of 43 against 10 of 20, 38 points more (15 to 59), 6 false alarms among 300 against 2 among 100, "
        "no more and no fewer (−5 to 3), by people's labels, each on the test photos of its day"
    )


VQA = {"scenario.labels.source": "vqa", "scenario.labels.model": "hf-hub:a/b", "scenario.question": "Is it red?"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"scenario.labels.source": "zero-shot"}, True),  # files of version 0.1.0 say nothing of sources
        ({"scenario.question": "a?"}, {"scenario.question": "b?"}, True),  # phrases were compared, not the question
        ({}, VQA, False),
        (VQA, VQA, True),
        (VQA, VQA | {"scenario.labels.model": "hf-hub:a/c"}, False),
        (VQA, VQA | {"scenario.question": "Is it green?"}, False),
        ({"scenario.labels.sources": [1]}, {"scenario.labels.sources": [2]}, False),
        (VQA, VQA | {"scenario.labels.refine": "none"}, True),
    ],
)
def test_another_source_model_or_question_is_another_teacher(
    one: dict[str, object], other: dict[str, object], same: bool
) -> None:
    from clip_factory.registry.diff import compare_records

    line = compare_records((gate(teacher=BAD), gate(teacher=GOOD)), (one, other), ("a@1", "a@2")).line
    assert ("different teachers" not in line) is same


def test_records_without_people_are_compared_by_one_teacher_alone() -> None:
    teachers = gate(teacher=BAD), gate(teacher=GOOD)
    same = compare_gates(*teachers, ("a@1", "a@2"), same_teacher=True)
    apart = compare_gates(*teachers, ("a@1", "a@2"), same_teacher=False)
    mixed = compare_gates(gate(teacher=GOOD), gate(BAD, teacher=BAD), ("a@1", "a@2"), same_teacher=True)

    assert "against the teacher, which nobody has checked" in same.line
    assert not same.by_people
    assert apart.line.startswith("they cannot be compared: no labels from people, and different teachers")
    assert mixed.line.startswith("a@1 has no labels from people on record: these two are not compared")
    assert (apart.comparison, mixed.comparison, mixed.by_people) == (None, None, True)


@pytest.mark.parametrize("broken", [None, [], {"figures": 3}, {"figures": {"gold": {"student": {"hits": -1}}}}])
def test_a_record_of_anything_else_compares_nothing(broken: object) -> None:
    assert compare_gates(broken, gate(teacher=GOOD), ("a", "b"), same_teacher=True).comparison is None


def test_unpaired_counts_are_decided_by_their_interval() -> None:
    assert compare_counts(BAD, GOOD).verdict == "second"
    assert compare_counts(GOOD, BAD).verdict == "first"
    assert compare_counts(GOOD, GOOD).verdict == "equal"


@pytest.fixture
def releases(tmp_path: Path) -> str:
    """Two versions, the second with another threshold, counts by people in both."""
    from clip_factory.registry import open_registry, publish
    from clip_factory.registry.draft_from_run import PublishOptions
    from clip_factory.run_folder import GATE, RunFolder, read_json
    from clip_factory.runtime.atomic import write_json
    from support.finished_run import PASSES, another, finished, write_manifest

    first = finished(tmp_path / "first", replace(PASSES, gold=0.5))
    runs = [first, another(first, tmp_path / "second", threshold="0.22")]
    for run, counts in zip(map(RunFolder, runs), (BAD, GOOD), strict=True):
        said = read_json(run.file(GATE))
        said["figures"] |= gate(counts, teacher=counts)["figures"]
        said["clauses"][0]["figure"] = 0.1 * counts.hits
        write_json(run.file(GATE), said)
        write_manifest(run)
        publish(
            run.path, open_registry(str(tmp_path / "registry")), None, PublishOptions(force=True, allow_unproven=True)
        )
    return str(tmp_path / "registry")


def test_models_diff_leads_with_the_line_and_hides_the_teacher(releases: str) -> None:
    done = call("models", "diff", "red-ball@1", "red-ball@2", "--registry", releases)
    trees = [
        json.loads(line)
        for line in call(
            "models", "diff", "red-ball@1", "red-ball@2", "--registry", releases, "--format", "json"
        ).stdout.splitlines()
    ]

    assert done.stdout.startswith("red-ball@2 finds 18 more of 43 (10 to 25), same false alarms among 300")
    assert "figures.gold.student.hits" in done.stdout
    assert "against_teacher" not in done.stdout
    assert trees[0]["comparison"]["verdict"] == "second"
    assert all("against_teacher" not in tree["what"] for tree in trees[1:])


def test_models_diff_measures_both_on_labels(releases: str, photos: Photos) -> None:
    done = call(
        "models", "diff", "red-ball@1", "red-ball@2", "--registry", releases,
        "--gold", photos.gold, "--images", photos.root,
    )  # fmt: skip

    assert done.exit_code == 0, done.exception
    assert "of 20 (" in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[0].endswith("by people's labels")
    assert "threshold" in done.stdout


def test_the_comment_says_the_line_of_models_diff() -> None:
    recorded = compare_gates(gate(BAD), gate(GOOD), ("version 1", "this run"), same_teacher=True)
    facts = {"figures.agreement_all.figure": 0.9, "gate.agreement.figure": 1.0, "size": 3}
    comparison = champion.Comparison(1, facts, facts | {"size": 4}, recorded)

    assert [row[0] for row in champion.rows(comparison)] == ["size"], "figures against a teacher are hidden"
    assert len(champion.rows(replace(comparison, recorded=replace(recorded, by_people=False)))) == 3


def test_whoever_has_no_scipy_can_still_read_a_registry() -> None:
    """`pip install 'clip-factory[registry]'` has numpy alone; the comment's programs have no torch."""
    heavy = "[m for m in ('scipy', 'sklearn', 'pyarrow', 'jinja2') if m in sys.modules]"
    code = f"import sys, clip_factory.registry; print({heavy})"
    comment = "import sys, automation.comment; print('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    assert subprocess.run([sys.executable, "-c", comment], capture_output=True, text=True).stdout == "False\n"
