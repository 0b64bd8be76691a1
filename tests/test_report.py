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
from fake_run import PROBE, SIZE, Recipe, make_run
from PIL import Image

from factory.artifacts import CARD, LABELS, REPORT, RunFolder, sha256_file
from factory.errors import RunError
from factory.report import card, figures, page, plots, words, write_card, write_report
from factory.report.evidence import gather
from factory.runtime import to_square
from factory.scenario import Scenario

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
        if "style" not in self.open:
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
    for tag, attributes in report.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("data:image/jpeg;base64,", "#"))
    assert "url(http" not in made[1].file(REPORT).read_text(encoding="utf-8")
    ids = [attributes["id"] for _, attributes in report.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = [a["href"][1:] for a in report.all("a")]
    assert set(anchors) <= set(ids)
    assert len(report.all("svg")) == 6
    assert all(svg["aria-label"] for svg in report.all("svg"))
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


def test_missing_photos_become_grey_tiles(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, Recipe(images=40))
    for photo in (tmp_path / "images").rglob("*.jpg"):
        photo.write_bytes(b"")
    report = written(scenario, run)
    assert report.all("img")
    assert "can no longer be read" in report.text


def test_pictures_stay_inside_the_images_folder(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    from factory.report.pictures import tile

    (tmp_path / "images").mkdir()
    for path in ("../secret.png", "a/../../secret.png", str(tmp_path / "secret.png"), "a\0.png"):
        assert tile(tmp_path / "images", path) is None


def test_hostile_words_are_escaped(tmp_path: Path) -> None:
    evil = "</style><script>alert(1)</script>\"'{{7*7}} $x^2$ | `a` [b](http://c)"
    recipe = Recipe(
        images=30, question=evil, positive=(evil[:190],), negative=("<img src=x onerror=y>", "b"),
        path="<svg onload=1>{side}/{{{{x}}}} {i} \u202e.jpg", noise=3, licence="<b>mine</b>",
    )  # fmt: skip
    scenario, run = make_run(tmp_path, recipe)
    report = written(scenario, run)
    assert not report.all("script")
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
        (Recipe(images=30, gold=0, negative=None), "measured against the teacher"),
        (Recipe(images=16, one_sided_test=True), "Not drawn: the"),
        (Recipe(images=60, gold=1), "a person has labelled"),
    ],
    ids=["no gold", "one-sided test", "all gold"],
)
def test_thin_evidence_is_told_not_hidden(tmp_path: Path, recipe: Recipe, says: str) -> None:
    scenario, run = make_run(tmp_path, recipe)
    assert says in written(scenario, run).text
    write_card(scenario, run)
    assert "nan" not in re.findall(r"\w+", run.file(CARD).read_text(encoding="utf-8"))


def test_no_report_without_labels(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, Recipe(images=12))
    run.file(LABELS).unlink()
    with pytest.raises(RunError, match=r"has no labels\.parquet"):
        write_report(scenario, run)


def test_a_run_without_training_record_or_log_is_reported(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, Recipe(images=20))
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
        "| Teacher | offline, licence Apache-2.0 |",
        "| Licence | apache-2.0 (the photos and the teacher have their own) |",
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
    evidence = gather(*made)
    assert "inside the file, on the validation photos; on the test" in card.render(evidence)
    for against, words_for_it in (("gold", "people's labels"), ("teacher", "the teacher's labels")):
        said = json.dumps({"method": "platt", "scale": 1.0, "shift": 0.0, "against": against, "images": 212})
        text = card.render(replace(evidence, model=evidence.model | {"calibration": said}))
        assert f"inside the file, on the validation photos (212 photos, against {words_for_it}); on the test" in text


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


def test_other_licences_are_named(tmp_path: Path) -> None:
    scenario, run = make_run(tmp_path, Recipe(images=12, licence="Proprietary-1"))
    front = card.front_matter(gather(scenario, run))
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


def test_doubtful_are_unlabelled_and_near_a_half() -> None:
    teacher = np.array([0.5, 0.55, 0.2, 0.99, 0.6])
    assert figures.most_doubtful(teacher, np.array([True, False, False, False, False]), 3).tolist() == [1, 4, 2]


def test_phrases_that_never_win_and_the_greediest() -> None:
    scores = np.array([[0.6, 0.1, 0.3, 0.0], [0.5, 0.0, 0.45, 0.05], [0.0, 0.0, 0.1, 0.9]])
    found = figures.phrase_wins(scores, ["cat", "kitten"], ["dog", "sofa"])
    assert [(p.text, p.wins) for p in found] == [("cat", 2), ("kitten", 0), ("sofa", 1), ("dog", 0)]
    greediest = figures.greediest(found)
    assert greediest is not None
    assert greediest.text == "dog"
    assert greediest.taken == pytest.approx((0.7 * 0.3 + 0.5 * 0.45) / 1.2)


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


def test_plots_take_the_pages_colours() -> None:
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


def test_refusal_names_its_reasons() -> None:
    clauses = [
        {"name": "agreement", "verdict": "fail", "says": "Too low."},
        {"name": "gold_accuracy", "verdict": "unproven", "says": "Too few."},
    ]
    assert page.verdict({"passed": False, "clauses": clauses})["says"] == "Too low."
    assert "Too few." in page.verdict({"passed": False, "clauses": clauses[1:]})["says"]
    assert "Right by people’s labels" in page.verdict({"passed": True, "clauses": clauses[1:]})["says"]
