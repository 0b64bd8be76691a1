"""Each command of docs/zero_shot.md, on a small folder of its own: what is printed, written, and refused."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix
from typer.testing import CliRunner, Result

import clip_factory
from clip_factory.cli.main import app
from clip_factory.scenario import load
from support.pictures import draw_shape

runner = CliRunner()
DOC = (Path(__file__).parents[2] / "docs" / "zero_shot.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `disc` and `metal_bar`, twelve photos each, and a file that is no photo."""
    root = tmp_path_factory.mktemp("classes")
    for index in range(24):
        kind = ("disc", "bar")[index % 2]
        folder = root / {"disc": "disc", "bar": "metal_bar"}[kind]
        folder.mkdir(exist_ok=True)
        draw_shape(kind, index).save(folder / f"p{index:02d}.png")
    (root / "disc" / "broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def call(tiny_clip: Path, store: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACTORY_STORE", str(store))

    def called(*arguments: object, code: int = 0) -> Result:
        encoder = [] if "lint" in arguments or arguments[0] == "encoders" else ["--encoder", f"local-dir:{tiny_clip}"]
        result = runner.invoke(app, [*map(str, arguments), *encoder])
        if code == 2:
            assert result.exception is not None
        else:
            assert result.exit_code == code, f"{result.output}\n{result.exception}"
        return result

    return called


def test_folders_are_the_truth_and_counts_are_scikit_learns(call, photos: Path) -> None:
    sent = json.loads(call("zeroshot", photos, "--folders", "--format", "json").stdout)
    truth = [one["path"].split("/")[0] for one in sent["photos"]]
    answers = [one["answer"] for one in sent["photos"]]

    assert sent["accuracy"]["photos"] == len(truth) == 24
    assert sent["accuracy"]["confusion"] == confusion_matrix(truth, answers, labels=["disc", "metal_bar"]).tolist()
    assert sent["accuracy"]["top1"] == pytest.approx(np.mean(np.array(truth) == answers))
    assert sent["unused"][0]["path"] == "disc/broken.jpg", "what is not used is counted"
    assert sent["classes"]["metal_bar"][0] == "a photo of a metal bar."
    assert set(sent["accuracy"]["templates"]) >= {"{}", "all of them, averaged"}


def test_answers_as_csv_have_a_row_for_each_photo_and_its_likeliest_classes(call, photos: Path) -> None:
    text = call("zeroshot", photos, "--classes", "disc,bar,cat", "--format", "csv", "--top-k", 2).stdout
    rows = list(csv.DictReader(io.StringIO(text)))

    assert len(rows) == 24
    assert all(row["answer"] == row["class_1"] != row["class_2"] for row in rows)
    assert all(float(row["probability_1"]) >= float(row["probability_2"]) for row in rows)


def test_an_answer_below_the_threshold_is_unsure(call, photos: Path) -> None:
    lines = call("zeroshot", photos, "--classes", "disc,bar", "--threshold", 1, "--format", "csv").stdout.splitlines()

    assert {line.split(",")[1] for line in lines[1:]} == {"unsure"}
    assert call("zeroshot", photos, "--classes", "disc,bar", "--threshold", 1, "-f").stdout == ""


def test_one_class_alone_is_a_probability_of_its_own(call, photos: Path) -> None:
    sent = json.loads(call("zeroshot", photos, "--classes", "disc", "--format", "json").stdout)
    p = [one["top"][0]["probability"] for one in sent["photos"]]

    assert len(set(p)) > 1 and max(p) < 1, "not 1 for every photo, as a softmax over one class is"


