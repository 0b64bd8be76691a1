"""People's answers, kept for ever: a journal that is only ever appended to, and a table that is made from it.

    ball.yaml              the scenario
    ball.answers.jsonl     the truth: one line an event (an answer to one or many photos, an undo, a batch)
    ball.gold.parquet      the answers in force, written anew after each event; a scenario's `gold:` may name it

Why a journal: a line is on the disk (fsync) before an answer counts as recorded, a line that a crash cut short is
passed over by every reader and closed by the next writer, and no answer is ever overwritten. An event is one line, so
that it is there as a whole or not at all. Writers take turns by a file lock, which the system frees when a process
dies; readers need no lock. The order of the lines decides, not the clocks of the machines.
"""

from __future__ import annotations

import getpass
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from clip_factory.errors import ReviewError
from clip_factory.gold.ledger import Answer, Event, Ledger
from clip_factory.progress import console
from clip_factory.runtime.atomic import atomic, sync_folder

SUFFIX = ".answers.jsonl"
MAX_NAME = 100
"""Characters of a reviewer's name."""

SCHEMA = pa.schema(
    [
        ("sha256", pa.string()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("conflict", pa.bool_()),
        ("random", pa.bool_()),
        ("reviewer", pa.string()),
        ("time", pa.string()),
    ]
)
"""gold.parquet: one row an image that anyone answered; `label` is yes, no, unsure, or null where people disagree."""

TRUNCATED = b" (cut short)\n"
"""Closes off what a crash left of a line: nobody was informed that it is saved, so it must not count later."""


@dataclass
class Journal:
    """The answers about one scenario's photos. Use one object a thread; any number of processes may share the file."""

    path: Path
    _read: int = 0
    _events: list[Event] = field(default_factory=list)
    _ledger: Ledger | None = None

    @property
    def table(self) -> Path:
        """Where gold.parquet is: beside the journal, under the scenario's name."""
        return self.path.with_name(self.path.name.removesuffix(SUFFIX) + ".gold.parquet")

    def ledger(self) -> Ledger:
        """The state of all answers now; what other processes wrote since the last call is read.

        Raises:
            ReviewError: The file cannot be read.
        """
        fresh = self._new_events()
        if fresh or self._ledger is None:
            self._events += fresh
            self._ledger = Ledger.of(self._events)
        return self._ledger

    def answer(
        self,
        reviewer: str,
        images: dict[str, str],
        answer: Answer | None,
        *,
        minutes: float = 0.0,
        resolves: bool = False,
    ) -> str:
        """Record one answer to one or many images; it is on the disk when this returns.

        Args:
            reviewer: Whose answer it is; 1 to 100 printable characters.
            images: Paths by sha256; the paths are for people to read.
            answer: None removes the reviewer's answers to these images.
            minutes: Time spent.
            resolves: The answer outranks all before it, whoever's they are.

        Returns:
            The id of the event.

        Raises:
            ReviewError: It could not be written, and does not count.
        """
        sampled = self.ledger().sampled
        random = [sha for sha in images if sha in sampled]
        fields = {"answer": answer, "images": images, "random": random, "minutes": minutes, "resolves": resolves}
        return self._append("answer", reviewer, fields)

    def undo(self, reviewer: str) -> Event | None:
        """Undo the reviewer's latest event, by a line of its own; None when there is nothing to undo.

        Raises:
            ReviewError: It could not be written, and does not count.
        """
        last = self.ledger().latest.get(reviewer)
        if last is not None:
            self._append("undo", reviewer, {"undoes": last.id})
        return last

    def record_batch(self, reviewer: str, images: dict[str, str], random: Iterable[str], places: int) -> None:
        """Record a batch before it is shown: which images, which of them were sampled at random.

        Args:
            reviewer: Who is asked.
            images: Paths by sha256, of all that are asked.
            random: The sha256 of those that were sampled, asked or answered before.
            places: How far along the random order the sample has come, with this batch.
        """
        self._append("asked", reviewer, {"images": images, "random": list(random), "places": places})

    def _append(self, kind: str, reviewer: str, fields: dict[str, Any]) -> str:
        event = uuid.uuid4().hex
        head = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "act": event, "kind": kind}
        line = json.dumps(head | {"reviewer": checked_name(reviewer)} | fields, ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                _append_line(self.path, line.encode())
                if kind != "asked":
                    self._renew_table()
        except OSError as error:
            raise ReviewError(
                f"{self.path}: the answer could not be written ({error.strerror or error})",
                hint="is the disk full, or the folder read-only? The answers before it are safe",
            ) from None
        return event

    def _renew_table(self) -> None:
        """Write the table anew. The answer is safe without it, so a table that cannot be written costs a warning."""
        try:
            _write_table(self.table, self.ledger())
        except OSError as error:
            console.print(f"warning: {self.table} is behind ({error}); the next answer renews it", markup=False)

    def _new_events(self) -> list[Event]:
        """Events in the whole lines that were added since the last call."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ReviewError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        return [event for event in map(_parse, whole.splitlines()) if event is not None]


def default_reviewer() -> str:
    """Who answers where no one is named: the user of this process, as far as the system knows one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without users
        return "unknown"


def checked_name(reviewer: str) -> str:
    """A reviewer's name without blanks around it.

    Raises:
        ReviewError: It is empty, too long, or has characters that do not print.
    """
    name = reviewer.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ReviewError(
            f"{reviewer[:MAX_NAME]!r} is no reviewer's name",
            hint=f"give 1 to {MAX_NAME} letters that print",
        )
    return name


def _append_line(path: Path, line: bytes) -> None:
    """Add a line in one piece and bring it to the disk; what a crash left of another line is closed off first."""
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        # the mark keeps a line that lacks its end alone from counting after all, once it has one
        data = TRUNCATED * torn + line
        try:
            written = os.write(descriptor, data)
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:  # a full disk may have taken a part: remove it, so that no reader ever trips over it
            os.ftruncate(descriptor, size)
            raise
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)


def _parse(line: bytes) -> Event | None:
    """The event that a line records; None for what is left of a line that a crash cut short, and for foreign lines."""
    try:
        fields = json.loads(line)
        event = Event(
            id=fields["act"],
            time=fields["time"],
            kind=fields["kind"],
            reviewer=fields["reviewer"],
            images=dict(fields.get("images", {})),
            answer=fields.get("answer"),
            random=frozenset(fields.get("random", ())),
            places=int(fields.get("places", 0)),
            minutes=float(fields.get("minutes", 0)),
            resolves=bool(fields.get("resolves", False)),
            undoes=fields.get("undoes", ""),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return event if event.answer in (None, *get_args(Answer)) else None


def _write_table(path: Path, ledger: Ledger) -> None:
    rows = sorted(ledger.images.items())
    columns: dict[str, list[Any]] = {
        "sha256": [sha for sha, _ in rows],
        "path": [image.path for _, image in rows],
        "label": [image.answer for _, image in rows],
        "conflict": [image.conflict for _, image in rows],
        "random": [sha in ledger.sampled for sha, _ in rows],
        "reviewer": [image.reviewer for _, image in rows],
        "time": [image.time for _, image in rows],
    }
    with atomic(path) as temporary:
        pq.write_table(pa.table(columns, schema=SCHEMA), temporary)
