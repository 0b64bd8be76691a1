"""What is said before anything slow is imported, and what is offered to whoever mistyped a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clip_factory import model_lookup
from clip_factory.cli.main import app
from clip_factory.errors import FactoryError, ModelError, RunError
from clip_factory.run_folder import find_run
from clip_factory.runtime.suggestions import did_you_mean, nearest, nearest_file
from clip_factory.students import backbones
from support.releases import release_of, write
from support.run_folders import run_at

HEAVY = ("torch", "sklearn", "scipy", "pyarrow", "onnxruntime", "lightning", "timm", "open_clip", "jinja2")
STOP = """
import os, sys

heavy = sys.argv.pop(1).split(",")

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(77)

sys.meta_path.insert(0, Stop())
from clip_factory.cli.main import main
main()
"""
"""The command line, which ends at once where it would import something that takes its time."""


def up_to_the_first_import_of(packages: tuple[str, ...], command: str) -> tuple[int, str]:
    """Exit code, 77 if one of the packages was imported, and what was said on stderr till then."""
    line = [sys.executable, "-c", STOP, ",".join(packages), *command.split()]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stderr


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scenario and a labeled run of it."""
    monkeypatch.chdir(tmp_path)
    text = "name: ball\nquestion: Is there a ball?\npositive: [ball]\nimages: {path: photos}\n"
    Path("ball.yaml").write_text(text, encoding="utf-8")
    run_at(Path("runs/ball/2026-11-21T09-00-00"), 1.0, "labels.parquet").joinpath("scenario.yaml").write_text(
        text, encoding="utf-8"
    )
    Path("photos").mkdir()
    return tmp_path


@pytest.mark.parametrize("command", ["--help", "--version", "predict --help", "run --help", "models --help"])
def test_help_imports_nothing_heavy(command: str) -> None:
    assert up_to_the_first_import_of((*HEAVY, "numpy", "PIL"), command) == (0, "")


@pytest.mark.parametrize(
    ("command", "first"),
    [
        ("run ball.yaml", "ball.yaml: Is there a ball?"),
        ("label ball.yaml", "ball.yaml: Is there a ball?"),
        ("train runs/ball/2026-11-21T09-00-00", "run runs/ball/2026-11-21T09-00-00"),
        ("export latest", "run runs/ball/2026-11-21T09-00-00"),
        ("review latest --no-browser", "run runs/ball/2026-11-21T09-00-00"),
        ("demo --out demo", "demo in demo: 400 pictures, one question, no network"),
        ("doctor", "looking at packages, devices and weights"),
    ],
)
def test_what_is_worked_on_is_said_before_anything_heavy_is_imported(command: str, first: str) -> None:
    code, said = up_to_the_first_import_of(HEAVY, command)
    assert code == 77, said
    assert said.splitlines()[0] == first


# --- did you mean


def test_the_nearest_word_whatever_its_case() -> None:
    assert nearest("Forklfit", ["pallet", "forklift", "fork"]) == "forklift"
    assert nearest("forklift", ["ForkLift", "truck"]) == "ForkLift"
    assert nearest("ball", ["truck", "pallet-jack"]) is None
    assert nearest("ball", []) is None
    assert did_you_mean("bal", ["ball"], "models: ball") == "did you mean ball?  models: ball"
    assert did_you_mean("bal", ["truck"], "models: truck") == "models: truck"


def test_endings_do_not_make_files_alike() -> None:
    for name in ("bare.yaml", "forklift.yaml", "forklift.yml.bak"):
        Path(name).touch()
    assert nearest_file(Path("none.yaml"), [".yaml"]) is None
    assert nearest_file(Path("forklfit.yaml"), [".yaml"]) == "forklift.yaml"
    assert nearest_file(Path("forklift"), [".yaml", ".yml"]) == "forklift.yaml"
    assert nearest_file(Path("nowhere/forklift"), [".yaml"]) is None


@pytest.mark.parametrize("word", ["latset", "runs/ball/latset"])
def test_latest_is_a_word_for_models_and_runs(word: str) -> None:
    meant = Path(word).with_name("latest")
    with pytest.raises(ModelError) as refused:
        model_lookup.load(Path(word))
    assert str(refused.value) == f"{word}: no such model or run\n  did you mean {meant}?"
    with pytest.raises(RunError) as missing:
        find_run(Path(word))
    assert str(missing.value) == f"{word}: no such run folder\n  did you mean {meant}?"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run bal.yaml", "bal.yaml: no such scenario file\n  did you mean ball.yaml?"),
        ("run ball", "ball: no such scenario file\n  did you mean ball.yaml?"),
        ("run truck.yaml", "truck.yaml: no such scenario file\n  make one with: factory new NAME"),
        ("train runs/bal", "runs/bal: no such run folder\n  did you mean runs/ball?"),
        ("train runs/bal/2026", "runs/bal/2026: no such run folder\n  did you mean runs/ball?"),
        (
            "train runs/ball/2026-11-12T09-00-00",
            "runs/ball/2026-11-12T09-00-00: no such run folder\n  did you mean runs/ball/2026-11-21T09-00-00?",
        ),
        ("publish bal --to registry", "bal: no such run folder\n  did you mean runs/ball?"),
        ("review zzz", "zzz: no such run folder\n  make one: factory run FILE.yaml"),
        ("predict bal photos --registry registry", "no model bal in the registry\n  did you mean ball?  models: ball"),
        ("predict ball@chmpion photos --registry registry", "ball has no alias chmpion\n  did you mean champion?"),
        (
            "predict bal.onnx photos",
            "bal.onnx: cannot be opened (No such file or directory)\n  did you mean ball.onnx?",
        ),
    ],
)
def test_a_mistyped_thing_is_answered_with_one_that_is_there(arguments: str, message: str) -> None:
    Path("registry").mkdir()
    write(Path("registry"), release_of(b"model", 1, name="ball"))
    Path("ball.onnx").touch()
    done = CliRunner().invoke(app, arguments.split())
    assert isinstance(done.exception, FactoryError), done.output
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [("rnu ball.yaml", "'run'"), ("models lst", "'list'"), ("predict --treshold 1 m p", "--threshold")],
)
def test_a_mistyped_command_or_option_is_answered_with_one_that_is_there(arguments: str, word: str) -> None:
    done = CliRunner().invoke(app, arguments.split())
    assert done.exit_code == 2
    assert word in done.stderr


def test_a_mistyped_backbone_is_answered_with_one_that_is_there() -> None:
    with pytest.raises(FactoryError) as caught:
        backbones.get("resnet-mimi")
    assert "did you mean resnet-mini?  known: auto, " in str(caught.value)
