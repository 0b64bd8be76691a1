"""What a stage reads, as hashes: how a run knows which of its stages are out of date."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clip_factory import run_folder as files
from clip_factory.gold.gold_labels import read_ledger
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario

TRAINING_LABELS = "labels of train and val"
"""What a stage reads that leaves the test split alone: an answer to a test photo measures a student and trains none."""


def fingerprint(run: RunFolder, scenario: Scenario, reads: Sequence[str]) -> dict[str, str]:
    """A hash of each thing that a stage reads: files by their bytes, keys by their values, gold by its file's bytes.

    Args:
        run: The run.
        scenario: Its scenario.
        reads: Names of files of the run, `TRAINING_LABELS`, and keys of the scenario, as `student` or `student.seed`.

    Returns:
        Name to hex sha256; files that are not there are left out.
    """
    hashes = run.hashes(tuple(name for name in reads if name in files.FILES))
    if TRAINING_LABELS in reads:
        hashes[TRAINING_LABELS] = _training_labels(run)
    tree = scenario.model_dump(mode="json")
    for key in _keys(reads):
        hashes[key] = _value_hash(tree, key)
    if "gold" in reads and scenario.gold and Path(scenario.gold).is_file():
        hashes["gold"] = files.sha256_file(Path(scenario.gold))
    if "answers" in reads:
        hashes["answers"] = read_ledger(scenario).digest()
    return hashes


def changed(run: RunFolder, scenario: Scenario, stage: str, reads: Sequence[str]) -> set[str]:
    """Of what a stage reads, that which is not as it was when the stage last ended well; all, where it never did.

    A key that the log does not name, because the version that wrote it did not know the key, has not changed while it
    has its default value.
    """
    now = fingerprint(run, scenario, reads)
    done = [event["reads"] for event in run.done_events() if event["stage"] == stage]
    if not done:
        return set(now)
    before: dict[str, str] = done[-1]
    new = [key for key in _keys(reads) if key not in before]
    if new:
        defaults = Scenario(name=scenario.name, positive=scenario.positive).model_dump(mode="json")
        before = {key: _value_hash(defaults, key) for key in new} | before
    return {key for key in now.keys() | before.keys() if now.get(key) != before.get(key)}


def _keys(reads: Sequence[str]) -> list[str]:
    return [name for name in reads if name not in files.FILES and name != TRAINING_LABELS]


def _value_hash(tree: Any, key: str) -> str:
    value = tree
    for part in key.split("."):
        value = value[part]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _training_labels(run: RunFolder) -> str:
    """Hash of the labels that shape a student, without those of the test split."""
    labels = run.table(files.LABELS, "label")
    rows = labels.filter(pc.not_equal(labels["split"], "test")).combine_chunks()
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows)
    return hashlib.sha256(stream.getbuffer()).hexdigest()
