"""`factory predict` and `Model.predict`: which photos are shown, copied and written, for one model and for several."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from clip_factory.cli import predict_commands as cli_predict
from clip_factory.cli.main import app
from clip_factory.runtime import FactoryError, ImageError, Model, ModelError, Prediction, iter_predict_all
from clip_factory.runtime import prefetch as ahead
from clip_factory.runtime.inputs import covers, inputs
from clip_factory.runtime.predictions import is_unsure
from clip_factory.runtime.region import Region
from support.red_model import METADATA, SIZE, graph, save

COLORS = {"red": "yes", "tomato": "yes", "white": "yes", "gray": "yes", "blue": "no", "lime": "no"}
"""What the model of these tests says; of gray it is unsure (0.501)."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, photos in two folders, and one file that is no photo."""
    monkeypatch.chdir(tmp_path)
    save(Path("red.onnx"))
    save(Path("strict.onnx"), threshold="0.9", name="strict")
    for number, color in enumerate(COLORS):
        path = Path("photos", "deep" if number % 2 else ".", f"{color}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), color).save(path)
    return tmp_path


def ask(*arguments: str, stdin: str | None = None, **env: str) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments], input=stdin, env=env)


def refusal(*arguments: str, **env: str) -> str:
    done = ask(*arguments, **env)
    assert isinstance(done.exception, FactoryError), done.output
    return str(done.exception)


def stems(text: str) -> set[str]:
    """The names of the photos in what was printed."""
    return set(re.findall(r"(\w+)\.(?:png|jpg)", text))


def of(answer: str) -> set[str]:
    return {color for color, label in COLORS.items() if label == answer}


def copied(folder: str = "kept") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


# --- which photos


@pytest.mark.parametrize(("only", "expected"), [("yes", of("yes")), ("no", of("no")), ("unsure", {"gray"})])
def test_only_shows_one_kind(only: str, expected: set[str]) -> None:
    done = ask("red.onnx", "photos", "--only", only)
    assert (done.exit_code, stems(done.stdout)) == (0, expected)
    assert done.stderr == f"{only}: {len(expected)} of 6 photos\n"


def test_only_goes_by_the_threshold_that_was_given() -> None:
    assert stems(ask("red.onnx", "photos", "--only", "yes", "--threshold", "0.9").stdout) == {"red", "tomato"}
    assert stems(ask("red.onnx", "photos", "--only", "unsure", "--threshold", "0.8").stdout) == {"white"}


def test_a_photo_that_cannot_be_read_is_told_of_whatever_is_shown() -> None:
    Path("photos", "a[b]\x1b.jpg").write_bytes(b"")
    done = ask("red.onnx", "photos", "--only", "no")
    assert (done.exit_code, stems(done.stdout)) == (3, of("no"))
    assert done.stderr.endswith("cannot be read: photos/a[b]\N{REPLACEMENT CHARACTER}.jpg: empty file\n")


@pytest.mark.parametrize(
    ("threshold", "unsure", "sure"),
    [
        (0.5, (0.34, 0.5, 0.66), (0.0, 0.33, 0.67, 1.0)),
        (0.9, (0.61, 0.89, 0.9, 0.93), (0.59, 0.94, 1.0)),
        (0.06, (0.041, 0.06, 0.37), (0.039, 0.38)),
        (0.0, (0.0, 0.33), (0.34, 1.0)),
        (1.0, (0.67, 0.99), (0.66, 1.0)),
    ],
)
def test_the_band_is_a_third_of_the_room_on_each_side(
    threshold: float, unsure: tuple[float, ...], sure: tuple[float, ...]
) -> None:
    assert [p for p in unsure + sure if is_unsure(p, threshold)] == list(unsure)


# --- copies


