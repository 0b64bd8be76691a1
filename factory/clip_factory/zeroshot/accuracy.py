"""What zero-shot answers are worth where the folders of the photos are the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clip_factory.errors import GoldError
from clip_factory.statistics import Share, proportion
from clip_factory.zeroshot.classification import Classification

TOP = 5


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Answers against the truth; M is the number of photos that lie in the folder of a class."""

    names: tuple[str, ...]
    """C classes; where the answers know more, such as `other`, these come after them."""
    rows: np.ndarray
    """int `(M,)`: which photos these are."""
    truth: np.ndarray
    """int `(M,)`: the class of each."""
    answers: np.ndarray
    """int `(M,)`: -1 below the threshold."""
    top1: Share
    top5: Share | None
    """Whether the right class is among the five likeliest; None with five classes or fewer."""
    recalls: tuple[Share, ...]
    """Of each class with a folder."""

    @property
    def mean_recall(self) -> float:
        """Mean over the classes: what top-1 would be if all had equally many photos."""
        return float(np.mean([share.figure for share in self.recalls if share.n]))

    @property
    def confusion(self) -> np.ndarray:
        """Photos of each class by answer, int `(C, A)`: a column a name, then one for no answer where there are any."""
        columns = len(self.names) + bool((self.answers < 0).any())
        counts = np.zeros((len(self.recalls), columns), int)
        np.add.at(counts, (self.truth, self.answers), 1)  # -1 is the last column
        return counts

    def worst(self, probabilities: np.ndarray, most: int) -> np.ndarray:
        """Rows of the surest mistakes, the surest first; float `(N, A)` probabilities of all photos."""
        wrong = np.flatnonzero(self.answers != self.truth)
        sure = probabilities[self.rows[wrong]].max(axis=1)
        return np.asarray(self.rows[wrong[np.argsort(-sure, kind="stable")][:most]])


def measure(result: Classification, folders: np.ndarray) -> Accuracy:
    """Compare answers with the folders that the photos lie in.

    Args:
        result: Of N photos.
        folders: object `(N,)`: the name of each photo's folder.

    Raises:
        GoldError: No photo lies in the folder of a class.
    """
    index = {name: place for place, name in enumerate(result.names)}
    rows = np.flatnonzero([folder in index for folder in folders])
    if not len(rows):
        known = ", ".join(sorted(set(folders.tolist()) - {""})[:10]) or "none"
        raise GoldError("no photo lies in a folder that is named like a class", hint=f"the folders are: {known}")
    truth = np.array([index[folders[row]] for row in rows])
    present = max(truth) + 1
    answers = result.answers[rows]
    right = answers == truth
    top = (result.top(TOP)[rows] == truth[:, None]).any(axis=1) if len(result.names) > TOP else None
    return Accuracy(
        names=result.names,
        rows=rows,
        truth=truth,
        answers=answers,
        top1=proportion(int(right.sum()), len(rows)),
        top5=None if top is None else proportion(int(top.sum()), len(rows)),
        recalls=tuple(proportion(int(right[truth == k].sum()), int((truth == k).sum())) for k in range(present)),
    )
