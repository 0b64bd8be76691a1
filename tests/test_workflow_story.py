"""From an issue to a published model and back, with the workflow files as they stand.

A scratch repository holds the project and photos of red and of blue walls; its remote is a bare repository, github.com a
stand-in on loopback, the registry a folder. People only do what people do: write issues, push, merge, press buttons.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from github_site import Site, git
from PIL import Image, ImageDraw
from ruamel.yaml import YAML
from workflow_files import lines
from workflow_runner import Job, Run, Runner

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
PROJECT = (".github", "automation", "factory", "LICENSE", "README.md", "constraints.txt", "pyproject.toml")
PHOTOS = 48
QUICK = """
gold: ../walls/gold.csv
teacher: {model: offline}
student: {backbone: resnet-mini, image_size: 32, epochs: 6}
gate: {agreement: 0.5, gold_accuracy: 0.6}
"""
"""What a reviewer adds, so that the test takes seconds: an answer for every photo, a small student, low bars."""
COIN = """name: coin
question: Was it heads?
positive: [something red]
negative: [something blue]
images: {path: ../walls/photos}
""" + QUICK.replace("gold.csv", "coin.csv").replace("0.6", "0.9").replace("0.5", "0")
"""A question that no photo answers: people's labels are drawn by chance."""
NOT_RUN = {
    "ci.yml": "builds, installs and tests the whole project: the tests would run themselves",
    "release.yml": "builds with packages from an index; what it checks is in test_workflows.py",
}


@dataclass
class Story:
    """What happened, in order."""

    site: Site
    runner: Runner
    registry: Path
    issue: int = 0
    pulls: list[int] = field(default_factory=list)
    asked: list[Run] = field(default_factory=list)
    first: list[Run] = field(default_factory=list)
    merged: list[Run] = field(default_factory=list)
    second: list[Run] = field(default_factory=list)
    refused: list[Run] = field(default_factory=list)
    merged_both: list[Run] = field(default_factory=list)
    back: list[Run] = field(default_factory=list)
    rechecked: list[Run] = field(default_factory=list)
    champions: list[int] = field(default_factory=list)


def draw_walls(folder: Path) -> None:
    """Walls with grey stains, red and blue by turns; gold.csv says which are red, coin.csv says anything."""
    (folder / "photos").mkdir(parents=True)
    answers, coins = ["path,label"], ["path,label"]
    for index in range(PHOTOS):
        random, red = np.random.default_rng(index), index % 2 == 0
        colour = np.array([200, 40, 40] if red else [40, 60, 200]) + random.integers(-30, 30, 3)
        image = Image.fromarray(random.normal(colour, 12, (64, 64, 3)).clip(0, 255).astype(np.uint8))
        for _ in range(3):
            x, y, r = (int(value) for value in random.integers((5, 5, 4), (59, 59, 16)))
            ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=(int(random.integers(255)),) * 3)
        image.save(folder / "photos" / f"p{index:03}.png")
        answers.append(f"p{index:03}.png,{'yes' if red else 'no'}")
        coins.append(f"p{index:03}.png,{'yes' if random.random() < 0.5 else 'no'}")
    (folder / "gold.csv").write_text("\n".join(answers) + "\n", encoding="utf-8")
    (folder / "coin.csv").write_text("\n".join(coins) + "\n", encoding="utf-8")


def make_repository(folder: Path) -> Path:
    """A bare repository with the project and the photos on its branch main."""
    clone, bare = folder / "clone", folder / "remote.git"
    for name in PROJECT:
        source, target = ROOT / name, clone / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            clone.mkdir(exist_ok=True)
            shutil.copy(source, target)
    draw_walls(clone / "datasets" / "walls")
    git(folder, "init", "-q", "-b", "main", str(clone))
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "The project")
    git(folder, "clone", "-q", "--bare", str(clone), str(bare))
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    return bare


def push(bare: Path, folder: Path, branch: str, path: str, text: str) -> None:
    """A person commits a file to a branch, which is made from main if it is not there."""
    clone = folder / f"person-{len(list(folder.glob('person-*')))}"
    git(folder, "clone", "-q", str(bare), str(clone))
    there = git(bare, "for-each-ref", f"refs/heads/{branch}")
    git(clone, "checkout", "-q", *(["-B", branch, f"origin/{branch}"] if there else ["-b", branch]))
    (clone / path).parent.mkdir(parents=True, exist_ok=True)
    (clone / path).write_text(text, encoding="utf-8")
    git(clone, "add", path)
    git(clone, "commit", "-q", "-m", f"{path}: by hand")
    git(clone, "push", "-q", "origin", branch)


