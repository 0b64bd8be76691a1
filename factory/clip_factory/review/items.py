"""What a session returns about its photos: tables and counts."""

from __future__ import annotations

from typing import TypedDict

import pyarrow as pa

from clip_factory.gold.ledger import Answer

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
        ("by", pa.string()),  # whose it is; "gold file" for a label of the scenario's CSV
        ("conflict", pa.bool_()),  # people disagree, and no one has resolved it
        ("random", pa.bool_()),  # in the random sample: it measures the teacher
    ]
)
"""What `Session.items` returns: one row an image, in the order of labels.parquet (by sha256)."""


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
    """Spent by all reviewers, as the page reports."""
    reviewers: list[str]
    probe: str
    """What the answers have done to the labels so far, in a sentence."""


class Conflict(TypedDict):
    """An image that people answered differently."""

    sha256: str
    path: str
    answers: dict[str, Answer]
    """The latest answer of each reviewer."""
