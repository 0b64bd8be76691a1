"""One person's review of one run: what to look at, what was answered, what it tells. The page is drawn elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

import pyarrow as pa

from factory.artifacts import RunFolder

Answer = Literal["yes", "no", "unsure"]

ITEMS = pa.schema(
    [
        ("sha256", pa.string()),
        ("path", pa.string()),  # POSIX, relative to the root of the images
        ("p", pa.float32()),  # the teacher's probability of yes now, in [0, 1]; never fitted to this image's own answer
        ("predicted", pa.bool_()),  # p >= 0.5
        ("doubt", pa.float32()),  # entropy of p in bits, in [0, 1]; 1 = wholly undecided
        ("student", pa.float32()),  # the student's probability of yes; null where it was not asked
        ("disagrees", pa.bool_()),  # teacher and student give different answers
        ("mistake", pa.float32()),  # in [0, 1]: how likely the label in force is wrong; high = look at it
        ("suspect", pa.bool_()),  # cleanlab names it a likely label mistake
        ("group", pa.int32()),  # near-duplicates share a group
        ("duplicates", pa.int32()),  # how many photos of this run are in its group, itself included
        ("split", pa.string()),  # train, val or test
        ("answer", pa.string()),  # yes, no or unsure: the answer in force; null = none, or people disagree
        ("by", pa.string()),  # who gave it; "gold file" for a label of the scenario's CSV
        ("conflict", pa.bool_()),  # people disagree, and no one has resolved it
        ("random", pa.bool_()),  # drawn at random: it measures the teacher
    ]
)
"""What `Session.items` returns: one row an image, in the order of labels.parquet (by sha256)."""


class Estimate(TypedDict):
    """How often the teacher is right, from the photos drawn at random alone."""

    accuracy: float | None
    """In [0, 1]; None before the first answer to a random photo."""
    interval: tuple[float, float]
    """95 % Wilson interval; (0, 1) without answers."""
    n: int
    """Random photos that were answered yes or no."""
    enough: bool
    """More review would hardly move the figure."""
    says: str
    """The same in a sentence or two, for people."""


class Counts(TypedDict):
    """How far the review has come."""

    images: int
    answered: int
    """Images with an answer in force: yes, no or unsure."""
    yes: int
    no: int
    unsure: int
    conflicts: int
    suspects: int
    minutes: float
    """Spent by all reviewers, as the page told."""
    reviewers: list[str]
    probe: str
    """What the answers have done to the labels so far, in a sentence."""


class Conflict(TypedDict):
    """An image that people answered differently."""

    sha256: str
    path: str
    answers: dict[str, Answer]
    """The latest answer of each reviewer."""


@dataclass
class Session:
    """A reviewer at work. Every method may be called from several threads; other processes may review the same run."""

    run: RunFolder
    reviewer: str

    @classmethod
    def open(cls, run: RunFolder, reviewer: str) -> Session:
        """Begin or go on.

        Args:
            run: A run whose photos are labelled (`factory label`, `factory run`); it is read, never written.
            reviewer: The name that stands beside each answer: 1 to 100 characters, no line breaks.

        Raises:
            RunError: The run has no labels.
            ReviewError: The name is empty or too long, or the file of answers cannot be read.
            StoreError: The vectors of the run are not in the store.
        """
        raise NotImplementedError

    def items(self) -> pa.Table:
        """Every image as it stands now: a table of `ITEMS`. Answers of other processes are seen."""
        raise NotImplementedError

    def ask(self, n: int) -> list[str]:
        """The next `n` images to look at, as sha256: doubtful and diverse ones, and the random share.

        Fewer when fewer are left. Images that were asked and not answered come again. The random ones are written
        down as drawn at once.
        """
        raise NotImplementedError

    def answer(self, sha256s: list[str], answer: Answer | None, minutes: float = 0.0, *, resolve: bool = False) -> str:
        """Write down one answer to one or many images; it is on the disk when this returns.

        Args:
            sha256s: The images, of this run.
            answer: None takes this reviewer's answer back.
            minutes: Time spent since the last call.
            resolve: Settle a conflict: this answer outranks those given before it, whoever gave them.

        Returns:
            The name of this act, for `undo`.

        Raises:
            ReviewError: An image is not of this run, or the disk is full: nothing was recorded.
        """
        raise NotImplementedError

    def undo(self) -> list[str]:
        """Take back this reviewer's latest act that is not taken back yet; the images whose answer it changes."""
        raise NotImplementedError

    def conflicts(self) -> list[Conflict]:
        """Images that people answered differently, and that no one has resolved."""
        raise NotImplementedError

    def estimate(self) -> Estimate:
        """The teacher's accuracy, without bias, and whether more review would change it."""
        raise NotImplementedError

    def counts(self) -> Counts:
        """How far the review has come."""
        raise NotImplementedError
