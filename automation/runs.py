"""Run folders that come as artifacts: data from a job that is not trusted, sized, typed and counted again.

Nothing here loads a model, and no text of a run is used as it is: clauses and figures are of a closed vocabulary, what
can be counted again from the predictions is, and the verdict is concluded anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automation import policy
from automation.command import read_json
from automation.recount import contradictions, recount
from clip_factory import run_folder as files
from clip_factory.errors import FactoryError, RunError
from clip_factory.gate.evidence import Reference
from clip_factory.gate.verdict import Verdict
from clip_factory.labels import Labels
from clip_factory.report import formatting as words
from clip_factory.report.run_data import Floats, LabeledPhotos, read_labels, read_training
from clip_factory.run_folder import sha256_file
from clip_factory.scenario import Scenario, parse
from clip_factory.statistics import break_even

MAX_DEPTH = 4
MAX_FOLDERS = 20_000
"""Folders that are searched for runs."""
KB, MB = 1_000, 1_000_000
LIMITS = {
    files.SCENARIO: policy.MAX_BYTES,
    files.IMAGES: 500 * MB,
    files.LABELS: 500 * MB,
    files.PREDICTIONS: 200 * MB,
    files.SPLITS: 500 * MB,
    files.STUDENT: 2_000 * MB,
    files.TRAINING: 5 * MB,
    files.HELD_OUT: 200 * MB,
    files.MODEL: 200 * MB,
    files.GATE: MB,
    files.REPORT: 50 * MB,
    files.CARD: MB,
    files.LABELS_PAGE: 50 * MB,
    files.LOG: 50 * MB,
    files.MANIFEST: MB,
}
"""Bytes that each file of a run may have; a run holds no other files."""
MAX_ROWS, MAX_UNPACKED = 5_000_000, 2_000 * MB
"""Of a table."""
VERDICTS = ("pass", "fail", "unproven", "not measured")
NOT_RECOUNTED = ("parity", "latency_ms", "bytes")
"""Figures that cannot be counted again."""
MAX_NUMBER = 1e15
"""No figure of a run is larger, bytes and seconds included; what is cannot be drawn or printed."""


@dataclass(frozen=True)
class Run:
    """A run folder, read and found to be one; no text in it is from the run but the scenario's."""

    folder: Path
    scenario: Scenario
    verdict: Verdict
    """Concluded here, by the rule, from the predictions; parity is that of gate.json. No text of it is the run's."""
    against: Reference
    """Whose labels it was measured against: people's, or its teacher's."""
    clauses: tuple[dict[str, Any], ...]
    """name, rule, figure, n, interval, verdict, decides; numbers and words of a closed list."""
    figures: dict[str, Any]
    """Numbers in mappings, by the names of gate.json: counted again, but for parity, latency and size."""
    labels: LabeledPhotos
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

    def may_be_published(self, *, allow_unproven: bool = False) -> bool:
        """Whether it passed, or is not proven and that is allowed; never where it contradicts itself."""
        fine = ("passed", "not proven") if allow_unproven else ("passed",)
        return self.verdict.state in fine and not self.doubts


def find(root: Path) -> list[Path]:
    """The run folders at most `MAX_DEPTH` folders below `root`, sorted; links are not followed.

    None where there is no such folder, as when no job came as far as an artifact.
    """
    folders: list[Path] = []
    if not root.is_dir():
        return folders
    waiting = [(root, 0)]
    for _ in range(MAX_FOLDERS):
        if not waiting:
            return sorted(folders)
        folder, depth = waiting.pop()
        if (folder / files.SCENARIO).is_file() and (folder / files.GATE).is_file():
            folders.append(folder)
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
    if missing := [name for name in (*files.FILES, files.MANIFEST) if name not in (*there, files.SPLITS)]:
        raise RunError(f"{folder.name}: not finished, or not whole: {', '.join(missing)} missing")


def _read(folder: Path) -> Run:
    check_files(folder)
    scenario = _scenario(folder / files.SCENARIO)
    gate = read_json(folder / files.GATE, LIMITS[files.GATE])
    seconds = read_json(folder / files.MANIFEST, LIMITS[files.MANIFEST]).get("seconds") or {}
    model, labels = folder / files.MODEL, _labels(folder)
    size, figures = model.stat().st_size, _numbers(gate["figures"])
    clauses = tuple(_clause(clause) for clause in gate["clauses"])
    counted = recount(scenario, labels, float(figures["threshold"]), size, clauses)
    return Run(
        folder=folder,
        scenario=scenario,
        verdict=counted.verdict,
        against=counted.against,
        clauses=clauses,
        figures={key: figures[key] for key in NOT_RECOUNTED if key in figures} | _numbers(counted.figures),
        labels=labels,
        training=read_training(folder / files.TRAINING),
        seconds=sum(float(value) for value in seconds.values() if _known(value)),
        size=size,
        sha256=sha256_file(model),
        doubts=(*counted.doubts, *contradictions(gate, counted.verdict)),
    )


def _scenario(path: Path) -> Scenario:
    data = path.read_bytes()
    policy.refuse_tricks(data.decode("utf-8"), path.name)
    return parse(data.decode("utf-8"), path.name)


def _labels(folder: Path) -> LabeledPhotos:
    for name in (files.LABELS, files.PREDICTIONS):
        about = pq.read_metadata(folder / name)
        unpacked = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        if about.num_rows > MAX_ROWS or unpacked > MAX_UNPACKED:
            raise RunError(f"{folder.name}: {name} is too large")
    predictions = pq.read_table(folder / files.PREDICTIONS)
    labels = read_labels(Labels.from_table(pq.read_table(folder / files.LABELS)), predictions)
    return replace(labels, teacher_threshold=break_even(labels.teacher.astype(np.float32)))


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
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_NUMBER <= value <= MAX_NUMBER


def _clause(tree: dict[str, Any]) -> dict[str, Any]:
    name, verdict = tree["name"], tree["verdict"]
    if name not in words.CLAUSES or verdict not in VERDICTS:
        raise RunError(f"gate.json: no clause of the gate is {str(name)[:40]!a}, or says {str(verdict)[:40]!a}")
    decides = tree.get("decides", True) is not False
    bound, rest = words.bound(tree), _numbers({key: tree.get(key) for key in ("figure", "n", "interval")})
    if bound is None:
        raise RunError(f"gate.json: {name} has no rule")
    if any(isinstance(rest.get(key), list | dict) for key in ("figure", "n")) or not _pair(rest.get("interval")):
        raise RunError(f"gate.json: {name} has a figure, a number or an interval that is none")
    if not _known(bound):
        raise RunError(f"gate.json: {name} has a rule that nothing can keep")
    clause: dict[str, Any] = {"name": name, "rule": tree["rule"], "verdict": verdict, "decides": decides, "n": 0}
    return {"figure": None, "interval": None, **clause, **rest}


def _pair(interval: Any) -> bool:
    return interval is None or isinstance(interval, list)


def newest(folders: list[Path]) -> dict[str, Run | FactoryError]:
    """Read runs: of each scenario the newest, by its folder's name; the error of one that is no run, by its path."""
    by_name: dict[str, Run | FactoryError] = {}
    for folder in sorted(folders, key=lambda path: path.name):
        try:
            run = read(folder)
            by_name[run.name] = run
        except FactoryError as error:
            by_name[f"{folder.parent.name}/{folder.name}"] = error
    return by_name
