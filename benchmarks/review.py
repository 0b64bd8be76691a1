"""A simulated review: folder names answer what `factory review` would ask; what do the answers buy?

    python benchmarks/review.py PHOTOS/scenes --yes glacier --no mountain --store STORE
    python benchmarks/review.py PHOTOS/flowers --yes rose --no tulip --store STORE --seeds 0 1 2 3 4 5 6 7
    python benchmarks/review.py PHOTOS/flowers --yes rose --no tulip --seeds 0 --orders ours --train 0 100

For each seed (of the photos' names, the splits and the random order) answers are given in batches, by our order and by
random order; after 0, 25, 50, 100 and 200 answers it prints the teacher's accuracy on photos that no one was asked
about and that no probe has seen (the test split), on all photos with people's answers in force, and how far the
estimate from the random share is from the truth. Nothing is embedded when the store has the photos' vectors.

With `--train` a student learns from the labels as they are then, by the stages of a run, and the shipped file is asked
about the whole test split, of which no student and no probe sees a label; the column beside it is the teacher's
accuracy on the same photos.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

from clip_factory.gold.gold_labels import Gold
from clip_factory.images import scan as images
from clip_factory.images.photo import Photo
from clip_factory.label_sources.labeling import build, teacher_about
from clip_factory.label_sources.probabilities import log_odds, sigmoid
from clip_factory.label_sources.probe import features
from clip_factory.label_sources.zero_shot import phrase_probabilities, text_vectors, zero_shot
from clip_factory.review import sampling
from clip_factory.review.pool import Pool
from clip_factory.review.relabel import CurrentLabels, relabel
from clip_factory.review.teacher_accuracy import estimate_accuracy
from clip_factory.run_folder import LABELS, RunFolder, sha256_file
from clip_factory.runtime import find_images
from clip_factory.scenario import Scenario
from clip_factory.scenario import Teacher as TeacherSpec
from clip_factory.splits import assign

MARKS = (0, 25, 50, 100, 200)
"""Numbers of answers after which figures are taken."""
BATCH = 25
COLUMNS = ("unseen", "labels", "estimate", "error", "random n", "probe")
TRAINED = ("teacher on test", "student on test")
"""Two more columns with `--train`."""
Trainer = Callable[[Pool, dict[str, bool], set[str], int], float]
"""Photos, people's labels, those of them that were picked for doubt, seed: the student's accuracy."""


def main() -> None:
    """Embed what is missing, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of class folders")
    parser.add_argument("--yes", required=True, help="the class folder that means yes, and the phrase for it")
    parser.add_argument("--no", required=True, help="the class folder that means no, and the phrase for it")
    parser.add_argument("--teacher", default="offline")
    parser.add_argument("--store", type=Path, help="embedding store (default: a new one)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="one review each (default: 0 to 4)"
    )
    parser.add_argument("--orders", nargs="+", choices=["ours", "random"], default=["ours", "random"])
    parser.add_argument("--cache", type=Path, help="file (.npz) to keep vectors and texts in, for repeated calls")
    parser.add_argument(
        "--train", type=int, nargs="*", choices=MARKS, help="train a student after so many answers (alone: after each)"
    )
    options = parser.parse_args()
    photos, truth = gather(options)
    print(f"{options.yes} against {options.no}: {len(truth)} photos, zero-shot right on ", end="")
    print(f"{((sigmoid(photos.log_odds) >= 0.5) == truth).mean():.4f}")
    train, marks = None, () if options.train is None else options.train or MARKS
    if marks:
        photos, train = located(photos, options), trainer(options)
    for name in options.orders:
        runs = [simulate(with_splits(photos, seed), truth, name, seed, train, marks) for seed in options.seeds]
        report(name, runs)


