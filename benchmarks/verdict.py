"""Is the verdict true, and is the cut where it should be? Measured on photos kept apart, whose folders are the truth.

    python benchmarks/verdict.py PHOTOS/flowers PHOTOS/scenes --store STORE --out FILE.jsonl
    python benchmarks/verdict.py PHOTOS/flowers:tulip --shares own 0.03 --answers 0 200 --seeds 0 1 2 ...
    python benchmarks/verdict.py --tables FILE.jsonl

Each class folder of a set is the question once, against the rest of its set: at its own share, at 1 in 6, at 3 %. A
third of the photos is kept apart. The rest goes through the stages of a run, from words alone and after simulated
answers by the order that `factory review` asks in; the shipped file is then asked about the photos kept apart. What is
written down for each training (probabilities, labels, verdict) is enough to place other cuts and to hold other rules
against it: `--tables` reads the file and prints. Trainings that the file has already are passed over.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import verdict_tables
from clip_factory import encoders as teacher
from clip_factory.exporters import export
from clip_factory.exporters.calibration_set import held_out
from clip_factory.gate.evaluate_model import evaluate
from clip_factory.gold.gold_labels import Gold
from clip_factory.images import scan as images
from clip_factory.images.photo import Photo, read_squares
from clip_factory.label_sources.labeling import build, teacher_about
from clip_factory.label_sources.probe import features
from clip_factory.label_sources.zero_shot import zero_shot
from clip_factory.labels import Labels
from clip_factory.review import sampling
from clip_factory.review.pool import Pool
from clip_factory.review.relabel import relabel
from clip_factory.run_folder import GATE, LABELS, MODEL, PREDICTIONS, RunFolder
from clip_factory.runtime import Model
from clip_factory.runtime.atomic import write_json
from clip_factory.scenario import Scenario
from clip_factory.scenario import Teacher as TeacherSpec
from clip_factory.splits import assign
from clip_factory.students import training as train
from clip_factory.students.recipe import Recipe

APART = 1 / 3
BATCH = 25


@dataclass(frozen=True)
class Question:
    """A class folder against the others of its set, at a share of yes."""

    root: Path
    name: str
    share: str
    seed: int

    @property
    def title(self) -> str:
        """For tables."""
        return f"{self.root.name}:{self.name} {self.share}"


@dataclass(frozen=True)
class Sample:
    """The photos of a question, N rows sorted by name, which a seed deals anew."""

    sha256: list[str]
    """Names by seed: splits and orders are hashes of them."""
    path: list[str]
    group: np.ndarray
    vectors: np.ndarray
    truth: np.ndarray
    apart: np.ndarray
    """Which are kept apart."""

    def rows(self, chosen: np.ndarray) -> Sample:
        """Some of the photos, bool or int."""
        index = np.arange(len(self.path))[chosen]
        names, paths = [self.sha256[i] for i in index], [self.path[i] for i in index]
        return Sample(names, paths, self.group[index], self.vectors[index], self.truth[index], self.apart[index])

    def get(self, teacher_key: str, sha256s: list[str]) -> np.ndarray:
        """As the embedding store does."""
        where = {sha256: row for row, sha256 in enumerate(self.sha256)}
        return np.asarray(self.vectors[[where[sha256] for sha256 in sha256s]])


def main() -> None:
    """Parse, measure what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help="FOLDER of class folders, or FOLDER:CLASS")
    parser.add_argument("--tables", type=Path, help="print the tables of this file, measure nothing")
    parser.add_argument("--out", type=Path, default=Path("verdict.jsonl"), help="where rows are added")
    parser.add_argument("--store", type=Path, help="embedding store (default: a new one)")
    parser.add_argument("--teacher", default="offline")
    parser.add_argument("--shares", nargs="+", default=["own", "0.1667", "0.03"], help="own, or a share of yes")
    parser.add_argument("--answers", nargs="+", type=int, default=[0, 100, 200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--image-size", type=int, default=0, help="pixels (default: the recipe's)")
    parser.add_argument("--recipe", nargs="*", default=[], metavar="KEY=VALUE", help="numbers of the recipe to change")
    options = parser.parse_args()
    if options.tables is None:
        measure(options)
    verdict_tables.show(options.tables or options.out)


def measure(options: argparse.Namespace) -> None:
    """Train and judge whatever the file does not hold yet."""
    model = teacher.load_encoder(TeacherSpec(model=options.teacher))
    shelf = teacher.EmbeddingStore(options.store or Path(tempfile.mkdtemp(prefix="verdict-store-")))
    recipe = Recipe(**{key: float(value) for key, _, value in (pair.partition("=") for pair in options.recipe)})
    done = {row["key"] for row in verdict_tables.rows(options.out)}
    for root, name in questions(options.sets):
        photos = gather(root, model, shelf)
        for seed in options.seeds:
            for share in options.shares:
                question = Question(root, name, share, seed)
                for answers in options.answers:
                    key = f"{question.title} {seed} {answers} {options.image_size} {' '.join(options.recipe)}"
                    if key in done:
                        continue
                    sample = deal(photos, question)
                    row = one(question, sample, answers, model, recipe, options.image_size)
                    with open(options.out, "a", encoding="utf-8") as file:
                        file.write(json.dumps({"key": key, **row}) + "\n")
                    print(key, row["verdict"]["state"], row["verdict"]["headline"], flush=True)


def questions(sets: list[str]) -> Iterator[tuple[Path, str]]:
    """The folder of a set and the class that means yes."""
    for text in sets:
        folder, _, name = text.partition(":")
        root = Path(folder).resolve()
        for one_of in [name] if name else sorted(path.name for path in root.iterdir() if path.is_dir()):
            yield root, one_of


def gather(root: Path, model: Any, shelf: Any) -> dict[str, Any]:
    """Paths, groups and vectors of a set's distinct photos."""
    table = images.scan(root, shelf.root / "scan.sqlite", lambda done, total: None)
    rows = {row["sha256"]: row for row in table.to_pylist() if row["reason"] is None}
    names = sorted(rows)
    teacher.embed(model, [(sha, root / rows[sha]["path"]) for sha in names], shelf, 64, lambda done, total: None)
    paths = [rows[sha]["path"] for sha in names]
    groups = np.array([rows[sha]["group"] for sha in names])
    return {"path": paths, "group": groups, "vectors": shelf.get(model.key, names), "sha256": names}


def deal(photos: dict[str, Any], question: Question) -> Sample:
    """The photos of a question: yes photos thinned out to their share, a third of the groups kept apart."""
    names = [hashlib.sha256(f"{question.seed}:{sha}".encode()).hexdigest() for sha in photos["sha256"]]
    truth = np.array([Path(path).parts[0] == question.name for path in photos["path"]])
    random = np.random.default_rng([question.seed, 1])
    kept = np.ones(len(truth), bool)
    if question.share != "own":
        share = float(question.share)
        wanted = round(share / (1 - share) * (~truth).sum())
        if wanted < truth.sum():
            kept[random.permutation(np.flatnonzero(truth))[wanted:]] = False
        else:
            kept[random.permutation(np.flatnonzero(~truth))[round((1 - share) / share * truth.sum()) :]] = False
    groups = np.unique(photos["group"])
    apart = np.isin(photos["group"], random.permutation(groups)[: round(APART * len(groups))])
    by_name = np.argsort(names)
    by_name = by_name[kept[by_name]]
    return Sample(
        [names[i] for i in by_name], [photos["path"][i] for i in by_name], photos["group"][by_name],
        photos["vectors"][by_name], truth[by_name], apart[by_name],
    )  # fmt: skip


def one(question: Question, sample: Sample, answers: int, model: Any, recipe: Recipe, size: int) -> dict[str, Any]:
    """One training: what is exported, what the gate says, and what is so."""
    folder, apart = sample.rows(~sample.apart), sample.rows(sample.apart)
    scenario = Scenario.model_validate(
        {
            "name": question.name,
            "positive": [question.name],
            "images": {"path": str(question.root)},
            "student": {"seed": question.seed} | ({"image_size": size} if size else {}),
        }
    )
    gold, picked = answered(scenario, folder, answers, model, question.seed)
    table = pa.table({"sha256": folder.sha256, "path": folder.path, "group": pa.array(folder.group, pa.int32())})
    with tempfile.TemporaryDirectory() as place:
        run = RunFolder(Path(place))
        scores = zero_shot(model, folder.vectors, scenario)
        labels = build(scenario, teacher_about(model), scores, table, folder.vectors, gold, picked)
        labels.write(run.file(LABELS))
        train(scenario, run, folder, recipe)
        export(scenario, run)
        evaluate(scenario, run)
        seen = held_out(run)
        exported = Model.load(run.file(MODEL))
        pixels = read_squares([Photo.of(question.root / path) for path in apart.path], exported.image_size)
        gate = run.json(GATE, "evaluate")
        test = tested(run, labels)
        proven = all_tests_answered(scenario, run, labels, dict(zip(folder.sha256, folder.truth, strict=True)))
        threshold = json.loads(exported.metadata["cut"])
        calibration = json.loads(exported.metadata["calibration"])
        probability = exported.probabilities(pixels)
    where = {sha256: row for row, sha256 in enumerate(folder.sha256)}
    return {
        "question": question.title,
        "seed": question.seed,
        "answers": answers,
        "verdict": gate["verdict"],
        "proven": proven["verdict"],
        "clauses": gate["clauses"],
        "cut": threshold,
        "bars": [scenario.gate.recall, scenario.gate.precision],
        "calibration": calibration,
        "apart": {
            "truth": apart.truth.astype(int).tolist(),
            "student": np.round(probability.astype(float), 5).tolist(),
            "words": np.round(zero_shot(model, apart.vectors, scenario).p, 5).tolist(),
        },
        "unseen": {
            "logit": np.round(seen.logits, 4).tolist(),
            "label": np.round(seen.truth.probability, 4).tolist(),
            "split": splits_of(seen.sha256, labels),
            "truth": [int(folder.truth[where[sha]]) for sha in seen.sha256],
        },
        "labels": {
            "p": np.round(labels.p_teacher.astype(float), 4).tolist(),
            "truth": [int(folder.truth[where[sha]]) for sha in labels.sha256],
            "split": labels.split.tolist(),
            "gold": np.nan_to_num(labels.gold, nan=-1).astype(int).tolist(),
            "picked": labels.picked.tolist(),
        },
        "test": test,
    }


def tested(run: RunFolder, labels: Labels) -> dict[str, list[Any]]:
    """What the shipped file says of the test photos, and what the teacher does."""
    predictions = pq.read_table(run.file(PREDICTIONS))
    p = dict(zip(predictions["sha256"].to_pylist(), predictions["probability"].to_pylist(), strict=True))
    rows = labels.of_split("test")
    return {"student": [round(p[name], 5) for name in rows.sha256], "teacher": rows.p_teacher.tolist()}


def splits_of(sha256s: list[str], labels: Labels) -> list[str]:
    """The splits of some photos."""
    split = dict(zip(labels.sha256.tolist(), labels.split.tolist(), strict=True))
    return [split[sha] for sha in sha256s]


def all_tests_answered(scenario: Scenario, run: RunFolder, labels: Labels, truth: dict[str, bool]) -> dict[str, Any]:
    """What the gate would say of the same model with people's labels on all test photos."""
    right = np.array([float(truth[name]) for name in labels.sha256])
    replace(labels, gold=np.where(labels.split == "test", right, labels.gold)).write(run.file(LABELS))
    before = run.json(GATE, "evaluate")
    evaluate(scenario, run)
    gate: dict[str, Any] = run.json(GATE, "evaluate")
    labels.write(run.file(LABELS))
    write_json(run.file(GATE), before)
    return gate


def answered(scenario: Scenario, sample: Sample, count: int, model: Any, seed: int) -> tuple[dict[str, bool], set[str]]:
    """A simulated review: answers by sha256, and which of them were picked for doubt."""
    if not count:
        return {}, set()
    logits = zero_shot(model, sample.vectors, scenario).log_odds
    splits = np.array(assign(sample.sha256, sample.group.tolist(), (logits >= 0).tolist(), seed))
    parts = features(sample.vectors, logits)[:, :-1]
    unasked = np.full(len(logits), np.nan)
    photos = Pool(
        sample.sha256, sample.path, sample.group, splits, logits, sample.vectors, parts, unasked, 0.5, {}
    )  # fmt: skip
    turns = sampling.random_order(sample.sha256, splits.tolist())
    asked: list[int] = []
    places = 0
    while len(asked) < count:
        gold = {sample.sha256[i]: bool(sample.truth[i]) for i in asked}
        relabeled = relabel(photos, Gold(gold, frozenset(gold.keys() - {sample.sha256[i] for i in turns[:places]})))
        places += round(BATCH * sampling.RANDOM_SHARE)
        batch = [i for i in turns[:places] if i not in asked]
        fresh = (splits == "train") & ~np.isin(sample.group, sample.group[[*asked, *batch]])
        more = BATCH - len(batch)
        pick = (
            sampling.diverse_batch(parts, relabeled.doubt, sample.group, fresh, more)
            if relabeled.learned
            else sampling.first_in_order(turns, sample.group, fresh, more)
        )
        asked += batch + pick
    gold = {sample.sha256[i]: bool(sample.truth[i]) for i in asked}
    return gold, set(gold) - {sample.sha256[i] for i in turns[:places]}


if __name__ == "__main__":
    main()
