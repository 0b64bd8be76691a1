"""The run folder: which files it holds, how they are written, and how a stage knows that it is done.

Every file is written under a temporary name and renamed, so a half-written file never looks whole. A stage leaves
a `done` line in log.jsonl with the hashes of what it read; while those still match, it need not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import RunError

if TYPE_CHECKING:  # who publishes a run need not have it
    import pyarrow as pa

SCENARIO = "scenario.yaml"
IMAGES = "images.parquet"
LABELS = "labels.parquet"
STUDENT = "student.ckpt"
TRAINING = "training.csv"
MODEL = "model.onnx"
PREDICTIONS = "predictions.parquet"
GATE = "gate.json"
REPORT = "report.html"
CARD = "card.md"
LOG = "log.jsonl"
MANIFEST = "manifest.json"

FILES = (SCENARIO, IMAGES, LABELS, STUDENT, TRAINING, MODEL, PREDICTIONS, GATE, REPORT, CARD)
"""What a finished run holds beside its log and manifest."""


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it into place."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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

    def table(self, name: str, made_by: str) -> pa.Table:
        """One of the run's Parquet files, with its schema metadata.

        Raises:
            RunError: It is missing or damaged; the message names the command that makes it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.need(name, made_by)
        try:
            return pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise RunError(f"{path}: damaged ({error})", hint=self._remake(path, made_by)) from None

    def json(self, name: str, made_by: str) -> Any:
        """The content of one of the run's JSON files.

        Raises:
            RunError: It is missing or damaged; the message names the command that makes it.
        """
        path = self.need(name, made_by)
        try:
            return read_json(path)
        except ValueError as error:
            raise RunError(f"{path}: damaged ({error})", hint=self._remake(path, made_by)) from None

    def _remake(self, path: Path, made_by: str) -> str:
        return f"delete {path.name}, then: factory {made_by} {self.path}"

    def log(self, event: str, **fields: Any) -> None:
        """Append one line to log.jsonl: the time (Unix seconds), the event, its fields."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False)
        with open(self.file(LOG), "ab+") as file:
            cut_short = file.tell() > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            file.write(("\n" * cut_short + line + "\n").encode())

    def events(self, event: str) -> list[dict[str, Any]]:
        """All logged events of one kind, oldest first; a line cut short by a crash is passed over."""
        if not self.file(LOG).is_file():
            return []
        found = []
        for line in self.file(LOG).read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry.get("event") == event:
                found.append(entry)
        return found

    def hashes(self, names: tuple[str, ...]) -> dict[str, str]:
        """Hex sha256 of those of the named files that exist."""
        return {name: sha256_file(self.file(name)) for name in names if self.file(name).is_file()}

    @property
    def finished(self) -> bool:
        """Whether the manifest, which is written last, is there."""
        return self.file(MANIFEST).is_file()
