"""`factory predict` and `Model.predict_video` on videos: a row a sample, spans of yes, and files that are no videos."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from clip_factory.cli import predict_commands
from clip_factory.cli.main import app
from clip_factory.runtime import Model, Prediction, ScoreHistogram, Span, iter_predict_video, photo_files, video_frames
from clip_factory.runtime.runtime_errors import FactoryError
from clip_factory.runtime.video_predictions import SpanJoiner
from support.red_model import METADATA, SIZE, graph, save
from support.videos import plain, write_video

RED, BLUE = "red", "blue"
SHOWN = [*[BLUE] * 10, *[RED] * 15, *[BLUE] * 10, *[RED] * 12]
"""Frames, five a second: red from 2 to 5 s, and from 7 s to the end at 9.4 s."""
SPANS = [("film.mp4", 2.0, 5.0, 3), ("film.mp4", 7.0, 9.4, 3)]
"""By hand, of a sample a second: yes at 2, 3, 4 and at 7, 8, 9."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows red, and a film."""
    monkeypatch.chdir(tmp_path)
    save(Path("red.onnx"))
    write_video(Path("film.mp4"), [plain(color) for color in SHOWN])


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["predict", "red.onnx", *arguments])


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def label_at(seconds: float) -> str:
    return "yes" if SHOWN[int(seconds * 5)] == RED else "no"


def test_a_row_a_sample_in_csv() -> None:
    done = ask("film.mp4", "--every", "1s", "--format", "csv")

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.exit_code == 0
    assert list(rows[0]) == ["path", "probability", "label", "error"]
    assert [row["path"] for row in rows] == [f"film.mp4#t={second}.000" for second in range(10)]
    assert [row["label"] for row in rows] == [label_at(second) for second in range(10)]


def test_a_row_a_sample_in_json_with_its_time() -> None:
    rows = lines(ask("film.mp4", "--format", "json"))

    assert [row["seconds"] for row in rows] == [0, 2, 4, 6, 8], "every 2 s by default"
    assert [row["label"] for row in rows] == [label_at(2 * number) for number in range(5)]
    assert list(rows[0]) == ["path", "seconds", "probability", "label"]


def test_a_sample_gets_the_probability_of_its_picture() -> None:
    for sample, frame in zip(Model.load("red.onnx").predict_video("film.mp4").predictions, SHOWN[::10], strict=True):
        image = plain(frame)
        assert sample.probability == pytest.approx(Model.load("red.onnx").predict(image).probability, abs=0.02)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_spans_of_yes(suffix: str) -> None:
    done = ask("film.mp4", "--every", "1s", "--format", "json", "--spans", f"spans.{suffix}")

    text = Path(f"spans.{suffix}").read_text()
    rows = (
        list(csv.DictReader(io.StringIO(text))) if suffix == "csv" else [json.loads(one) for one in text.splitlines()]
    )
    named = [(row["path"], float(row["start"]), float(row["end"]), int(row["samples"])) for row in rows]
    assert named == SPANS
    of_yes = [row["probability"] for row in lines(done) if row["label"] == "yes"]
    assert float(rows[0]["mean"]) == pytest.approx(sum(of_yes[:3]) / 3)
    assert float(rows[0]["max"]) == max(of_yes[:3])


@given(st.lists(st.floats(0, 1), max_size=40), st.integers(10, 5000), st.floats(0, 1))
def test_spans_hold_every_yes_and_no_no(probabilities: list[float], every: int, threshold: float) -> None:
    joiner, seconds = SpanJoiner(every / 1000), [number * every / 1000 for number in range(len(probabilities))]
    labels = ["yes" if p >= threshold else "no" for p in probabilities]
    for p, label, time in zip(probabilities, labels, seconds, strict=True):
        joiner.add(Prediction(f"a#b.mp4#t={time:.3f}", p, label, None, False, time))
    length = (len(probabilities) - 0.5) * every / 1000
    joiner.end(length)

    inside = [any(span.start <= time < span.end for span in joiner.spans) for time in seconds]
    assert inside == [label == "yes" for label in labels]
    assert sum(span.samples for span in joiner.spans) == labels.count("yes")
    assert all(one.end < other.start for one, other in pairwise(joiner.spans))
    assert all(
        span.path == "a#b.mp4" and span.end <= round(length, 3) and span.mean <= span.max + 1e-9
        for span in joiner.spans
    )


