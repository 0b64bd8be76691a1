"""Run folders that come as artefacts: data from a job that is not trusted, sized, typed and counted again.

Nothing here loads a model, and no text of a run is taken as it is: verdicts, clauses and figures are of a closed
vocabulary, and what can be counted again from the predictions is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automation import policy
from automation.command import read_json
from factory import artifacts as files
from factory.artifacts import sha256_file
from factory.errors import FactoryError, RunError
from factory.gate import rule
from factory.report import words
from factory.report.evidence import Floats, Labels, read_labels, read_training
from factory.scenario import Scenario, parse

MAX_DEPTH = 4
MAX_FOLDERS = 20_000
"""Folders that are searched for runs."""
KB, MB = 1_000, 1_000_000
LIMITS = {
    files.SCENARIO: policy.MAX_BYTES,
    files.IMAGES: 500 * MB,
    files.LABELS: 500 * MB,
    files.PREDICTIONS: 200 * MB,
    files.STUDENT: 2_000 * MB,
    files.TRAINING: 5 * MB,
    files.MODEL: 200 * MB,
    files.GATE: MB,
    files.REPORT: 50 * MB,
    files.CARD: MB,
    files.LOG: 50 * MB,
    files.MANIFEST: MB,
}
"""Bytes that each file of a run may have; a run holds no other files."""
MAX_ROWS, MAX_UNPACKED = 5_000_000, 2_000 * MB
"""Of a table."""
VERDICTS = ("pass", "fail", "unproven", "not measured")
CLOSE = 1e-6
"""How far a figure may lie from what is counted again: rounding."""
MOST = 1e15
"""No figure of a run is larger, bytes and seconds included; what is cannot be drawn or printed."""


@dataclass(frozen=True)
class Run:
    """A run folder, read and found to be one; no text in it is from the run but the scenario's."""

    folder: Path
    scenario: Scenario
    passed: bool
    clauses: tuple[dict[str, Any], ...]
    """name, rule, figure, n, interval, verdict; numbers and words of a closed list."""
    figures: dict[str, Any]
    """Numbers of gate.json, in mappings."""
    labels: Labels
    training: dict[str, Floats]
    seconds: float
    """Of all stages together."""
    size: int
    """Bytes of model.onnx."""
    sha256: str
    """Of model.onnx."""
    doubts: tuple[str, ...]
    """Where gate.json says something else than the predictions; words of our own."""

    @property
    def name(self) -> str:
        """The scenario's."""
        return self.scenario.name

    @property
    def threshold(self) -> float:
        """The probability in [0, 1] from which the answer is yes."""
        return float(self.figures["threshold"])

    @property
    def good(self) -> bool:
        """Whether the gate passed it, and the predictions bear that out."""
        return self.passed and not self.doubts


def find(root: Path) -> list[Path]:
    """The run folders at most `MAX_DEPTH` folders below `root`, sorted; links are not followed.

    None where there is no such folder, as when no job came as far as an artefact.
    """
    found: list[Path] = []
    if not root.is_dir():
        return found
    waiting = [(root, 0)]
    for _ in range(MAX_FOLDERS):
        if not waiting:
            return sorted(found)
        folder, depth = waiting.pop()
        if (folder / files.SCENARIO).is_file() and (folder / files.GATE).is_file():
            found.append(folder)
        elif depth < MAX_DEPTH:
            below = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
            waiting += [(path, depth + 1) for path in below]
    raise RunError(f"{root}: more than {MAX_FOLDERS:,} folders")


