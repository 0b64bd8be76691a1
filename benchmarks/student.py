"""The student's recipe against the peer recipe: same photos, same splits, same labels.

    python benchmarks/student.py PHOTOS/catsdogs:cat PHOTOS/scenes:forest PHOTOS/scenes:street PHOTOS/flowers:tulip
    python benchmarks/student.py PHOTOS/flowers:tulip --train-images 50 100 200 400 1400 --recipes factory
    python benchmarks/student.py PHOTOS/scenes:forest --labels teacher --recipes factory
    python benchmarks/student.py PHOTOS/scenes:forest --recipes factory --change vector_weight=0 frozen=0
    python benchmarks/student.py --add first.csv second.csv

A question is a folder of class folders and the class that means yes. Three tenths of the photos are for testing; of
the rest at most `--train-images` go to both recipes, and the factory takes its validation split out of them. Folder
names are the labels, or with `--labels teacher` the offline teacher's word is and folder names only measure. The
threshold seeks balanced accuracy. The peer recipe trains for 200 epochs;
with `--peer-epochs 2` it only shows its time, scaled to 200, and its accuracy is left empty.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import peer
from clip_factory import encoders as teacher
from clip_factory import exporters
from clip_factory import students as student
from clip_factory.images.photo import Photo, read_squares
from clip_factory.label_sources.labeling import build, teacher_about
from clip_factory.label_sources.zero_shot import zero_shot
from clip_factory.labels import Labels, hard_labels
from clip_factory.memory import keep_memory
from clip_factory.run_folder import LABELS, MODEL, RunFolder, sha256_file
from clip_factory.runtime import Model, find_images
from clip_factory.scenario import Scenario
from clip_factory.scenario.schema import Teacher
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import Store

TEST_SHARE, VAL_SHARE = 0.3, 0.15


@dataclass(frozen=True)
class Question:
    """A folder of class folders, and the one that means yes."""

    root: Path
    yes: str

    @classmethod
    def parse(cls, text: str) -> Question:
        """`FOLDER:CLASS`."""
        root, _, yes = text.rpartition(":")
        if not Path(root, yes).is_dir():
            raise argparse.ArgumentTypeError(f"{text}: there is no folder {Path(root, yes)}")
        return cls(Path(root), yes)


@dataclass(frozen=True)
class Task:
    """One question with its photos dealt out by one seed."""

    question: Question
    seed: int
    train: list[Path]
    test: list[Path]

    def truth(self, paths: Sequence[Path]) -> np.ndarray:
        """Bool `(N,)`: the folder names' answers."""
        return np.array([path.relative_to(self.question.root).parts[0] == self.question.yes for path in paths])


