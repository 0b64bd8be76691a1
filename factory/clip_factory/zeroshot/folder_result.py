"""Zero-shot on a folder as one result: answers, and, where its folders are the truth, what they are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clip_factory.encoders import Encoder
from clip_factory.scenario.prompts import PLAIN
from clip_factory.statistics import Share
from clip_factory.zeroshot.accuracy import Accuracy, measure
from clip_factory.zeroshot.classes import ClassPrompts, prompts_of
from clip_factory.zeroshot.classification import Classification, classify
from clip_factory.zeroshot.few_shot import FewShot, few_shot

if TYPE_CHECKING:  # a second to import, which only a notebook needs
    import pandas as pd

ENSEMBLE = "all of them, averaged"


@dataclass(frozen=True)
class TemplateRow:
    """One template, alone, or the ensemble of all."""

    template: str
    top1: Share
    mean_recall: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What the answers are worth, by the folders that the photos lie in."""

    accuracy: Accuracy
    by_template: tuple[TemplateRow, ...]
    """The words alone, without refinement."""
    few_shot: FewShot | None


@dataclass(frozen=True, eq=False)
class FolderResult:
    """N photos against C classes."""

    paths: list[str]
    classification: Classification
    classes: ClassPrompts
    templates: tuple[str, ...]
    encoder: Encoder
    truth: Truth | None = None
    root: Path = Path()
    """The folder that `paths` start at."""
    sha256: Sequence[str] = ()
    unused: Sequence[tuple[str, str]] = ()
    """Path and reason of each file that was seen and is not used."""

    @property
    def names(self) -> list[str]:
        """The likeliest class of each photo; `unsure` below the threshold."""
        return self.classification.words

    @property
    def probabilities(self) -> np.ndarray:
        """float64 `(N, C)` in [0, 1]."""
        return self.classification.probabilities

    @property
    def frame(self) -> pd.DataFrame:
        """A row a photo: path, answer, probability of the answer, then one column a class; needs pandas."""
        import pandas as pd

        by_class = dict(zip(self.classification.names, self.probabilities.T, strict=True))
        best = self.probabilities.max(axis=1)
        return pd.DataFrame({"path": self.paths, "answer": self.names, "probability": best, **by_class})


def template_rows(
    vectors: np.ndarray,
    folders: np.ndarray,
    phrases: Mapping[str, Sequence[str]],
    templates: Sequence[str],
    encoder: Encoder,
) -> tuple[TemplateRow, ...]:
    """Accuracy with each template alone, with the plain word, and with the ensemble, which comes first.

    Args:
        vectors: float32 `(N, D)`.
        folders: object `(N,)`: the class that each photo lies in.
        phrases: Of each class.
        templates: The templates.
        encoder: What made the vectors.
    """
    alone = [(one, (one,)) for one in dict.fromkeys((*templates, *PLAIN))]
    sets = [(ENSEMBLE, tuple(templates)), *alone] if len(templates) > 1 else alone
    rows = []
    for name, chosen in sets:
        accuracy = measure(classify(vectors, prompts_of(phrases, chosen), encoder, chosen), folders)
        rows.append(TemplateRow(name, accuracy.top1, accuracy.mean_recall))
    return tuple(rows)


def truth_of_folders(
    result: Classification,
    words: Classification,
    vectors: np.ndarray,
    folders: np.ndarray,
    groups: np.ndarray,
    rows: tuple[TemplateRow, ...],
    *,
    probe: bool,
) -> Truth:
    """Measure answers, and with `probe` also what a few labels would reach.

    Args:
        result: Of N photos.
        words: The same without refinement; what few labels are compared with.
        vectors: float32 `(N, D)`.
        folders: object `(N,)`.
        groups: int `(N,)`: near-duplicates share a number.
        rows: The table by template.
        probe: Whether to fit few-shot probes.
    """
    accuracy = measure(result, folders)
    shown = accuracy.rows
    shots = few_shot(vectors[shown], accuracy.truth, groups[shown], words.answers[shown]) if probe else None
    return Truth(accuracy, rows, shots)
