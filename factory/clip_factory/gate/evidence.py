"""What the rule is held against: a model's answers for the test split, beside those of people and of the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from clip_factory.labels import Labels, hard_labels
from clip_factory.statistics import Confusion

Reference = Literal["people", "teacher"]


@dataclass(frozen=True)
class Evidence:
    """The test split. Arrays are of length N."""

    student: np.ndarray
    """Probability of yes from model.onnx, in [0, 1]."""
    network: np.ndarray
    """The same from the trained network in torch."""
    teacher: np.ndarray
    """Probability of yes from the teacher."""
    gold: np.ndarray
    """float64: a person's label, 1 yes, 0 no, NaN where there is none."""
    threshold: float
    picked: np.ndarray | None = None
    """True where a person was asked because the photo looked doubtful; None where no one was."""
    teacher_threshold: float = 0.5
    """The teacher says yes from this probability on: as often as its probabilities promise, over all photos."""
    other_formats: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Probability of yes from each other exported file, `(N,)` each, by the name of its format."""

    @property
    def labeled(self) -> np.ndarray:
        """Whether a person has labeled each photo."""
        return np.asarray(~np.isnan(self.gold))

    @property
    def unbiased(self) -> np.ndarray:
        """The labels from people that measure: a photo picked for its doubt is harder than photos are."""
        return self.labeled if self.picked is None else self.labeled & ~self.picked

    @property
    def answers(self) -> np.ndarray:
        """The student's answers, true for yes."""
        return self.student >= self.threshold

    @property
    def teacher_answers(self) -> np.ndarray:
        """The teacher's answers, true for yes."""
        return self.teacher >= self.teacher_threshold

    @property
    def truth(self) -> np.ndarray:
        """The best answers there are: gold where it exists, else the teacher's."""
        return hard_labels(self.teacher, self.gold, self.teacher_threshold)

    @cached_property
    def against_people(self) -> Confusion:
        """The student's answers against the labels that measure."""
        return Confusion.of(self.gold[self.unbiased] == 1, self.answers[self.unbiased])

    @cached_property
    def against_teacher(self) -> Confusion:
        """The student's answers against the teacher's on all test photos."""
        return Confusion.of(self.teacher_answers, self.answers)

    def against(self, reference: Reference) -> Confusion:
        """The student's answers against one of the two."""
        return self.against_people if reference == "people" else self.against_teacher


def collect(
    labels: Labels,
    threshold: float,
    student: np.ndarray,
    network: np.ndarray | None = None,
    other_formats: Mapping[str, np.ndarray] | None = None,
) -> Evidence:
    """The test split of `labels`, M photos, beside what a model answers for it.

    Args:
        labels: All labels of the run; the teacher's threshold follows from all of them.
        threshold: The model's, in [0, 1].
        student: `(M,)` probabilities of yes from the file.
        network: `(M,)` the same from the trained network; where it is not at hand, the file stands in for it, and
            the clause of parity shows nothing.
        other_formats: `(M,)` the same from each other exported file, by the name of its format.
    """
    test = labels.of_split("test")
    return Evidence(
        student=student,
        network=student if network is None else network,
        teacher=test.p_teacher,
        gold=test.gold,
        threshold=threshold,
        picked=test.picked,
        teacher_threshold=labels.teacher_threshold,
        other_formats=other_formats or {},
    )