@dataclass(frozen=True)
class Row:
    """One trained model."""

    recipe: str
    question: str
    seed: int
    train_images: int
    balanced_accuracy: float
    auc: float
    accuracy: float
    float_balanced_accuracy: float
    """Of the network before export; the file's own for the peer."""
    train_seconds: float
    export_seconds: float
    bytes: int
    milliseconds: float
    teacher_balanced_accuracy: float
    """Of the teacher's labels on the same test photos; NaN with gold labels."""


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", type=Question.parse, help="FOLDER:CLASS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-images", type=int, nargs="+", default=[1400])
    parser.add_argument("--labels", choices=["gold", "teacher"], default="gold")
    parser.add_argument("--recipes", choices=["factory", "peer"], nargs="+", default=["factory", "peer"])
    parser.add_argument("--peer-epochs", type=int, default=peer.EPOCHS)
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--change", nargs="*", default=[], metavar="NAME=VALUE", help="numbers of the recipe to change")
    parser.add_argument("--store", type=Path, default=Path("benchmark-store"), help="embedding store, kept")
    parser.add_argument("--add", type=Path, nargs="*", default=[], metavar="CSV", help="rows measured earlier")
    parser.add_argument("--out", type=Path, default=Path("benchmark-student"), help="stem of the CSV and the plot")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    keep_memory()
    rows = [row for path in options.add for row in read(path)]
    for row in measure(options) if options.questions else ():
        rows.append(row)
        print(describe(row), flush=True)
        write(rows, options.out)
    summarize(rows)
    plot(rows, options.out.with_suffix(".png"))


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The rows of every question, number of training images, seed and recipe that was asked for."""
    model, store = teacher.load_encoder(Teacher(model="offline")), teacher.EmbeddingStore(options.store)
    for question in options.questions:
        embed(question, model, store)
    for seed in options.seeds:
        for question in options.questions:
            for images in options.train_images:
                yield from compare(deal(question, images, seed), model, store, options)


def embed(question: Question, model: teacher.Encoder, store: teacher.EmbeddingStore) -> None:
    """Bring all photos of a question into the store."""
    photos = [Photo.of(path) for path in find_images(question.root)]
    teacher.embed(model, photos, store, 64, lambda done, total: None)


def deal(question: Question, images: int, seed: int) -> Task:
    """Shuffle and split; more training images never change the test photos, and of exact copies one is dealt."""
    paths = sorted({sha256_file(path): path for path in find_images(question.root)}.values())
    order = np.random.default_rng(seed).permutation(len(paths))
    shuffled = [paths[i] for i in order]
    tests = round(TEST_SHARE * len(paths))
    return Task(question, seed, shuffled[tests:][:images], shuffled[:tests])


def compare(
    task: Task, model: teacher.Encoder, store: teacher.EmbeddingStore, options: argparse.Namespace
) -> Iterator[Row]:
    """The rows of one task: the factory's, and the peer's if asked."""
    with TemporaryDirectory() as folder:
        scenario, labels = label(task, model, store, options)
        run = RunFolder(Path(folder))
        labels.write(run.file(LABELS))
        if "factory" in options.recipes:
            yield measure_factory(task, scenario, run, store, recipe_with(options.change))
    if "peer" in options.recipes:
        hard = hard_labels(labels.p_teacher, labels.gold, 0.5).tolist()
        given = dict(zip(labels.path.tolist(), hard, strict=True))
        answers = np.array([given[path.relative_to(task.question.root).as_posix()] for path in task.train])
        yield measure_peer(task, answers, options.peer_epochs)


def describe(row: Row) -> str:
    """A row in a line."""
    return (
        f"{row.recipe:<8} {row.question:<10} seed {row.seed} images {row.train_images:>5}  "
        f"balanced {row.balanced_accuracy:.4f} (float {row.float_balanced_accuracy:.4f})  auc {row.auc:.4f}  "
        f"train {row.train_seconds:.1f} s  export {row.export_seconds:.1f} s  {row.bytes:,} bytes  "
        f"{row.milliseconds:.3f} ms  teacher {row.teacher_balanced_accuracy:.4f}"
    )


def label(
    task: Task, model: teacher.Encoder, store: teacher.EmbeddingStore, options: argparse.Namespace
) -> tuple[Scenario, Labels]:
    """labels.parquet of a task: splits as dealt, gold from folder names or the teacher's word alone."""
    question = task.question
    others = sorted(p.name for p in question.root.iterdir() if p.is_dir() and p.name != question.yes)
    scenario = Scenario.model_validate(
        {
            "name": question.yes.lower(),
            "positive": [question.yes],
            "negative": others,
            "images": {"path": str(question.root)},
            "student": {"seed": task.seed, "backbone": options.backbone},
            "target": "balanced",
            "gate": {"parity": 0.05},
        }
    )
    val = round(len(task.train) * VAL_SHARE)
    splits = (
        dict.fromkeys(task.test, "test") | dict.fromkeys(task.train, "train") | dict.fromkeys(task.train[:val], "val")
    )
    hashes = {path: sha256_file(path) for path in splits}
    paths = {sha: path for path, sha in hashes.items()}
    usable = pa.table(
        {
            "sha256": sorted(paths),
            "path": [paths[sha].relative_to(question.root).as_posix() for sha in sorted(paths)],
            "group": pa.array(range(len(paths)), pa.int32()),
        }
    )
    gold = options.labels == "gold"
    # the teacher may learn from the training photos' gold, as it does in the main job, and never from the test photos'
    given = {hashes[path]: bool(yes) for path, yes in zip(task.train, task.truth(task.train), strict=True)}
    vectors = store.get(model.key, sorted(paths))
    scores = zero_shot(model, vectors, scenario)
    labels = build(scenario, teacher_about(model), scores, usable, vectors, given if gold else {})
    files = [photo.path for photo in labels.photos(question.root, None)]
    truth = task.truth(files).astype(float) if gold else labels.gold
    return scenario, replace(labels, split=np.array([splits[file] for file in files]), gold=truth)


def recipe_with(changes: list[str]) -> Recipe:
    """The recipe with some of its numbers changed, for ablations: `vector_weight=0`, `frozen=0`, `min_crop=1`."""
    recipe = Recipe()
    for name, value in (change.split("=", 1) for change in changes):
        if hasattr(recipe, name):
            recipe = replace(recipe, **{name: type(getattr(recipe, name))(value)})
        else:
            recipe = replace(recipe, augmentation=replace(recipe.augmentation, **{name: float(value)}))
    return recipe


def measure_factory(task: Task, scenario: Scenario, run: RunFolder, store: Store, recipe: Recipe) -> Row:
    """Train, export, and ask the shipped file about the test photos."""
    start = time.perf_counter()
    student.train(scenario, run, store, recipe)
    trained = time.perf_counter()
    exporters.export(scenario, run)
    exported = time.perf_counter()
    model = Model.load(run.file(MODEL), threads=1)
    pixels, truth = read_squares([Photo.of(path) for path in task.test], model.image_size), task.truth(task.test)
    probability = model.probabilities(pixels)
    return Row(
        "factory",
        task.question.yes,
        task.seed,
        len(task.train),
        *_scores(truth, probability, model.threshold),
        float(balanced_accuracy_score(truth, exporters.network_probabilities(run, pixels) >= model.threshold)),
        trained - start,
        exported - trained,
        run.file(MODEL).stat().st_size,
        _milliseconds(model, pixels[:1]),
        _teacher_score(task, Labels.of_run(run)),
    )


