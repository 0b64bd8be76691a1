"""People's labels of a scenario's photos, from all places that have some: the gold file and the journal of a review."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from clip_factory.gold.gold_csv import read_gold
from clip_factory.gold.journal import Journal
from clip_factory.gold.ledger import Ledger
from clip_factory.progress import console
from clip_factory.scenario import Scenario


@dataclass(frozen=True)
class Gold:
    """People's labels by the photos' sha256."""

    labels: dict[str, bool]
    picked: frozenset[str]
    """Of these, the photos that were asked for because they looked doubtful, and not at random."""

    @classmethod
    def merge(cls, file: Mapping[str, bool], ledger: Ledger, photos: Collection[str]) -> Gold:
        """The answers of a review over the labels of a gold file.

        Args:
            file: Labels of the gold file, by sha256.
            ledger: The state of the review's journal. Photos that it leaves undecided count as unlabeled.
            photos: The sha256 of the photos that may be labeled.
        """
        undecided = ledger.undecided
        kept = {sha: yes for sha, yes in file.items() if sha not in undecided}
        reviewed = {sha: yes for sha, yes in ledger.gold.items() if sha in photos}
        return cls(kept | reviewed, frozenset(reviewed.keys() - ledger.sampled - kept.keys()))

    def column(self, sha256s: Sequence[str]) -> np.ndarray:
        """The labels of N photos, float64 `(N,)`: 1 yes, 0 no, NaN where there is none."""
        return np.array([self.labels.get(sha, np.nan) for sha in sha256s], np.float64)

    def picked_column(self, sha256s: Sequence[str]) -> np.ndarray:
        """Which of N photos were asked for because they looked doubtful, bool `(N,)`."""
        return np.array([sha in self.picked for sha in sha256s], bool)


def collect(scenario: Scenario, images: pa.Table) -> Gold:
    """Read a scenario's gold file and journal, and say how many answers of people count.

    Args:
        scenario: Names the files, if any.
        images: The table of images.parquet: columns path and sha256.

    Raises:
        GoldError: The gold file cannot be read, or does not fit these images.
        ReviewError: The journal cannot be read.
    """
    file, ledger = read_file(scenario, images), read_ledger(scenario)
    photos = set(images["sha256"].to_pylist())
    gold = Gold.merge(file, ledger, photos)
    reviewed, undecided = len(ledger.gold.keys() & photos), len(ledger.undecided & photos)
    if reviewed or undecided:
        kept = f"{reviewed} labels from {scenario.answers}"
        left = f"; {undecided} photos with no clear answer count as unlabeled" if undecided else ""
        console.print(f"people's answers: {kept}{left}", markup=False)
    return gold


def read_file(scenario: Scenario, images: pa.Table) -> dict[str, bool]:
    """The labels of a scenario's gold file, by sha256; none where it names none.

    Raises:
        GoldError: The file cannot be read, or does not fit these images.
    """
    if not scenario.gold:
        return {}
    gold = read_gold(Path(scenario.gold), images)
    if gold.says:
        console.print(f"{scenario.gold}: {gold.says}", markup=False)
    return gold.labels


def read_ledger(scenario: Scenario) -> Ledger:
    """The state of a scenario's journal; an empty one where it names none.

    Raises:
        ReviewError: The file cannot be read.
    """
    return Journal(Path(scenario.answers)).ledger() if scenario.answers else Ledger.of([])
