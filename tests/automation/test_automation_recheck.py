"""Published models judged again: photos that moved open an issue, photos as before close it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from PIL import Image

from automation import recheck
from clip_factory import run_folder as files
from clip_factory.errors import FactoryError
from clip_factory.gate.verdict import Verdict
from clip_factory.labels import Labels
from clip_factory.registry import open_registry, publish
from clip_factory.run_folder import RunFolder
from support.automation_run import PASSES, seal, whole
from support.fake_github import REPO, Downloads
from support.fake_github_work import STRANGER, FakeWork
from support.markdown_read import foreign_html, kinds

COUNT = 320
"""Photos; about 48 of them test, which is enough to prove an accuracy of 90 %."""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Path:
    """A registry with one champion: a model whose answer is the brightness of a photo, taught by a tiny CLIP."""
    folder = tmp_path_factory.mktemp("published")
    run = whole(folder, "bright", PASSES)
    path = run / files.SCENARIO
    text = path.read_text(encoding="utf-8").replace("model: offline", f"model: 'local-dir:{tiny_clip}'")
    path.write_text(text.replace("agreement: 0.95", "agreement: 0.0"), encoding="utf-8")
    seal(run)
    publish(run, open_registry(str(folder / "registry")), "champion")
    return folder / "registry"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one scenario; even photos are bright."""
    root = tmp_path_factory.mktemp("repository")
    folder = root / "datasets" / "bright"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(3)
    for index in range(COUNT):
        patches = random.integers(0, 110, (5, 5, 3)).astype(np.uint8) + np.uint8(140 * (index % 2 == 0))
        Image.fromarray(patches).resize((48, 48), Image.Resampling.NEAREST).save(folder / "images" / f"{index:03}.png")
    lines = "name: bright\npositive: [something else by now]\nimages: {path: images}\ngold: gold.csv\n"
    (folder / "scenario.yaml").write_text(lines, encoding="utf-8")
    return root


def people_say(root: Path, *, bright_is: str, dark_is: str, count: int = COUNT) -> None:
    rows = [f"{index:03}.png,{bright_is if index % 2 == 0 else dark_is}" for index in range(count)]
    (root / "datasets/bright/gold.csv").write_text("\n".join(["path,label", *rows, ""]))


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWork]:
    with Downloads() as downloads, FakeWork(downloads) as server:
        for name, value in {"API_URL": server.url, "TOKEN": "job", "REPOSITORY": REPO}.items():
            monkeypatch.setenv(f"GITHUB_{name}", value)
        monkeypatch.delenv("FACTORY_BOT", raising=False)
        server.tokens = {"job": frozenset({"issues"})}
        yield server


@pytest.fixture
def look(release: Path, photos: Path, tmp_path: Path, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.setenv("FACTORY_STORE", str(tmp_path_factory.getbasetemp() / "recheck-store"))

    def call(code: int, *, send: bool = True) -> dict[str, str]:
        capsys.readouterr()
        try:
            recheck.main(str(release), tmp_path / "out", photos, "champion", None, send)
            left = 0
        except typer.Exit as leaving:
            left = leaving.exit_code
        assert left == code
        return dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())

    return call


def test_photos_that_moved_open_an_issue_which_closes_when_they_are_as_before(
    github: FakeWork, look, photos: Path, tmp_path: Path
) -> None:
    people_say(photos, bright_is="yes", dark_is="no")
    assert look(0) == {"failing": "[]", "unproven": "[]", "checked": "1"}
    assert github.issues == {}
    text = (tmp_path / "out" / "bright.md").read_text(encoding="utf-8")
    assert "`bright@1`, now `@champion`, passes the gate" in text
    assert "| Right by people’s labels | at least 90\u202f% | 98.8\u202f% | 100\u202f% |" in text
    assert "\n> Finds 22 of 22 (85 to 100 %), misses 0; " in text

    people_say(photos, bright_is="no", dark_is="yes")
    mine = github.file_issue("mine", "<!-- clip-factory: recheck bright -->", STRANGER)
    assert look(1) == {"failing": '["bright"]', "unproven": "[]", "checked": "1"}
    assert look(1)["failing"] == '["bright"]'
    issue = next(one for one in github.issues.values() if one is not mine)
    assert len(github.issues) == 2
    assert (issue["state"], issue["title"]) == ("open", "bright: the published model would not pass the gate now")
    assert "does **not** pass the gate on the photos of today" in issue["body"]
    assert "factory models rollback bright champion --registry " in issue["body"]
    assert foreign_html(issue["body"]) == []
    assert "table_open" in kinds(issue["body"].split("\n", 1)[1])

    people_say(photos, bright_is="yes", dark_is="no")
    look(0)
    assert (issue["state"], mine["state"]) == ("closed", "open")
    assert [said.count("passes the gate") for said in github.said(issue["number"])] == [1]


