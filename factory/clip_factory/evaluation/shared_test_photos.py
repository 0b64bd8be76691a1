"""What the folders of several runs say together: which photos measure all of them, and what is right there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip_factory.errors import RunError
from clip_factory.evaluation.candidates import USED, Candidate
from clip_factory.labels import Labels
from clip_factory.run_folder import PREDICTIONS

MORE = "label some photos of their test splits: factory review RUN --prove, then run again; or give --gold truth.csv"


@dataclass(frozen=True)
class RunTables:
    """The tables of one run, by the photos' sha256."""

    name: str
    root: Path
    path: dict[str, str]
    split: dict[str, str]
    group: dict[str, int]
    gold: dict[str, bool]
    """What people said."""
    picked: frozenset[str]
    """Those that people were asked about because they looked doubtful."""
    teacher: dict[str, bool]
    """The teacher's answers, by the gate's rule: yes as often as its probabilities promise."""
    probability: dict[str, float]
    """The exported file's, of val and test."""
    teacher_question: str
    """The teacher's key and the phrases that it was asked with; the name of one that compares no phrases."""


@dataclass(frozen=True)
class SharedPhotos:
    """Photos that measure all runs; lists and arrays of length N."""

    sha256: list[str]
    files: list[Path]
    names: list[str]
    group: list[str]
    truth: np.ndarray
    by_people: bool
    remarks: list[str]


def read_run_tables(candidates: Iterable[Candidate]) -> list[RunTables]:
    """The tables of the candidates' runs.

    Raises:
        RunError: A file is missing or damaged.
    """
    return [_read(one) for one in candidates]


def _read(one: Candidate) -> RunTables:
    if one.run is None:
        raise RunError(f"{one.name} is no run folder", hint="give labels: --gold truth.csv --images DIR")
    labels = Labels.of_run(one.run)
    given = one.run.table(PREDICTIONS, "evaluate", ["sha256", "probability"])
    names, labeled = labels.sha256.tolist(), labels.select(labels.labeled)
    return RunTables(
        name=one.name,
        root=one.images or Path(),
        path=dict(zip(names, labels.path.tolist(), strict=True)),
        split=one.splits,
        group=dict(zip(names, labels.group.tolist(), strict=True)),
        gold=dict(zip(labeled.sha256.tolist(), (labeled.gold == 1).tolist(), strict=True)),
        picked=frozenset(labels.sha256[labels.picked].tolist()),
        teacher=dict(zip(names, labels.teacher_answers.tolist(), strict=True)),
        probability=dict(zip(given["sha256"].to_pylist(), given["probability"].to_pylist(), strict=True)),
        teacher_question=json.dumps(
            [labels.teacher.get("key" if labels.by_phrases else "name"), labels.metadata.get("phrases", {})],
            sort_keys=True,
        ),
    )


def shared_photos(runs: Sequence[RunTables]) -> SharedPhotos:
    """The photos that measure all runs, and what is right there: by people if they said so of any, else the teacher.

    A photo measures if it is in the test split of a run and in the train or val split of none; by people, also if
    none picked it for its doubt, and no two runs hold opposite labels of it.

    Raises:
        RunError: No photo measures all of them, or nothing says what is right.
    """
    unseen = sorted(
        {sha for run in runs for sha, split in run.split.items() if split == "test"}
        - {sha for run in runs for sha, split in run.split.items() if split in USED}
    )
    if not unseen:
        raise RunError(
            "these runs share no photo that none of them was trained on",
            hint="give labels of photos that they never saw: --gold truth.csv --images DIR",
        )
    given = {sha: {run.gold[sha] for run in runs if sha in run.gold} for sha in unseen}
    doubtful = {sha for run in runs for sha in run.picked if given.get(sha)}
    conflicting = {sha for sha, labels in given.items() if len(labels) > 1}
    labels = {sha: min(one) for sha, one in given.items() if len(one) == 1 and sha not in doubtful}
    remarks = [f"{len(labels):,} photos with a label from people that none of them was trained or tuned on."]
    if doubtful:
        remarks.append(f"{len(doubtful):,} labels asked for because the photo looked doubtful left out.")
    if conflicting:
        remarks.append(f"{len(conflicting):,} photos of which the runs hold opposite labels left out.")
    if labels:
        return _shared_photos(runs, labels, remarks, by_people=True)
    return _shared_photos(
        runs, _teachers(runs, unseen), [f"{len(unseen):,} photos of their test splits."], by_people=False
    )


def _teachers(runs: Sequence[RunTables], unseen: Sequence[str]) -> dict[str, bool]:
    """What the teacher says, where all runs have one and the same.

    Raises:
        RunError: They do not.
    """
    answers = [{sha: run.teacher[sha] for sha in unseen if sha in run.teacher} for run in runs]
    agreed: dict[str, bool] = {}
    for one in answers:
        agreed |= one
    same = all(agreed[sha] == answer for one in answers for sha, answer in one.items())
    if len({run.teacher_question for run in runs}) > 1 or not same:
        raise RunError(
            "these runs cannot be compared: no photo that none was trained on has a label from people, and their "
            "teachers differ, so that each would be held against another truth",
            hint=MORE,
        )
    return agreed


def _shared_photos(
    runs: Sequence[RunTables], labels: dict[str, bool], remarks: list[str], *, by_people: bool
) -> SharedPhotos:
    home = {sha: run for run in reversed(runs) for sha in run.path}
    return SharedPhotos(
        sha256=list(labels),
        files=[home[sha].root / home[sha].path[sha] for sha in labels],
        names=[home[sha].path[sha] for sha in labels],
        group=[f"{home[sha].name} {home[sha].group[sha]}" for sha in labels],
        truth=np.array(list(labels.values()), bool),
        by_people=by_people,
        remarks=remarks,
    )
