"""The command line: help, exit codes, messages; what the words promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clip_factory import __version__
from clip_factory.cli.evaluate_commands import evaluate
from clip_factory.cli.main import app

runner = CliRunner()

COMMANDS = (
    "new",
    "run",
    "scan",
    "label",
    "train",
    "export",
    "evaluate",
    "report",
    "threshold",
    "compare",
    "predict",
    "drift",
    "publish",
    "demo",
    "doctor",
    "review",
    "search",
    "zeroshot",
)


def call(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clip_factory", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert f"factory {command}" in result.output.split("Example:")[1]


def test_no_command_is_left_out_of_these_tests() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands if not command.hidden}
    assert names == set(COMMANDS)


def test_gate_is_another_name_of_evaluate() -> None:
    hidden = {command.name: command.callback for command in app.registered_commands if command.hidden}
    assert hidden == {"gate": evaluate}
    assert "\n  gate " not in runner.invoke(app, ["--help"]).output


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).output == f"clip-factory {__version__}\n"


def test_new_writes_a_file_and_prints_its_path(tmp_path: Path) -> None:
    done = call("new", "forklift", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (0, "forklift.yaml\n")
    assert (tmp_path / "scenario.schema.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.yaml"], "error: none.yaml: no such scenario file\n  make one with: factory new NAME"),
        (["run", "bare.yaml"], "error: the scenario names no images\n  add `images: {path: photos/}` or pass"),
        (["run", "bare.yaml", "--images", "void"], "void: no image files"),
        (["run", "bare.yaml", "--images", "nowhere"], "nowhere: no such folder or archive"),
        (["train", "void"], "error: void is no run folder"),
        (["train", "void", "--images", "x"], "its images, teacher and gold labels are settled"),
        (["run", "bare.yaml", "--images", "void", "--teacher", "x/y"], "void: no image files"),
        (["review", "void", "--no-browser"], "error: void is no run folder"),
        (["evaluate", "bare.yaml", "--images", "void"], "void: no image files"),
        (["evaluate", "file.onnx"], "file.onnx: a model is measured by people's labels\n  name them: --gold truth.csv"),
        (["gate", "void"], "error: void is no run folder"),
        (["publish", "void"], "no registry was named\n  --registry FOLDER or URL, or set FACTORY_REGISTRY"),
        (["predict", "none.onnx", "void"], "none.onnx"),
        (["predict", "bare.yaml", "void"], "bare.yaml"),
    ],
)
def test_wrong_input_exits_with_2_and_says_what_next(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("name: x\npositive: [x]\nteacher: {model: offline}\n", encoding="utf-8")
    (tmp_path / "file.onnx").touch()
    (tmp_path / "void").mkdir()
    done = call(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_doctor_names_every_backbone_and_teacher() -> None:
    result = runner.invoke(app, ["doctor"])

    assert result.exit_code == 0
    for word in ("torch", "teacher offline", "backbone resnet-mini", "backbone mobilenetv3", "store"):
        assert word in result.output


def test_json_output_is_one_object_a_line(tmp_path: Path, tiny_model: Path, shapes: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    done = call(
        "predict", tiny_model, shapes / "photos" / "p000.png", tmp_path / "bad.jpg", "--format", "json", cwd=tmp_path
    )
    first, second = map(json.loads, done.stdout.splitlines())

    assert done.returncode == 3
    assert set(first) == {"path", "probability", "label"}
    assert set(second) == {"path", "error"}


def test_a_release_answers_and_is_compared_where_a_file_would(tmp_path: Path, tiny_model: Path, shapes: Path) -> None:
    """With --registry, or with what the environment says where the name is no file."""
    from clip_factory.registry import make_pair, open_registry, publish
    from support.finished_run import another, finished

    _, public = make_pair(tmp_path / "keys")
    run = another(finished(tmp_path), tmp_path / "run", score_histogram=json.dumps([15] * 20))
    publish(run, open_registry(str(tmp_path / "r")), "champion")
    photo = shapes / "photos" / "p000.png"
    named = {"FACTORY_REGISTRY": str(tmp_path / "r")}
    signed = named | {"FACTORY_PUBLIC_KEY": str(public)}

    def ask(*arguments: str | Path, **env: str) -> Result:
        return runner.invoke(app, [str(argument) for argument in arguments], env=env)

    for place, env in ((("--registry", tmp_path / "r"), {}), ((), named)):
        done = ask("predict", "red-ball@champion", photo, "--scores", tmp_path / "scores", *place, **env)
        assert (done.exit_code, "p000.png" in done.stdout) == (0, True)
        told = ask("drift", "red-ball", tmp_path / "scores", *place, **env).stdout
        assert told.startswith("There are too few photos")
        for refused in (
            ask("predict", "red-ball@2", photo, *place, **env),
            ask("drift", "red-ball@2", photo, *place, **env),
        ):
            assert "red-ball has no version 2" in str(refused.exception)
    for refused in (ask("predict", "red-ball", photo, **signed), ask("drift", "red-ball", photo, **signed)):
        assert str(refused.exception).startswith("red-ball@1: not signed, and a public key is configured")
    assert ask("predict", tiny_model, photo, **signed).exit_code == 0
    assert "--registry" in str(ask("predict", "red-ball@champion", photo).exception)


def test_predict_reads_a_list_from_stdin(tmp_path: Path, tiny_model: Path, shapes: Path) -> None:
    names = [str(shapes / "photos" / "p000.png"), str(tmp_path / "missing.jpg"), str(shapes / "photos" / "p001.png")]
    command = [sys.executable, "-m", "clip_factory", "predict", str(tiny_model), "-", "--format", "csv"]
    done = subprocess.run(command, input="\r\n".join(names), cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["path", *names]


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_folders_that_cannot_be_made_are_named(where: str, tmp_path: Path, shapes: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "s.yaml").write_text("name: x\npositive: [x]\nteacher: {model: offline}\n", encoding="utf-8")
    for arguments in (["run", "s.yaml", "--images", shapes / "photos", "--out", where], ["new", "q", "--out", where]):
        done = call(*arguments, cwd=tmp_path)

        assert done.returncode == 2, arguments
        assert "error: file" in done.stderr
        assert "Traceback" not in done.stderr