def read(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        FactoryError: It is none, is not finished, or a file of it is too large or not as a run has it.
    """
    try:
        return _read(folder)
    except (LookupError, TypeError, ArithmeticError, ValueError, AttributeError, pa.ArrowException, OSError) as error:
        raise RunError(f"{folder.name}: no run of the factory ({type(error).__name__})") from None


def check_files(folder: Path) -> None:
    """Refuse a folder that holds more or other than the files of a finished run, or larger ones.

    Raises:
        RunError: It does.
    """
    there = {path.name: path for path in folder.iterdir() if path.name != ".lock"}
    for name, path in sorted(there.items()):
        if name not in LIMITS:
            raise RunError(f"{folder.name}: {name[:80]!a} is no file of a run")
        if path.is_symlink() or not path.is_file():
            raise RunError(f"{folder.name}: {name} is no file")
        if path.stat().st_size > LIMITS[name]:
            raise RunError(f"{folder.name}: {name} has more than {LIMITS[name]:,} bytes")
    if missing := [name for name in (*files.FILES, files.MANIFEST) if name not in there]:
        raise RunError(f"{folder.name}: not finished, or not whole: {', '.join(missing)} missing")


def _read(folder: Path) -> Run:
    check_files(folder)
    scenario = _scenario(folder / files.SCENARIO)
    gate = read_json(folder / files.GATE, LIMITS[files.GATE])
    seconds = read_json(folder / files.MANIFEST, LIMITS[files.MANIFEST]).get("seconds") or {}
    model, labels = folder / files.MODEL, _labels(folder)
    size, figures = model.stat().st_size, _numbers(gate["figures"])
    clauses = tuple(_clause(clause) for clause in gate["clauses"])
    passed = gate["passed"] is True
    return Run(
        folder=folder,
        scenario=scenario,
        passed=passed,
        clauses=clauses,
        figures=figures,
        labels=labels,
        training=read_training(folder / files.TRAINING),
        seconds=sum(float(value) for value in seconds.values() if _known(value)),
        size=size,
        sha256=sha256_file(model),
        doubts=tuple(_doubts(scenario, _evidence(folder, labels, float(figures["threshold"])), size, passed, clauses)),
    )


def _scenario(path: Path) -> Scenario:
    data = path.read_bytes()
    policy.refuse_tricks(data.decode("utf-8"), path.name)
    return parse(data.decode("utf-8"), path.name)


def _labels(folder: Path) -> Labels:
    for name in (files.LABELS, files.PREDICTIONS):
        about = pq.read_metadata(folder / name)
        unpacked = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        if about.num_rows > MAX_ROWS or unpacked > MAX_UNPACKED:
            raise RunError(f"{folder.name}: {name} is too large")
    return read_labels(folder / files.LABELS, folder / files.PREDICTIONS)


def _numbers(tree: Any, depth: int = 0) -> Any:
    """The numbers of a tree of mappings and pairs; what is none is left out."""
    if isinstance(tree, dict) and depth < 6:
        kept = {str(key): _numbers(value, depth + 1) for key, value in tree.items()}
        return {key: value for key, value in kept.items() if value is not None}
    if isinstance(tree, list) and len(tree) == 2 and all(_known(value) for value in tree):
        return tree
    return tree if _known(tree) else None


def _known(value: Any) -> bool:
    """Whether it is a number of a size that a run can have; integers are compared, not converted: they may be huge."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST <= value <= MOST


def _clause(tree: dict[str, Any]) -> dict[str, Any]:
    name, verdict = tree["name"], tree["verdict"]
    if name not in words.CLAUSES or verdict not in VERDICTS:
        raise RunError(f"gate.json: no clause of the gate is {str(name)[:40]!a}, or says {str(verdict)[:40]!a}")
    bound, rest = words.bound(tree), _numbers({key: tree.get(key) for key in ("figure", "n", "interval")})
    if bound is None:
        raise RunError(f"gate.json: {name} has no rule")
    if any(isinstance(rest.get(key), list | dict) for key in ("figure", "n")) or not _pair(rest.get("interval")):
        raise RunError(f"gate.json: {name} has a figure, a number or an interval that is none")
    if not _known(bound):
        raise RunError(f"gate.json: {name} has a rule that nothing can keep")
    clause: dict[str, Any] = {"name": name, "rule": tree["rule"], "verdict": verdict, "n": 0}
    return {"figure": None, "interval": None, **clause, **rest}


def _pair(interval: Any) -> bool:
    return interval is None or isinstance(interval, list)


def _evidence(folder: Path, labels: Labels, threshold: float) -> rule.Evidence:
    """The test split; the network's answers are not kept, so the shipped file's stand in for them."""
    test = labels.test
    picked = np.array(pq.read_table(folder / files.LABELS, columns=["picked"])["picked"].to_pylist(), bool)
    student = labels.student[test].astype(np.float32)  # as the gate compares them with the threshold
    gold = np.where(labels.has_gold, labels.gold, -1).astype(int)[test]
    return rule.Evidence(student, student, labels.teacher[test].astype(np.float32), gold, threshold, picked[test])


def _doubts(
    scenario: Scenario, evidence: rule.Evidence, size: int, passed: bool, clauses: tuple[dict[str, Any], ...]
) -> list[str]:
    """Where the clauses differ from what is counted again; parity cannot be."""
    said = {clause["name"]: clause for clause in clauses}
    counted = [clause for clause in rule.weigh(scenario, evidence, size) if clause.name != "parity"]
    found = []
    for clause in counted:
        claim = said.get(clause.name, {})
        if claim.get("verdict") != clause.verdict or not _same(claim.get("figure"), clause.figure):
            found.append(f"{words.CLAUSES[clause.name]}: counted again, the verdict is “{clause.verdict}”")
    parity = said.get("parity", {"figure": None, "verdict": None})
    if not words.known(parity["figure"]) or (parity["figure"] <= scenario.gate.parity) != (parity["verdict"] == "pass"):
        found.append(f"{words.CLAUSES['parity']}: figure and verdict disagree")
    verdicts = {name: said.get(name, {}).get("verdict") for name in words.CLAUSES}
    shown = "pass" in (verdicts["agreement"], verdicts["gold_accuracy"])
    if passed and ("fail" in verdicts.values() or not shown):
        found.append("gate.json says passed, its clauses do not")
    return found


def _same(one: Any, other: Any) -> bool:
    if words.known(one) and words.known(other):
        return math.isclose(one, other, abs_tol=CLOSE)
    return bool(one == other)


def newest(folders: list[Path]) -> dict[str, Run | FactoryError]:
    """Read runs: of each scenario the newest, by its folder's name; the error of one that is no run, by its path."""
    found: dict[str, Run | FactoryError] = {}
    for folder in sorted(folders, key=lambda path: path.name):
        try:
            run = read(folder)
            found[run.name] = run
        except FactoryError as error:
            found[f"{folder.parent.name}/{folder.name}"] = error
    return found
