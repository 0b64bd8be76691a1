"""What Tab offers, asked as a shell asks it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from clip_factory.cli import completion
from support.releases import release_of, write
from support.run_folders import run_at


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two scenarios, two runs, a model file, and a registry with two versions of one model."""
    monkeypatch.chdir(tmp_path)
    for name in ("ball.yaml", "horn.yml", "notes.txt", "best.onnx", ".hidden.yaml"):
        Path(name).touch()
    run_at(Path("runs/ball/2026-11-21T09-00-00"), 1.0)
    run_at(Path("runs/ball/2026-11-22T09-00-00"), 2.0)
    Path("registry").mkdir()
    write(Path("registry"), release_of(b"model", 1, name="ball"), release_of(b"other", 2, name="ball"))
    return tmp_path


def offered(*words: str, shell: str = "bash", **env: str) -> list[str]:
    """What is offered for the last of the words that follow `factory`; bash breaks them at @ first."""
    parts = [part for word in ("factory", *words) for part in _parts(word, shell)]
    asked = {"_FACTORY_COMPLETE": f"complete_{shell}", "COMP_WORDS": "\n".join(parts), "_TYPER_COMPLETE_ARGS": ""}
    asked |= {"COMP_CWORD": str(len(parts) - 1)} | env
    if shell == "fish":
        asked |= {"_TYPER_COMPLETE_ARGS": " ".join(parts), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'factory'; from clip_factory.cli.main import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | asked,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def _parts(word: str, shell: str) -> list[str]:
    if shell != "bash" or "@" not in word:
        return [word]
    head, _, tail = word.partition("@")
    return [head, "@", *([tail] if tail else [])]


REGISTRY = {"FACTORY_REGISTRY": "registry"}
RUNS = ["runs/ball", "runs/ball/2026-11-22T09-00-00", "runs/ball/2026-11-21T09-00-00"]


def test_scenario_files_and_runs() -> None:
    for command in ("run", "scan", "label", "train", "report"):
        assert offered(command, "") == ["ball.yaml", "horn.yml", "latest", *RUNS]
    assert offered("run", "ho") == ["horn.yml"]
    assert offered("evaluate", "") == ["latest", "best.onnx", *RUNS, "ball.yaml", "horn.yml"]


def test_runs() -> None:
    for command in ("review", "publish"):
        assert offered(command, "") == ["latest", *RUNS]
        assert offered(command, "runs/ball/2026-11-22") == [RUNS[1]]


def test_models_of_a_folder_and_of_a_registry() -> None:
    references = ["ball", "ball@champion", "ball@2", "ball@1"]
    assert offered("predict", "", **REGISTRY) == [*references, "latest", "best.onnx", *RUNS]
    assert offered("predict", "") == ["latest", "best.onnx", *RUNS]
    assert offered("predict", "--registry", "registry", "b") == [*references, "best.onnx"]
    assert offered("models", "show", "", **REGISTRY) == references
    assert offered("models", "list", "", **REGISTRY) == ["ball"]
    assert offered("compare", "best.onnx", "ball@2", shell="fish", **REGISTRY) == ["ball@2"]
    assert offered("evaluate", "ball@2", shell="fish", **REGISTRY) == ["ball@2"]


def test_bash_keeps_what_stands_before_an_at_sign() -> None:
    assert offered("predict", "ball@ch", **REGISTRY) == ["champion"]
    assert offered("predict", "ball@", **REGISTRY) == ["champion", "2", "1"]
    assert offered("predict", "ball@ch", shell="fish", **REGISTRY) == ["ball@champion"]


def test_aliases_of_the_model_that_was_named() -> None:
    assert offered("models", "promote", "ball@1", "", **REGISTRY) == ["champion"]
    assert offered("models", "rollback", "ball", "ch", **REGISTRY) == ["champion"]


def test_a_registry_that_is_far_or_damaged_offers_nothing_and_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object, **__: object) -> None:
        raise AssertionError("Tab asks the network")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(socket.socket, "connect", ask)
    Path("damaged").mkdir()
    Path("damaged", "index.json").write_text("{", encoding="utf-8")
    for address in ("https://models.example.org", "s3://bucket", "github://OWNER/REPO", "nowhere", "s3:x", "damaged"):
        context = SimpleNamespace(params={"registry": address})
        assert completion.references(context, "") == []
        assert completion.names(context, "") == []
        assert completion.aliases(context, "") == ["champion"]
    assert completion.names(SimpleNamespace(params={"registry": "registry"}), "") == ["ball"]


def test_words_around_an_at_sign_are_put_together_again() -> None:
    for between in (" ", "\n"):
        line = {"COMP_WORDS": between.join(("factory", "predict", "ball", "@", "ch")), "COMP_CWORD": "4"}
        with completion.for_bash(line):
            pass
        assert line == {"COMP_WORDS": between.join(("factory", "predict", "ball@ch")), "COMP_CWORD": "2"}