def gather(options: argparse.Namespace) -> tuple[Pool, np.ndarray]:
    """The photos of the two folders with vectors and zero-shot answers, and the truth by folder name."""
    if options.cache and options.cache.is_file():
        kept = np.load(options.cache)
        return made(kept["sha256"].tolist(), kept["groups"], kept["vectors"], kept["logits"]), kept["truth"]
    from clip_factory import encoders as teacher  # pulls torch

    store = options.store or Path(tempfile.mkdtemp(prefix="review-store-"))
    sides = [near_duplicates(options.photos / side, store) for side in (options.yes, options.no)]
    files = {sha: (path, group, side) for side, rows in enumerate(sides) for sha, (path, group) in rows.items()}
    names = sorted(files)
    model = teacher.load_encoder(TeacherSpec(model=options.teacher))
    shelf = teacher.EmbeddingStore(store)
    teacher.embed(model, [Photo(sha, files[sha][0]) for sha in names], shelf, 64, lambda done, total: None)
    vectors = shelf.get(model.key, names)
    texts = text_vectors(model, (options.yes, options.no), "photo")
    scores = phrase_probabilities(vectors, texts, model.logit_scale)
    truth = np.array([files[sha][2] == 0 for sha in names])
    groups = np.array([2 * files[sha][1] + files[sha][2] for sha in names])
    logits = log_odds(scores, 1)
    if options.cache:
        np.savez(options.cache, sha256=names, groups=groups, vectors=vectors, logits=logits, truth=truth)
    return made(names, groups, vectors, logits), truth


def near_duplicates(folder: Path, store: Path) -> dict[str, tuple[Path, int]]:
    """Path and group by sha256."""
    scanned = images.scan(folder, store / "scan.sqlite", lambda done, total: None).to_pylist()
    return {row["sha256"]: (folder / row["path"], row["group"]) for row in scanned if row["reason"] is None}


def made(names: list[str], groups: np.ndarray, vectors: np.ndarray, logits: np.ndarray) -> Pool:
    """Photos as review sees them, without splits."""
    unasked = np.full(len(names), np.nan)
    parts = features(vectors, logits)[:, :-1]
    splits = np.full(len(names), "train")
    return Pool(names, names, groups, splits, logits, vectors, parts, unasked, 0.5, {})


def with_splits(photos: Pool, seed: int) -> Pool:
    """The same photos under names of this seed, which decide what is drawn, split as a run with this seed would."""
    names = [hashlib.sha256(f"{seed}:{name}".encode()).hexdigest() for name in photos.sha256]
    answers = [bool(yes) for yes in photos.log_odds >= 0]
    splits = np.array(assign(names, photos.groups.tolist(), answers, seed))
    return replace(photos, sha256=names, splits=splits)


def located(photos: Pool, options: argparse.Namespace) -> Pool:
    """The same photos with the paths of their files."""
    folders = [options.photos / side for side in (options.yes, options.no)]
    paths = {sha256_file(path): path for folder in folders for path in find_images(folder)}
    names = [paths[sha].relative_to(options.photos).as_posix() for sha in photos.sha256]
    return replace(photos, paths=names, root=options.photos)


@dataclass(frozen=True)
class Vectors:
    """The photos' vectors by the names that a seed gave them, as the student's training asks for them."""

    photos: Pool

    def get(self, teacher_key: str, sha256s: Sequence[str]) -> np.ndarray:
        """float32 `(N, D)`."""
        rows = {sha: row for row, sha in enumerate(self.photos.sha256)}
        return np.asarray(self.photos.vectors[[rows[sha] for sha in sha256s]])


def trainer(options: argparse.Namespace) -> Trainer:
    """What labels the photos, trains and exports as a run does, and asks the shipped file about the test split."""
    from benchmarks import student  # pulls torch, as the teacher does
    from clip_factory import encoders as teacher
    from clip_factory.students.recipe import Recipe

    model = teacher.load_encoder(TeacherSpec(model=options.teacher))

    def train(photos: Pool, gold: dict[str, bool], picked: set[str], seed: int) -> float:
        question = {"name": options.yes.lower(), "positive": [options.yes], "negative": [options.no]}
        rest = {"images": {"path": str(photos.root.resolve())}, "student": {"seed": seed}}
        scenario, store = Scenario.model_validate(question | rest), Vectors(photos)
        usable = pa.table(
            {"sha256": photos.sha256, "path": photos.paths, "group": pa.array(photos.groups, pa.int32())}
        ).sort_by("sha256")
        vectors = store.get(model.key, usable["sha256"].to_pylist())
        scores = zero_shot(model, vectors, scenario)
        labels = build(scenario, teacher_about(model), scores, usable, vectors, gold, picked)
        learned, held = (
            [photo.path for photo in labels.of_split(part).photos(photos.root, None)] for part in ("train", "test")
        )
        task = student.Task(student.Question(photos.root, options.yes), seed, learned, held)
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder))
            labels.write(run.file(LABELS))
            row = student.measure_factory(task, scenario, run, store, Recipe())
        print(f"after {len(gold)} answers: {student.told(row)}", flush=True)
        return row.accuracy

    return train


