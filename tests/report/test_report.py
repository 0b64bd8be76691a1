"""The report and the card: figures, plots, pages, hostile words, thin evidence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from clip_factory.errors import RunError
from clip_factory.exporters.threshold import Threshold
from clip_factory.gate.verdict import read
from clip_factory.labels import Labels
from clip_factory.report import formatting as words
from clip_factory.report import model_card as card
from clip_factory.report import plot_data as figures
from clip_factory.report import plots, write_card, write_report
from clip_factory.report.run_data import RunData, read_run_data
from clip_factory.report.summary import another_threshold_passes, summarize
from clip_factory.report.threshold_section import nearest
from clip_factory.report.threshold_section import threshold_section as section_of
from clip_factory.run_folder import CARD, GATE, LABELS, REPORT, RunFolder, read_json, sha256_file
from clip_factory.runtime import to_square
from clip_factory.runtime.atomic import write_json
from clip_factory.scenario import Labeling, Scenario
from support.make_run import CUT, NOT_PROVEN, PASSES, PROBE, REFUSED, SIZE, RunKind, make_older, make_run

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """A page taken apart: tags with their attributes, ids, visible text; fails on a tag left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += " " + re.sub("[ \n]+", " ", data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def written(scenario: Scenario, run: RunFolder) -> Page:
    write_report(scenario, run)
    return Page(run.file(REPORT).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scenario, RunFolder]:
    return make_run(tmp_path_factory.mktemp("run"))


def test_report_is_whole_and_self_contained(made: tuple[Scenario, RunFolder]) -> None:
    report = written(*made)
    assert report.all("script") == [{"type": "application/json", "id": "line-data"}, {}]
    for tag, attributes in report.tags:
        assert tag not in {"link", "iframe", "object"}
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:image/jpeg;base64,", "#"))
    assert "url(http" not in made[1].file(REPORT).read_text(encoding="utf-8")
    ids = [attributes["id"] for _, attributes in report.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = [a["href"][1:] for a in report.all("a")]
    assert set(anchors) <= set(ids)
    drawings = [svg for svg in report.all("svg") if svg.get("aria-hidden") != "true"]
    assert len(drawings) == 6
    assert all(svg["aria-label"] for svg in drawings)
    assert all(image["alt"] for image in report.all("img"))
    assert not [file for file in made[1].path.iterdir() if file.name.endswith(".tmp")]


def test_report_says_what_a_reader_must_know(made: tuple[Scenario, RunFolder]) -> None:
    text = written(*made).text
    for needed in ("Is there a red ball?", "red rubber ball on the floor", "offline", "Apache-2.0", "0.43", "1.8 ms"):
        assert needed in text
    for needed in ("123 files found", "2 skipped", "empty file", "Agrees with its teacher", "fp16", PROBE):
        assert needed in text
    assert words.kilobytes(291_804) in text
    assert words.duration(131) in text


def test_missing_photos_become_gray_tiles(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, RunKind(images=40))
    for photo in (tmp_path / "images").rglob("*.jpg"):
        photo.write_bytes(b"")
    report = written(scenario, run)
    assert report.all("img")
    assert "can no longer be read" in report.text


def test_pictures_stay_inside_the_images_folder(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    from clip_factory.report.embedded_images import tile

    (tmp_path / "images").mkdir()
    for path in ("../secret.png", "a/../../secret.png", str(tmp_path / "secret.png"), "a\0.png"):
        assert tile(tmp_path / "images", path) is None


def test_hostile_words_are_escaped(tmp_path: Path) -> None:
    evil = "</style><script>alert(1)</script>\"'{{7*7}} $x^2$ | `a` [b](http://c)"
    recipe = RunKind(
        images=30, question=evil, positive=(evil[:190],), negative=("<img src=x onerror=y>", "b"),
        path="<svg onload=1>{side}/{{{{x}}}} {i} \u202e.jpg", noise=3, license="<b>mine</b>",
    )  # fmt: skip
    scenario, run = make_run(tmp_path, recipe)
    report = written(scenario, run)
    assert len(report.all("script")) == 2, "the two of the page"
    assert all(image["src"].startswith("data:") for image in report.all("img"))
    assert "{{7*7}}" in report.text
    write_card(scenario, run)
    text = run.file(CARD).read_text(encoding="utf-8")
    body = text.split("---\n", 2)[2]
    assert "<script" not in body.replace("\\<", "")
    assert "b](http" not in body


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (RunKind(images=30, gold=0, negative=None), "No person has labeled a photo"),
        (RunKind(images=16, one_sided_test=True), "Not drawn: the"),
        (RunKind(images=60, gold=1), "a person has labeled"),
    ],
    ids=["no gold", "one-sided test", "all gold"],
)
def test_thin_evidence_is_told_not_hidden(tmp_path: Path, recipe: RunKind, says: str) -> None:
    scenario, run = make_run(tmp_path, recipe)
    assert says in written(scenario, run).text
    write_card(scenario, run)
    assert "nan" not in re.findall(r"\w+", run.file(CARD).read_text(encoding="utf-8"))


def test_no_report_without_labels(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, RunKind(images=12))
    run.file(LABELS).unlink()
    with pytest.raises(RunError, match=r"has no labels\.parquet"):
        write_report(scenario, run)


def test_a_run_without_training_record_or_log_is_reported(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, RunKind(images=20))
    run.file("training.csv").write_text("epoch,train_loss\n", encoding="utf-8")
    run.file("log.jsonl").unlink()
    assert "the training left no record" in written(scenario, run).text


def test_card_is_read_by_the_hub_library(made: tuple[Scenario, RunFolder]) -> None:
    from huggingface_hub import ModelCard

    write_card(*made)
    data = ModelCard(made[1].file(CARD).read_text(encoding="utf-8")).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "onnx", "image-classification")
    results = {result.metric_name: result for result in data.eval_results}
    accuracy = results["Accuracy by people's labels"]
    assert accuracy.metric_args["interval_95"][0] < accuracy.metric_value
    assert accuracy.metric_args["n"] > 0