def test_copies_keep_their_folders_and_the_photos_stay() -> None:
    before = {path: path.read_bytes() for path in Path("photos").rglob("*.png")}
    done = ask("red.onnx", "photos/", "--only", "no", "--copy-to", "kept")
    expected = {"blue.png", "deep/lime.png"}
    assert copied() == expected
    assert done.stderr.endswith("copied 2 photos to kept\n")
    assert {path: path.read_bytes() for path in Path("photos").rglob("*.png")} == before
    assert all(Path("kept", name).read_bytes() == before[Path("photos", name)] for name in expected)
    again = ask("red.onnx", "photos/", "--only", "no", "--copy-to", "kept")
    assert again.stderr.endswith("copied 0 photos to kept; 2 were there already\n")
    assert copied() == expected


def test_a_name_that_another_file_has_gets_its_folders_before_it() -> None:
    for folder, color in (("left", "red"), ("right", "tomato")):
        Path(folder).mkdir()
        Image.new("RGB", (9, 9), color).save(Path(folder, "a.png"))
    Path("kept").mkdir()
    Path("kept", "a.png").write_bytes(b"mine")
    for _ in range(2):
        done = ask("red.onnx", "left", "right/a.png", "--copy-to", "kept")
        assert done.exit_code == 0
        assert copied() == {"a.png", "left/a.png", "right/a.png"}
        assert Path("kept", "a.png").read_bytes() == b"mine"
        assert Path("kept", "right", "a.png").read_bytes() == Path("right", "a.png").read_bytes()


def test_nothing_is_copied_for_a_photo_that_cannot_be_read_or_is_not_shown() -> None:
    Path("photos", "bad.jpg").write_bytes(b"x")
    assert ask("red.onnx", "photos", "--copy-to", "kept").exit_code == 3
    assert {Path(name).stem for name in copied()} == set(COLORS)


@pytest.mark.parametrize(
    ("argument", "into", "again"),
    [
        ("photos", "photos", True),
        ("photos", "photos/kept", True),
        ("photos/deep", "photos/kept", False),
        ("photos/red.png", "photos/kept", False),
        ("photos/*", "photos/kept", True),
        ("photos/*.png", "photos", True),
        ("photos/*.png", "photos/kept", False),
        ("photos/**/*.png", "photos/kept", True),
        ("photos/**/*.png", "photos", True),
        ("*/deep/*.png", "photos/deep", True),
        ("*/deep/*.png", "photos/kept", False),
        ("-", "photos", False),
    ],
)
def test_whether_copies_would_be_read_again(argument: str, into: str, again: bool) -> None:
    """Held against what `inputs` finds once a photo lies there."""
    assert covers(argument, into) is again
    Path(into).mkdir(exist_ok=True)
    Image.new("RGB", (9, 9)).save(Path(into, "copy.png"))
    found = {one.path for one in inputs([argument], io.StringIO())}
    assert (str(Path(into, "copy.png")) in found) is again


def test_a_target_among_the_photos_is_refused_before_anything_is_copied() -> None:
    said = refusal("red.onnx", "photos", "--copy-to", "photos/kept")
    assert said.startswith("photos/kept lies within photos: the copies would be among its photos the next time")
    assert not Path("photos", "kept").exists()
    assert refusal("red.onnx", "photos", "--copy-to", "red.onnx").startswith("red.onnx: a file, where copies need")


def test_photos_from_a_list_and_a_pattern_are_copied_by_name_and_by_folder() -> None:
    ask("red.onnx", "-", "--copy-to", "kept", stdin="photos/red.png\nphotos/deep/lime.png\n")
    assert copied() == {"red.png", "lime.png"}
    ask("red.onnx", "pho*/**/*.png", "--copy-to", "more")
    assert copied("more") == {f"photos/{name.relative_to('photos')}" for name in Path("photos").rglob("*.png")}


# --- files


