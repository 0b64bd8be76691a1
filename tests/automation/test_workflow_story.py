"""From an issue to a published model and back, with the workflow files as they stand.

A scratch repository holds the project and photos of red and of blue walls; its remote is a bare repository, github.com
a stand-in on loopback, the registry a folder. People only do what people do: write issues, push, merge, press buttons.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.git import git
from support.github_site import Site
from support.workflow_files import lines
from support.workflow_runner import Run, Runner
from support.workflow_world import MACHINE, PHOTOS, embedded, form, jobs, make_repository, push, results

pytestmark = pytest.mark.slow
QUICK = """
gold: ../walls/gold.csv
teacher: {model: offline}
student: {backbone: resnet-mini, image_size: 32, epochs: 6}
gate: {recall: 0.3, precision: 0.3, balanced_agreement: 0, agreement: 0, gold_accuracy: 0.6}
"""
"""What a reviewer adds, so that the test takes seconds: an answer for every photo, a small student, low bars."""
COIN = """name: coin
question: Was it heads?
positive: [something red]
negative: [something blue]
images: {path: ../walls/photos}
""" + QUICK.replace("gold.csv", "coin.csv").replace(
    "recall: 0.3, precision: 0.3, balanced_agreement: 0, agreement: 0, gold_accuracy: 0.6",
    "recall: 1, precision: 1, balanced_agreement: 1, agreement: 1, gold_accuracy: 1",
)
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


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("story")
    registry = folder / "registry"
    machine = MACHINE | {"MPLCONFIGDIR": str(folder / "mpl")}
    with Site(make_repository(folder)) as site:
        runner = Runner(
            site, folder, {"FACTORY_REGISTRY": str(registry)}, {"publish", "recheck"}, machine, aside=set(NOT_RUN)
        )
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
    runner.expired = "store-"
    story.second = runner.serve()
    runner.expired = ""
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
    assert "`red-wall` passed" in comment and "Right by people" in comment
    head = git(story.site.bare, "rev-parse", f"{story.first[0].event.sha}^2")  # of the merge of main and the branch
    assert f"git checkout {head}\nfactory run datasets/red-wall/scenario.yaml" in comment
    shown = re.findall(r"blob/factory-evidence/(\S+?)\?raw=true", comment)
    assert len(shown) == 2  # curves, and the worst photos
    for path in shown:
        assert story.site.read("factory-evidence", path).startswith((b"\x89PNG", b"\xff\xd8"))
    assert "Right by people" in jobs(story.first, "report")[0].summary


def test_photos_are_embedded_once_and_handed_on(story: Story) -> None:
    assert (embedded(story.first, "embed"), embedded(story.first, "run")) == ([PHOTOS], [0])
    # main does not take over what a pull request has cached; after that, main's is there for all
    assert (embedded(story.merged, "embed"), embedded(story.merged, "run")) == ([PHOTOS], [0])
    later = [*story.refused, *story.merged_both]
    assert (embedded(later, "embed"), embedded(later, "run")) == ([0, 0], [0, 0, 0])


def test_a_job_whose_vectors_are_gone_embeds_by_itself(story: Story) -> None:
    (job,) = jobs(story.second, "run")

    assert "no artifact store-" in job.log and job.result == "success"
    assert (embedded(story.second, "embed"), embedded(story.second, "run")) == ([0], [PHOTOS])


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

    assert "**Against `@champion`, version 1**" in comment and "factory models rollback red-wall champion" in comment
    scenario = story.site.read("main", "datasets/red-wall/scenario.yaml").decode()
    assert "something red" not in scenario and "resnet-mini" in scenario  # what the form does not ask stays


def test_what_the_gate_refuses_is_told_and_not_published(story: Story) -> None:
    told = results(story.refused)
    assert (told["run"], told["report"], told["comment"]) == (["failure"], ["success"], ["success"])
    (comment,) = story.site.comments_on(story.pulls[2])
    assert "`coin` was refused by the gate" in comment
    assert re.search(r"\*\*Refused\.\*\* Finds .*, by people's labels\.$", comment, re.MULTILINE)

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
    folders = [story.runner.folder / name for name in ("artifacts", "caches", "registry")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += story.runner.folder.glob("jobs/*/work/.git/config")

    assert len(files) > 100
    assert [path for path in files if b"ghs_" in path.read_bytes()] == []


def test_every_command_of_every_workflow_was_executed(story: Story) -> None:
    left = {Path(path).name for path, _ in lines() - story.runner.executed}

    assert left == set(NOT_RUN)
