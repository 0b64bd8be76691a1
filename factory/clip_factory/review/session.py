"""One person's review of one run: what to look at, what was answered, what it tells. The page is drawn elsewhere."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from clip_factory.errors import ReviewError
from clip_factory.gold.journal import Journal, checked_name
from clip_factory.gold.ledger import Answer, Ledger, Standing
from clip_factory.review import sampling as order
from clip_factory.review import student_figures as proof
from clip_factory.review import teacher_accuracy as accuracy
from clip_factory.review.items import ITEMS, Conflict, Counts
from clip_factory.review.pool import Photos
from clip_factory.review.relabel import Labels, label
from clip_factory.review.student_figures import Proof
from clip_factory.review.teacher_accuracy import Estimate
from clip_factory.run_folder import RunFolder

RESERVED = timedelta(minutes=30)
"""For so long after a photo was asked of one reviewer, it is not asked of another."""
REFIT_EVERY = 10
"""Labels of people between two fits of the probe; `ask` and `estimate` always see one that is no older."""
GOLD_FILE = "gold file"
"""Stands as the reviewer of labels that the scenario's `gold` gives."""


class Session:
    """A reviewer at work. Every method may be called from several threads; other processes may review the same run."""

    def __init__(self, photos: Photos, journal: Journal, reviewer: str) -> None:
        self.photos, self.journal, self.reviewer = photos, journal, checked_name(reviewer)
        self._lock = threading.RLock()
        self._rows = {sha: row for row, sha in enumerate(photos.sha256)}
        self._by_path = dict(zip(photos.paths, photos.sha256, strict=True))
        self._order = order.random_order(photos.sha256, photos.splits.tolist())
        self._tests = [i for i in self._order if photos.splits[i] == "test"]
        self._learned: dict[str, bool] | None = None
        self._labels: Labels
        self._shown: tuple[Ledger, pa.Table] | None = None
        self._judged: tuple[list[str | None], np.ndarray, np.ndarray] | None = None

    @classmethod
    def open(cls, run: RunFolder, reviewer: str, store: Path) -> Session:
        """Begin or go on.

        Args:
            run: A run whose photos are labeled (`factory label`, `factory run`); it is read, never written.
            reviewer: The name that stands beside each answer: 1 to 100 characters that print.
            store: Folder of the embedding store.

        Raises:
            RunError: The run has no labels.
            ReviewError: The name is empty or too long, or the file of answers cannot be read.
            StoreError: The vectors of the run are not in the store.
        """
        photos, journal = Photos.of(run, store)
        session = cls(photos, journal, reviewer)
        session._standing()
        return session

    def items(self) -> pa.Table:
        """Every image as it stands now: a table of `ITEMS`. Answers of other processes are seen."""
        with self._lock:
            ledger, photos, labels = self._standing(), self.photos, self._labels
            if self._shown is not None and self._shown[0] is ledger:
                return self._shown[1]
            answers, by = self._in_force(ledger)
            mistake, suspect = self._mistakes(answers)
            predicted = labels.p >= 0.5
            asked = ~np.isnan(photos.student)
            columns = {
                "sha256": photos.sha256,
                "path": photos.paths,
                "p": labels.p.astype(np.float32),
                "predicted": predicted,
                "doubt": labels.doubt.astype(np.float32),
                "student": pa.array(photos.student.astype(np.float32), mask=~asked),
                "disagrees": asked & ((photos.student >= photos.threshold) != predicted),
                "mistake": mistake.astype(np.float32),
                "suspect": suspect,
                "group": photos.groups,
                "duplicates": photos.duplicates,
                "split": photos.splits.tolist(),
                "answer": answers,
                "by": by,
                "conflict": [sha in ledger.standings and ledger.standings[sha].conflict for sha in photos.sha256],
                "random": [sha in ledger.drawn for sha in photos.sha256],
            }
            self._shown = ledger, pa.table(columns, schema=ITEMS)
            return self._shown[1]

    def ask(self, n: int, *, prove: bool = False) -> list[str]:
        """The next `n` images to look at, as sha256: doubtful and diverse ones, and the random share.

        Fewer when fewer are left. Random photos that were drawn and not answered come again before others are drawn.
        The batch is written down before it is returned.

        With `prove`, only test photos, in the random order (about `n`: see `order.test_draw`): those measure the
        student. They are a fair sample, as the others drawn are. Which come next follows from hashes alone, nothing
        that anyone said or that a model thinks of them; those that were answered before their turn count when it
        comes, so that what someone picked out neither adds to the sample nor is missing from it; and the ordinary
        draw, whose place in the order stays, meets the same test photos in the same order.

        Raises:
            ReviewError: It could not be written down.
        """
        with self._lock:
            ledger = self.journal.ledger() if prove else self._standing()
            fresh = np.array([self._of(sha, ledger.standings.get(sha))[0] is None for sha in self._rows])
            fresh &= ~np.array([sha in ledger.standings for sha in self._rows])
            draw = self._draw_tests if prove else self._draw
            batch, drawn, places = draw(ledger, fresh, fresh & ~self._reserved(ledger), n)
            images = {self.photos.sha256[i]: self.photos.paths[i] for i in batch}
            if images or drawn:
                self.journal.asked(self.reviewer, images, drawn, places)
            return list(images)

    def answer(self, sha256s: list[str], answer: Answer | None, minutes: float = 0.0, *, resolve: bool = False) -> str:
        """Write down one answer to one or many images; it is on the disk when this returns.

        Args:
            sha256s: The images, of this run.
            answer: None takes this reviewer's answer back.
            minutes: Time spent since the last call.
            resolve: Settle a conflict: this answer outranks those given before it, whoever gave them.

        Returns:
            The name of this act.

        Raises:
            ReviewError: An image is not of this run, or the answer could not be written: it does not count.
        """
        unknown = [sha for sha in sha256s if sha not in self._rows]
        if unknown or not sha256s:
            named = f"{unknown[0][:80]!r} is no photo of this run" if unknown else "no photo is named"
            raise ReviewError(named, hint="load the page anew")
        images = {sha: self.photos.paths[self._rows[sha]] for sha in sha256s}
        with self._lock:
            return self.journal.answer(self.reviewer, images, answer, minutes=minutes, resolves=resolve)

    def undo(self) -> list[str]:
        """Take back this reviewer's latest act that is not taken back yet; the images whose answer it changes."""
        with self._lock:
            act = self.journal.undo(self.reviewer)
            return [sha for sha in act.images if sha in self._rows] if act else []

    def conflicts(self) -> list[Conflict]:
        """Images that people answered differently, and that no one has resolved."""
        with self._lock:
            standings = self.journal.ledger().standings
            return [
                {"sha256": sha, "path": standings[sha].path, "answers": standings[sha].answers}
                for sha in self.photos.sha256
                if sha in standings and standings[sha].conflict
            ]

    def estimate(self) -> Estimate:
        """The teacher's accuracy, without bias, and whether more review would change it."""
        with self._lock:
            ledger = self._standing()
            gold = self._gold(ledger)
            drawn = [self._rows[sha] for sha in sorted(ledger.drawn) if sha in self._rows]
            known = [row for row in drawn if self.photos.sha256[row] in gold]
            truth = np.array([gold[self.photos.sha256[row]] for row in known], bool)
            hits = (self._labels.p[known] >= 0.5) == truth
            unsure = sum(self.photos.sha256[row] in ledger.withheld for row in drawn)
            return accuracy.estimate(hits, len(drawn) - len(known) - unsure, unsure, len(self._rows))

    def proof(self) -> Proof:
        """What the test photos drawn at random show of the shipped student, as the gate would count them."""
        with self._lock:
            ledger = self.journal.ledger()
            gold = self._gold(ledger)
            fair = ledger.drawn | self.photos.gold.keys()
            drawn = [i for i in self._tests if self.photos.sha256[i] in fair]
            said = {i: gold.get(self.photos.sha256[i]) for i in drawn}
            unsure = sum(self.photos.sha256[i] in ledger.withheld for i in drawn)
            return proof.weigh(self.photos, said, unsure, len(self._tests))

    def counts(self) -> Counts:
        """How far the review has come."""
        with self._lock:
            ledger = self._standing()
            answers, _ = self._in_force(ledger)
            kinds = Counter(answers)
            ours = [standing for sha, standing in ledger.standings.items() if sha in self._rows]
            return {
                "images": len(answers),
                "answered": len(answers) - kinds[None],
                "yes": kinds["yes"],
                "no": kinds["no"],
                "unsure": kinds["unsure"],
                "conflicts": sum(standing.conflict for standing in ours),
                "suspects": int(self._mistakes(answers)[1].sum()),
                "minutes": ledger.minutes,
                "reviewers": sorted({who for standing in ours for who in standing.answers}),
                "probe": self._labels.says,
            }

    def path_of(self, sha256: str) -> str:
        """The path of a photo of this run, relative to the root of the images."""
        return self.photos.paths[self._rows[sha256]]

    def sha256_of(self, name: str) -> str | None:
        """The sha256 of a photo of this run, by its sha256 or its path; None where there is none."""
        return name if name in self._rows else self._by_path.get(name)

    def _standing(self) -> Ledger:
        """The ledger as it is now, and labels that have learned from all but the latest few answers."""
        ledger = self.journal.ledger()
        gold = self._gold(ledger)
        if self._learned is None or _differing(self._learned, gold) >= REFIT_EVERY:
            self._labels = label(self.photos, gold, ledger.drawn | self.photos.gold.keys())
            self._learned, self._judged = gold, None
        return ledger

    def _gold(self, ledger: Ledger) -> dict[str, bool]:
        """Yes and no by sha256: the scenario's gold file, and over it what people answered."""
        kept = {sha: yes for sha, yes in self.photos.gold.items() if sha not in ledger.withheld}
        return kept | {sha: yes for sha, yes in ledger.gold.items() if sha in self._rows}

    def _in_force(self, ledger: Ledger) -> tuple[list[str | None], list[str | None]]:
        """The answer in force to each image, and who gave it."""
        given = [self._of(sha, ledger.standings.get(sha)) for sha in self.photos.sha256]
        return [answer for answer, _ in given], [by for _, by in given]

    def _of(self, sha256: str, standing: Standing | None) -> tuple[str | None, str | None]:
        if standing is not None:
            return standing.answer, standing.reviewer
        yes = self.photos.gold.get(sha256)
        return (None, None) if yes is None else ("yes" if yes else "no", GOLD_FILE)

    def _mistakes(self, answers: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """How likely each label in force is wrong, and which cleanlab suspects; kept until an answer changes."""
        if self._judged is None or self._judged[0] != answers:
            said = np.array([{"yes": 1.0, "no": 0.0}.get(a or "", np.nan) for a in answers])
            self._judged = (answers, self._labels.mistake(said), self._labels.suspects(said))
        return self._judged[1:]

    def _reserved(self, ledger: Ledger) -> np.ndarray:
        """`(N,)` whether an image was asked of someone else a short while ago."""
        since = (datetime.now(UTC) - RESERVED).isoformat()
        acts = [ledger.asked.get(sha) for sha in self.photos.sha256]
        return np.array([a is not None and a.reviewer != self.reviewer and a.time > since for a in acts], bool)

    def _draw(
        self, ledger: Ledger, fresh: np.ndarray, open_ones: np.ndarray, n: int
    ) -> tuple[list[int], list[str], int]:
        """Rows to ask, the photos that the random draw takes with this batch, and how far along its order it is."""
        waiting = self._open_of(ledger.drawn, open_ones)
        wanted = max(1, round(n * order.RANDOM_SHARE)) - len(waiting)
        places = min(len(self._order), ledger.places + max(0, wanted))
        drawn = [self.photos.sha256[i] for i in self._order[ledger.places : places]]
        waiting += self._open_of(drawn, open_ones)
        batch = waiting[:n]
        seen = self.photos.groups[[*np.flatnonzero(~fresh), *batch]]
        batch += self._doubtful(open_ones & ~np.isin(self.photos.groups, seen), n - len(batch))
        return batch, drawn, places

    def _draw_tests(
        self, ledger: Ledger, fresh: np.ndarray, open_ones: np.ndarray, n: int
    ) -> tuple[list[int], list[str], int]:
        """The same for a batch of test photos alone, in the order drawn; the ordinary draw stays where it is."""
        before = [i for i in self._tests if self.photos.sha256[i] in ledger.drawn]
        rest = [i for i in self._tests if self.photos.sha256[i] not in ledger.drawn]
        waiting = [i for i in before if open_ones[i]]
        drawn = order.test_draw(rest, fresh, n - len(waiting))
        batch = [*waiting, *(i for i in drawn if open_ones[i])][:n]
        return batch, [self.photos.sha256[i] for i in drawn], ledger.places

    def _open_of(self, sha256s: Iterable[str], open_ones: np.ndarray) -> list[int]:
        """The rows of those of the images that wait for an answer."""
        return sorted(row for sha in sha256s if (row := self._rows.get(sha)) is not None and open_ones[row])

    def _doubtful(self, open_ones: np.ndarray, n: int) -> list[int]:
        photos = self.photos
        allowed = open_ones & (photos.splits == "train")
        if not self._labels.learned:
            return order.first(self._order, photos.groups, allowed, max(n, 0))
        return order.spread(photos.components, self._labels.doubt, photos.groups, allowed, n) if n > 0 else []


def _differing(old: dict[str, bool], new: dict[str, bool]) -> int:
    return sum(old.get(sha) is not new.get(sha) for sha in old.keys() | new.keys())
