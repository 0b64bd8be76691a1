"""What a stage reads, as hashes: how a run knows which of its stages are out of date."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clip_factory import run_folder as files
from clip_factory.encoders.weights import weights_state
from clip_factory.errors import RunError
from clip_factory.gold.gold_labels import read_ledger
from clip_factory.images.scan import usable_photos
from clip_factory.images.scenario_region import scenario_region
from clip_factory.run_folder import RunFolder
from clip_factory.runtime.photo_files import find_images
from clip_factory.scenario import Scenario, Teacher, stamped

VERSION = "version of "
"""What stands before the name of a package in a fingerprint."""

TRAINING_LABELS = "labels of train and val"
"""What a stage reads that leaves the test split alone: an answer to a test photo measures a student and trains none."""


PHOTOS = "photos"
"""Names, sizes and times of the image files in the folder of the photos; a run may lie there, too."""
USABLE = "usable photos"
"""The rows of images.parquet that name photos, without those of all the other files that were seen."""
WEIGHTS = "weights of the teacher"
"""What tells the teacher's weights apart without loading them."""
STAMPED = "scenario as a model holds it"
"""All of the scenario but the paths of one machine."""
WATCHED_LATER = ("question", "positive")
"""Keys that scenarios had before the stage that reads them looked at them."""
RUN_FILES = (*files.FILES, *files.OPTIONAL)
SPECIAL = (TRAINING_LABELS, PHOTOS, USABLE, WEIGHTS, STAMPED)


def fingerprint(
    run: RunFolder, scenario: Scenario, reads: Sequence[str], packages: Sequence[str] = ()
) -> dict[str, str]:
    """A hash of each thing that a stage reads: files by their bytes, keys by their values, gold by its file's bytes.

    A region counts by what of a photo it shows, however it is named.

    Args:
        run: The run.
        scenario: Its scenario.
        reads: Names of files of the run, the names in `SPECIAL`, and keys of the scenario, as `student.seed`.
        packages: Distributions whose versions change what the stage makes.

    Returns:
        Name to hex sha256; files that are not there are left out. Versions stand as `version of NAME`.
    """
    hashes = run.hashes(tuple(name for name in reads if name in RUN_FILES))
    special = {
        TRAINING_LABELS: lambda: _training_labels(run),
        PHOTOS: lambda: _photos(Path(scenario.images.path or ".")),
        USABLE: lambda: _usable(run),
        WEIGHTS: lambda: _weights(scenario),
        STAMPED: lambda: _hash(stamped(scenario)),
    }
    hashes |= {name: special[name]() for name in reads if name in special}
    tree = _tree(scenario)
    for key in _keys(reads):
        hashes[key] = _value_hash(tree, key)
    if "gold" in reads and scenario.gold and Path(scenario.gold).is_file():
        hashes["gold"] = files.sha256_file(Path(scenario.gold))
    if "answers" in reads:
        hashes["answers"] = read_ledger(scenario).digest()
    return hashes | {f"{VERSION}{name}": _hash(_version(name)) for name in packages}


def changed(
    run: RunFolder, scenario: Scenario, stage: str, reads: Sequence[str], packages: Sequence[str] = ()
) -> set[str]:
    """Of what a stage reads, that which is not as it was when the stage last ended well; all, where it never did.

    What the log does not name, because the version that wrote it did not know it, has not changed: a key while it has
    its default value, all else in any case.
    """
    now = fingerprint(run, scenario, reads, packages)
    done = [event["reads"] for event in run.done_events() if event["stage"] == stage]
    if not done:
        return set(now)
    before: dict[str, str] = done[-1]
    new = [key for key in _keys(reads) if key not in before and key not in WATCHED_LATER]
    if new:
        defaults = _tree(Scenario(name=scenario.name, positive=scenario.positive))
        before = {key: _value_hash(defaults, key) for key in new} | before
    watched = (*SPECIAL, *WATCHED_LATER, *RUN_FILES)
    before = {name: now[name] for name in now if name.startswith(VERSION) or name in watched} | before
    looked_at = now.keys() | (before.keys() & set(reads))  # what a later version does not look at any more is no matter
    return {key for key in looked_at if now.get(key) != before.get(key)}


def _keys(reads: Sequence[str]) -> list[str]:
    return [name for name in reads if name not in RUN_FILES and name not in SPECIAL]


def _tree(scenario: Scenario) -> dict[str, Any]:
    """The scenario's values, and of its region what it shows."""
    region = scenario_region(scenario)
    return scenario.model_dump(mode="json") | {"region": region and region.to_json()}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _photos(root: Path) -> str:
    """Hash of the image files below a folder: each one's name, size and times, none of them opened."""
    digest = hashlib.sha256()
    for path in find_images(root):
        try:
            status = path.stat()
            stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        except OSError as error:
            stamp = str(error.strerror)
        digest.update(os.fsencode(path) + f"\0{stamp}\0".encode())
    return digest.hexdigest()


def _value_hash(tree: Any, key: str) -> str:
    value = tree
    for part in key.split("."):
        value = value[part]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _weights(scenario: Scenario) -> str:
    """What tells the weights of the encoder apart, and those of the checkpoints that label sources ask."""
    labels, encoder = scenario.labels, weights_state(scenario.teacher)
    models = [model for model in (labels.model, *(part.model for part in labels.sources or ())) if model]
    return _hash("\0".join([encoder, *(weights_state(Teacher(model=one)) for one in models)])) if models else encoder


def _usable(run: RunFolder) -> str:
    """Hash of the photos that the scan found usable; of a damaged table, which the stage will name, of its bytes."""
    try:
        return _table_hash(usable_photos(run.table(files.IMAGES, "scan", ["sha256", "path", "group", "reason"])))
    except RunError:
        return "".join(run.hashes((files.IMAGES,)).values())


def _training_labels(run: RunFolder) -> str:
    """Hash of the labels that shape a student, without those of the test split."""
    labels = run.table(files.LABELS, "label")
    return _table_hash(labels.filter(pc.not_equal(labels["split"], "test")))


def _table_hash(table: pa.Table) -> str:
    rows, stream = table.combine_chunks(), io.BytesIO()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows)
    return hashlib.sha256(stream.getbuffer()).hexdigest()
