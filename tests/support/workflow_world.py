"""A scratch world for the workflows: a repository with photos of walls, people who push and write issues, and looks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from support.git import git
from support.workflow_files import ROOT, load
from support.workflow_runner import Job, Run

PROJECT = (".github", "automation", "factory", "LICENSE", "README.md", "constraints.txt", "pyproject.toml")
PHOTOS = 48
MACHINE = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
"""What the runners have in their environment."""


def draw_walls(folder: Path) -> None:
    """Walls with gray stains, red and blue by turns; gold.csv says which are red, coin.csv says anything."""
    (folder / "photos").mkdir(parents=True)
    answers, coins = ["path,label"], ["path,label"]
    for index in range(PHOTOS):
        random, red = np.random.default_rng(index), index % 2 == 0
        color = np.array([200, 40, 40] if red else [40, 60, 200]) + random.integers(-30, 30, 3)
        image = Image.fromarray(random.normal(color, 12, (64, 64, 3)).clip(0, 255).astype(np.uint8))
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
    tree = load(ROOT / ".github/ISSUE_TEMPLATE/new-prompt.yml")
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
    return [event["embedded"] for job in jobs(runs, name) for event in log_of(job) if event["event"] == "labeled"]