def test_card_says_all_that_a_stranger_asks(made: tuple[Scenario, RunFolder]) -> None:
    scenario, run = made
    write_card(scenario, run)
    lines = run.file(CARD).read_text(encoding="utf-8").splitlines()
    found = run.table("images.parquet", "run").num_rows
    for line in (
        "# Is there a red ball?",
        "| Yes looks like | red ball, red rubber ball on the floor |",
        "| No looks like | apple, tomato, blue ball, empty room, traffic light, balloon |",
        "| Teacher | offline, license Apache-2.0 |",
        "| License | apache-2.0 (the photos and the teacher have their own) |",
        f"Labels: sha256 `{sha256_file(run.file(LABELS))}`. The photos are not part of the release.",
        "## Intended use",
        "## Out of scope",
        "## Limits",
        *("```python", "```python", "```js", "```cpp"),
    ):
        assert line in lines, line
        lines.remove(line)
    text = "\n".join(lines)
    assert f"{found} files found, 120 distinct photos used, 2 skipped" in text
    assert "**Calibration.** The probability is calibrated inside the file" in text
    assert re.search(r"\| Agreement with the teacher, all test images \| [\d.]+\s% \| [\d.]+ to [\d.]+\s% \|", text)


def test_card_python_snippets_run_in_a_process_of_their_own(made: tuple[Scenario, RunFolder]) -> None:
    scenario, run = made
    write_card(scenario, run)
    for name in ("photo.jpg", "other.png"):
        Image.new("RGB", (32, 20), (200, 200, 200)).save(run.file(name))
    snippets = re.findall(r"```python\n(.*?)```", run.file(CARD).read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        base_alone = (
            "import sys\nsys.modules.update(dict.fromkeys(('torch', 'pyarrow', 'jinja2', 'huggingface_hub')))\n"
        )
        command = [sys.executable, "-c", base_alone + snippet]
        done = subprocess.run(command, cwd=run.path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "yes" in done.stdout
        assert "0.78" in done.stdout


def test_card_says_what_the_probability_was_calibrated_against(made: tuple[Scenario, RunFolder]) -> None:
    data = read_run_data(*made)
    silent = replace(data, model={k: v for k, v in data.model.items() if k != "calibration"})
    assert "inside the file, on photos that it was not trained on; on the test" in card.render(silent)
    both = "people's labels, and the teacher's where there are none"
    sides = {"gold": "people's labels", "teacher": "the teacher's labels", "gold and teacher": both}
    for against, words_for_it in sides.items():
        said = json.dumps({"method": "platt", "scale": 1.0, "shift": 0.0, "against": against, "images": 212})
        text = card.render(replace(data, model=data.model | {"calibration": said}))
        said_so = f"on photos that it was not trained on (212 photos, against {words_for_it}); on the test"
        assert f"inside the file, {said_so}" in text


ZERO_SHOT = {"source": "zero-shot"}
VQA = {"source": "vqa", "model": "local-dir:model"}


@pytest.mark.parametrize(("section", "phrases"), [(VQA, False), ({"sources": [ZERO_SHOT, VQA]}, True)])
def test_where_the_question_was_asked_it_stands_in_the_place_of_phrases(
    section: dict[str, object], phrases: bool, tmp_path: Path
) -> None:
    """Yes and no are shares of all that a model could answer: the share of yes is that of their ratio."""
    made, run = make_run(tmp_path, RunKind(images=60, gold=1, positive=("ball",), negative=("wall",)))
    labels = Labels.of_run(run)
    share = words.share(float(labels.scores[:, 0].mean()))
    columns = {**labels.metadata, "phrases": {"positive": ["yes"], "negative": ["no"]}}
    replace(labels, scores=labels.scores * np.float32(0.01), metadata=columns).write(run.file(LABELS))
    scenario = made.model_copy(update={"labels": Labeling.model_validate(section)})
    report = written(scenario, run).text
    write_card(scenario, run)
    card = run.file(CARD).read_text(encoding="utf-8")

    assert "Asked Is there a red ball?" in re.sub(r"\s+", " ", report)
    assert "It was asked about each photo: Is there a red ball?" in report
    assert f"the teacher by itself expects {share} of all photos to be yes" in report
    assert "| Asked | Is there a red ball? |" in card
    for text in (report, card):
        assert "Yes looks like" not in text and "Every phrase" not in text and "from phrases alone" not in text
        assert ("And compared with" in text) is phrases


def test_card_names_the_file_by_its_hash(made: tuple[Scenario, RunFolder]) -> None:
    write_card(*made)
    row = f"| File | `model.onnx`, sha256 `{sha256_file(made[1].file('model.onnx'))}` |"
    assert row in made[1].file(CARD).read_text(encoding="utf-8").splitlines()


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("shape", [(75, 200), (200, 64), (30, 20)])
def test_card_javascript_squashes_as_the_runtime_does(
    made: tuple[Scenario, RunFolder], shape: tuple[int, int], tmp_path: Path
) -> None:
    write_card(*made)
    (snippet,) = re.findall(r"```js\n(.*?)```", made[1].file(CARD).read_text(encoding="utf-8"), re.DOTALL)
    (constants,) = re.findall(r"^const SIZE = .*", snippet, re.MULTILINE)
    (squash,) = re.findall(r"^function squash.*?^}", snippet, re.MULTILINE | re.DOTALL)
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    call = f"squash(squash(Uint8Array.from({photo.ravel().tolist()}), {shape[1]}, {shape[0]}), {shape[0]}, SIZE)"
    (tmp_path / "s.mjs").write_text(f"{constants}\n{squash}\nconsole.log(JSON.stringify([...{call}]))")
    done = subprocess.run(["node", str(tmp_path / "s.mjs")], capture_output=True, text=True, check=True)
    expected = to_square(Image.fromarray(photo), SIZE)
    found = np.array(json.loads(done.stdout)).reshape(expected.shape)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.05, "ties alone are rounded otherwise"
    (tmp_path / "whole.mjs").write_text(snippet)
    assert subprocess.run(["node", "--check", str(tmp_path / "whole.mjs")], check=False).returncode == 0


def test_other_licenses_are_named(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, RunKind(images=12, license="Proprietary-1"))
    front = card.front_matter(read_run_data(scenario, run))
    assert (front["license"], front["license_name"]) == ("other", "proprietary-1")


def test_reliability_bins() -> None:
    bins = figures.reliability(np.array([0.05, 0.95, 1.0, 0.91]), np.array([False, True, True, False]))
    assert bins.images.tolist() == [1, 3]
    assert bins.observed == pytest.approx([0, 2 / 3])
    assert bins.predicted == pytest.approx([0.05, 2.86 / 3])
    assert ((bins.low <= bins.observed) & (bins.observed <= bins.high)).all()


def test_confident_mistakes_come_surest_first() -> None:
    student = np.array([0.9, 0.1, 0.99, np.nan, 0.29, 0.31])
    truth = np.array([False, True, True, True, True, True])
    assert figures.confident_mistakes(student, truth, 0.3, 24).tolist() == [0, 1, 4]
    assert figures.confident_mistakes(student, truth, 0.3, 1).tolist() == [0]


def test_doubtful_are_unlabeled_and_near_a_half() -> None:
    teacher = np.array([0.5, 0.55, 0.2, 0.99, 0.6])
    assert figures.most_doubtful(teacher, np.array([True, False, False, False, False]), 3).tolist() == [1, 4, 2]


def test_phrases_that_never_win_and_the_greediest() -> None:
    scores = np.array([[0.6, 0.1, 0.3, 0.0], [0.5, 0.0, 0.45, 0.05], [0.0, 0.0, 0.1, 0.9]])
    found = figures.phrase_wins(scores, ["cat", "kitten"], ["dog", "sofa"])
    assert [(p.text, p.wins) for p in found] == [("cat", 2), ("kitten", 0), ("sofa", 1), ("dog", 0)]
    most_confused = figures.most_confused(found)
    assert most_confused is not None
    assert most_confused.text == "dog"
    assert most_confused.weight_on_yes == pytest.approx((0.7 * 0.3 + 0.5 * 0.45) / 1.2)


def test_curves_that_cannot_be_drawn_say_so() -> None:
    none = np.empty(0)
    for plot in (
        plots.precision_recall_plot(none, none.astype(bool), 0.5),
        plots.precision_recall_plot(np.array([0.2]), np.array([True]), 0.5),
        plots.reliability_plot(none, none.astype(bool)),
        plots.losses({}),
        plots.agreement({"val_agreement": np.array([np.nan])}),
    ):
        assert plot.svg is None
        assert plot.says.startswith("Not drawn")


def test_plots_take_the_pages_colors() -> None:
    drawing = str(plots.teacher_scores(np.linspace(0, 1, 50)).svg)
    assert "var(--yes)" in drawing
    assert not re.search(r"#[0-9a-f]{6}\b", drawing.replace('href="#', ""))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.share(0.9996), "99.9 %"),
        (words.share(1.0), "100 %"),
        (words.share(float("nan")), "–"),
        (words.interval([0.935, 0.985]), "93.5 to 98.5 %"),
        (words.interval(None), "–"),
        (words.rule({"name": "agreement", "rule": ">= 0.95"}), "at least 95 %"),
        (words.rule({"name": "bytes", "rule": "<= 300000"}), "at most 300 kB"),
        (words.score(0.999), ">0.99"),
        (words.number(1234567), "1 234 567"),
        (words.number(0.00123), "0.00123"),
        (words.duration(200), "3 min 20 s"),
        (words.plural(1, "copy", "copies"), "1 copy"),
    ],
)
def test_words(said: str, expected: str) -> None:
    assert said.replace(words.THIN, " ") == expected


