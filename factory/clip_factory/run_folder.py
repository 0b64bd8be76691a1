"""The run folder: which files it holds, how they are written, and how a stage knows that it is done.

Every file is written under a temporary name and renamed, so a half-written file never looks whole. A stage leaves
a `done` line in log.jsonl with the hashes of what it read; while those still match, it need not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_factory.errors import RunError
from clip_factory.runtime.suggestions import nearest

if TYPE_CHECKING:  # who publishes a run need not have it
    import pyarrow as pa

SCENARIO = "scenario.yaml"
IMAGES = "images.parquet"
LABELS = "labels.parquet"
LABELS_PAGE = "labels.html"
"""A view of the labels for people: no other file rests on it, so it is none of `FILES`."""
EVIDENCE = "evidence.parquet"
"""What the label source shows for its answers: boxes and masks."""
STUDENT = "student.ckpt"
TRAINING = "training.csv"
HELD_OUT = "held_out.parquet"
MODEL = "model.onnx"
PREDICTIONS = "predictions.parquet"
SPLITS = "splits.csv"
"""Which photos shaped the model, and which it never saw."""
GATE = "gate.json"
REPORT = "report.html"
CARD = "card.md"
LOG = "log.jsonl"
MANIFEST = "manifest.json"

RUNS = Path("runs")
"""The folder of runs, unless another is named."""

SCENARIO_SUFFIXES = (".yaml", ".yml")
"""Of scenario files."""

LATEST = "latest"
"""The word for the newest run."""

OLD_STAGE_NAMES = {"images": "scan", "gate": "evaluate"}
"""What version 0.1.0 called a stage in log.jsonl, and what it is called now."""

FILES = (SCENARIO, IMAGES, LABELS, STUDENT, TRAINING, HELD_OUT, MODEL, PREDICTIONS, SPLITS, GATE, REPORT, CARD)
"""What a finished run holds beside its log and manifest."""
OPTIONAL = (EVIDENCE,)
"""What only some runs hold."""


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class RunFolder:
    """One pass of a scenario through the stages: a folder of files."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run folder at `path`.

        Raises:
            RunError: It is no run folder.
        """
        if not (path / SCENARIO).is_file():
            raise RunError(f"{path} is no run folder: it holds no {SCENARIO}", hint="make one: factory run FILE.yaml")
        return cls(path)

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.path / name

    def need(self, name: str, made_by: str) -> Path:
        """The path of a file that an earlier stage made.

        Raises:
            RunError: It is not there; the message names the command that makes it.
        """
        path = self.file(name)
        if not path.is_file():
            raise RunError(f"{self.path} has no {name}", hint=f"run first: factory {made_by} {self.path}")
        return path

    def table(self, name: str, made_by: str, columns: Sequence[str] = ()) -> pa.Table:
        """One of the run's Parquet files, with its schema metadata.

        Args:
            name: Of the file.
            made_by: The command that makes it.
            columns: Which it must have.

        Raises:
            RunError: It is missing, damaged, or lacks a column; the message names the command that makes it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.need(name, made_by)
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise RunError(f"{path}: damaged ({error})", hint=self._remake(path, made_by)) from None
        if missing := [column for column in columns if column not in table.column_names]:
            raise RunError(f"{path}: no column {', '.join(missing)}", hint=self._remake(path, made_by))
        return table

    def json(self, name: str, made_by: str) -> Any:
        """The content of one of the run's JSON files.

        Raises:
            RunError: It is missing or damaged; the message names the command that makes it.
        """
        path = self.need(name, made_by)
        try:
            return read_json(path)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: damaged ({error})", hint=self._remake(path, made_by)) from None

    def _remake(self, path: Path, made_by: str) -> str:
        return f"delete {path.name}, then: factory {made_by} {self.path}"

    def log(self, event: str, **fields: Any) -> None:
        """Append one line to log.jsonl: the time (Unix seconds), the event, its fields; a `time` among them counts."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False)
        with open(self.file(LOG), "ab+") as file:
            unterminated = file.tell() > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            file.write(("\n" * unterminated + line + "\n").encode())

    def events(self, event: str) -> list[dict[str, Any]]:
        """All logged events of one kind, oldest first; a line cut short by a crash is passed over."""
        if not self.file(LOG).is_file():
            return []
        entries = []
        for line in self.file(LOG).read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and entry.get("event") == event:
                entries.append(entry)
        return entries

    def done_events(self) -> list[dict[str, Any]]:
        """A log entry for each stage that ended well, oldest first: `stage`, `seconds`, `reads` (name to hash)."""
        done = [event for event in self.events("done") if "stage" in event]
        return [event | {"stage": OLD_STAGE_NAMES.get(event["stage"], event["stage"])} for event in done]

    def hashes(self, names: tuple[str, ...]) -> dict[str, str]:
        """Hex sha256 of those of the named files that exist."""
        return {name: sha256_file(self.file(name)) for name in names if self.file(name).is_file()}

    @property
    def finished(self) -> bool:
        """Whether the manifest, which is written last, is there."""
        return self.file(MANIFEST).is_file()

    @property
    def begun(self) -> float:
        """When the run began, Unix seconds; of a folder without a log, when its scenario was written."""
        first = next(iter(self.events("start")), {})
        begun = first.get("time")
        return float(begun) if isinstance(begun, int | float) else self.file(SCENARIO).stat().st_mtime


def means_run(target: Path) -> bool:
    """Whether a SCENARIO|RUN argument means a run: any folder, or the word `latest`; else it is a scenario file."""
    return target.is_dir() or (target.name == LATEST and not target.exists())


def find_run(target: Path, runs: Path = RUNS) -> RunFolder:
    """The run that a RUN argument means.

    Args:
        target: A run folder; or a folder of runs such as runs/ball or runs, or the word `latest`, also as
            runs/ball/latest: of these the run that began last among the finished ones, else among the labeled ones.
        runs: The folder of runs that the bare word `latest` looks through.

    Raises:
        RunError: There is no such folder, or no finished or labeled run in it; the message names what was looked for.
    """
    if (target / SCENARIO).is_file():
        return RunFolder(target)
    home = target
    if target.name == LATEST and not target.exists():
        home = runs if len(target.parts) == 1 else target.parent
    if not home.is_dir():
        raise RunError(f"{target}: no such run folder", hint=_suggestion(home, runs))
    runs_there = runs_below(home)
    usable = [run for run in runs_there if run.finished] or [run for run in runs_there if run.file(LABELS).is_file()]
    if usable:
        return usable[-1]
    if runs_there:
        raise RunError(
            f"{target}: no run in {home} is finished or labeled yet", hint=f"go on: factory run {runs_there[-1].path}"
        )
    if home is target:
        raise RunError(
            f"{target} is no run folder: it holds no {SCENARIO}, and no runs", hint="make one: factory run FILE.yaml"
        )
    raise RunError(f"{target}: no run in {home}", hint="make one: factory run FILE.yaml")


def runs_below(home: Path) -> list[RunFolder]:
    """The runs in a folder of runs (`runs/ball`), or in a folder of those (`runs`); the first that began is first."""
    runs = [RunFolder(file.parent) for depth in ("[!.]*", "[!.]*/[!.]*") for file in home.glob(f"{depth}/{SCENARIO}")]
    return sorted(runs, key=lambda run: (run.begun, run.path.name))


def _suggestion(missing: Path, runs: Path) -> str:
    """A hint for a folder that is not there: the nearest name where the way breaks off, else the command for a run."""
    place = next(parent for parent in missing.parents if parent.is_dir() or parent == parent.parent)
    parts = missing.relative_to(place).parts
    for beside in (place, runs) if len(missing.parts) == 1 else (place,):
        if beside.is_dir() and (name := nearest(parts[0], [*_folders(beside), LATEST])):
            return f"did you mean {beside / name}?"
    return "make one: factory run FILE.yaml"


def _folders(place: Path) -> list[str]:
    return [path.name for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")]