def form(**answers: str) -> str:
    """The body of an issue as GitHub writes it from the form of the project and a person's answers."""
    tree = YAML(typ="safe").load((ROOT / ".github/ISSUE_TEMPLATE/new-prompt.yml").read_text(encoding="utf-8"))
    parts = []
    for item in (item for item in tree["body"] if item["type"] != "markdown"):
        answer = answers.get(item["id"], "_No response_")
        if item["type"] == "checkboxes":
            tick = "X" if item["id"] in answers else " "
            answer = f"- [{tick}] {item['attributes']['options'][0]['label']}"
        elif item["attributes"].get("render") and item["id"] in answers:
            answer = f"```{item['attributes']['render']}\n{answer}\n```"
        parts.append(f"### {item['attributes']['label']}\n\n{answer}")
    return "\n\n".join(parts)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("story")
    registry = folder / "registry"
    machine = {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "160",
        "MPLCONFIGDIR": str(folder / "mpl"),
    }
    with Site(make_repository(folder)) as site:
        runner = Runner(site, folder, {"FACTORY_REGISTRY": str(registry)}, {"publish"}, machine, aside=set(NOT_RUN))
        told = Story(site, runner, registry)
        tell(told, folder)
        yield told


def tell(story: Story, folder: Path) -> None:
    """All of it."""
    site, runner = story.site, story.runner
    walls = {"images": "../walls/photos", "negative": "a blue wall\nsomething blue"}
    story.issue = site.issue("Red walls", form(name="red-wall", positive="a red wall\nsomething red", **walls))
    story.asked = runner.serve(1)
    branch, path = "prompt/red-wall", "datasets/red-wall/scenario.yaml"
    story.pulls.append(site.pulls()[-1]["number"])
    push(site.bare, folder, branch, path, site.read(branch, path).decode() + QUICK)
    site.pushed(branch)
    story.first = runner.serve()
    site.merge(story.pulls[0])
    story.merged = runner.serve()
    story.champions.append(champion(story))

    again = form(name="red-wall", positive="a red wall", change="yes", **walls)
    site.issue("Red walls, in other words", again)
    story.second = runner.serve()
    story.pulls.append(site.pulls()[-1]["number"])
    push(site.bare, folder, "coin", "datasets/coin/scenario.yaml", COIN)
    story.pulls.append(site.pull("coin", "Heads or tails"))
    story.refused = runner.serve()
    site.merge(*story.pulls[1:])
    story.merged_both = runner.serve()
    story.champions.append(champion(story))

    site.dispatch("rollback.yml", {"name": "red-wall"})
    story.back = runner.serve()
    story.champions.append(champion(story))
    site.dispatch("recheck.yml", {})
    story.rechecked = runner.serve()


def champion(story: Story) -> int:
    index = json.loads((story.registry / "index.json").read_text(encoding="utf-8"))
    return index["models"]["red-wall"]["aliases"]["champion"]


def jobs(runs: list[Run], name: str) -> list[Job]:
    return [job for run in runs for job in run.jobs.get(name, []) if job.result != "skipped"]


def results(runs: list[Run]) -> dict[str, list[str]]:
    return {name: [job.result for job in found] for run in runs for name, found in run.jobs.items()}


def log_of(job: Job) -> list[dict]:
    """The events of the runs that a job made."""
    files = [*job.workspace.glob("runs/*/*/log.jsonl"), *job.workspace.parent.glob("temp/labels/*/*/log.jsonl")]
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def embedded(runs: list[Run], name: str) -> list[int]:
    """How many photos each job of a name embedded."""
    return [event["embedded"] for job in jobs(runs, name) for event in log_of(job) if event["event"] == "labelled"]


def test_an_issue_becomes_a_pull_request_with_a_scenario(story: Story) -> None:
    assert results(story.asked) == {"scenario": ["success"]}
    pull = story.site.threads[story.pulls[0]]

    assert (pull["head"]["ref"], pull["user"]["login"]) == ("prompt/red-wall", "github-actions[bot]")
    assert f"Closes #{story.issue}" in pull["body"]
    (answer,) = story.site.comments_on(story.issue)
    assert f"#{pull['number']}" in answer


