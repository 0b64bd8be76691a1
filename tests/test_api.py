"""What a notebook imports: names, defaults, objects; nothing heavy before it is needed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clip_factory
from clip_factory import api, call_arguments
from clip_factory.cli import stage_commands
from clip_factory.cli.evaluate_commands import evaluate as evaluate_command
from clip_factory.cli.publish_command import publish as publish_command
from clip_factory.errors import LabelsError, ModelError, RunError, ScenarioError
from clip_factory.scenario import Scenario, load
from support.finished_run import finished
from support.make_run import make_run

HEAVY = ("torch", "lightning", "open_clip", "timm", "sklearn", "scipy", "pyarrow", "pydantic", "jinja2")
STAGES = ("scan", "label", "train", "export", "evaluate", "report")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    """A run with photos, labels, model, gate and report, made up."""
    return api.load_run(finished(tmp_path_factory.mktemp("run")))


def loaded_by(code: str) -> set[str]:
    line = [sys.executable, "-c", f"import sys\n{code}\nprint(*sorted(sys.modules))"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


# Names


def test_the_root_exports_what_the_api_has() -> None:
    assert set(clip_factory.__all__) <= set(dir(clip_factory))
    assert set(clip_factory.__all__) <= set(api.__all__)
    for name in clip_factory.__all__:
        assert getattr(clip_factory, name) is getattr(api, name), name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = clip_factory.trian  # type: ignore[attr-defined]


def test_no_room_hides_a_function_of_the_root() -> None:
    """A submodule that is imported becomes an attribute of its package."""
    rooms = {path.stem for path in Path(clip_factory.__file__).parent.iterdir()}
    assert rooms & set(clip_factory.__all__) == set()


def test_the_package_imports_nothing_and_the_api_nothing_heavy() -> None:
    assert loaded_by("import clip_factory") & {*HEAVY, "numpy", "onnxruntime", "rich"} == set()
    names = ", ".join(f"clip_factory.{name}" for name in clip_factory.__all__ if name != "Scenario")
    assert loaded_by(f"import clip_factory; {names}; from clip_factory.api import *") >= {"onnxruntime"}
    assert loaded_by(f"import clip_factory; {names}") & set(HEAVY) == set()
    assert loaded_by("import clip_factory; clip_factory.Scenario") & {"torch", "onnxruntime"} == set()


# One source of defaults


def defaults(function: object) -> dict[str, object]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


def test_commands_have_the_defaults_of_the_functions_that_they_call() -> None:
    of_run = defaults(api.run)
    assert set(of_run) == set(call_arguments.RunOptions.__annotations__)
    for name in ("run", *STAGES):
        command = evaluate_command if name == "evaluate" else getattr(stage_commands, name)
        of_command = defaults(command)
        assert {key: of_run[key] for key in of_run.keys() & of_command.keys()} == {
            key: of_command[key] for key in of_run.keys() & of_command.keys()
        }, name
    of_publish = defaults(api.publish)
    assert of_publish == {key: defaults(publish_command)[key] for key in of_publish}


def test_every_stage_is_a_function_and_a_command_of_one_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from clip_factory import pipeline

    assert pipeline.STAGE_NAMES == STAGES
    called: list[str] = []
    monkeypatch.setattr(pipeline, "run", lambda folder, *, until, **_: called.append(until))
    scenario = Scenario(name="ball", positive=["ball"], teacher={"model": "offline"})
    (tmp_path / "photos").mkdir()
    for stage in pipeline.STAGES:
        assert stage.work.__name__ == stage.name
        getattr(api, stage.name)(scenario, images=tmp_path / "photos", runs=tmp_path / "runs", store=tmp_path / "store")
    assert called == list(STAGES)


def test_every_public_function_says_what_it_does() -> None:
    for name in api.__all__:
        if inspect.isfunction(function := getattr(api, name)):
            assert function.__doc__, name
    for name in ("run", *STAGES, "load_run", "load_model", "publish", "compare"):
        assert "Example:" in inspect.getdoc(getattr(api, name)), name


# Running


def test_a_scenario_made_in_python_is_run_with_paths_from_the_working_folder(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shapes)
    scenario = Scenario(name="disc", positive=["disc"], images={"path": "photos"}, gold="gold.csv")
    done = api.scan(
        scenario.model_copy(update={"teacher": scenario.teacher.model_copy(update={"model": "offline"})}),
        runs=tmp_path / "runs",
        store=tmp_path / "store",
    )
    assert (done.state, done.finished) == ("begun", False)
    assert done.folder.table("images.parquet", "scan").num_rows == 160
    assert load(done.path / "scenario.yaml").gold == str(shapes / "gold.csv")
    assert done.scenario.images.path == str(shapes / "photos")
    assert repr(done) == f"<Run {done.path}: begun>"
    with pytest.raises(RunError, match=r"has no labels\.parquet\n  run first: factory label"):
        _ = done.labels
    assert "Does the photo show: disc?" in done._repr_html_()


def test_a_wrong_override_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError):
        api.label(Scenario(name="disc", positive=["disc"]), teacher="", runs=tmp_path)


@pytest.mark.parametrize("target", [None, 5, ["cat.yaml"]])
def test_what_is_no_target_is_a_type_error(target: object) -> None:
    with pytest.raises(TypeError, match="expected a scenario, its file, or a run"):
        api.run(target)


def test_a_mistyped_option_is_not_passed_over(run: api.Run, truth: Path, tmp_path: Path) -> None:
    for call in (
        lambda: api.label(Scenario(name="disc", positive=["disc"]), runs=tmp_path, teecher="offline"),
        lambda: api.evaluate(run, runs=tmp_path, teecher="offline"),
        lambda: api.evaluate(run, gold=truth, teecher="offline"),
    ):
        with pytest.raises(TypeError, match="'teecher' is no option; known: images, teacher, "):
            call()
    assert not list(tmp_path.iterdir())


def test_labels_that_carry_nothing_name_their_run(
    run: api.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clip_factory import pipeline
    from clip_factory.readiness import assess

    monkeypatch.setattr(pipeline, "STAGES", ())
    monkeypatch.setattr(pipeline, "write_labels", lambda *_: nothing(assess(run.labels)))
    with pytest.raises(LabelsError) as caught:
        pipeline.check_labels(pipeline.Job(run.folder, run.scenario, tmp_path), go_on=False)
    assert caught.value.run == run.path


def nothing(readiness: object) -> object:
    from dataclasses import replace

    return replace(readiness, verdict="carries nothing")


# Objects


def test_a_run_has_labels_gate_report_and_model(run: api.Run) -> None:
    frame, table = run.labels.to_pandas(), run.labels.to_arrow()
    assert (len(frame), table.num_rows) == (300, 300)
    assert {"path", "p_teacher", "gold", "split"} <= set(frame.columns)
    assert (run.gate.state, run.state, run.finished) == ("passed", "passed", True)
    assert run.gate.verdict.headline.startswith("Finds ")
    assert {clause["name"] for clause in run.gate.clauses} >= {"agreement", "parity"}
    assert run.report.path == run.path / "report.html"
    assert Path(run.report).is_file()
    assert run.model.predict(Path(run.scenario.images.path) / run.labels.path[0]).label in ("yes", "no")
    assert repr(run) == f"<Run {run.path}: passed>"
    assert api.load_run(run) is run
    assert api.load_run(str(run.path.parent)) == run


def test_a_run_shows_itself_in_a_notebook(run: api.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent)
    shown = run._repr_html_()
    assert run.gate.verdict.headline.replace("'", "&#x27;") in shown
    assert "300 photos: " in shown
    assert shown.count("data:image/jpeg;base64,") == 12
    assert f'<a href="{run.path.name}/report.html">report.html</a>' in shown
    assert f'src="{run.path.name}/report.html"' in run.report._repr_html_()


def test_a_damaged_run_says_so_in_a_notebook_and_does_not_end_it(tmp_path: Path) -> None:
    _, folder = make_run(tmp_path)
    folder.file("labels.parquet").write_bytes(b"x")
    shown = api.load_run(folder.path)._repr_html_()
    assert shown.startswith("&lt;Run ") and "labels.parquet: damaged" in shown


def test_no_text_of_a_scenario_is_obeyed_as_markup(tmp_path: Path) -> None:
    from support.make_run import RunKind

    _, folder = make_run(tmp_path, RunKind(question="<script>alert(1)</script>?", images=60))
    assert "<script" not in api.load_run(folder.path)._repr_html_()


# Measuring, publishing


@pytest.fixture(scope="module")
def truth(run: api.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of the run's photos, as CSV."""
    file = tmp_path_factory.mktemp("truth") / "truth.csv"
    rows = [f"{path},{'yes' if gold else 'no'}" for path, gold in zip(run.labels.path, run.labels.gold, strict=True)]
    file.write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    return file