def measure_peer(task: Task, answers: np.ndarray, epochs: int) -> Row:
    """The same for the peer recipe, which trains on all of the task's training photos."""
    train, test = (read_squares([Photo.of(path) for path in part], peer.SIZE) for part in (task.train, task.test))
    truth = task.truth(task.test)
    result = peer.run(train, answers, test, task.seed, epochs)
    scores = _scores(truth, result.probability, 0.5) if epochs == peer.EPOCHS else (np.nan,) * 3
    size = len(task.train)
    return Row(
        "peer",
        task.question.yes,
        task.seed,
        size,
        *scores,
        scores[0],
        result.seconds,
        0.0,
        result.bytes,
        result.milliseconds,
        np.nan,
    )


def _scores(truth: np.ndarray, probability: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Balanced accuracy, AUC, accuracy."""
    answer = probability >= threshold
    return (
        float(balanced_accuracy_score(truth, answer)),
        float(roc_auc_score(truth, probability)),
        float((answer == truth).mean()),
    )


def _teacher_score(task: Task, labels: Labels) -> float:
    """The teacher's own balanced accuracy on the test photos, yes from 0.5."""
    p = dict(zip(labels.path.tolist(), labels.p_teacher.tolist(), strict=True))
    test = np.array([p[path.relative_to(task.question.root).as_posix()] for path in task.test])
    return float(balanced_accuracy_score(task.truth(task.test), test >= 0.5))


def _milliseconds(model: Model, one: np.ndarray) -> float:
    times = []
    for _ in range(200):
        start = time.perf_counter()
        model.probabilities(one)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000


def write(rows: list[Row], out: Path) -> None:
    """All rows so far as CSV."""
    with open(out.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read(path: Path) -> list[Row]:
    """The rows of a CSV that `write` wrote."""
    kinds = {"str": str, "int": int, "float": float}
    with open(path, newline="", encoding="utf-8") as file:
        return [Row(**{f.name: kinds[str(f.type)](line[f.name]) for f in fields(Row)}) for line in csv.DictReader(file)]


def summarize(rows: list[Row]) -> None:
    """Means over seeds by question and number of images, then over questions, and the ratios of the two recipes."""
    most: dict[str, int] = {}
    for row in rows:
        most[row.question] = max(row.train_images, most.get(row.question, 0))
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.recipe, row.question, row.train_images), []).append(row)
    for (recipe, question, images), mine in groups.items():
        scores = [row.balanced_accuracy for row in mine]
        line = f"balanced accuracy {np.mean(scores):.4f} +- {np.std(scores):.4f} ({len(scores)} models)"
        kept = np.mean(scores) / np.mean([row.teacher_balanced_accuracy for row in mine])
        print(f"{recipe:<8} {question:<10} {images:>5} images  {line}  of the teacher's {kept:.4f}")
    means = {
        recipe: {
            name: float(np.nanmean([np.nanmean([getattr(row, name) for row in mine]) for mine in of_recipe]))
            for name in [field.name for field in fields(Row)[4:]]
        }
        for recipe in dict.fromkeys(row.recipe for row in rows)
        if (of_recipe := [mine for (r, q, images), mine in groups.items() if (r, images) == (recipe, most[q])])
    }
    print(f"means over questions, each at its most images: {json.dumps(means, indent=2)}")
    if {"factory", "peer"} <= means.keys():
        ours, theirs = means["factory"], means["peer"]
        gone = 1 - (1 - ours["balanced_accuracy"]) / (1 - theirs["balanced_accuracy"])
        print(f"share of the peer's balanced error gone: {gone:.3f}")
        print(f"training: {theirs['train_seconds'] / ours['train_seconds']:.1f} times faster")


def plot(rows: list[Row], path: Path) -> None:
    """Balanced accuracy over training images: a line for each question and recipe, a bar of one deviation of seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    questions = list(dict.fromkeys(row.question for row in rows))
    for recipe, question in dict.fromkeys((row.recipe, row.question) for row in rows):
        mine = [row for row in rows if (row.recipe, row.question) == (recipe, question)]
        scores = {
            size: [row.balanced_accuracy for row in mine if row.train_images == size]
            for size in sorted({row.train_images for row in mine})
        }
        style = {"color": f"C{questions.index(question)}", "linestyle": "-" if recipe == "factory" else "--"}
        means, spread = [np.mean(s) for s in scores.values()], [np.std(s) for s in scores.values()]
        axes.errorbar(list(scores), means, spread, marker="o", capsize=3, label=f"{recipe}: {question}", **style)
    axes.set(xlabel="training images", ylabel="balanced accuracy", xscale="log")
    sizes = sorted({row.train_images for row in rows})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    main()