STATES = {"passed": PASSES, "not proven": NOT_PROVEN, "refused": REFUSED}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Scenario, RunFolder]]:
    """A run of each state."""
    return {state: make_run(tmp_path_factory.mktemp("state"), recipe) for state, recipe in STATES.items()}


@pytest.fixture(scope="module")
def reports(judged: dict[str, tuple[Scenario, RunFolder]]) -> dict[str, Page]:
    """Their reports."""
    return {state: written(*made) for state, made in judged.items()}


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace(words.THIN, " "))


def first_screen(page: Page) -> str:
    """What is read before the contents."""
    return squeezed(page.text.split(" Facts ")[0])


@pytest.mark.parametrize(
    ("state", "title", "tone"),
    [
        ("passed", "Passed, finds 39 of 39", "pass"),
        ("not proven", "Not proven, finds 40 of 40", "unproven"),
        ("refused", "Refused, finds 34 of 39", "fail"),
    ],
)
def test_first_screen_opens_with_state_and_headline(
    judged: dict[str, tuple[Scenario, RunFolder]], reports: dict[str, Page], state: str, title: str, tone: str
) -> None:
    report, verdict = reports[state], read(read_json(judged[state][1].file(GATE)))
    assert verdict.state == state
    seen = first_screen(report)
    assert seen.lstrip().startswith(f"{title}: Is there a red ball?")
    assert verdict.headline in seen
    assert all(reason in seen for reason in verdict.reasons)
    banners = [a["class"] for a in report.all("div") if (a.get("class") or "").startswith("state ")]
    assert banners == [f"state {tone}"], "its color and its shape"


