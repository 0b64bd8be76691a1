"""What the README says can be typed in, as it stands there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REGISTRY = README.split("## Registry\n")[1].split("\n## ")[0]
WALK = README.replace(REGISTRY, "")
RUN_BY_CI = {"scripts/demo", "scripts/test"}
EXPECTED = {"run": 4, "predict": 3}
"""Exit codes other than 0: from words alone nothing is proven; some of the demo's files are broken on purpose."""


def blocks(language: str, text: str = WALK) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str = WALK) -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("sh", text) for line in block.splitlines()]
    return [line for line in lines if line]


def test_scripts_are_run_by_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert set(commands()) >= RUN_BY_CI
    assert all(script in ci for script in RUN_BY_CI)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_room_of_the_house_is_drawn() -> None:
    drawn = README.split("## The house")[1]
    package = ROOT / "factory" / "clip_factory"
    rooms = {path.name for path in (*package.iterdir(), *package.parent.iterdir()) if not path.name.startswith("__")}

    assert {room for room in rooms - {"py.typed"} if room not in drawn} == set()


def serve_until_ctrl_c(command: str, folder: Path, environment: dict[str, str]) -> None:
    line = f"{command} --no-browser".replace("factory", "exec factory", 1)
    with subprocess.Popen(line, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout.readline().startswith("http://127.0.0.1:")
        serving.send_signal(signal.SIGINT)
    assert serving.returncode == 0


@pytest.mark.slow
def test_the_walk_through_works_as_written(tmp_path: Path) -> None:
    from clip_factory import demo

    demo.make(tmp_path / "demo", 240)
    (tmp_path / "ball.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands():
        if command in RUN_BY_CI or command.startswith("pip install"):
            continue
        if command.startswith("factory review"):
            serve_until_ctrl_c(command, tmp_path, environment)
            continue
        if command.startswith("factory predict model.onnx"):
            command = command.replace("model.onnx", "latest").replace("photos/", "demo/images/")
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == EXPECTED.get(command.split()[1], 0), f"{command}\n{done.stderr}"

    model = next(tmp_path.glob("runs/ball/*/model.onnx"))
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes((tmp_path / "demo" / "images" / "img_0001.jpg").read_bytes())
    api, lab, model = blocks("python")
    done = subprocess.run([sys.executable, "-c", api], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("not proven "), done.stderr
    assert len(re.findall(r"img_\d+\.\w+ +[01]\.\d", done.stdout)) == 3, done.stdout
    done = subprocess.run([sys.executable, "-c", lab], cwd=tmp_path, capture_output=True, text=True)
    assert re.search(r"path +answer +probability +a ball +a mug", done.stdout), done.stderr
    done = subprocess.run([sys.executable, "-c", model], cwd=tmp_path, capture_output=True, text=True)
    assert re.fullmatch(r"(?:[ab]\.\w{3} (?:yes|no) [01]\.\d+\n){2}", done.stdout), done.stderr


def test_the_registry_works_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed in after two runs, the second of them published before; only the name of the model is another."""
    from typer.testing import CliRunner

    from clip_factory.cli.main import app
    from support.finished_run import another, finished

    monkeypatch.chdir(tmp_path)
    first = finished(tmp_path / "runs")
    second = another(first, tmp_path / "second", threshold="0.5")
    setting, *typed = [re.sub(r"\bball\b", "red-ball", line) for line in commands(REGISTRY)]
    name, _, value = setting.removeprefix("export ").partition("=")
    monkeypatch.setenv(name, value)
    for line in [*typed[:1], f"factory publish {second}", *typed[1:]]:
        arguments = line.replace("latest", str(first)).split()[1:]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{line}\n{done.output}"
        if arguments[:2] == ["models", "promote"]:
            assert done.stdout == "red-ball@2\n"
    assert (tmp_path / "models" / "red-ball-1" / "model.onnx").is_file()

    spoken: dict[str, object] = {}
    exec(re.sub(r"\bball@", "red-ball@", blocks("python", REGISTRY)[0]), spoken)
    assert str(spoken["model"].release) == "red-ball@1"


def test_every_command_on_models_is_shown() -> None:
    from clip_factory.cli.model_commands import app

    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {verb for verb in verbs if f"factory models {verb}" not in REGISTRY} == set()
