"""Score histograms and drift: counted, kept, added up, compared, and said in words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from clip_factory.runtime import FactoryError, Model, ModelError, ScoreHistogram
from clip_factory.runtime.drift import (
    compare,
    kolmogorov_smirnov,
    pool,
    population_stability,
    psi_by_chance,
    stored_histogram,
)
from clip_factory.runtime.score_histogram import read_scores
from support.red_model import save

ONE, OTHER = "ab" * 32, "cd" * 32


def binned(values: Any) -> np.ndarray:
    return np.histogram(values, 20, (0, 1))[0].astype(np.int64)


def confident(random: np.random.Generator, count: int, yes: float = 0.3) -> np.ndarray:
    """Scores as a good model gives them: most near an end."""
    return np.where(random.random(count) < yes, random.beta(6, 0.3, count), random.beta(0.3, 6, count))


def unsure(random: np.random.Generator, count: int) -> np.ndarray:
    return random.beta(2, 2, count)


def refusal(call: Any, *arguments: Any) -> str:
    with pytest.raises(FactoryError) as caught:
        call(*arguments)
    return str(caught.value)


# --- counting


def test_every_score_falls_into_its_bin() -> None:
    histogram = ScoreHistogram(ONE)
    histogram.add([0.0, 0.049, 0.05, 0.5, 0.999, 1.0])
    histogram.add(np.array([[0.51, 0.52]], np.float32))
    assert np.flatnonzero(histogram.counts).tolist() == [0, 1, 10, 19]
    assert histogram.counts.sum() == 8
    histogram.counts[:] = 0
    assert histogram.counts.sum() == 8, "the counts given out are a copy"


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.1])
def test_what_is_no_probability_is_not_counted(wrong: float) -> None:
    histogram = ScoreHistogram(ONE)
    assert refusal(histogram.add, [0.5, wrong]) == "a score that is no probability: expected numbers in [0, 1]"
    assert histogram.counts.sum() == 0


def test_no_score_is_lost_between_threads() -> None:
    histogram, other = ScoreHistogram(ONE), ScoreHistogram(ONE, [1] * 20)
    with ThreadPoolExecutor(8) as pool_of_threads:
        for index in range(400):
            pool_of_threads.submit(histogram.add, np.linspace(0, 1, 50))
            if index % 4 == 0:
                pool_of_threads.submit(histogram.merge, other)
    assert histogram.counts.sum() == 400 * 50 + 100 * 20


def test_predict_feeds_a_histogram(tmp_path: Path) -> None:
    model = Model.load(save(tmp_path / "red.onnx"))
    histogram = ScoreHistogram(model.sha256)
    squares = [np.full((8, 8, 3), level, np.uint8) for level in (0, 30, 130, 255)]
    answers = model.predict([*squares, b"no image"], batch_size=2, scores=histogram)
    assert histogram.counts.tolist() == binned([a.probability for a in answers if a.probability is not None]).tolist()
    assert refusal(lambda: model.predict(squares, scores=ScoreHistogram(ONE))) == (
        "scores is the histogram of another model\n  ScoreHistogram(model.sha256)"
    )


# --- files


def test_saved_appended_and_added_up(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    histogram = ScoreHistogram(ONE)
    histogram.append(path)
    assert path.read_bytes() == b"", "nothing was counted: the file is made, and holds no line"
    assert read_scores(path, ONE).counts.sum() == 0
    histogram.add([0.1, 0.9])
    histogram.save(path)
    assert path.read_text() == json.dumps(
        {"format": "clip-factory-scores/1", "sha256": ONE, "counts": histogram.counts.tolist()}
    ) + "\n"  # fmt: skip
    histogram.append(path)
    histogram.append(path)
    assert read_scores(path, ONE).counts.tolist() == (3 * histogram.counts).tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    program = f"""
from clip_factory.runtime import ScoreHistogram
histogram = ScoreHistogram({ONE!r}, [1] * 20)
for _ in range(200):
    histogram.append({str(path)!r})
