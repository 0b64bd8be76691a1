"""The page's requests and their answers, between JSON and the session: checked, counted, done one at a time.

Several pages, and other processes, may answer at once. Each change seen here gets the next number, and a page asks
for what has changed since the number it knows.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from clip_factory.errors import FactoryError
from clip_factory.report.evidence_overlay import drawn_evidence
from clip_factory.review.session import Session
from clip_factory.review.words import WordTrials

ANSWERS = ("yes", "no", "unsure", None)
MAX_AT_ONCE = 10_000
"""Photos that one request may answer."""
MAX_BATCH = 500
"""Photos in a batch."""
MAX_MINUTES = 60.0
LABEL_COLUMNS = ["p", "predicted", "doubt", "disagrees", "mistake", "suspect"]
"""Columns of the table that change as labels learn from answers."""
MAX_KEYS = 10_000
"""Requests remembered, so that one sent again is not done again."""


class RequestError(Exception):
    """A request that makes no sense."""


class StaleError(Exception):
    """The page shows another run than this server."""


@dataclass(frozen=True)
class About:
    """Which review this is."""

    id: str
    """Of run and reviewer: a page left open from another one at the same address gets an error, and changes nothing."""
    question: str
    reviewer: str
    run: str = "RUN"
    """How a command names the run, quoted for a shell."""
    region: str = ""
    """The part of each photo that is asked about, in words; empty: the whole."""
    region_key: str = ""
    """Changes with the region: a browser keeps pictures."""


class RequestHandler:
    """One reviewer's session, shared by all pages that show it; any thread may call."""

    def __init__(self, session: Session, about: About, words: WordTrials | None = None) -> None:
        """`words`: what tries other words; None where that is not offered."""
        self._session, self._about, self._words = session, about, words
        self._lock, self._recording = threading.Lock(), threading.Lock()
        self._table: pa.Table = None
        self._figures: dict[str, Any] = {}
        self._state: dict[str, tuple[Any, ...]] = {}
        self._journal_bytes = -1  # it only grows
        self._changed: dict[str, int] = {}
        # Milliseconds, so that a server started anew counts on from where no earlier one can have been.
        self._started = self._version = time.time_ns() // 1_000_000
        self._done: OrderedDict[str, None] = OrderedDict()
        self._refresh()
        self._changed.clear()

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._state

    def items(self) -> bytes:
        """All photos as JSON: columns of equal length, the reviewer, and the number of the latest change."""
        with self._lock:
            self._refresh()
            columns, about = _columns(self._table), asdict(self._about)
            return _json(
                {
                    "columns": columns,
                    "about": about,
                    "threshold": self._threshold(),
                    **self._figures,
                    "evidence": bool(self._session.pool.evidence),
                }
            )

    def labels(self) -> bytes:
        """The columns of `items` that change as labels learn from answers, and which labels these are, as JSON."""
        with self._lock:
            self._refresh()
            return _json({"columns": _columns(self._table.select(LABEL_COLUMNS)), "learned": self._figures["learned"]})

    def evidence(self, body: bytes) -> bytes:
        """What the label source shows for its answers about the photos that a request's body names, as JSON.

        By sha256: `boxes`, the best first, each with phrase, score, place and whether it speaks for yes; `mask`, a PNG
        with transparency in base64, to be stretched over the photo; `says`, the mask in words. Photos for which nothing
        is shown are left out. Errors as of `photos`.
        """
        pool, photos = self._session.pool, self.photos(body)
        shown = {sha256: drawn_evidence(one, pool.positive) for sha256 in photos if (one := pool.evidence.get(sha256))}
        return _json({sha256: one for sha256, one in shown.items() if one["boxes"] or one["mask"]})

    def photos(self, body: bytes) -> list[str]:
        """The photos that a request's body names under `sha256`.

        Raises:
            RequestError: It names none, too many, or one that the run does not have.
        """
        return self._named(_object(body))

    def changes(self, version: int, run: str) -> bytes:
        """What has changed after the change with the number `version`, by this reviewer or another, as JSON.

        Raises:
            StaleError: The page shows another run.
        """
        self._check(run)
        with self._lock:
            self._refresh()
            if version < self._started:  # the page has the state of an earlier server
                changed = self._state
            else:
                changed = {sha256: self._state[sha256] for sha256, at in self._changed.items() if at > version}
            return _json({"answers": changed, **self._figures})

    def next_batch(self, count: int, *, tests_only: bool = False) -> bytes:
        """The sha256 of the photos to ask next, as JSON; with `tests_only`, of random test photos alone."""
        return _json({"sha256": self._session.next_batch(max(1, min(count, MAX_BATCH)), tests_only=tests_only)})

    def answer(self, body: bytes) -> bytes:
        """Record the answer in a request's body; when this returns, it is on the disk.

        The body is JSON: `sha256` (a list), `answer` (yes, no, unsure, null), `minutes`, `resolve` (true: it settles
        a conflict), `key` (a random text: a second request with the same key changes nothing), `run` (`About.id`).
        What has changed is asked for apart, with `changes`: labels that learn from answers may take their time.

        Raises:
            RequestError: It is not that, or names photos that are not in the run. Nothing is recorded then.
            StaleError: The page shows another run. Nothing is recorded then.
        """
        request = _object(body)
        photos, label, minutes = self._named(request), request.get("answer", 0), request.get("minutes", 0.0)
        if label not in ANSWERS:
            raise RequestError("the answer must be yes, no, unsure or null")
        if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not math.isfinite(minutes):
            raise RequestError("minutes must be a number")
        spent, resolve = min(max(float(minutes), 0.0), MAX_MINUTES), request.get("resolve") is True
        self._once(request, lambda: self._session.answer(photos, label, spent, resolve=resolve))
        return _json({"saved": len(photos)})

    def undo(self, body: bytes) -> bytes:
        """Undo the reviewer's last answer; `key` and `run` as in `answer`. Returns the photos, as JSON.

        The page does not repeat this one when the server dies: nobody could say whether it was done.
        """
        return _json({"undone": self._once(_object(body), self._session.undo) or []})

    def words(self) -> bytes:
        """The words of the run, as JSON: `positive`, `negative`, `stated`; `refused`, why no others can be tried."""
        return _json(self._trials().current())

    def try_words(self, body: bytes) -> bytes:
        """What the words in a request's body would do, as JSON; see `WordTrials.tried`. Nothing is changed.

        The body is JSON: `positive` and `negative`, lists of phrases; `run` (`About.id`).

        Raises:
            RequestError: It is not that, or a phrase is not allowed.
            StaleError: The page shows another run.
        """
        trials, sides = self._trials(), self._phrases(body)
        return _json(_asked_of(lambda: trials.tried(*sides)))

    def suggest_words(self, body: bytes) -> bytes:
        """Negative phrases for the words in a request's body, as JSON; errors as of `try_words`."""
        trials, sides = self._trials(), self._phrases(body)
        return _json({"suggestions": _asked_of(lambda: trials.suggested(*sides))})

    def accept_words(self, body: bytes) -> bytes:
        """Write the words in a request's body into the run's scenario, as JSON; errors as of `try_words`.

        The labels that the page asks for next are by these words.
        """
        trials, sides = self._trials(), self._phrases(body)
        written = _asked_of(lambda: trials.accept(*sides))
        with self._lock:
            self._journal_bytes = -1
            self._refresh()
        return _json(written)

    def _trials(self) -> WordTrials:
        if self._words is None:
            raise RequestError("other words cannot be tried here")
        return self._words

    def _phrases(self, body: bytes) -> tuple[list[str], list[str]]:
        request = _object(body)
        self._check(request.get("run"))
        return _texts(request.get("positive")), _texts(request.get("negative"))

    def _threshold(self) -> float | None:
        """The student's; None where there is no student."""
        known = self._table["student"].null_count < self._table.num_rows
        return self._session.pool.threshold if known else None

    def _named(self, request: dict[str, Any]) -> list[str]:
        photos = request.get("sha256")
        if not isinstance(photos, list) or not 0 < len(photos) <= MAX_AT_ONCE:
            raise RequestError(f"sha256 must be a list of 1 to {MAX_AT_ONCE:,} photos")
        if not all(isinstance(one, str) and one in self for one in photos):
            raise RequestError("the run has no such photo")
        return photos

    def _once(self, request: dict[str, Any], record: Callable[[], object]) -> object:
        self._check(request.get("run"))
        key = request.get("key")
        if not isinstance(key, str) or not 8 <= len(key) <= 64:
            raise RequestError("needs a key of 8 to 64 letters")
        with self._recording:
            if key in self._done:
                return None
            result = record()
            self._done[key] = None
            if len(self._done) > MAX_KEYS:
                self._done.popitem(last=False)
            return result

    def _check(self, run: object) -> None:
        if run != self._about.id:
            raise StaleError("this page shows another run; open the address that `factory review` printed")

    def _refresh(self) -> None:
        """Read the session's table and figures, if the journal has grown, and note what is no longer as it was."""
        journal = self._session.journal.path
        size = journal.stat().st_size if journal.exists() else 0
        if size == self._journal_bytes:
            return
        table = self._session.items()
        relearned = self._table is None or not table["p"].equals(self._table["p"])
        self._table = table
        states = zip(*(self._table[name].to_pylist() for name in ("answer", "by", "conflict")), strict=True)
        now = dict(zip(self._table["sha256"].to_pylist(), states, strict=True))
        changed = [sha256 for sha256, state in now.items() if self._state.get(sha256) != state]
        self._version += 1
        self._changed.update(dict.fromkeys(changed, self._version))
        self._state, self._journal_bytes = now, size
        self._figures = {
            "version": self._version,
            "learned": self._version if relearned else self._figures["learned"],
            "counts": self._session.counts(),
            "estimate": self._session.teacher_accuracy(),
            "proof": self._session.student_figures(),
            "conflicts": {one["sha256"]: one["answers"] for one in self._session.conflicts()},
        }


def _texts(phrases: object) -> list[str]:
    if not isinstance(phrases, list) or not all(isinstance(one, str) for one in phrases):
        raise RequestError("positive and negative must be lists of phrases")
    return phrases


def _asked_of(work: Callable[[], Any]) -> Any:
    """What the work returns; what is wrong with the words is the page's to show, not the server's to log."""
    try:
        return work()
    except FactoryError as error:
        raise RequestError(error.what) from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    return value


def _columns(table: pa.Table) -> dict[str, list[Any]]:
    """Lists by name, with numbers of four digits, but for the student's, which the page compares with a threshold."""
    return {
        name: [round(one, 4) if isinstance(one, float) and name != "student" else one for one in values]
        for name, values in table.to_pydict().items()
    }


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