def test_counts_are_those_of_the_judge_and_of_scikit_learn(judged: dict[str, tuple[Scenario, RunFolder]]) -> None:
    for scenario, run in judged.values():
        data = read_run_data(scenario, run)
        said, held = data.gate["figures"]["outcome"], data.evaluated
        (no, false), (missed, found) = confusion_matrix(held.truth, held.student >= data.threshold)
        names = ("hits", "misses", "false_alarms", "correct_rejections")
        assert tuple(said[name] for name in names) == (found, missed, false, no)
        shown = summarize(data).counts
        assert [squeezed(count.figure) for count in shown] == [
            f"{found} of {found + missed}",
            f"{missed}",
            f"{false} of {false + no}",
            f"{found} of {found + false}",
        ]


def test_people_count_alone_where_they_have_said_enough(tmp_path: Path) -> None:
    data = read_run_data(*make_run(tmp_path, RunKind(images=300, gold=0.9, noise=0.5, picked=0.5)))
    labels, held = data.labels, data.evaluated
    assert held.against == "people"
    assert set(held.rows) == set(np.flatnonzero(labels.test & labels.labeled & ~labels.picked))
    assert (held.truth == (labels.gold[held.rows] == 1)).all()
    assert f"on {len(held.rows)} of {labels.test.sum()} test photos" in summarize(data).by