def test_the_question_is_asked_as_it_was_published(look, photos: Path, tmp_path: Path) -> None:
    """The file in the repository names other phrases by now: they are for the next version."""
    people_say(photos, bright_is="yes", dark_is="no")
    look(0, send=False)
    (run,) = (tmp_path / "out" / "runs" / "bright").glob("2*/")

    scenario = (run / files.SCENARIO).read_text(encoding="utf-8")
    assert "red rubber ball on the floor" in scenario
    assert "something else by now" not in scenario
    assert not (run / files.STUDENT).exists()


def test_photos_that_the_model_was_trained_on_do_not_count(
    look, photos: Path, tmp_path: Path, tmp_path_factory, tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release names photos of today among those that shaped it: a look-alike of one is as good as the photo."""
    people_say(photos, bright_is="yes", dark_is="no")
    look(0, send=False)
    (run,) = (tmp_path / "out" / "runs" / "bright").glob("2*/")
    labels = Labels.of_run(RunFolder(run))
    images = pq.read_table(run / files.IMAGES)
    hashes = dict(zip(images["sha256"].to_pylist(), images["phash"].to_pylist(), strict=True))
    test = labels.of_split("test")
    seen = test.sha256[:10]
    dhash = dict(zip(images["sha256"].to_pylist(), images["dhash"].to_pylist(), strict=True))
    rows = [f"{'0' * 64},train,{hashes[sha]},{dhash[sha]}" for sha in seen]  # other bytes that look the same

    folder = tmp_path_factory.mktemp("seen")
    published = whole(folder, "bright", PASSES)
    path = published / files.SCENARIO
    text = path.read_text(encoding="utf-8").replace("model: offline", f"model: 'local-dir:{tiny_clip}'")
    path.write_text(text.replace("agreement: 0.95", "agreement: 0.0"), encoding="utf-8")
    (published / files.SPLITS).write_text("\n".join(["sha256,split,phash,dhash", *rows, ""]))
    seal(published)
    registry = open_registry(str(folder / "registry"))
    released = publish(published, registry, "champion").release
    left, count = recheck.without_seen(RunFolder(run), registry, released)
    assert count == 10
    assert set(left.of_split("test").sha256) == set(test.sha256[10:])
    recheck.main(str(folder / "registry"), tmp_path / "second", photos, "champion", None, False)
    said = (tmp_path / "second" / "bright.md").read_text(encoding="utf-8")
    assert "10 test photos do not count: the model has seen them or their like." in said


def test_a_model_that_nothing_proves_any_more_is_told_of(github: FakeWork, look, photos: Path, tmp_path: Path) -> None:
    """People have labeled too few of the photos of today: what it once showed is not shown of them."""
    people_say(photos, bright_is="yes", dark_is="no", count=COUNT // 2)
    assert look(4) == {"failing": "[]", "unproven": '["bright"]', "checked": "1"}
    (issue,) = github.issues.values()
    assert (issue["state"], issue["title"]) == (
        "open",
        "bright: the published model has passed, and is not proven now",
    )
    assert "is **not proven** by the gate on the photos of today" in issue["body"]
    assert "that a person has labeled. Too few photos to show" in issue["body"]
    assert foreign_html(issue["body"]) == []

    people_say(photos, bright_is="yes", dark_is="no")
    look(0)
    assert issue["state"] == "closed"


@pytest.mark.parametrize(
    ("state", "was", "told"),
    [
        ("refused", {"passed": True, "forced": False}, True),
        ("refused", {"passed": False, "forced": True}, True),
        ("not proven", {"passed": True, "forced": False}, True),
        ("not proven", {"passed": False, "forced": False}, False),
        ("not proven", {"passed": False, "forced": True}, False),
        ("passed", {"passed": False, "forced": False}, False),
    ],
)
def test_only_what_is_worse_than_it_was_is_told_of(release: Path, state: str, was: dict[str, bool], told: bool) -> None:
    published = replace(open_registry(str(release)).index().models["bright"].versions[1], **was)

    assert recheck.Check(published, (), (), Verdict(state, "")).worse is told


def test_no_right_to_write_issues_is_an_error(github: FakeWork, look, photos: Path) -> None:
    github.tokens = {"job": frozenset({"contents"})}
    people_say(photos, bright_is="no", dark_is="yes")

    with pytest.raises(FactoryError, match="not allowed"):
        look(1)


def test_what_cannot_be_checked_is_an_error_after_the_others(release: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "datasets" / "bright"
    folder.mkdir(parents=True)
    (folder / "scenario.yaml").write_text("name: bright\npositive: [x]\nimages: {path: gone}\n")

    with pytest.raises(FactoryError, match=r"bright@1: .*gone: no such folder"):
        recheck.main(str(release), tmp_path / "out", tmp_path, "champion", None, False)
    assert json.loads(capsys.readouterr().out.splitlines()[0].split("=")[1]) == []


def test_a_model_without_a_scenario_here_is_passed_over(release: Path, tmp_path: Path, capsys) -> None:
    recheck.main(str(release), tmp_path / "out", tmp_path, "champion", [""], False)

    assert capsys.readouterr().out == "failing=[]\nunproven=[]\nchecked=0\n"