def test_a_persons_push_replaces_the_run_that_waits(story: Story) -> None:
    assert [(run.event.name, run.path.rpartition("/")[2]) for run in story.first] == [
        ("pull_request", "new-prompt.yml")
    ]


def test_the_pull_request_is_run_and_commented_on(story: Story) -> None:
    assert results(story.first) == {
        "plan": ["success"],
        "embed": ["success"],
        "run": ["success"],
        "report": ["success"],
        "comment": ["success"],
        "publish": ["skipped"],
        "factory": ["success"],
    }
    (comment,) = story.site.comments_on(story.pulls[0])
    assert "gold_accuracy" in comment and "factory run" in comment and "factory models rollback" in comment
    for path in re.findall(r"blob/factory-evidence/(\S+?)\?raw=true", comment):
        assert story.site.read("factory-evidence", path).startswith((b"\x89PNG", b"\xff\xd8"))
    assert "gold_accuracy" in jobs(story.first, "report")[0].summary


def test_photos_are_embedded_once_and_handed_on(story: Story) -> None:
    assert (embedded(story.first, "embed"), embedded(story.first, "run")) == ([PHOTOS], [0])
    # main does not take over what a pull request has cached; after that, main's is there for all
    assert (embedded(story.merged, "embed"), embedded(story.merged, "run")) == ([PHOTOS], [0])
    later = [*story.second, *story.refused, *story.merged_both]
    assert (embedded(later, "embed"), embedded(later, "run")) == ([0, 0, 0], [0, 0, 0, 0])


def test_a_merge_publishes_with_provenance(story: Story) -> None:
    assert [job.result for job in jobs(story.merged, "publish")] == ["success"]
    release = json.loads((story.registry / "models/red-wall/versions/000001.json").read_text(encoding="utf-8"))
    digest = release["files"]["provenance.json"]["sha256"]
    said = (story.registry / "blobs" / digest[:2] / digest).read_text(encoding="utf-8")

    assert story.merged[0].event.sha in said
    assert f"actions/runs/{1000 + story.merged[0].number}" in said
    assert "red-wall@1" in jobs(story.merged, "publish")[0].summary


def test_a_second_prompt_starts_by_dispatch_and_is_compared_with_the_champion(story: Story) -> None:
    assert [run.event.name for run in story.second] == ["issues", "workflow_dispatch"]
    (comment,) = story.site.comments_on(story.pulls[1])

    assert "red-wall@1" in comment
    scenario = story.site.read("main", "datasets/red-wall/scenario.yaml").decode()
    assert "something red" not in scenario and "resnet-mini" in scenario  # what the form does not ask stays


def test_what_the_gate_refuses_is_told_and_not_published(story: Story) -> None:
    told = results(story.refused)
    assert (told["run"], told["report"], told["comment"]) == (["failure"], ["success"], ["success"])
    (comment,) = story.site.comments_on(story.pulls[2])
    assert "right on" in comment and "gold_accuracy" in comment

    assert [job.matrix["scenario"]["name"] for job in jobs(story.merged_both, "publish")] == ["red-wall"]
    assert not (story.registry / "models/coin").exists()


def test_two_scenarios_on_the_same_photos_share_one_set(story: Story) -> None:
    assert len(jobs(story.merged_both, "embed")) == 1
    names = [job.matrix["scenario"]["name"] for job in jobs(story.merged_both, "run")]
    assert names == ["coin", "red-wall"]


def test_an_alias_goes_forward_and_back(story: Story) -> None:
    assert story.champions == [1, 2, 1]
    assert "red-wall" in jobs(story.back, "rollback")[0].summary


def test_what_is_published_is_judged_again(story: Story) -> None:
    assert results(story.rechecked) == {"recheck": ["success"]}


def test_every_job_did_only_what_it_may(story: Story) -> None:
    assert story.site.refused == []
    wrote = {job: {path.split("/")[1] for name, path in story.site.made if name == job} for job, _ in story.site.made}

    assert wrote == {"scenario": {"git", "contents", "pulls", "actions", "issues"}, "comment": {"git", "issues"}}
    assert not any(token.alive for token in story.site.tokens.values())
    assert story.site.head("main") not in git(story.site.bare, "rev-list", "factory-evidence")


def test_no_token_is_left_behind(story: Story) -> None:
    for path in story.runner.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"ghs_0" not in path.read_bytes(), path


def test_every_command_of_every_workflow_was_executed(story: Story) -> None:
    left = {Path(path).name for path, _ in lines() - story.runner.executed}

    assert left == set(NOT_RUN)