def test_too_few_labels_are_told_beside_the_teachers_word(tmp_path: Path) -> None:
    data = read_run_data(*make_run(tmp_path, RunKind(images=100, gold=0.2, noise=0.5)))
    few = int((data.labels.test & data.labels.unbiased).sum())
    assert f"People have labeled {few} of them: too few to count." in summarize(data).by


def test_the_teacher_counts_from_its_own_threshold(judged: dict[str, tuple[Scenario, RunFolder]]) -> None:
    data = read_run_data(*judged["not proven"])
    labels, at = data.labels, data.gate["figures"]["teacher_threshold"]
    between = (labels.teacher >= min(at, 0.5)) & (labels.teacher < max(at, 0.5))
    assert between.any(), "else nothing is shown"
    assert (labels.reference == (labels.teacher >= at)).all()
    assert data.evaluated.against == "teacher"
    drawn = plots.teacher_scores(labels.teacher, at)
    yes = int((labels.teacher >= at).sum())
    assert drawn.says.startswith(f"{yes} of {len(labels.teacher)} images lie on the side of yes")


def test_next_command_fits_the_state(judged: dict[str, tuple[Scenario, RunFolder]]) -> None:
    commands = {}
    for state, (scenario, run) in judged.items():
        steps = summarize(read_run_data(scenario, run)).steps
        commands[state] = [one.replace(str(run.path), "RUN") for step in steps for one in step.commands]
    assert commands == {
        "passed": ["factory publish RUN --alias champion"],
        "not proven": ["factory review RUN --prove", "factory run RUN"],
        "refused": ["factory review RUN", "factory run RUN"],
    }


def with_broken(data: RunData, *names: str) -> RunData:
    """The same, refused for these clauses."""
    clauses = [c | {"verdict": "pass"} for c in data.gate["clauses"] if c["name"] not in names]
    clauses += [c | {"verdict": "fail", "decides": True} for c in data.gate["clauses"] if c["name"] in names]
    said = {"state": "refused", "headline": "No.", "reasons": []}
    return replace(data, gate=data.gate | {"clauses": clauses, "verdict": said, "passed": False})


@pytest.mark.parametrize(
    ("broken", "command"),
    [
        (["recall"], "factory threshold RUN --recall 0.9"),
        (["precision"], "factory threshold RUN --precision 0.9"),
        (["recall", "precision"], "factory threshold RUN"),
        (["bytes"], "factory run RUN"),
        (["balanced_agreement"], "factory review RUN"),
    ],
)
def test_a_refusal_names_what_could_mend_it(
    judged: dict[str, tuple[Scenario, RunFolder]], broken: list[str], command: str
) -> None:
    data = with_broken(read_run_data(*judged["passed"]), *broken)
    assert another_threshold_passes(data)
    steps = summarize(data).steps
    assert steps[0].commands[0].replace(str(data.folder), "RUN") == command