def test_out_writes_csv_or_json_by_its_ending() -> None:
    shown = {form: ask("red.onnx", "photos", "--format", form).stdout for form in ("csv", "json")}
    for name, form in (("a.csv", "csv"), ("a.JSON", "json"), ("a.jsonl", "json"), ("a.ndjson", "json")):
        done = ask("red.onnx", "photos", "--out", name)
        assert done.stdout == f"{name}\n"
        assert Path(name).read_text(encoding="utf-8") == shown[form]
    ask("red.onnx", "photos", "--out", "a.txt", "--format", "csv")
    assert Path("a.txt").read_text(encoding="utf-8") == shown["csv"]
    rows = csv.DictReader(io.StringIO(shown["csv"]))
    assert {Path(row["path"]).stem: row["label"] for row in rows} == COLORS


def test_out_leaves_the_old_file_until_the_new_one_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.csv").write_text("old", encoding="utf-8")

    def fail(self: Model, batch: np.ndarray) -> np.ndarray:
        raise ModelError("red: the network fails")

    monkeypatch.setattr(Model, "probabilities", fail)
    assert refusal("red.onnx", "photos", "--out", "a.csv") == "red: the network fails"
    assert Path("a.csv").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in Path().glob(".*")) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.txt"], "a.txt: which format?\n  name it .csv, .json or .jsonl"),
        (["--out", "a.csv", "--format", "table"], "a.csv: a table is for reading"),
        (["--out", "photos"], "photos: a folder, where a file is to be written\n  name it: photos/answers.csv"),
        (["--also", "red.onnx"], "red.onnx is asked twice"),
        (["--also", "strict.onnx", "--scores", "s"], "--scores counts for one model, and several are asked"),
        (["--also", "stict.onnx"], "stict.onnx: cannot be opened (No such file or directory)\n  did you mean strict"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments: list[str], message: str) -> None:
    assert refusal("red.onnx", "photos", *arguments).startswith(message)


# --- several models


def test_several_models_have_a_column_each() -> None:
    Path("photos", "bad.jpg").write_bytes(b"x")
    table = ask("red.onnx", "photos", "--also", "strict.onnx")
    heading, *lines = table.stdout.splitlines()
    assert (table.exit_code, heading.split()) == (3, ["path", "red", "strict"])
    answers = {Path(line.split()[0]).stem: line.split()[1:] for line in lines}
    assert answers["white"] == ["0.731", "yes", "0.731", "no"]
    assert answers["bad"] == ["error:", "not", "an", "image", "that", "can", "be", "read"]
    rows = csv.DictReader(io.StringIO(ask("red.onnx", "photos", "--also", "strict.onnx", "--format", "csv").stdout))
    said = {Path(row["path"]).stem: row for row in rows}
    assert (said["white"]["red label"], said["white"]["strict label"], said["bad"]["error"]) == (
        *("yes", "no"),
        "not an image that can be read",
    )
    trees = map(json.loads, ask("red.onnx", "photos", "--also", "strict.onnx", "--format", "json").stdout.splitlines())
    told = {Path(tree["path"]).stem: tree for tree in trees}
    assert told["white"]["models"]["strict"] == {"probability": pytest.approx(0.731059), "label": "no"}
    assert "models" not in told["bad"]


def test_models_of_one_name_are_told_apart_by_what_was_typed() -> None:
    save(Path("other.onnx"), threshold="0.9")
    heading = ask("red.onnx", "photos", "--also", "other.onnx").stdout.splitlines()[0]
    assert heading.split() == ["path", "red.onnx", "other.onnx"]


def test_only_goes_by_the_first_of_several() -> None:
    assert stems(ask("strict.onnx", "photos", "--also", "red.onnx", "--only", "yes").stdout) == {"red", "tomato"}


def sized(path: str, size: int) -> Model:
    preprocessing = METADATA["preprocessing"].replace(f'"size": {SIZE}', f'"size": {size}')
    proto = graph(input=("image", 2, ["N", size, size, 3]))
    return Model.load(save(Path(path), proto, image_size=str(size), preprocessing=preprocessing, name=Path(path).stem))


