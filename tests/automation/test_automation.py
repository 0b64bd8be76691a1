"""The programs as programs: help, examples, exit codes, what they need installed, which way they import."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from automation.command import application
from support.house import imports

ROOT = Path(__file__).parents[2]
LIGHT = ("changed_scenarios", "issue_to_scenario", "pr_comment", "publish_release", "worst_images")
"""They run in jobs that install no torch."""
PROGRAMS = (*LIGHT, "recheck")
HEAVY = ("torch", "torchvision", "open_clip", "lightning", "timm", "transformers")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_has_help_with_an_example_and_a_word_on_each_option(name: str) -> None:
    function = import_module(f"automation.{name}").main
    done = CliRunner().invoke(application(name, function), ["--help"], env={"COLUMNS": "200"})
    options = [line for line in done.output.split("Options:")[1].splitlines() if line.strip().startswith("--")]

    assert done.exit_code == 0
    assert f"python -m automation.{name} --" in done.output.split("Example:")[1]
    assert options
    assert all(line.split("  ")[-1].strip() for line in options)


def test_no_program_is_left_out_of_these_tests() -> None:
    found = {path.stem for path in (ROOT / "automation").glob("*.py") if "\n    program(" in path.read_text("utf-8")}

    assert found == set(PROGRAMS)


def test_the_light_programs_start_without_torch() -> None:
    code = "import sys\n" + "".join(f"import automation.{name}\n" for name in LIGHT)
    code += f"sys.exit(', '.join(sys.modules.keys() & set({HEAVY})) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_nothing_of_the_factory_needs_the_automation() -> None:
    for path in (ROOT / "factory/clip_factory").rglob("*.py"):
        assert not any(name.split(".")[0] == "automation" for name in imports(path)), path


def test_wrong_input_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    words = [sys.executable, "-P", "-m", "automation.changed_scenarios", "--head", "gone\x1b[2J", "--all"]
    done = subprocess.run(
        [*words, "--root", str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: 'gone\\x1b[2J' is no commit of the repository at {tmp_path}\n"
        "  check out the whole history: fetch-depth: 0\n"
    )