"""
    started = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [one.wait() for one in started] == [0, 0, 0]
    assert read_scores(path, ONE).counts.tolist() == [600] * 20


def test_scores_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    ScoreHistogram(OTHER, [1] * 20).save(path)
    wrong = 'scores of the model "cdcdcdcdcdcd", not of "abababababab"\n  keep the scores of each model in its own file'
    assert refusal(ScoreHistogram(ONE, [1] * 20).append, path) == f"{path}: {wrong}"
    assert refusal(read_scores, path, ONE) == f"{path}, line 1: {wrong}"
    assert "the other histogram: scores of the model" in refusal(ScoreHistogram(ONE).merge, ScoreHistogram(OTHER))


def test_printed_predictions_are_scores(tmp_path: Path) -> None:
    lines = tmp_path / "p.json"
    lines.write_text(
        '{"path": "a", "probability": 0.12, "label": "no"}\n\n{"path": "b", "error": "empty"}\n'
        '{"path": "c", "probability": 1.0, "label": "yes"}\n'
    )
    assert read_scores(lines, ONE).counts.tolist() == binned([0.12, 1.0]).tolist()
    table = tmp_path / "p.csv"
    table.write_text('\ufeffpath,probability,label,error\n"a,\n1",0.12,no,\nb,,,empty\nc,1.0,yes,\n', encoding="utf-8")
    assert read_scores(table, ONE).counts.tolist() == binned([0.12, 1.0]).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n", ": no column `probability`\n  expected a histogram, or what `factory predict --format csv` or"
         " `json` prints"),
        ("path,probability\na,0.5\nb,lots\n", ", line 3: `probability` is 'lots', expected a number in [0, 1]"),
        ("path,probability\na,nan\n", ", line 2: `probability` is 'nan', expected a number in [0, 1]"),
        ('{"probability": 0.5}\n{"probability": 2}', ", line 2: `probability` is '2', expected a number in [0, 1]"),
        (f'{{"probability": {10**400}}}', f", line 1: `probability` is '1{'0' * 39}', expected a number in [0, 1]"),
        ('{"probability": 0.5}\n{"proba', ", line 2: no JSON object\n  expected a histogram, or a prediction as JSON"),
        ('{"counts": []}', ", line 1: `format` is None, expected 'clip-factory-scores/1'"),
        ({"counts": [1] * 19}, ", line 1: expected 20 whole numbers, 0 or more"),
        ({"counts": [-1] + [1] * 19}, ", line 1: expected 20 whole numbers, 0 or more"),
        ({"counts": [0.5] * 20}, ", line 1: expected 20 whole numbers, 0 or more"),
        ({"counts": [10**30] * 20}, ", line 1: expected 20 whole numbers, 0 or more"),
        ({"counts": [True] * 20}, ", line 1: expected 20 whole numbers, 0 or more"),
        ({"counts": [[1], 2]}, ", line 1: expected 20 whole numbers, 0 or more"),
        ({"counts": "x"}, ", line 1: expected 20 whole numbers, 0 or more"),
        (b"\xff\xfe{\x00", ": not UTF-8 text\n  expected what `factory predict` wrote"),
    ],
)  # fmt: skip
def test_files_that_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "scores"
    if isinstance(content, dict):
        content = json.dumps({"format": "clip-factory-scores/1", "sha256": ONE} | content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refusal(read_scores, path, ONE) == f"{path}{message}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert refusal(read_scores, path, ONE) == f"{path}: cannot be read (No such file or directory)\n  check the path"


# --- the figures


def test_stability_index_by_hand() -> None:
    then, now = np.array([60, 40]), np.array([30, 70])
    p, q = np.array([60.5, 40.5]) / 101, np.array([30.5, 70.5]) / 101
    expected = sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True))
    assert population_stability(then, now) == pytest.approx(expected)
    assert population_stability(then, 2 * then) == pytest.approx(0, abs=1e-4)
    assert np.isfinite(population_stability(np.array([5, 0]), np.array([0, 5])))


def test_what_chance_exceeds_once_in_a_hundred() -> None:
    # the 99 % quantile of chi-squared with 9 degrees of freedom is 21.666
    assert psi_by_chance(10, 500, 1000) == pytest.approx(21.666 * (1 / 500 + 1 / 1000), rel=2e-3)


def test_kolmogorov_smirnov_is_scipys_on_binned_scores() -> None:
    random = np.random.default_rng(3)
    for count, shape in ((300, 2.0), (5000, 2.0), (300, 3.0)):
        then, now = random.beta(2, 2, 800), random.beta(2, shape, count)
        middles = [np.repeat((np.arange(20) + 0.5) / 20, binned(values)) for values in (then, now)]
        expected = ks_2samp(*middles, method="asymp")
        distance, p = kolmogorov_smirnov(binned(then), binned(now))
        assert distance == pytest.approx(expected.statistic)
        assert p == pytest.approx(expected.pvalue, abs=0.02)
    assert kolmogorov_smirnov(binned(then), binned(then)) == (0, 1)


def test_thin_bins_are_joined() -> None:
    then = np.array([500, *[1] * 18, 300])
    now = np.array([50, *[0] * 18, 30])
    joined = pool(then, now)
    assert [side.sum() for side in joined] == [then.sum(), now.sum()]
    smaller = now.sum() / (then.sum() + now.sum())
    assert (((joined[0] + joined[1]) * smaller) >= 5).all()
    assert [len(side) for side in pool(np.ones(20, int), np.ones(20, int))] == [4, 4]
    assert [side.tolist() for side in pool(np.eye(20, dtype=int)[4], np.eye(20, dtype=int)[7])] == [[1], [1]]


# --- the verdict


def verdicts(then: Any, now: Any, sizes: tuple[int, int], rounds: int = 200) -> Counter[str]:
    random = np.random.default_rng(5)
    pairs = ((binned(then(random, sizes[0])), binned(now(random, sizes[1]))) for _ in range(rounds))
    return Counter(compare(*pair).verdict for pair in pairs)


@pytest.mark.parametrize("scores", [confident, unsure])
@pytest.mark.parametrize("sizes", [(300, 10), (300, 300), (2000, 50), (2000, 20_000)])
def test_chance_alone_seldom_raises_an_alarm(scores: Any, sizes: tuple[int, int]) -> None:
    found = verdicts(scores, scores, sizes)
    assert found["moved"] + found["shifted"] <= 8
    assert found["steady"] >= 190 or sizes[1] <= 50


def test_few_photos_are_not_called_steady() -> None:
    assert verdicts(confident, confident, (300, 10))["steady"] == 0


@pytest.mark.parametrize("count", [100, 1000])
def test_a_large_move_is_found(count: int) -> None:
    assert verdicts(confident, unsure, (300, count)) == {"moved": 200}


def test_a_real_but_small_difference_is_steady() -> None:
    random = np.random.default_rng(1)
    then, now = binned(confident(random, 100_000, 0.30)), binned(confident(random, 100_000, 0.32))
    found = compare(then, now)
    assert found.ks_p is not None and found.ks_p < 1e-6
    assert found.verdict == "steady"


def test_it_is_said_in_words() -> None:
    then = np.array([600, *[5] * 18, 310])
    calm = compare(then, then // 2)
    assert calm.says == (
        "The scores are as they were when the model was made. Mean score 0.36 then, 0.36 now; unsure (0.2 to 0.8) 6%"
        " then, 5% now; stability index 0.00 over 491 photos."
    )
    assert calm.advice == (
        "Nothing to do. Scores alone do not show whether the answers are right: check some by hand now and then."
    )
    doubtful = compare(then, np.array([100, *[30] * 18, 60]))
    assert (doubtful.verdict, doubtful.photos_then, doubtful.photos_now) == ("moved", 1000, 700)
    assert doubtful.says.startswith(
        "The inputs have moved: the scores are far from those that the model gave when it was made. Mean score 0.36"
    )
    assert doubtful.advice.startswith("More photos leave the model unsure: they may be unlike those it was made from")
    flipped = compare(then, then[::-1])
    assert flipped.advice.startswith("The model is as sure as before, so there may only be more of one kind of photo")
    few = compare(then, np.eye(20, dtype=np.int64)[0])
    assert few.verdict == "unknown"
    assert few.advice == "Collect the scores of some hundred photos, then ask again."
    nothing = compare(then, np.zeros(20, np.int64))
    assert (nothing.verdict, nothing.psi, nothing.ks_p, nothing.says) == (
        "unknown", None, None, "There are no scores to compare.",
    )  # fmt: skip
    assert nothing.advice == "Ask the model about some photos first."
    blank = compare(np.zeros(20, np.int64), then)
    assert (blank.verdict, blank.says) == ("unknown", "The model's own histogram is empty.")
    assert blank.advice == "Export the model again, with photos in its validation split."


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "metadata without score_histogram: nothing to compare with\n  export the model again"),
        ({"score_histogram": "["}, "`score_histogram` is not JSON"),
        ({"score_histogram": "[1, 2]"}, "`score_histogram`: expected 20 whole numbers, 0 or more"),
    ],
)
def test_models_without_a_histogram(metadata: dict[str, str], message: str) -> None:
    assert refusal(stored_histogram, metadata) == message
    if "[1" not in str(metadata):
        with pytest.raises(ModelError):
            stored_histogram(metadata)


# --- the command


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model.onnx", score_histogram=json.dumps([15] * 20))


def call(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clip_factory", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_predict_counts_and_drift_tells(model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(40):
        Image.new("RGB", (9, 9), (250, index, index)).save(tmp_path / "photos" / f"{index}.png")
    for _ in range(2):
        done = call("predict", "model.onnx", "photos", "--format", "json", "--scores", "scores.json", cwd=tmp_path)
        assert done.returncode == 0
    (tmp_path / "printed.json").write_text(done.stdout)
    sha256 = Model.load(model).sha256
    assert read_scores(tmp_path / "scores.json", sha256).counts.sum() == 80
    assert (read_scores(tmp_path / "printed.json", sha256).counts * 2).tolist() == (
        read_scores(tmp_path / "scores.json", sha256).counts.tolist()
    )
    told = call("drift", "model.onnx", "scores.json", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("The inputs have moved: the scores are far from those")
    assert len(told.stdout.splitlines()) == 2
    failed = call("drift", "model.onnx", "printed.json", "--fail", "--format", "json", cwd=tmp_path)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["verdict"] == "moved"


def test_scores_of_another_model_stop_predict_before_it_works(model: Path, tmp_path: Path) -> None:
    ScoreHistogram(OTHER, [1] * 20).save(tmp_path / "scores.json")
    done = call("predict", model, "none.jpg", "--scores", "scores.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('error: scores.json: scores of the model "cdcdcdcdcdcd", not of "')