def test_a_span_ends_with_its_video() -> None:
    write_video(Path("all.mp4"), [plain(RED)] * 10)
    write_video(Path("next.mp4"), [plain(RED)] * 10)
    ask("all.mp4", "next.mp4", "--every", "500ms", "--spans", "spans.csv")

    rows = list(csv.reader(io.StringIO(Path("spans.csv").read_text())))[1:]
    assert [row[:3] for row in rows] == [["all.mp4", "0.0", "2.0"], ["next.mp4", "0.0", "2.0"]]


def test_photos_and_videos_of_a_folder_come_in_order() -> None:
    for name in ("mixed/a.png", "mixed/deep/z.png", "mixed/z.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), BLUE).save(name)
    write_video(Path("mixed/deep/film.MP4"), [plain(RED)] * 10)
    write_video(Path("mixed/gate.mkv"), [plain(BLUE)] * 10)

    rows = lines(ask("mixed", "film.mp4", "mixed/a.png", "--every", "1s", "--format", "json"))
    names = [str(row["path"]) for row in rows]
    folder = [
        "a.png",
        "deep/film.MP4#t=0.000",
        "deep/film.MP4#t=1.000",
        "deep/z.png",
        "gate.mkv#t=0.000",
        "gate.mkv#t=1.000",
    ]
    assert names[:7] == [f"mixed/{name}" for name in (*folder, "z.png")]
    assert names[7:] == [f"film.mp4#t={second}.000" for second in range(10)]
    assert {str(row["path"]).partition("#")[0] for row in rows if row["label"] == "yes"} == {
        "mixed/deep/film.MP4",
        "film.mp4",
    }


def test_what_cannot_be_read_is_a_row_and_the_rest_is_done() -> None:
    whole = write_video(Path("cut.mkv"), [plain(RED)] * 100).read_bytes()
    Path("cut.mkv").write_bytes(whole[: len(whole) // 2])
    Path("text.mp4").write_text("no video " * 500)
    done = ask("text.mp4", "cut.mkv", "none.mov", "film.mp4", "--format", "json", "--spans", "spans.json")

    rows = lines(done)
    errors = {str(row["path"]): str(row["error"]) for row in rows if "error" in row}
    assert done.exit_code == 3
    assert set(errors) == {"text.mp4", "cut.mkv", "none.mov"}
    assert errors["none.mov"] == "no such file"
    assert errors["cut.mkv"].startswith("a video that is cut short")
    assert [row["path"] for row in rows if row.get("label") == "yes"][:2] == ["cut.mkv#t=0.000", "cut.mkv#t=2.000"]
    assert [row["path"] for row in rows][-5:] == [f"film.mp4#t={second}.000" for second in range(0, 10, 2)]
    spans = [json.loads(line) for line in Path("spans.json").read_text().splitlines()]
    assert [span["path"] for span in spans] == ["cut.mkv", "film.mp4", "film.mp4"]
    last = max(float(str(row["seconds"])) for row in rows if str(row["path"]).startswith("cut.mkv#"))
    assert spans[0]["end"] == last, "what was not read is in no span"


def test_several_models_of_several_sizes_answer_for_each_sample() -> None:
    preprocessing = METADATA["preprocessing"].replace(f'"size": {SIZE}', '"size": 48')
    large = graph(input=("image", 2, ["N", 48, 48, 3]))
    save(Path("large.onnx"), large, image_size="48", preprocessing=preprocessing, name="large")
    models = [Model.load("red.onnx"), Model.load("large.onnx")]
    together = list(iter_predict_video(models, "film.mp4", every=0.5))

    assert len(together) == 19
    assert [list(column) for column in zip(*together, strict=True)] == [
        model.predict_video("film.mp4", every="500ms").predictions for model in models
    ]


def test_only_scores_and_copies_count_samples() -> None:
    done = ask("film.mp4", "--every", "1s", "--only", "yes", "--scores", "scores.json", "--copy-to", "kept")

    assert done.stdout.count("film.mp4#t=") == 6
    assert "yes: 6 of 10 photos" in done.stderr
    assert "6 samples of videos are no files, and were not copied" in done.stderr
    assert list(Path("kept").iterdir()) == []
    histogram = ScoreHistogram(Model.load("red.onnx").sha256)
    Model.load("red.onnx").predict_video("film.mp4", every=1, scores=histogram)
    assert sum(json.loads(Path("scores.json").read_text())["counts"]) == histogram.counts.sum() == 10


def test_in_python_a_video_is_one_prediction_with_its_spans() -> None:
    result = Model.load("red.onnx").predict_video(Path("film.mp4"), every=1.0)

    assert (result.path, result.seconds, result.error) == ("film.mp4", 9.4, None)
    assert [(span.path, span.start, span.end, span.samples) for span in result.spans] == SPANS
    assert isinstance(result.spans[0], Span)
    assert [one.seconds for one in result.predictions] == list(range(10))
    assert Model.load("red.onnx").predict_video("film.mp4", threshold=1.0).spans == []
    broken = Model.load("red.onnx").predict_video("none.mp4")
    assert (broken.error, broken.seconds, broken.predictions, broken.spans) == ("no such file", None, [], [])


def test_a_length_of_time_that_is_none_is_refused_before_the_work() -> None:
    done = ask("film.mp4", "--every", "fast")

    assert isinstance(done.exception, FactoryError)
    assert done.stdout == ""
    with pytest.raises(FactoryError, match="no length of time"):
        Model.load("red.onnx").predict_video("film.mp4", every="fast")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--every", "0"), "--every 0: expected a length of time from 10ms to 24h"),
        (("--out", "a.csv", "--spans", "./a.csv"), "a.csv: --out and --spans name the same file"),
        (("--spans", "b.json", "--scores", "b.json"), "b.json: --spans and --scores name the same file"),
        (("--spans", "none/a.csv"), "--spans none/a.csv: there is no folder none"),
        (("--out", "none/a.csv"), "--out none/a.csv: there is no folder none"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_the_work(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_commands.api, "load_model", None)  # nothing is begun
    done = ask("film.mp4", *arguments)

    assert isinstance(done.exception, FactoryError)
    assert done.exception.what == message
    assert not {"a.csv", "b.json"} & {file.name for file in Path().iterdir()}


def test_without_pyav_a_video_has_an_error_and_photos_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (photo_files, video_frames):
        monkeypatch.setattr(module, "video_is_read", lambda: False)
    Path("mixed").mkdir()
    Image.new("RGB", (30, 20), RED).save("mixed/a.png")
    Path("mixed/film.mp4").write_bytes(Path("film.mp4").read_bytes())

    named = ask("film.mp4", "--format", "json")
    assert named.exit_code == 3
    assert lines(named) == [{"path": "film.mp4", "error": f"a video: to read it, {photo_files.INSTALL_VIDEO}"}]
    folder = ask("mixed", "--format", "json")
    assert folder.exit_code == 0, "as before there were videos"
    assert [row["path"] for row in lines(folder)] == ["mixed/a.png"]
    assert f"videos that were passed over: 1; to read them, {photo_files.INSTALL_VIDEO}" in folder.stderr


def test_neither_torch_nor_pyav_is_imported_without_need() -> None:
    program = (
        "import sys; from clip_factory.runtime import Model; model = Model.load('red.onnx')\n"
        "assert 'av' not in sys.modules; model.predict_video('film.mp4')\n"
        "print(sorted({'av', 'torch', 'scipy', 'pydantic', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['av']\n"