def test_templates_of_the_user_are_used(call, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "templates.json"
    file.write_text(json.dumps({"shapes": ["a sketch of {c}", "{c}, drawn"], "other": ["{c}"]}))
    sets = ["--templates", file, "--dataset", "shapes"]
    sent = json.loads(call("zeroshot", photos, "--classes", "disc,bar", *sets, "--format", "json").stdout)
    one = json.loads(
        call("zeroshot", photos, "--classes", "disc,bar", "--template", "my {}", "--format", "json").stdout
    )

    assert sent["classes"]["disc"] == ["a sketch of disc", "disc, drawn"]
    assert one["classes"] == {"disc": ["my disc"], "bar": ["my bar"]}


@pytest.mark.parametrize(
    ("content", "suffix", "prompts"),
    [
        ("disc: round disc, wheel\nbar\n", ".txt", ["a photo of a round disc.", "a photo of the round disc."]),
        ('{"disc": ["A disc is round."], "bar": ["A bar is long."]}', ".json", ["A disc is round."]),
        ('["disc", "bar"]', ".json", ["a photo of a disc.", "a photo of the disc."]),
    ],
)
def test_classes_of_a_file(call, photos: Path, tmp_path: Path, content: str, suffix: str, prompts: list[str]) -> None:
    file = tmp_path / f"classes{suffix}"
    file.write_text(content)
    sent = json.loads(call("zeroshot", photos, "--classes-file", file, "--format", "json").stdout)

    assert list(sent["classes"]) == ["disc", "bar"]
    assert sent["classes"]["disc"][: len(prompts)] == prompts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "cat,cat"], "class 'cat' is named twice"),
        (["--classes", "a,b", "--template", "a photo"], "must hold {} exactly once"),
        (["--classes", "a,b", "--probe"], "need a truth"),
        (["--classes", "a,b", "--folders"], "no photo lies in a folder that is named like a class"),
        (["--classes", "a", "--classes-file", "x.txt"], "name classes both"),
        (["--classes-file", "missing.txt"], "cannot be read"),
        (["--classes", "a,b", "--templates", "nonsense"], "no such templates"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(call, photos: Path, arguments: list[str], message: str) -> None:
    assert message in str(call("zeroshot", photos, *arguments, code=2).exception)


def test_page_picture_probe_and_scenarios_are_written(call, photos: Path, tmp_path: Path) -> None:
    page, picture, folder = tmp_path / "z.html", tmp_path / "z.png", tmp_path / "scenarios"
    output = call(
        "zeroshot", photos, "--folders", "--probe", "--page", page, "--picture", picture, "--to-scenarios", folder
    ).output
    text = page.read_text(encoding="utf-8")

    assert "1 a class" in output and "4 a class" in output
    cells = re.findall(r'href="#(cell-\d-\d)"', text)
    assert cells and all(f'id="{cell}"' in text for cell in cells), "a cell of the matrix opens its photos"
    assert "Zero-shot beside few-shot" in text and "<script" not in text and "http" not in text.split("<main>")[1][:99]
    assert Image.open(picture).width > 100
    scenario = load(folder / "metal-bar.yaml")
    assert scenario.positive == ("metal bar",) and scenario.negative == ("disc",)
    assert "is there already" in str(call("zeroshot", photos, "--folders", "--to-scenarios", folder, code=2).exception)


def test_photos_are_copied_into_folders_of_their_answers_and_never_overwritten(
    call, photos: Path, tmp_path: Path
) -> None:
    target = tmp_path / "sorted"
    lines = call("zeroshot", photos, "--classes", "disc,bar", "--format", "csv").stdout.splitlines()[1:]
    call("zeroshot", photos, "--classes", "disc,bar", "--sort-into", target)
    copies = {path.name: path.parent.name for path in target.rglob("*.png")}

    assert copies == {line.split(",")[0].split("/")[1]: line.split(",")[1] for line in lines}
    one = next(target.rglob("*.png"))
    one.write_bytes(b"mine")
    call("zeroshot", photos, "--classes", "disc,bar", "--sort-into", target)
    assert one.read_bytes() == b"mine" and len(list(target.rglob("*.png"))) == 25
    inside = call("zeroshot", photos, "--classes", "disc,bar", "--sort-into", photos / "new", code=2)
    assert "lies in the folder of the photos" in str(inside.exception)


def test_a_photo_is_most_like_itself_and_paths_are_for_other_programs(call, photos: Path, tmp_path: Path) -> None:
    like = photos / "disc" / "p04.png"
    paths = call("search", photos, "--like", like, "-n", 3, "-f").stdout.splitlines()
    call("search", photos, "disc", "--minus", "bar", "--page", tmp_path / "s.html")

    assert Path(paths[0]) == like and len(paths) == 3
    assert "disc - bar" in (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "nothing is looked for" in str(call("search", photos, code=2).exception)
    assert "takes away" not in call("search", photos, "disc").output


def test_wordings_are_compared_and_labels_decide_where_they_are_known(call, photos: Path, tmp_path: Path) -> None:
    words = ["--positive", "disc", "--positive", "bar", "--negative", "cat", "--images", photos]
    known = json.loads(call("prompts", "compare", *words, "--yes-folder", "disc", "--format", "json").stdout)
    unknown = json.loads(call("prompts", "compare", *words, "--page", tmp_path / "p.html", "--format", "json").stdout)

    assert len(known) == len(unknown) == 2
    assert known[0]["balanced_accuracy"] >= known[1]["balanced_accuracy"]
    assert unknown[0]["balanced_accuracy"] is None and unknown[0]["consistency"] is None, "24 photos are too few"
    assert "Side by side" in (tmp_path / "p.html").read_text(encoding="utf-8")
    refused = call("prompts", "compare", *words, "--yes-folder", "cat", code=2)
    assert "no photo lies in a folder 'cat'" in str(refused.exception)


def test_lint_says_what_is_doubtful_by_its_exit_code(call) -> None:
    doubtful = call("prompts", "lint", "--positive", "no cat", "--encoder", "none", code=1)
    fine = call("prompts", "lint", "--positive", "soccer ball", "--negative", "golf ball", "--encoder", "none")

    assert "negation: 'no cat' says by 'no'" in doubtful.output
    assert "nothing is doubtful" in fine.output


def test_encoders_are_listed_and_one_that_cannot_be_loaded_stops_no_other(
    call, photos: Path, tiny_clip: Path, store: Path
) -> None:
    listed = json.loads(call("encoders", "list", "SigLIP2", "--commercial", "--format", "json").stdout)
    names = [f"local-dir:{tiny_clip}", "local-dir:/nowhere"]
    tried = json.loads(call("encoders", "compare", photos, *names, "--format", "json", code=3).stdout)

    assert listed and all("SigLIP2" in one["name"] and one["commercial"] for one in listed)
    assert [bool(one["error"]) for one in tried] == [False, True]
    assert tried[0]["top1"]["n"] == 24 and tried[0]["photos_per_second"] > 0


def test_python_asks_in_two_lines(photos: Path, tiny_clip: Path) -> None:
    images = [Image.open(path) for path in sorted(photos.rglob("*.png"))[:3]]
    result = clip_factory.zero_shot(images, ["a disc", "a bar"], encoder=f"local-dir:{tiny_clip}")
    of_folder = clip_factory.zero_shot(photos, ["a disc", "a bar"], encoder=f"local-dir:{tiny_clip}")

    assert result.probabilities.shape == (3, 2) and result.probabilities.sum(axis=1) == pytest.approx([1, 1, 1])
    assert result.classes.prompts == (("a disc",), ("a bar",)), "with an article, a phrase is a prompt as it stands"
    rows = [of_folder.paths.index(path) for path in of_folder.paths[:3]]
    assert of_folder.probabilities[rows] == pytest.approx(result.probabilities, abs=2e-3)
    assert list(of_folder.frame.columns) == ["path", "answer", "probability", "a disc", "a bar"]
    assert of_folder.frame["answer"].tolist() == of_folder.names


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--[a-z][a-z-]+", DOC))))
def test_every_option_in_the_document_exists(option: str) -> None:
    helps = [["zeroshot"], ["search"], ["prompts", "compare"], ["prompts", "suggest"], ["prompts", "lint"]]

    assert any(option in runner.invoke(app, [*command, "--help"]).output for command in helps)