def test_no_other_threshold_is_named_where_none_would_do(judged: dict[str, tuple[Scenario, RunFolder]]) -> None:
    data = with_broken(read_run_data(*judged["refused"]), "precision")
    assert not another_threshold_passes(data)
    steps = summarize(data).steps
    assert steps[0].says == "No threshold would meet the rule on these photos."
    assert not any("threshold" in one for step in steps for one in step.commands)


def test_a_figure_below_its_bar_is_not_called_too_few(tmp_path: Path) -> None:
    data = read_run_data(*make_run(tmp_path, RunKind(images=40, gold=0, noise=0.1)))
    clauses = [c | {"figure": 0.5, "verdict": "unproven"} for c in data.gate["clauses"] if c["name"] == "recall"]
    short = summarize(replace(data, gate=data.gate | {"clauses": clauses}))
    assert short.gloss == words.SHORT
    assert squeezed(short.counts[0].finding) == "at least 70 % asked: not reached"
    above = summarize(replace(data, gate=data.gate | {"clauses": [clauses[0] | {"figure": 0.8}]}))
    assert above.gloss != words.SHORT
    assert squeezed(above.counts[0].finding) == "at least 70 % asked: too few photos to show it"


def test_clauses_that_do_not_decide_say_so(
    judged: dict[str, tuple[Scenario, RunFolder]], reports: dict[str, Page]
) -> None:
    aside = [c["name"] for c in read_json(judged["passed"][1].file(GATE))["clauses"] if not c["decides"]]
    assert aside == ["balanced_agreement", "agreement"]
    assert reports["passed"].text.count("reported, not decisive") == len(aside)
    assert card.render(read_run_data(*judged["passed"])).count("(reported, not decisive)") == len(aside)


def test_sureness_is_no_headline(reports: dict[str, Page]) -> None:
    for state in ("passed", "refused"):
        assert "sure" not in first_screen(reports[state])


def test_line_says_where_it_lies_and_why(
    judged: dict[str, tuple[Scenario, RunFolder]], reports: dict[str, Page]
) -> None:
    text = squeezed(reports["passed"].text)
    held = judged["passed"][1].table("held_out.parquet", "train")["split"].to_pylist()
    for needed in (
        "0.31 to 0.58",
        "break-even: about as many false alarms as misses",
        "41.2 % of the photos are yes",
        "finds 87.7 % of the yes photos; 86.5 % of its yeses are right; false alarms on 9.9 % of the no photos",
        f"{held.count('val')} of val, {held.count('train')} of train that a part of it had left out",
    ):
        assert needed in text, needed


def test_made_up_cut_has_the_fields_of_a_cut() -> None:
    assert set(CUT) == set(Threshold.__dataclass_fields__)


@pytest.mark.parametrize("said", ["7", "[1]", '{"interval": "x", "recall": [], "target": {}, "base_rate": "<b>"}'])
def test_a_cut_of_another_shape_breaks_nothing(judged: dict[str, tuple[Scenario, RunFolder]], said: str) -> None:
    data = read_run_data(*judged["refused"])
    strange = replace(data, model=data.model | {"cut": said})
    assert section_of(strange, "factory").drawing is not None
    assert "# Is there a red ball?" in card.render(strange)


def test_slider_counts_as_the_judge_does(judged: dict[str, tuple[Scenario, RunFolder]]) -> None:
    data = read_run_data(*judged["refused"])
    stored, held = section_of(data, "factory threshold RUN").data, data.evaluated
    outcome = data.gate["figures"]["outcome"]
    assert stored["at"][:2] == [outcome["hits"], outcome["false_alarms"]]
    for place in (1, 37, 430, 500, 999):
        found = held.at(place / 1000)
        assert (stored["hits"][place - 1], stored["alarms"][place - 1]) == (found.hits, found.false_alarms)
        asked = data.labels.student[data.labels.test]
        assert stored["calls"][place - 1] == (asked >= place / 1000).sum()
    assert stored["command"] == "factory threshold RUN --at"


