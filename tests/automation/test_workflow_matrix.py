"""Another repository, with the lines that automation/README.md gives, and twenty scenarios on one set of photos."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clip_factory import encoders as teacher
from clip_factory import pipeline
from clip_factory import run_request as start
from clip_factory.errors import LabelsError
from clip_factory.scenario import Teacher
from clip_factory.store import EmbeddingStore
from support.github_site import Site, git
from support.workflow_files import ROOT
from support.workflow_runner import Run, Runner
from support.workflow_world import MACHINE, PHOTOS, draw_walls, jobs, make_repository

README = (ROOT / "automation" / "README.md").read_text(encoding="utf-8")
CALLER = re.search(r"```yaml\n(name: Models\n.*?)```", README, re.DOTALL)[1]
SCENARIO = """name: thing-{number}
positive: [thing number {number}]
negative: [something else]
images: {{path: ../walls/photos}}
teacher: {{model: offline}}
gold: ../walls/{gold}.csv
"""


def test_another_repository_needs_ten_lines() -> None:
    assert len(CALLER.splitlines()) <= 10
    inputs = YAML(typ="safe").load(ROOT / ".github/workflows/factory.yml")["on"]["workflow_call"]["inputs"]

    assert [name for name, about in inputs.items() if "default" not in about] == []


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runner, Run]:
    """A pull request that adds twenty scenarios, up to the hand-over of the vectors."""
    folder = tmp_path_factory.mktemp("twenty")
    project = make_repository(folder)
    clone, bare = folder / "photos", folder / "photos.git"
    draw_walls(clone / "datasets" / "walls")
    walls = clone / "datasets" / "walls"
    (walls / "all.csv").write_text((walls / "gold.csv").read_text("utf-8").replace("no", "yes"), encoding="utf-8")
    workflow = clone / ".github" / "workflows" / "models.yml"
    workflow.parent.mkdir(parents=True)
    called = CALLER.replace("COMMIT", git(project, "rev-parse", "main"))
    workflow.write_text(called, encoding="utf-8")
    git(folder, "init", "-q", "-b", "main", str(clone))
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "Photos")
    git(clone, "checkout", "-q", "-b", "twenty")
    for number in range(20):
        file = clone / "datasets" / f"thing-{number}" / "scenario.yaml"
        file.parent.mkdir()
        gold = "gold" if number else "all"  # the first, which stands for the set, is at fault: all its answers are yes
        file.write_text(SCENARIO.format(number=number, gold=gold), encoding="utf-8")
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "Twenty questions")
    git(folder, "clone", "-q", "--bare", str(clone), str(bare))
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    with Site(bare, "team/photos") as site:
        runner = Runner(site, folder, machine=MACHINE, places={"OWNER/clip-factory": project}, only={"plan", "embed"})
        site.pull("twenty", "Twenty questions")
        (run,) = runner.serve()
    return runner, run


@pytest.mark.slow
def test_twenty_scenarios_embed_their_photos_once(
    twenty: tuple[Runner, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part of the twenty `run` jobs that could embed is done in this process, which starts torch once."""
    runner, run = twenty
    (plan,) = jobs([run], "plan")
    scenarios = json.loads(plan.outputs["scenarios"])
    assert len(scenarios) == 20
    assert len(json.loads(plan.outputs["sets"])) == len(jobs([run], "embed")) == 1
    clone, store = tmp_path / "clone", run.artifacts / f"store-{scenarios[0]['set']}"
    git(tmp_path, "clone", "-q", "--branch", "twenty", str(runner.site.bare), str(clone))
    monkeypatch.setattr(teacher, "load_encoder", functools.cache(teacher.load_encoder))
    key = teacher.load_encoder(Teacher(model="offline")).key
    assert len(EmbeddingStore(store).known(key)) == PHOTOS

    counts, faults = [], []
    for scenario in scenarios:
        target = clone / scenario["path"]
        with start.open_run(target, start.Overrides(), tmp_path / "runs", store, resume=True) as folder:
            try:
                pipeline.run(folder, store, "label")
            except LabelsError:
                faults.append(scenario["name"])
            counts += [event["embedded"] for event in folder.events("labeled")]
    assert (counts, faults) == ([0] * 20, ["thing-0"])
