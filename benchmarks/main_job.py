"""The main job on a folder of class folders: what a user gets, held against the folder names.

    python benchmarks/main_job.py PHOTOS/catsdogs --name cat --negative dog
    python benchmarks/main_job.py PHOTOS/scenes --name forest --teacher offline

The photos are copied into one folder under names that say nothing. Folder names are gold labels for the test split
alone, so that no student learns from them: labeling and training see the teacher's word only.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from clip_factory.runtime import find_images


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of class folders")
    parser.add_argument("--name", required=True, help="the class folder that means yes; also the scenario's name")
    parser.add_argument("--positive", nargs="+", help="phrases for yes (default: the name)")
    parser.add_argument("--negative", nargs="+", help="phrases for no (default: the names of the other folders)")
    parser.add_argument("--teacher", default="offline")
    parser.add_argument("--store", type=Path, help="embedding store to use (default: a new one)")
    parser.add_argument("--out", type=Path, help="folder to work in (default: a temporary one, deleted at the end)")
    options = parser.parse_args()
    work = options.out or Path(tempfile.mkdtemp(prefix="main-job-"))
    try:
        report(measure(options, work))
    finally:
        if options.out is None:
            shutil.rmtree(work, ignore_errors=True)


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Label without gold, add gold for the test split, run to the end; the two manifests' figures together."""
    truth = flatten(options.photos, options.name, work / "photos")
    scenario = write_scenario(options, work)
    store = options.store or work / "store"
    labeled = call("label", scenario, work, store)
    write_gold(labeled / "labels.parquet", truth, work / "gold.csv")
    finished = call("run", scenario, work, store, "--gold", str(work / "gold.csv"))
    seconds = {stage: max(done(labeled).get(stage, 0), done(finished).get(stage, 0)) for stage in done(finished)}
    return {"gate": json.loads((finished / "gate.json").read_text()), "seconds": seconds, "run": finished}


def flatten(photos: Path, yes: str, target: Path) -> dict[str, bool]:
    """Copy all photos into one folder under neutral names; the truth by name."""
    target.mkdir(parents=True, exist_ok=True)
    truth = {}
    for path in find_images(photos):
        name = hashlib.sha256(str(path.relative_to(photos)).encode()).hexdigest()[:12] + path.suffix
        shutil.copyfile(path, target / name)
        truth[name] = path.relative_to(photos).parts[0] == yes
    return truth


def write_scenario(options: argparse.Namespace, work: Path) -> Path:
    """The scenario file; phrases default to the folders' names."""
    others = sorted(
        folder.name for folder in options.photos.iterdir() if folder.is_dir() and folder.name != options.name
    )
    scenario = {
        "name": options.name,
        "positive": options.positive or [options.name],
        "negative": options.negative or others,
        "images": {"path": "photos"},
        "teacher": {"model": options.teacher},
    }
    path = work / f"{options.name}.yaml"
    path.write_text(json.dumps(scenario, indent=2), encoding="utf-8")  # JSON is YAML
    return path


def write_gold(labels: Path, truth: dict[str, bool], path: Path) -> None:
    """Gold labels of the test split."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for row in pq.read_table(labels, columns=["path", "split"]).to_pylist():
            if row["split"] == "test":
                writer.writerow((row["path"], "yes" if truth[row["path"]] else "no"))


def call(verb: str, scenario: Path, work: Path, store: Path, *more: str) -> Path:
    """Call the command as a user would; the run folder that it prints."""
    command = [
        sys.executable,
        "-m",
        "clip_factory",
        verb,
        str(scenario),
        "--out",
        str(work / "runs"),
        "--store",
        str(store),
    ]
    finished = subprocess.run([*command, *more], stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode > 1:
        sys.exit(finished.returncode)
    return Path(finished.stdout.splitlines()[-1])


def done(run: Path) -> dict[str, float]:
    """Seconds of each stage, from the run's log."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {event["stage"]: event["seconds"] for event in events if event["event"] == "done"}


def report(figures: dict[str, Any]) -> None:
    """Print stages, clauses and what gold says of teacher and student."""
    total = sum(figures["seconds"].values())
    for stage, seconds in figures["seconds"].items():
        print(f"{stage:<8} {seconds:8.1f} s {seconds / total:6.1%}")
    for clause in figures["gate"]["clauses"]:
        print(f"{clause['name']:<14} {clause['figure']} {clause['rule']} n={clause['n']} {clause['verdict']}")
    for who, side in (figures["gate"]["figures"]["gold"] or {}).items():
        accuracy, balanced = side["accuracy"]["figure"], side["balanced_accuracy"]["figure"]
        print(f"{who:<8} gold accuracy {accuracy:.4f}  balanced {balanced:.4f}  auc {side['auc']:.4f}")
    print("gate passed" if figures["gate"]["passed"] else "gate REFUSED", figures["run"])


if __name__ == "__main__":
    main()