def test_sweep_counts_a_probability_at_the_threshold_as_yes() -> None:
    p, truth = np.array([0.2, 0.7, 0.7, 0.9], np.float32).astype(np.float64), np.array([True, True, False, False])
    hits, alarms = figures.sweep(p, truth, np.array([0.2, 0.7, 0.9, 0.95]))
    assert (hits.tolist(), alarms.tolist()) == ([2, 1, 0, 0], [2, 2, 1, 0])


def test_nearest_are_taken_from_both_sides() -> None:
    p = np.array([0.9, 0.1, 0.5, 0.3, 0.35, 0.8, 0.2])
    rows = np.array([0, 1, 3, 4, 5, 6])
    assert nearest(p, rows, 0.4, 4).tolist() == [3, 4, 5, 0]
    assert nearest(p, rows, 0.95, 3).tolist() == [4, 5, 0]
    assert nearest(p, rows, 0.05, 3).tolist() == [1, 6, 3]
    assert nearest(p, rows, 0.4, 60).tolist() == [1, 6, 3, 4, 5, 0]


def test_people_and_teacher_are_compared_on_the_share_of_yes(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, RunKind(images=80, gold=0.5, picked=0.4))
    labels = read_run_data(scenario, run).labels
    fair = labels.gold[~np.isnan(labels.gold) & ~labels.picked]
    picked = int(labels.picked.sum())
    text = squeezed(written(scenario, run).text)
    assert f"{picked} of them because they looked doubtful" in text
    expected = squeezed(words.share(fair.mean()))
    assert f"{len(fair)} photos, of which people call {int(fair.sum())} a yes, {expected} (" in text
    assert f"the words alone expect {squeezed(words.share(labels.scores[:, :2].sum(axis=1).mean()))} of all" in text


def test_card_opens_as_the_report_does(judged: dict[str, tuple[Scenario, RunFolder]]) -> None:
    for state, (scenario, run) in judged.items():
        data = read_run_data(scenario, run)
        body = card.render(data).split("---\n", 2)[2].splitlines()
        word, headline = words.STATES[state][0], card.plain(data.verdict.headline)
        quote = "" if state == "passed" else "> "
        assert body[1:4] == ["# Is there a red ball?", "", f"{quote}**{word}.** {headline}"]
        assert [f"> - {card.plain(reason)}" for reason in data.verdict.reasons] == body[
            6 : 6 + len(data.verdict.reasons)
        ]


def test_card_names_whose_word_recall_rests_on(judged: dict[str, tuple[Scenario, RunFolder]]) -> None:
    by = {"passed": ("by people's labels", "gold"), "not proven": ("against the teacher", "against_teacher")}
    for state, (name, key) in by.items():
        data = read_run_data(*judged[state])
        found = {metric["name"]: metric for metric in card.metrics(data.gate)}
        figure = data.gate["figures"][key]
        figure = figure["student"] if key == "gold" else figure
        for measure in ("recall", "precision"):
            assert found[f"{measure.capitalize()} {name}"]["value"] == round(figure[measure]["figure"], 4)
            assert found[f"{measure.capitalize()} {name}"]["type"] == measure


@pytest.mark.parametrize(("noise", "word"), [(0.1, "Passed"), (15.0, "Refused")])
def test_a_run_of_the_version_before_is_reported(tmp_path: Path, noise: float, word: str) -> None:
    scenario, run = make_run(tmp_path, RunKind(images=120, gold=0.8, noise=noise))
    make_older(run)
    report = written(scenario, run)
    seen = first_screen(report)
    assert seen.lstrip().startswith(f"{word}, finds ")
    assert f"factory run {run.path}" in seen
    assert "people’s labels where there are any, else its teacher’s word" in seen
    assert "state pass" not in [a.get("class") for a in report.all("div")], "that rule could be met by saying no"
    assert "it says nothing of where else its threshold could lie" in report.text
    write_card(scenario, run)
    assert run.file(CARD).read_text(encoding="utf-8").split("---\n", 2)[2].splitlines()[3].startswith(f"> **{word}.**")


def test_a_gate_that_says_nothing_is_refused(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, RunKind(images=20))
    gate = read_json(run.file(GATE))
    del gate["verdict"], gate["passed"]
    write_json(run.file(GATE), gate)
    with pytest.raises(RunError, match="does not say whether the model passed"):
        write_report(scenario, run)