def simulate(
    photos: Pool, truth: np.ndarray, name: str, seed: int, train: Trainer | None, marks: Sequence[int]
) -> dict[int, tuple[float, ...]]:
    """One review: figures of `COLUMNS`, and of `TRAINED` where there is a trainer, by number of answers."""
    shuffled = np.random.default_rng(seed).permutation(len(truth)).tolist()
    turns = shuffled if name == "random" else sampling.random_order(photos.sha256, photos.splits.tolist())
    answered: list[int] = []
    drawn: list[int] = []
    places, figures = 0, {}
    while True:
        gold = {photos.sha256[i]: bool(truth[i]) for i in answered}
        picked = frozenset(gold.keys() - {photos.sha256[i] for i in drawn})
        labels = relabel(photos, Gold(gold, picked))
        if len(answered) in MARKS:
            figures[len(answered)] = measure(photos, truth, labels.p, answered, drawn, labels.sentence)
            if train:
                student = train(photos, gold, set(picked), seed) if len(answered) in marks else np.nan
                test = photos.splits == "test"
                figures[len(answered)] += (((labels.p >= 0.5) == truth)[test].mean(), student)
        if len(answered) >= MARKS[-1]:
            return figures
        step = BATCH if name == "random" else round(BATCH * sampling.RANDOM_SHARE)
        drawn = turns[: places + step]
        batch = [i for i in drawn if i not in answered]
        places += step
        if name == "ours":
            batch += doubtful(photos, labels, turns, [*answered, *batch], BATCH - len(batch))
        answered += batch


def doubtful(photos: Pool, labels: CurrentLabels, turns: list[int], seen: list[int], n: int) -> list[int]:
    """The doubtful part of a batch, as `Session.next_batch` picks it."""
    fresh = (photos.splits == "train") & ~np.isin(photos.groups, photos.groups[seen])
    if not labels.learned:
        return sampling.first_in_order(turns, photos.groups, fresh, n)
    return sampling.diverse_batch(photos.components, labels.doubt, photos.groups, fresh, n)


def measure(
    photos: Pool, truth: np.ndarray, p: np.ndarray, answered: list[int], drawn: list[int], says: str
) -> tuple[float, ...]:
    """The figures of `COLUMNS`."""
    right = (p >= 0.5) == truth
    held = (photos.splits == "test") & ~np.isin(np.arange(len(truth)), answered)
    labels = right.copy()
    labels[answered] = True
    estimate = estimate_accuracy(right[drawn], 0, 0, len(truth))
    guess = estimate["accuracy"] if estimate["accuracy"] is not None else np.nan
    used = float(says.startswith("A linear probe"))
    return right[held].mean(), labels.mean(), guess, abs(guess - right.mean()), len(drawn), used


def report(name: str, runs: list[dict[int, tuple[float, ...]]]) -> None:
    """A table: mean over the seeds, and with more than one the standard error of the first two columns."""
    columns = (COLUMNS + TRAINED)[: len(runs[0][0])]
    print(f"\n{name:<8}{'answers':>8}" + "".join(f"{column:>18}" for column in columns))
    for mark in runs[0]:
        rows = np.array([run[mark] for run in runs])
        spread = rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else None
        cells = [f"{mean:.4f}" if mean == mean else "-" for mean in rows.mean(axis=0)]
        if spread is not None:
            cells[:2] = [f"{cell} +- {error:.4f}" for cell, error in zip(cells[:2], spread[:2], strict=True)]
        print(f"{'':<8}{mark:>8}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