def test_a_model_a_file_and_a_run_are_measured_by_labels(run: api.Run, truth: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in run.path.iterdir())
    photos = run.scenario.images.path
    of_model = api.evaluate(run.model, gold=truth, images=photos)
    of_file = api.evaluate(str(run.path / "model.onnx"), gold=truth, images=photos)
    of_run = api.evaluate(run, gold=truth)
    assert np.array_equal(of_model.probability, of_file.probability)
    assert of_model.counts == of_file.counts
    assert of_run.used.any() and not of_file.used.any(), "of a run it is known which photos trained it"
    assert sorted(path.stat().st_mtime_ns for path in run.path.iterdir()) == before


def test_a_model_without_labels_cannot_be_evaluated(run: api.Run) -> None:
    for model in (run.model, run.path / "model.onnx"):
        with pytest.raises(ModelError, match="a model is measured by people's labels\n  name them"):
            api.evaluate(model)


def test_two_models_are_compared_and_a_run_is_published(run: api.Run, truth: Path, tmp_path: Path) -> None:
    done = api.publish(run, str(tmp_path / "registry"), alias="champion")
    assert (str(done.release), done.new) == ("red-ball@1", True)
    model = api.load_model("red-ball@champion", registry=str(tmp_path / "registry"))
    assert str(model.release) == "red-ball@1"
    joint = api.compare([run, run.path / "model.onnx"], gold=truth)
    assert len(joint.comparisons) == 1
