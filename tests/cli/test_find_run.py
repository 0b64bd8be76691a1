"""Which run `latest`, a folder of runs, or a folder means."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_factory.errors import RunError
from clip_factory.run_folder import RunFolder, find_run, means_run
from support.run_folders import run_at

FINISHED, LABELED = "manifest.json", "labels.parquet"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(target: str, runs: str = "runs") -> str:
    with pytest.raises(RunError) as caught:
        find_run(Path(target), Path(runs))
    return str(caught.value)


def test_a_run_folder_is_itself_whatever_it_holds() -> None:
    run = run_at(Path("runs/ball/a"), 1.0)
    assert find_run(run) == RunFolder(run)


def test_the_finished_run_that_began_last_is_found_whatever_its_name() -> None:
    run_at(Path("runs/ball/z"), 1.0, FINISHED)
    newest = run_at(Path("runs/ball/a"), 2.0, FINISHED)
    run_at(Path("runs/ball/b"), 3.0, LABELED)
    run_at(Path("runs/ball/.new-c"), 4.0, FINISHED)
    (Path("runs/ball/notes")).mkdir()
    for target in ("runs/ball", "runs/ball/", "runs/ball/latest", "runs", "runs/latest", "latest"):
        assert find_run(Path(target)).path == newest, target


def test_latest_looks_through_all_questions_and_the_folder_that_was_named() -> None:
    ball = run_at(Path("runs/ball/a"), 5.0, FINISHED)
    horn = run_at(Path("runs/horn/a"), 6.0, FINISHED)
    other = run_at(Path("others/horn/a"), 1.0, FINISHED)
    assert find_run(Path("latest")).path == horn
    assert find_run(Path("runs/ball")).path == ball
    assert find_run(Path("latest"), Path("others")).path == other


def test_where_no_run_is_finished_the_newest_labeled_one_is_found() -> None:
    run_at(Path("runs/ball/a"), 1.0, LABELED)
    newest = run_at(Path("runs/ball/b"), 2.0, LABELED)
    run_at(Path("runs/ball/c"), 3.0)
    assert find_run(Path("latest")).path == newest


def test_without_a_log_a_run_is_as_old_as_its_scenario() -> None:
    run_at(Path("runs/ball/a"), 1.0, FINISHED)
    newest = run_at(Path("runs/ball/b"), 2.0, FINISHED)
    (newest / "log.jsonl").unlink()
    assert find_run(Path("runs/ball")).path == newest


def test_a_folder_called_latest_is_a_folder() -> None:
    run = run_at(Path("latest"), 1.0)
    run_at(Path("runs/ball/a"), 2.0, FINISHED)
    assert find_run(Path("latest")).path == run


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("void", "void is no run folder: it holds no scenario.yaml, and no runs\n  make one: factory run FILE.yaml"),
        ("gone", "gone: no such run folder\n  make one: factory run FILE.yaml"),
        ("begun", "begun: no run in begun is finished or labeled yet\n  go on: factory run begun/b"),
        ("begun/latest", "begun/latest: no run in begun is finished or labeled yet\n  go on: factory run begun/b"),
        ("void/latest", "void/latest: no run in void\n  make one: factory run FILE.yaml"),
        ("latest", "latest: no such run folder"),
    ],
)
def test_what_was_looked_for_is_named(target: str, message: str) -> None:
    Path("void").mkdir()
    run_at(Path("begun/a"), 1.0)
    run_at(Path("begun/b"), 2.0)
    assert refusal(target).startswith(message)


def test_a_file_is_no_run_and_a_word_is() -> None:
    Path("ball.yaml").touch()
    Path("runs").mkdir()
    assert [means_run(Path(name)) for name in ("ball.yaml", "gone.yaml", "runs", "latest", "runs/latest")] == [
        *(False, False),
        *(True, True, True),
    ]