def test_a_photo_is_decoded_once_for_each_size_and_answered_as_by_each_model_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 3), dtype=np.uint8)
    for number in range(5):
        Image.fromarray(np.roll(noise, 60 * number, axis=2) // (1 + number)).save(Path("photos", f"p{number}.jpg"))
    Path("photos", "bad.jpg").write_bytes(b"x")
    models = [Model.load("red.onnx"), Model.load("strict.onnx"), sized("large.onnx", 48)]
    alone = [model.predict("photos") for model in models]
    read: list[tuple[str, int]] = []
    load_square = ahead.load_square

    def counting(source: Path, size: int, region: Region | None) -> np.ndarray:
        read.append((str(source), size))
        return load_square(source, size, region)

    monkeypatch.setattr(ahead, "load_square", counting)
    together = list(iter_predict_all(models, "photos"))
    assert [list(column) for column in zip(*together, strict=True)] == alone
    assert len({row[-1].probability for row in together}) > 6
    assert sorted(read) == sorted((one[0].path, size) for one in together for size in (SIZE, 48))


def test_no_model_and_a_histogram_of_another_model_are_refused() -> None:
    with pytest.raises(FactoryError, match="no model to ask"):
        iter_predict_all([], "photos")
    from clip_factory.runtime import ScoreHistogram

    models = [Model.load("red.onnx"), Model.load("strict.onnx")]
    histograms = [ScoreHistogram(model.sha256) for model in models]
    with pytest.raises(FactoryError, match="scores is the histogram of another model"):
        iter_predict_all(models, "photos", scores=histograms[::-1])
    list(iter_predict_all(models, "photos", scores=histograms))
    assert [histogram.counts.sum() for histogram in histograms] == [6, 6]


# --- what is no photo, no model


@pytest.mark.parametrize(
    ("name", "error", "as_photo"),
    [
        ("void", "an empty folder: no photo in it", None),
        ("film.mp4", "a damaged video, or none", "a video, not a photo: predict_video answers for it"),
        ("films", "a damaged video, or none", "a folder with videos and no photo: name each video"),
        ("gone.png", "no such file", None),
    ],
)
def test_what_is_no_photo_gets_words_of_its_own(name: str, error: str, as_photo: str | None) -> None:
    for folder in ("void", "films"):
        Path(folder).mkdir()
    for film in ("film.mp4", "films/a.MOV"):
        Path(film).write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    done = ask("red.onnx", name)
    assert done.exit_code == 3
    assert f"error: {error}" in done.stdout
    found = Model.load("red.onnx").predict(name)
    assert (found[0] if isinstance(found, list) else found).error.startswith(as_photo or error)


def test_a_folder_where_a_model_is_meant_is_told_so() -> None:
    assert refusal("photos", "red.onnx").startswith("photos: a folder where a model file is meant\n  the model comes")
    Path("exported").mkdir()
    Path("exported", "model.onnx").write_bytes(Path("red.onnx").read_bytes())
    assert refusal("exported", "photos").endswith("its model: exported/model.onnx")


def test_a_run_and_latest_stand_for_their_model() -> None:
    for day in ("01", "02"):
        run = Path("runs", "red", f"2026-11-{day}T09-00-00")
        run.mkdir(parents=True)
        (run / "scenario.yaml").touch()
        (run / "manifest.json").touch()
        save(run / "model.onnx", threshold=f"0.{day}1", name="red")
    alone = ask(str(run), "photos")
    assert (alone.stdout, alone.stderr) == (ask(str(run / "model.onnx"), "photos").stdout, "")
    for word in ("latest", "runs/red", "runs/red/latest", "runs"):
        done = ask(word, "photos")
        assert (done.stdout, done.stderr) == (alone.stdout, f"run {run}\n"), word
    (run / "model.onnx").unlink()
    assert refusal("latest", "photos") == f"{run} has no model.onnx\n  run first: factory export {run}"


def test_a_model_file_named_latest_is_a_file() -> None:
    Path("latest").write_bytes(Path("red.onnx").read_bytes())
    assert ask("latest", "photos").exit_code == 0


def test_on_a_terminal_the_question_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.StringIO()
    monkeypatch.setattr(cli_predict, "err", Console(file=told, force_terminal=True, highlight=False))
    assert ask("red.onnx", "photos").exit_code == 0
    ask("red.onnx", "photos", "--threshold", "0")
    assert "red: Is it red?  (yes from 0.5 on)" in told.getvalue()
    assert "(yes from 0 on)" in told.getvalue()


# --- in Python


def test_one_picture_gives_one_prediction() -> None:
    model = Model.load("red.onnx")
    image = Image.new("RGB", (20, 20), "tomato")
    image.save("a.png")
    pictures = ["a.png", Path("a.png"), Path("a.png").read_bytes(), bytearray(Path("a.png").read_bytes())]
    found = [model.predict(one) for one in [*pictures, image, np.asarray(image)]]
    assert all(isinstance(one, Prediction) for one in found)
    assert found[0] == Prediction("a.png", model.predict([image])[0].probability, "yes", None)
    assert len({one.probability for one in found}) == 1
    assert model.predict("a.png", threshold=0.999).label == "no"
    assert next(model.iter_predict("a.png")) == found[0]


def test_a_folder_gives_the_list_of_its_photos_sorted() -> None:
    model = Model.load("red.onnx")
    names = ["blue.png", "deep/gray.png", "deep/lime.png", "deep/tomato.png", "red.png", "white.png"]
    for folder in ("photos", Path("photos"), "photos/"):
        found = model.predict(folder)
        assert [one.path for one in found] == [f"photos/{name}" for name in names]
    assert [one.unsure for one in found] == [False, True, False, False, False, False]
    assert [one.label for one in model.predict("photos", threshold=0.9)].count("yes") == 2


def test_a_batch_and_any_iterable_give_lists() -> None:
    model = Model.load("red.onnx")
    batch = np.zeros((3, 20, 20, 3), np.uint8)
    for many in (batch, list(batch), iter(batch), (one for one in batch)):
        assert [one.label for one in model.predict(many)] == ["no"] * 3
    assert model.predict([]) == []


def test_a_folder_in_a_list_is_one_thing_that_cannot_be_read() -> None:
    found = Model.load("red.onnx").predict(["photos", "photos/red.png"])
    assert [one.label for one in found] == [None, "yes"]
    assert found[0].error.startswith("a folder, not an image: name it by itself")


def test_what_pictures_cannot_come_from_is_refused() -> None:
    for wrong in (None, 7, Model.load("red.onnx")):
        with pytest.raises(FactoryError, match=f"images is of type {type(wrong).__name__}"):
            Model.load("red.onnx").predict(wrong)
    assert "expected uint8" in Model.load("red.onnx").predict(np.zeros((4, 4))).error
    assert not issubclass(ImageError, TypeError)


def test_the_repr_is_one_short_line() -> None:
    assert repr(Model.load("red.onnx")) == "Model('red', 'Is it red?', 16 px, threshold 0.5)"
    long = Model.load(save(Path("long.onnx"), question="Is\x1b[2J it " + "very " * 60 + "red?", threshold="0.43218"))
    assert repr(long).startswith(r"Model('red', 'Is\x1b[2J it very very")
    assert repr(long).endswith("...', 16 px, threshold 0.432)")
    assert len(repr(long)) < 140


def test_out_never_takes_the_place_of_a_photo_or_a_model(tmp_path: Path) -> None:
    from clip_factory.cli.prediction_rows import Format, format_of
    from clip_factory.errors import FactoryError

    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"a photo")
    with pytest.raises(FactoryError, match=r"a\.jpg is there already"):
        format_of(Format.csv, photo)
    assert format_of(Format.csv, tmp_path / "new.txt") is Format.csv
    (tmp_path / "old.csv").write_text("path\n")
    assert format_of(None, tmp_path / "old.csv") is Format.csv
