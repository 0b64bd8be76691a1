"""One person's review of one run: which photos to ask about, what was answered, what that shows; no page, no server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from clip_factory.errors import ReviewError
from clip_factory.gold.answer_table import AnswerRow, AnswerTable
from clip_factory.gold.gold_labels import Gold
from clip_factory.gold.journal import Journal, checked_name
from clip_factory.gold.ledger import Answer, ImageAnswers, Ledger
from clip_factory.review import sampling
from clip_factory.review.items import ITEMS, Conflict, Counts
from clip_factory.review.pool import Pool, read_pool
from clip_factory.review.relabel import CurrentLabels, relabel
from clip_factory.review.student_figures import StudentFigures, measure_student
from clip_factory.review.teacher_accuracy import AccuracyEstimate, estimate_accuracy
from clip_factory.run_folder import RunFolder

RESERVED = timedelta(minutes=30)
"""For so long after a photo was asked of one reviewer, it is not asked of another."""
REFIT_EVERY = 10
"""Labels of people between two fits of the probe; a batch and an estimate always see one that is no older."""
GOLD_FILE = "gold file"
"""Stands as the reviewer of labels that come from the scenario's `gold`."""


class Session:
    """A reviewer at work. Every method may be called from several threads; other processes may review the same run."""

    def __init__(self, pool: Pool, journal: Journal, reviewer: str) -> None:
        self.pool, self.journal, self.reviewer = pool, journal, checked_name(reviewer)
        self._lock = threading.RLock()
        self._rows = {sha: row for row, sha in enumerate(pool.sha256)}
        self._order = sampling.random_order(pool.sha256, pool.splits.tolist())
        self._tests = [i for i in self._order if pool.splits[i] == "test"]
        self._fitted_to: dict[str, bool] | None = None
        self._labels: CurrentLabels
        self._items: tuple[Ledger, pa.Table] | None = None
        self._mistake_figures: tuple[list[Answer | None], np.ndarray, np.ndarray] | None = None

    @classmethod
    def open(cls, run: RunFolder, reviewer: str, store: Path) -> Session:
        """Begin or continue.

        Args:
            run: A run whose photos are labeled (`factory label`, `factory run`); it is read, never written.
            reviewer: The name that stands beside each answer: 1 to 100 characters that print.
            store: Folder of the embedding store.

        Raises:
            RunError: The run has no labels.
            ReviewError: The name is empty or too long, or the file of answers cannot be read.
            StoreError: The vectors of the run are not in the store.
        """
        pool, journal = read_pool(run, store)
        session = cls(pool, journal, reviewer)
        session._refresh()
        return session

    def items(self) -> pa.Table:
        """Every image in its present state: a table of `ITEMS`. Answers of other processes are seen."""
        with self._lock:
            ledger, pool, labels = self._refresh(), self.pool, self._labels
            if self._items is not None and self._items[0] is ledger:
                return self._items[1]
            answers, by = self._answers_in_force(ledger)
            mistake, suspect = self._mistakes(answers)
            predicted = labels.p >= 0.5
            known = ~np.isnan(pool.student)
            columns = {
                "sha256": pool.sha256,
                "path": pool.paths,
                "p": labels.p.astype(np.float32),
                "predicted": predicted,
                "doubt": labels.doubt.astype(np.float32),
                "student": pa.array(pool.student.astype(np.float32), mask=~known),
                "disagrees": known & ((pool.student >= pool.threshold) != predicted),
                "mistake": mistake.astype(np.float32),
                "suspect": suspect,
                "group": pool.groups,
                "duplicates": pool.duplicates,
                "split": pool.splits.tolist(),
                "answer": answers,
                "by": by,
                "conflict": [sha in ledger.images and ledger.images[sha].conflict for sha in pool.sha256],
                "random": [sha in ledger.sampled for sha in pool.sha256],
            }
            self._items = ledger, pa.table(columns, schema=ITEMS)
            return self._items[1]

    def next_batch(self, n: int, *, tests_only: bool = False) -> list[str]:
        """The next `n` images to ask about, as sha256: doubtful and diverse ones, and the random share.

        Fewer when fewer are left. Images of the random sample without an answer come again before others are sampled.
        The batch is recorded before it is returned.

        With `tests_only`, only test photos, in the random order (about `n`: see `sampling.sample_tests`): those measure
        the student. They are an unbiased sample, as the others are. Which come next follows from hashes alone, nothing
        that anyone answered or that a model predicts of them; those that were answered before their turn count when it
        comes, so that what someone picked neither adds to the sample nor is missing from it; and the ordinary sample,
        whose place in the order stays, meets the same test photos in the same order.

        Raises:
            ReviewError: It could not be recorded.
        """
        with self._lock:
            ledger = self.journal.ledger() if tests_only else self._refresh()
            fresh = np.array([self._answer_to(sha, ledger.images.get(sha))[0] is None for sha in self._rows])
            fresh &= ~np.array([sha in ledger.images for sha in self._rows])
            sample = self._sample_tests if tests_only else self._sample
            batch, sampled, places = sample(ledger, fresh, fresh & ~self._reserved(ledger), n)
            images = {self.pool.sha256[i]: self.pool.paths[i] for i in batch}
            if images or sampled:
                self.journal.record_batch(self.reviewer, images, sampled, places)
            return list(images)

    def answer(self, sha256s: list[str], answer: Answer | None, minutes: float = 0.0, *, resolve: bool = False) -> str:
        """Record one answer to one or many images; it is on the disk when this returns.

        Args:
            sha256s: The images, of this run.
            answer: None removes this reviewer's answer.
            minutes: Time spent since the last call.
            resolve: Settle a conflict: this answer outranks those before it, whoever's they are.

        Returns:
            The id of this event.

        Raises:
            ReviewError: An image is not of this run, or the answer could not be written: it does not count.
        """
        unknown = [sha for sha in sha256s if sha not in self._rows]
        if unknown or not sha256s:
            named = f"{unknown[0][:80]!r} is no photo of this run" if unknown else "no photo is named"
            raise ReviewError(named, hint="load the page anew")
        images = {sha: self.pool.paths[self._rows[sha]] for sha in sha256s}
        with self._lock:
            return self.journal.answer(self.reviewer, images, answer, minutes=minutes, resolves=resolve)

    def undo(self) -> list[str]:
        """Undo this reviewer's latest event that is not undone yet; the images whose answer it changes."""
        with self._lock:
            event = self.journal.undo(self.reviewer)
            return [sha for sha in event.images if sha in self._rows] if event else []

    def conflicts(self) -> list[Conflict]:
        """Images that people answered differently, and that no one has resolved."""
        with self._lock:
            images = self.journal.ledger().images
            return [
                {"sha256": sha, "path": images[sha].path, "answers": images[sha].answers}
                for sha in self.pool.sha256
                if sha in images and images[sha].conflict
            ]

    def teacher_accuracy(self) -> AccuracyEstimate:
        """The teacher's accuracy, without bias, and whether more review would change it."""
        with self._lock:
            ledger = self._refresh()
            gold = self._gold(ledger).labels
            sample = [self._rows[sha] for sha in sorted(ledger.sampled) if sha in self._rows]
            known = [row for row in sample if self.pool.sha256[row] in gold]
            truth = np.array([gold[self.pool.sha256[row]] for row in known], bool)
            hits = (self._labels.p[known] >= 0.5) == truth
            undecided = ledger.undecided
            unsure = sum(self.pool.sha256[row] in undecided for row in sample)
            return estimate_accuracy(hits, len(sample) - len(known) - unsure, unsure, len(self._rows))

    def student_figures(self) -> StudentFigures:
        """What the random sample of test photos shows of the run's student, as the gate would count it."""
        with self._lock:
            ledger = self.journal.ledger()
            gold, undecided = self._gold(ledger).labels, ledger.undecided
            unbiased = ledger.sampled | self.pool.gold_file.keys()
            sample = [i for i in self._tests if self.pool.sha256[i] in unbiased]
            answers = {i: gold.get(self.pool.sha256[i]) for i in sample}
            unsure = sum(self.pool.sha256[i] in undecided for i in sample)
            return measure_student(self.pool, answers, unsure, len(self._tests))

    def counts(self) -> Counts:
        """How far the review has come."""
        with self._lock:
            ledger = self._refresh()
            answers, _ = self._answers_in_force(ledger)
            kinds = Counter(answers)
            ours = [image for sha, image in ledger.images.items() if sha in self._rows]
            return {
                "images": len(answers),
                "answered": len(answers) - kinds[None],
                "yes": kinds["yes"],
                "no": kinds["no"],
                "unsure": kinds["unsure"],
                "conflicts": sum(image.conflict for image in ours),
                "suspects": int(self._mistakes(answers)[1].sum()),
                "minutes": ledger.minutes,
                "reviewers": sorted({who for image in ours for who in image.answers}),
                "probe": self._labels.sentence,
            }

    def answer_table(self) -> AnswerTable:
        """All photos and answers as plain data, to be written in forms of other tools."""
        with self._lock:
            images = self.journal.ledger().images
            rows = [
                AnswerRow(
                    sha256=row["sha256"],
                    path=row["path"],
                    p=row["p"],
                    predicted=row["predicted"],
                    answer=row["answer"],
                    by=row["by"],
                    answers=_by_reviewer(images.get(row["sha256"]), row["answer"], row["by"]),
                )
                for row in self.items().to_pylist()
            ]
            return AnswerTable(self.pool.root, self.reviewer, rows)

    def gold(self) -> Gold:
        """People's labels as they are now."""
        with self._lock:
            return self._gold(self.journal.ledger())

    def probabilities(self) -> np.ndarray:
        """The labels' probability of yes of each photo, `(N,)` in [0, 1]."""
        with self._lock:
            self._refresh()
            return self._labels.p

    def reword(self, log_odds: np.ndarray) -> None:
        """Go on with what other words say: log-odds of yes, float64 `(N,)`. No answer is touched."""
        with self._lock:
            self.pool = replace(self.pool, log_odds=log_odds)
            self._fitted_to = self._items = self._mistake_figures = None

    def path_of(self, sha256: str) -> str:
        """The path of a photo of this run, relative to the root of the images."""
        return self.pool.paths[self._rows[sha256]]

    def _refresh(self) -> Ledger:
        """The ledger of now, and labels that have learned from all but the latest few answers."""
        ledger = self.journal.ledger()
        gold = self._gold(ledger)
        if self._fitted_to is None or _differing(self._fitted_to, gold.labels) >= REFIT_EVERY:
            self._labels = relabel(self.pool, gold)
            self._fitted_to, self._mistake_figures = gold.labels, None
        return ledger

    def _gold(self, ledger: Ledger) -> Gold:
        return Gold.merge(self.pool.gold_file, ledger, self._rows)

    def _answers_in_force(self, ledger: Ledger) -> tuple[list[Answer | None], list[str | None]]:
        """The answer in force to each image, and whose it is."""
        pairs = [self._answer_to(sha, ledger.images.get(sha)) for sha in self.pool.sha256]
        return [answer for answer, _ in pairs], [by for _, by in pairs]

    def _answer_to(self, sha256: str, image: ImageAnswers | None) -> tuple[Answer | None, str | None]:
        if image is not None:
            return image.answer, image.reviewer
        yes = self.pool.gold_file.get(sha256)
        return (None, None) if yes is None else ("yes" if yes else "no", GOLD_FILE)

    def _mistakes(self, answers: list[Answer | None]) -> tuple[np.ndarray, np.ndarray]:
        """How likely each label in force is wrong, and which cleanlab suspects; kept until an answer changes."""
        if self._mistake_figures is None or self._mistake_figures[0] != answers:
            gold = np.array([{"yes": 1.0, "no": 0.0}.get(a or "", np.nan) for a in answers])
            self._mistake_figures = (answers, self._labels.mistake(gold), self._labels.suspects(gold))
        return self._mistake_figures[1:]

    def _reserved(self, ledger: Ledger) -> np.ndarray:
        """`(N,)` whether an image was asked of someone else a short while ago."""
        since = (datetime.now(UTC) - RESERVED).isoformat()
        batches = [ledger.batches.get(sha) for sha in self.pool.sha256]
        return np.array([b is not None and b.reviewer != self.reviewer and b.time > since for b in batches], bool)

    def _sample(
        self, ledger: Ledger, fresh: np.ndarray, available: np.ndarray, n: int
    ) -> tuple[list[int], list[str], int]:
        """Rows to ask, the photos that join the random sample with this batch, and how far along its order it is."""
        waiting = self._available_rows(ledger.sampled, available)
        wanted = max(1, round(n * sampling.RANDOM_SHARE)) - len(waiting)
        places = min(len(self._order), ledger.places + max(0, wanted))
        sampled = [self.pool.sha256[i] for i in self._order[ledger.places : places]]
        waiting += self._available_rows(sampled, available)
        batch = waiting[:n]
        seen = self.pool.groups[[*np.flatnonzero(~fresh), *batch]]
        batch += self._uncertain(available & ~np.isin(self.pool.groups, seen), n - len(batch))
        return batch, sampled, places

    def _sample_tests(
        self, ledger: Ledger, fresh: np.ndarray, available: np.ndarray, n: int
    ) -> tuple[list[int], list[str], int]:
        """The same for a batch of test photos alone, in the random order; the ordinary sample stays where it is."""
        before = [i for i in self._tests if self.pool.sha256[i] in ledger.sampled]
        rest = [i for i in self._tests if self.pool.sha256[i] not in ledger.sampled]
        waiting = [i for i in before if available[i]]
        sampled = sampling.sample_tests(rest, fresh, n - len(waiting))
        batch = [*waiting, *(i for i in sampled if available[i])][:n]
        return batch, [self.pool.sha256[i] for i in sampled], ledger.places

    def _available_rows(self, sha256s: Iterable[str], available: np.ndarray) -> list[int]:
        """The rows of those of the images that may be asked."""
        return sorted(row for sha in sha256s if (row := self._rows.get(sha)) is not None and available[row])

    def _uncertain(self, available: np.ndarray, n: int) -> list[int]:
        pool = self.pool
        allowed = available & (pool.splits == "train")
        if not self._labels.learned:
            return sampling.first_in_order(self._order, pool.groups, allowed, max(n, 0))
        return sampling.diverse_batch(pool.components, self._labels.doubt, pool.groups, allowed, n) if n > 0 else []


def _by_reviewer(image: ImageAnswers | None, answer: Answer | None, by: str | None) -> dict[str, Answer]:
    """The latest answers to an image by reviewer, else the gold file's."""
    if image is not None:
        return image.answers
    return {by: answer} if answer is not None and by is not None else {}


def _differing(old: dict[str, bool], new: dict[str, bool]) -> int:
    return sum(old.get(sha) is not new.get(sha) for sha in old.keys() | new.keys())
