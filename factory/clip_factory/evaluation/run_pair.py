"""What the folders of several runs say together: which photos measure all of them, and what is right there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip_factory.errors import RunError
from clip_factory.evaluation.candidates import USED, Contender
from clip_factory.run_folder import LABELS, PREDICTIONS
from clip_factory.statistics import break_even

MORE = "label some photos of their test splits: factory review RUN --prove, then run again; or give --gold truth.csv"


@dataclass(frozen=True)
class Run:
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
    """The shipped file's, of val and test."""
    asked: str
    """The teacher's key and the phrases that it was asked with."""


@dataclass(frozen=True)
class Chosen:
    """Photos that measure all runs; lists and arrays of length N."""

    sha256: list[str]
    files: list[Path]
    names: list[str]
    group: list[str]
    truth: np.ndarray
    by_people: bool
    remarks: list[str]


def read_runs(contenders: Iterable[Contender]) -> list[Run]:
    """The tables of the contenders' runs.

    Raises:
        RunError: A file is missing or damaged.
    """
    return [_read(one) for one in contenders]


def _read(one: Contender) -> Run:
    if one.run is None:
        raise RunError(f"{one.name} is no run folder", hint="give labels: --gold truth.csv --images DIR")
    table = one.run.table(LABELS, "label")
    said = one.run.table(PREDICTIONS, "gate")
    about = {key: json.loads((table.schema.metadata or {}).get(key, b"{}")) for key in (b"teacher", b"phrases")}
    names = table["sha256"].to_pylist()

    def column(name: str) -> dict[str, object]:
        return dict(zip(names, table[name].to_pylist(), strict=True))

    p_teacher = table["p_teacher"].to_numpy()
    picked = column("picked") if "picked" in table.column_names else {}
    return Run(
        name=one.name,
        root=one.images or Path(),
        path={sha: str(path) for sha, path in column("path").items()},
        split=one.splits,
        group=dict(zip(names, table["group"].to_pylist(), strict=True)),
        gold={sha: bool(label) for sha, label in column("gold").items() if label is not None},
        picked=frozenset(sha for sha, doubtful in picked.items() if doubtful),
        teacher=dict(zip(names, (p_teacher >= break_even(p_teacher)).tolist(), strict=True)),
        probability=dict(zip(said["sha256"].to_pylist(), said["probability"].to_pylist(), strict=True)),
        asked=json.dumps([about[b"teacher"].get("key"), about[b"phrases"]], sort_keys=True),
    )


def truth_of(runs: Sequence[Run]) -> Chosen:
    """The photos that measure all runs, and what is right there: by people if they said so of any, else the teacher.

    A photo measures if it is in the test split of a run and in the train or val split of none; by people, also if
    none picked it for its doubt, and no two runs hold opposite labels of it.

    Raises:
        RunError: No photo measures all of them, or nothing says what is right.
    """
    fair = sorted(
        {sha for run in runs for sha, split in run.split.items() if split == "test"}
        - {sha for run in runs for sha, split in run.split.items() if split in USED}
    )
    if not fair:
        raise RunError(
            "these runs share no photo that none of them was trained on",
            hint="give labels of photos that they never saw: --gold truth.csv --images DIR",
        )
    said = {sha: {run.gold[sha] for run in runs if sha in run.gold} for sha in fair}
    doubtful = {sha for run in runs for sha in run.picked if said.get(sha)}
    torn = {sha for sha, labels in said.items() if len(labels) > 1}
    labels = {sha: min(one) for sha, one in said.items() if len(one) == 1 and sha not in doubtful}
    remarks = [f"{len(labels):,} photos with a label from people that none of them was trained or tuned on."]
    if doubtful:
        remarks.append(f"{len(doubtful):,} labels asked for because the photo looked doubtful left out.")
    if torn:
        remarks.append(f"{len(torn):,} photos of which the runs hold opposite labels left out.")
    if labels:
        return _chosen(runs, labels, remarks, by_people=True)
    return _chosen(runs, _teachers(runs, fair), [f"{len(fair):,} photos of their test splits."], by_people=False)


def _teachers(runs: Sequence[Run], fair: Sequence[str]) -> dict[str, bool]:
    """What the teacher says, where all runs have one and the same.

    Raises:
        RunError: They do not.
    """
    answers = [{sha: run.teacher[sha] for sha in fair if sha in run.teacher} for run in runs]
    together: dict[str, bool] = {}
    for one in answers:
        together |= one
    same = all(together[sha] == answer for one in answers for sha, answer in one.items())
    if len({run.asked for run in runs}) > 1 or not same:
        raise RunError(
            "these runs cannot be compared: no photo that none was trained on has a label from people, and their "
            "teachers differ, so that each would be held against another truth",
            hint=MORE,
        )
    return together


def _chosen(runs: Sequence[Run], labels: dict[str, bool], remarks: list[str], *, by_people: bool) -> Chosen:
    home = {sha: run for run in reversed(runs) for sha in run.path}
    return Chosen(
        sha256=list(labels),
        files=[home[sha].root / home[sha].path[sha] for sha in labels],
        names=[home[sha].path[sha] for sha in labels],
        group=[f"{home[sha].name} {home[sha].group[sha]}" for sha in labels],
        truth=np.array(list(labels.values()), bool),
        by_people=by_people,
        remarks=remarks,
    )
