"""How runs begin: their folders' names and order, whatever the clock does and however many begin at once."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clip_factory import run_request
from clip_factory.errors import RunError
from clip_factory.run_folder import RunFolder, find_run, runs_below
from clip_factory.run_request import start_run
from clip_factory.scenario import Images, Scenario, Teacher

NOON = 1_774_785_600.0
"""2026-03-29, 12:00 UTC: the day on which summer time begins in Europe."""


@pytest.fixture
def request_(tmp_path: Path) -> Scenario:
    (tmp_path / "photos").mkdir()
    return Scenario(
        name="ball", positive=("ball",), teacher=Teacher(model="offline"), images=Images(path=str(tmp_path / "photos"))
    )


def begin(request: Scenario, home: Path) -> RunFolder:
    with start_run(request, home / "runs", home / "store", resume=False) as run:
        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [NOON]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


def test_a_run_is_named_by_its_moment_in_utc(request_: Scenario, tmp_path: Path, clock: list[float]) -> None:
    for zone in ("America/New_York", "Asia/Tokyo", "UTC"):
        os.environ["TZ"] = zone
        time.tzset()
        try:
            assert begin(request_, tmp_path).path.name == "2026-03-29T12-00-00Z"
        finally:
            del os.environ["TZ"]
            time.tzset()
        clock[0] += 86400
        request_ = request_.model_copy(update={"name": f"ball-{zone[:2].lower()}"})
        clock[0] = NOON


def test_a_clock_that_jumps_back_reorders_no_runs(request_: Scenario, tmp_path: Path, clock: list[float]) -> None:
    order = []
    for jump in (0, -3600, -86400, 2, -5, 4000):
        clock[0] = NOON + jump
        order.append(begin(request_, tmp_path))
    home = tmp_path / "runs" / "ball"
    assert [run.path.name for run in runs_below(home)] == [run.path.name for run in order]
    assert sorted(run.path.name for run in order) == [run.path.name for run in order], "their names sort alike"
    assert [run.path.name for run in order][:3] == [
        "2026-03-29T12-00-00Z",
        "2026-03-29T12-00-00Z.001",
        "2026-03-29T12-00-00Z.002",
    ]
    assert order[-1].path.name == "2026-03-29T13-06-40Z"
    for run in order:
        (run.path / "manifest.json").write_text("{}")
    assert find_run(home / "latest") == order[-1]


def test_runs_that_begin_at_once_have_one_order(request_: Scenario, tmp_path: Path, clock: list[float]) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: begin(request_, tmp_path), range(24)))
    begun = [run.begun for run in runs]
    assert len({run.path for run in runs}) == len(set(begun)) == 24
    by_time = [run.path.name for run in sorted(runs, key=lambda run: run.begun)]
    assert by_time == sorted(by_time) == [run.path.name for run in runs_below(tmp_path / "runs" / "ball")]


def test_the_log_of_a_run_names_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_request, "_resolved_images", lambda wanted, store: Images(path=str(tmp_path)))
    source = Images(url="https://me:hunter2@example.org/photos.zip?sig=hunter2#x", sha256="0" * 64)
    request = Scenario(name="ball", positive=("ball",), teacher=Teacher(model="offline"), images=source)
    run = begin(request, tmp_path)
    assert run.events("start")[0]["images"] == {"url": "https://example.org/photos.zip", "sha256": "0" * 64}
    assert not [path for path in run.path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    with start_run(request, tmp_path / "runs", tmp_path / "store", resume=True) as again:
        assert again == run


def test_what_killed_runs_have_left_is_swept(request_: Scenario, tmp_path: Path) -> None:
    run = begin(request_, tmp_path)
    left = [run.path.parent / ".new-x.tmp", run.path / ".labels.parquet.x.tmp"]
    left[0].mkdir()
    left[1].touch()
    long_ago = time.time() - 2 * 3600
    for path in left:
        os.utime(path, (long_ago, long_ago))
    with run_request.locked(run):
        assert [path.exists() for path in left] == [True, False]
    begin(request_, tmp_path)
    assert not left[0].exists()


def test_a_run_that_is_worked_on_is_left_alone(request_: Scenario, tmp_path: Path) -> None:
    run = begin(request_, tmp_path)
    told = pytest.raises(RunError, match="another process is at work on this run")
    with run_request.locked(run), told, run_request.locked(run):
        pass


def test_a_run_of_an_earlier_version_keeps_its_place(request_: Scenario, tmp_path: Path, clock: list[float]) -> None:
    """Its folder is named by the local time of then; its log has the moment."""
    old = tmp_path / "runs" / "ball" / "2026-03-29T23-00-00"
    old.mkdir(parents=True)
    (old / "scenario.yaml").write_text("name: ball\npositive: [ball]\n")
    (old / "log.jsonl").write_text(json.dumps({"time": NOON - 60, "event": "start", "request": "x"}) + "\n")
    new = begin(request_, tmp_path)
    assert [run.path.name for run in runs_below(old.parent)] == [old.name, new.path.name]
