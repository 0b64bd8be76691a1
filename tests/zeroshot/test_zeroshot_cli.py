"""`factory zeroshot`, `search`, `prompts` and `encoders`, and `clip_factory.zero_shot`, on photos of three colors.

The encoder knows colors only, so that every answer can be said in advance; docs/zero_shot.md is tried in test_commands.
"""

from __future__ import annotations

import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import clip_factory
from clip_factory import api
from clip_factory.cli.main import app
from clip_factory.encoders import load_encoder
from clip_factory.errors import FactoryError, ImagesError, ScenarioError
from clip_factory.scenario import Teacher, load
from clip_factory.zeroshot import embedded_folder, encoder_comparison, look_alikes
from support.axis_encoder import AxisEncoder

COLORS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}
EACH = 40
runner = CliRunner()


class Colors(AxisEncoder):
    """Knows three colors; `person` and whatever else lies where no photo does."""

    license = "MIT"

    def __init__(self) -> None:
        super().__init__("red", "green", "blue", "person", scale=12.0)


def picture(color: str, seed: int) -> Image.Image:
    """Blocks of one color's shades with a little of the others: no two look alike."""
    random = np.random.default_rng([seed, len(color)])
    shades = random.uniform(0.4, 1, (8, 8, 1)) * (np.array(COLORS[color]) + random.uniform(0, 35, (1, 1, 3)))
    return Image.fromarray(shades.clip(0, 255).astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photos in each of `red`, `green` and `blue`, three of them in the wrong folder, and one that is broken."""
    root = tmp_path_factory.mktemp("colors")
    for color in COLORS:
        (root / color).mkdir()
        for index in range(EACH):
            picture(color, index).save(root / color / f"{color[0]}{index:02d}.png")
    for index in range(3):
        picture("red", 900 + index).save(root / "blue" / f"wrong, {index}.png")
    (root / "red" / "broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch, store: Path) -> list[str]:
    """Every encoder knows colors; the list has the names that were asked for."""
    asked: list[str] = []

    def loaded(teacher: Teacher) -> Colors:
        asked.append(teacher.name)
        return Colors()

    monkeypatch.setattr(embedded_folder, "load_encoder", loaded)
    monkeypatch.setenv("FACTORY_STORE", str(store))
    return asked


def call(*arguments: object, code: int = 0) -> Result:
    named = [] if "--encoder" in arguments or arguments[0] == "encoders" else ["--encoder", "offline"]
    result = runner.invoke(app, [*map(str, arguments), *named])
    assert result.exit_code == code, f"{result.output}\n{result.exception}"
    return result


def refused(*arguments: object) -> FactoryError:
    result = runner.invoke(app, [*map(str, arguments)])
    assert isinstance(result.exception, FactoryError), result.output
    return result.exception


def as_json(*arguments: object) -> dict:
    return json.loads(call(*arguments, "--format", "json").stdout)


def as_csv(*arguments: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv").stdout)))


# factory zeroshot: classes and answers


def test_photos_get_the_class_of_their_color(photos: Path) -> None:
    rows = as_csv("zeroshot", photos, "--classes", "red thing,green thing,blue thing")

    assert len(rows) == 3 * EACH + 3
    for row in rows:
        color = "red" if "wrong" in row["path"] else row["path"].split("/")[0]
        assert row["answer"] == row["class_1"] == f"{color} thing"
    assert {row["path"] for row in rows} >= {"blue/wrong, 0.png"}, "a comma in a name is no column"


def test_each_row_has_as_many_classes_as_are_asked_for_the_likeliest_first(photos: Path) -> None:
    for count in (1, 2, 3, 7):
        rows = as_csv("zeroshot", photos, "--classes", "red,green,blue", "--top-k", count)
        places = range(1, min(count, 3) + 1)
        assert list(rows[0]) == [
            "path",
            "answer",
            *(f"{what}{k}" for k in places for what in ("class_", "probability_")),
        ]
        p = np.array([[float(row[f"probability_{k}"]) for k in places] for row in rows])
        assert (np.diff(p, axis=1) <= 0).all()
    assert p.sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)


def test_json_has_the_prompts_the_encoder_and_what_is_not_used(photos: Path) -> None:
    sent = as_json("zeroshot", photos, "--classes", "a red thing,the blue thing", "--top-k", 2)

    assert sent["classes"] == {"a red thing": ["a red thing"], "the blue thing": ["the blue thing"]}
    assert sent["encoder"]["key"] == "axes-1"
    assert [one["path"] for one in sent["unused"]] == ["red/broken.jpg"] and sent["unused"][0]["reason"]
    assert "accuracy" not in sent
    assert all(len(one["top"]) == 2 and one["answer"] == one["top"][0]["class"] for one in sent["photos"])


def test_without_classes_the_folders_are_the_classes_and_the_truth(photos: Path) -> None:
    sent = as_json("zeroshot", photos)

    assert list(sent["classes"]) == ["blue", "green", "red"]
    assert sent["accuracy"]["top1"] == pytest.approx(3 * EACH / (3 * EACH + 3))
    assert sent["accuracy"]["confusion"] == [[EACH, 0, 3], [0, EACH, 0], [0, 0, EACH]]
    assert sent["accuracy"]["recall"]["blue"] == pytest.approx(EACH / (EACH + 3))
    assert sent["accuracy"]["top5"] is None and sent["accuracy"]["few_shot"] is None


def test_classes_that_are_named_are_measured_by_the_folders_of_these_names(photos: Path) -> None:
    sent = as_json("zeroshot", photos, "--folders", "--classes", "red,green")

    assert sent["accuracy"]["photos"] == 2 * EACH and sent["accuracy"]["top1"] == 1.0
    assert len(sent["photos"]) == 3 * EACH + 3, "all photos are answered"


def test_classes_of_a_file_have_its_phrases_and_its_templates_by_data_set(photos: Path, tmp_path: Path) -> None:
    names = tmp_path / "en_classnames.json"
    names.write_text(json.dumps({"paint": ["red", "blue"], "cars": ["Audi"]}))
    templates = tmp_path / "en_zeroshot.json"
    templates.write_text(json.dumps({"paint": ["{c} paint", "a wall in {c}"], "cars": ["{c}"]}))
    sent = as_json("zeroshot", photos, "--classes-file", names, "--templates", templates, "--dataset", "paint")

    assert sent["classes"] == {"red": ["red paint", "a wall in red"], "blue": ["blue paint", "a wall in blue"]}


def test_sentences_of_a_file_are_whole_prompts(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "cupl.json"
    file.write_text(json.dumps({"warm": ["It is red.", "A red one."], "cold": ["It is {}, that is blue."]}))
    sent = as_json("zeroshot", photos, "--classes-file", file)

    assert sent["classes"] == {"warm": ["It is red.", "A red one."], "cold": ["It is cold, that is blue."]}
    assert {one["answer"] for one in sent["photos"] if one["path"].startswith("red/")} == {"warm"}


def test_unsure_photos_lie_below_the_threshold_and_all_others_do_not(photos: Path) -> None:
    every = as_csv("zeroshot", photos, "--classes", "red,green,blue")
    p = {row["path"]: float(row["probability_1"]) for row in every}
    middle = float(np.median([*p.values()]))
    rows = as_csv("zeroshot", photos, "--classes", "red,green,blue", "--threshold", middle)

    assert {row["answer"] == "unsure" for row in rows} == {True, False}
    for row in rows:
        if abs(p[row["path"]] - middle) > 1e-5:
            assert (row["answer"] == "unsure") == (p[row["path"]] < middle)


def test_other_takes_the_photos_that_no_class_names(photos: Path) -> None:
    rows = as_csv("zeroshot", photos, "--classes", "person", "--other", "--top-k", 2)
    assert {row["answer"] for row in rows} == {"other"}

    sent = as_json("zeroshot", photos, "--classes", "red,person", "--other", "--top-k", 3)
    reds = [one for one in sent["photos"] if one["path"].startswith("red/")]
    assert {one["answer"] for one in reds} == {"red"}
    assert list(sent["classes"]) == ["red", "person"], "other is no class of the user's"
    for one in sent["photos"]:
        assert sum(top["probability"] for top in one["top"]) == pytest.approx(1, abs=1e-5)


def test_paths_for_other_programs_are_those_of_answered_photos_class_by_class(photos: Path) -> None:
    result = call("zeroshot", photos, "--classes", "red,blue", "--threshold", 0.6, "--other", "-f")
    rows = as_csv("zeroshot", photos, "--classes", "red,blue", "--threshold", 0.6, "--other")
    wanted = [
        photos / row["path"]
        for row in sorted(rows, key=lambda row: (row["answer"], row["path"]))
        if row["answer"] in ("red", "blue")
    ]

    assert [Path(line) for line in result.stdout.splitlines()] == wanted
    assert 0 < len(wanted) < len(rows) and all(path.is_file() for path in wanted)


def test_a_table_says_how_many_more_photos_there_are_and_which_is_not_used(photos: Path) -> None:
    output = call("zeroshot", photos, "--classes", "red,green,blue").output

    assert f"and {3 * EACH + 3 - 40:,} more: --format csv has all" in output
    assert "1 files are not used, such as red/broken.jpg" in output


def test_folders_print_recalls_with_what_a_class_is_taken_for(photos: Path) -> None:
    output = call("zeroshot", photos, "--folders").output

    assert f"right on 97.6% of {3 * EACH + 3} photos" in output
    (blue,) = re.findall(r"blue +93\.0%.*", output)
    assert "43" in blue and "red (3)" in blue


def test_refinement_says_what_it_did(photos: Path) -> None:
    assert "of 123 photos another class" in call("zeroshot", photos, "--classes", "red,green,blue", "--refine").output
    assert "from 100 photos on" in call("zeroshot", photos / "red", "--classes", "red,blue", "--refine").output


def test_the_encoder_of_the_command_is_the_one_that_is_loaded(photos: Path, encoder: list[str]) -> None:
    call("zeroshot", photos, "--classes", "red,blue", "--encoder", "ViT-B-32/openai")

    assert encoder == ["ViT-B-32/openai"]


@pytest.mark.parametrize("option", [["--probe"], ["--picture", "x.png"]])
def test_what_needs_a_truth_is_refused_before_a_photo_is_read(tmp_path: Path, option: list[str]) -> None:
    assert "need a truth" in str(refused("zeroshot", tmp_path / "missing", "--classes", "a,b", *option))


def test_photos_without_folders_need_classes(photos: Path) -> None:
    assert "no photo lies in a folder of its own" in str(refused("zeroshot", photos / "red", "--encoder", "offline"))


# factory zeroshot: what it writes


def test_probes_are_printed_beside_the_words(photos: Path) -> None:
    sent = as_json("zeroshot", photos, "--folders", "--probe")
    output = call("zeroshot", photos, "--folders", "--probe").output

    assert list(sent["accuracy"]["few_shot"]) == ["1", "2", "4", "8", "16"]
    assert all(0.3 < share <= 1 for share in sent["accuracy"]["few_shot"].values())
    assert "none, the words" in output and "16 a class" in output


def test_the_page_stands_alone_and_every_cell_that_it_links_is_there(photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "z.html"
    call("zeroshot", photos, "--folders", "--probe", "--page", page)
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'href="#([^"]+)"', text)

    assert "cell-0-2" in links, "blue photos that are answered red"
    assert not [link for link in links if f'id="{link}"' not in text]
    assert "wrong, 1.png" in text and text.count("data:image/jpeg;base64,") > 3
    assert not re.findall(r'(?:src|href)="(?!#|data:|https://)', text), "no file beside it"


def test_names_of_classes_are_no_markup_on_the_page(photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "z.html"
    call("zeroshot", photos, "--classes", "red <script>x</script>,blue", "--page", page)
    text = page.read_text(encoding="utf-8")

    assert "<script>x" not in text and "red &lt;script&gt;" in text


@pytest.mark.parametrize(("name", "start"), [("m.png", b"\x89PNG"), ("m.svg", b"<?xml"), ("m.pdf", b"%PDF")])
def test_the_matrix_is_written_as_a_picture(photos: Path, tmp_path: Path, name: str, start: bytes) -> None:
    call("zeroshot", photos, "--folders", "--picture", tmp_path / name)

    assert (tmp_path / name).read_bytes().startswith(start)


def test_photos_are_sorted_by_their_answers_and_not_copied_twice(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "sorted"
    first = call("zeroshot", photos, "--classes", "red,green,blue", "--sort-into", target).output
    again = call("zeroshot", photos, "--classes", "red,green,blue", "--sort-into", target).output

    assert f"{3 * EACH + 3} photos copied" in first and "0 photos copied" in again
    assert {path.parent.name for path in target.rglob("wrong*.png")} == {"red"}
    assert len(list((target / "red").iterdir())) == EACH + 3


def test_photos_are_not_sorted_into_their_own_folder(photos: Path) -> None:
    inside = photos / "sorted"
    error = refused("zeroshot", photos, "--classes", "red,blue", "--encoder", "offline", "--sort-into", inside)

    assert "lies in the folder of the photos" in str(error) and not inside.exists()


def test_a_scenario_of_each_class_asks_about_these_photos(photos: Path, tmp_path: Path) -> None:
    call("zeroshot", photos, "--classes", "red,green,blue", "--template", "{} paint", "--to-scenarios", tmp_path / "s")
    scenario = load(tmp_path / "s" / "green.yaml")

    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["blue.yaml", "green.yaml", "red.yaml"]
    assert (scenario.positive, scenario.negative) == (("green",), ("red", "blue"))
    assert scenario.templates == ("{} paint",) and Path(scenario.images.path) == photos


# factory search


def searched(*arguments: object) -> list[str]:
    return [Path(line).parent.name for line in call("search", *arguments, "-f").stdout.splitlines()]


def test_words_find_their_color_and_as_many_photos_as_are_asked_for(photos: Path) -> None:
    assert searched(photos, "green", "-n", 7) == ["green"] * 7
    assert len(searched(photos, "green")) == 20


def test_what_is_taken_away_takes_its_kind_with_it(photos: Path) -> None:
    red = call("search", photos, "red", "-f").stdout
    assert call("search", photos, "red", "green", "-f").stdout != red
    assert call("search", photos, "red", "green", "--minus", "green", "-f").stdout == red
    assert searched(photos, "red", "--minus", "green", "-n", 3 * EACH + 3)[-EACH:] == ["green"] * EACH


def test_a_photo_finds_its_like_first_itself(photos: Path) -> None:
    like = photos / "blue" / "b07.png"
    paths = call("search", photos, "--like", like, "-n", 5, "-f").stdout.splitlines()

    assert Path(paths[0]) == like and all(Path(path).name.startswith("b") for path in paths)


def test_a_search_is_printed_with_similarities_and_written_as_a_page(photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "s.html"
    output = call(
        "search", photos, "red", "--like", photos / "blue" / "b01.png", "--minus", "<green>", "-n", 3, "--page", page
    ).output
    text = page.read_text(encoding="utf-8")

    similarities = [float(one) for one in re.findall(r"\b(0\.\d{3})\b", output)]
    assert len(similarities) == 3 and similarities == sorted(similarities, reverse=True)
    assert "red + b01.png - &lt;green&gt;" in text and text.count("data:image/jpeg;base64,") == 3


def test_a_search_for_nothing_and_for_a_photo_that_is_not_there_is_refused(photos: Path) -> None:
    assert "nothing is looked for" in str(refused("search", photos, "--minus", "red"))
    assert "gone.jpg" in str(refused("search", photos, "--like", photos / "gone.jpg", "--encoder", "offline"))


# factory prompts


@pytest.fixture
def few_nouns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four nouns in the place of thousands."""
    monkeypatch.setattr(look_alikes, "common_nouns", lambda: ("green wall", "blue sea", "sofa", "red wall"))


def test_labels_of_folders_or_of_a_file_decide_between_wordings(photos: Path, tmp_path: Path) -> None:
    words = ["prompts", "compare", "--positive", "blue", "--positive", "red", "--negative", "green", "--images", photos]
    by_folder = as_json(*words, "--yes-folder", "red")
    gold = tmp_path / "gold.csv"
    gold.write_text("path,label\ngreen/g00.png,no\ngreen/g01.png,no\nblue/b00.png,yes\nblue/b01.png,yes\n")
    by_file = as_json(*words, "--gold", gold)

    assert [one["positive"] for one in by_folder] == [["red"], ["blue"]]
    assert by_folder[0]["balanced_accuracy"] > 0.8 > 0.5 > by_folder[1]["balanced_accuracy"]
    assert [one["positive"] for one in by_file] == [["blue"], ["red"]]
    assert by_file[0]["balanced_accuracy"] == by_file[0]["auc"] == 1.0


def test_without_labels_the_photos_own_groups_decide_and_the_table_says_so(photos: Path, tmp_path: Path) -> None:
    words = ["prompts", "compare", "--positive", "person", "--positive", "red", "--negative", "green", "--images"]
    output = call(*words, photos, "--page", tmp_path / "p.html").output
    rows = as_json(*words, photos)

    assert "agreement with the groups that the photos fall into" in output and "balanced accuracy" not in output
    assert rows[0]["positive"] == ["red"] and rows[0]["consistency"] > rows[1]["consistency"]
    assert rows[0]["balanced_accuracy"] is None
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    titles = re.findall(r"<h3>(\d)\. .*?(red|person).*?</h3>", text, re.DOTALL)
    assert titles == [("1", "red"), ("2", "person")] and "<svg" in text


def test_the_scenarios_wording_photos_and_encoder_are_used(photos: Path, tmp_path: Path, encoder: list[str]) -> None:
    file = tmp_path / "red.yaml"
    file.write_text(
        f"name: red\npositive: [red]\nnegative: [green]\ntemplates: plain\n"
        f"images: {{path: {photos}}}\nteacher: {{model: ViT-B-32, pretrained: openai}}\n"
    )
    result = runner.invoke(app, ["prompts", "compare", str(file), "--templates", "photo", "--format", "json"])
    rows = json.loads(result.stdout)

    assert encoder == ["ViT-B-32/openai"]
    assert {one["templates"] for one in rows} == {"plain", "photo"}
    assert {tuple(one["positive"] + one["negative"]) for one in rows} == {("red", "green")}


def test_prompts_without_photos_are_refused() -> None:
    assert "no photos are named" in str(refused("prompts", "compare", "--positive", "red", "--negative", "green"))
    assert "no photos are named" in str(refused("prompts", "suggest", "--positive", "red", "--negative", "green"))


@pytest.mark.usefixtures("few_nouns")
def test_a_suggestion_takes_the_photos_that_its_phrase_turns_to_no(photos: Path) -> None:
    words = ["--positive", "red", "--images", photos]
    made = json.loads(call("prompts", "suggest", *words, "--negative", "person", "-n", 3, "--format", "json").stdout)

    assert 1 <= len(made) <= 3
    before = as_json("prompts", "compare", *words, "--negative", "person")[0]["yes"]
    for one in made:
        after = as_json("prompts", "compare", *words, "--negative", f"person,{one['phrase']}")[0]["yes"]
        assert before - after == len(one["takes"]) == len(set(one["takes"]))
        assert all((photos / path).is_file() for path in one["photos"] + one["takes"])
    assert any(one["takes"] for one in made), "the folder holds green and blue photos"


@pytest.mark.usefixtures("few_nouns")
def test_suggestions_are_printed_and_written_as_a_page_with_their_photos(photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    words = ["prompts", "suggest", "--positive", "red", "--negative", "person", "--images", photos, "-n", 2]
    output = call(*words, "--page", page).output
    text = page.read_text(encoding="utf-8")

    assert "negative phrase" in output and "turns to no" in output
    for one in json.loads(call(*words, "--format", "json").stdout):
        assert one["phrase"].split()[0] in output and one["phrase"] in text
    assert "data:image/jpeg;base64," in text


def test_lint_asks_no_encoder_where_none_is_wanted_and_says_by_its_code_whether_something_is_doubtful(
    encoder: list[str],
) -> None:
    doubtful = call("prompts", "lint", "--positive", "no_helmet", "--encoder", "none", "--format", "json", code=1)
    fine = call("prompts", "lint", "--positive", "soccer ball", "--encoder", "none", "--format", "json")

    remarks = json.loads(doubtful.stdout)
    assert {one["kind"] for one in remarks} >= {"spelling"} and {one["phrase"] for one in remarks} == {"no_helmet"}
    assert json.loads(fine.stdout) == []
    assert encoder == []


def test_lint_compares_opposite_phrases_by_the_encoder(tmp_path: Path, encoder: list[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: s\npositive: [red wall]\nnegative: [red paint, green paint]\nteacher: {model: offline}\n")
    result = runner.invoke(app, ["prompts", "lint", str(file)])

    assert result.exit_code == 1 and encoder == ["offline"]
    assert "too near: 'red wall' and 'red paint'" in result.output and "green" not in result.output


# factory encoders


def test_encoders_are_listed_by_name_license_and_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    known = api.encoders()
    monkeypatch.setattr(api, "encoders", lambda: known)
    every = json.loads(call("encoders", "list", "--format", "json").stdout)
    some = json.loads(call("encoders", "list", "vit-b-32/", "--commercial", "--format", "json").stdout)
    scores = [one["top1"] or 0 for one in every]

    assert len(every) > 100 and scores == sorted(scores, reverse=True)
    wanted = [one["name"] for one in every if "vit-b-32/" in one["name"].lower() and one["commercial"]]
    assert [one["name"] for one in some] == wanted and 0 < len(wanted) < len(every)
    cached = json.loads(call("encoders", "list", "--cached", "--format", "json").stdout)
    assert [one["name"] for one in cached] == [one["name"] for one in every if one["cached"]]
    assert "offline" in call("encoders", "list", "offline").output


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials in threads: a process of its own would not know the encoder of these tests."""

    def tried(teacher: Teacher) -> AxisEncoder:
        return load_encoder(teacher) if teacher.name.startswith("local-dir") else Colors()

    monkeypatch.setattr(encoder_comparison, "ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count))
    monkeypatch.setattr(encoder_comparison, "load_encoder", tried)


@pytest.mark.usefixtures("in_this_process")
def test_encoders_are_compared_by_the_folders_and_one_that_fails_stops_no_other(photos: Path) -> None:
    tried = json.loads(
        call("encoders", "compare", photos, "local-dir:/nowhere", "offline", "--format", "json", code=3).stdout
    )

    assert [one["name"] for one in tried] == ["local-dir:/nowhere", "offline"]
    assert tried[0]["error"] and not tried[1]["error"]
    assert tried[1]["top1"]["figure"] == pytest.approx(3 * EACH / (3 * EACH + 3))
    assert tried[1]["photos_per_second"] > 0 and tried[1]["dim"] == Colors().dim


@pytest.mark.usefixtures("in_this_process")
def test_a_folder_without_class_folders_has_no_accuracy(photos: Path) -> None:
    output = call("encoders", "compare", photos / "red", "offline").output

    assert "no class folders" in output and "MIT" in output


# clip_factory.zero_shot


def test_python_asks_a_folder_in_two_lines(photos: Path) -> None:
    result = clip_factory.zero_shot(photos, ["red", "green", "blue"], encoder="offline")
    frame = result.frame

    assert list(frame.columns) == ["path", "answer", "probability", "red", "green", "blue"]
    assert frame["path"].tolist() == result.paths and frame["answer"].tolist() == result.names
    assert frame["probability"].to_numpy() == pytest.approx(result.probabilities.max(axis=1))
    assert frame[["red", "green", "blue"]].to_numpy() == pytest.approx(result.probabilities)
    for path, name in zip(result.paths, result.names, strict=True):
        assert name == ("red" if "wrong" in path else path.split("/")[0])
    assert [path for path, _ in result.unused] == ["red/broken.jpg"]


def test_python_asks_images_in_two_lines_and_keeps_nothing(photos: Path, tmp_path: Path) -> None:
    images = [picture("red", 1), np.asarray(picture("blue", 2)), photos / "green" / "g03.png"]
    result = clip_factory.zero_shot(images, ["red", "green", "blue"], encoder="offline", store=tmp_path / "own")

    assert result.names == ["red", "blue", "green"]
    assert result.probabilities.shape == (3, 3) and result.probabilities.sum(axis=1) == pytest.approx([1, 1, 1])
    assert result.paths == ["image 0", "image 1", str(photos / "green" / "g03.png")]
    assert not (tmp_path / "own").exists()


def test_an_image_and_its_file_have_the_same_answer_by_a_real_encoder(
    photos: Path, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_folder, "load_encoder", load_encoder)
    paths = sorted((photos / "red").glob("*.png"))[:3]
    found = [
        clip_factory.zero_shot(images, ["red", "blue"], encoder=f"local-dir:{tiny_clip}").probabilities
        for images in (paths, [Image.open(path) for path in paths])
    ]

    assert found[0] == pytest.approx(found[1], abs=1e-6) and np.ptp(found[0]) > 0


def test_a_picture_taken_on_its_side_is_seen_upright() -> None:
    seen = []

    class Sizes(Colors):
        def embed_images(self, images: list[Image.Image]) -> np.ndarray:
            seen.extend(image.size for image in images)
            return super().embed_images(images)

    image = picture("red", 1).resize((40, 20))
    image.getexif()[0x0112] = 6
    embedded_folder.embed_images([image], Sizes())

    assert seen == [(20, 40)]


def test_phrases_by_name_and_options_are_those_of_the_command(photos: Path) -> None:
    phrases = {"warm": ["red", "a red wall"], "cold": ["blue"]}
    options = {"templates": ["my {}", "your {c}"], "threshold": 0.9, "other": True, "refine": True}
    result = clip_factory.zero_shot(photos, phrases, encoder="offline", **options)

    assert result.classes.names == ("warm", "cold") and result.classification.names == ("warm", "cold", "other")
    assert result.classes.prompts[0] == ("my red", "your red", "my a red wall", "your a red wall")
    assert result.templates == ("my {}", "your {}") and result.classification.threshold == 0.9
    assert "of 123 photos" in result.classification.says


def test_probes_compare_labels_with_the_words_and_not_with_their_refinement(photos: Path) -> None:
    plain, refined = (
        clip_factory.zero_shot(photos, encoder="offline", folders=True, probe=True, refine=refine)
        for refine in (False, True)
    )

    assert plain.truth.few_shot.zero_shot == refined.truth.few_shot.zero_shot
    assert plain.truth.by_template == refined.truth.by_template


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"classes": "red"}, TypeError, "must be a list of names"),
        ({"classes": ["red", "red"]}, ScenarioError, "named twice"),
        ({"classes": []}, ScenarioError, "there are no classes"),
        ({"classes": ["red"], "threshold": 1.5}, ScenarioError, "1.5 is no probability"),
        ({"classes": ["red"], "templates": "a photo"}, ScenarioError, "no such templates"),
        ({"classes": ["red"], "images": []}, ImagesError, "there are no images"),
    ],
)
def test_what_python_asks_amiss_is_refused(photos: Path, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        clip_factory.zero_shot(**{"images": photos, "encoder": "offline", **arguments})
