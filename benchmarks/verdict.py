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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import verdict_tables
from clip_factory import encoders as teacher
from clip_factory.export import export
from clip_factory.export.calibration_set import unseen
from clip_factory.gate.evidence import judge
from clip_factory.images import scan as images
from clip_factory.label_sources import probe
from clip_factory.label_sources import zero_shot as labeling
from clip_factory.review import sampling as order
from clip_factory.review.pool import Photos
from clip_factory.review.relabel import label
from clip_factory.run_folder import GATE, LABELS, MODEL, PREDICTIONS, RunFolder, write_json
from clip_factory.runtime import Model
from clip_factory.scenario import Scenario
from clip_factory.scenario import Teacher as TeacherSpec
from clip_factory.splits import assign
from clip_factory.students import training as train
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import decode

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
    model = teacher.load(TeacherSpec(model=options.teacher))
    shelf = teacher.EmbeddingStore(options.store or Path(tempfile.mkdtemp(prefix="verdict-store-")))
    recipe = Recipe(**{key: float(value) for key, _, value in (pair.partition("=") for pair in options.recipe)})
    done = {row["key"] for row in verdict_tables.rows(options.out)}
    for root, name in questions(options.sets):
        found = gather(root, model, shelf)
        for seed in options.seeds:
            for share in options.shares:
                question = Question(root, name, share, seed)
                for answers in options.answers:
                    key = f"{question.title} {seed} {answers} {options.image_size} {' '.join(options.recipe)}"
                    if key in done:
                        continue
                    sample = deal(found, question)
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


def deal(found: dict[str, Any], question: Question) -> Sample:
    """The photos of a question: yes photos thinned out to their share, a third of the groups kept apart."""
    names = [hashlib.sha256(f"{question.seed}:{sha}".encode()).hexdigest() for sha in found["sha256"]]
    truth = np.array([Path(path).parts[0] == question.name for path in found["path"]])
    random = np.random.default_rng([question.seed, 1])
    kept = np.ones(len(truth), bool)
    if question.share != "own":
        share = float(question.share)
        wanted = round(share / (1 - share) * (~truth).sum())
        if wanted < truth.sum():
            kept[random.permutation(np.flatnonzero(truth))[wanted:]] = False
        else:
            kept[random.permutation(np.flatnonzero(~truth))[round((1 - share) / share * truth.sum()) :]] = False
    groups = np.unique(found["group"])
    apart = np.isin(found["group"], random.permutation(groups)[: round(APART * len(groups))])
    by_name = np.argsort(names)
    by_name = by_name[kept[by_name]]
    return Sample(
        [names[i] for i in by_name], [found["path"][i] for i in by_name], found["group"][by_name],
        found["vectors"][by_name], truth[by_name], apart[by_name],
    )  # fmt: skip


def one(question: Question, sample: Sample, answers: int, model: Any, recipe: Recipe, size: int) -> dict[str, Any]:
    """One training: what is shipped, what the gate says, and what is so."""
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
        labels = labeling.build(scenario, model, table, folder.vectors, gold, picked)
        pq.write_table(labels, run.file(LABELS))
        train(scenario, run, folder, recipe)
        export(scenario, run)
        judge(scenario, run)
        seen = unseen(run)
        shipped = Model.load(run.file(MODEL))
        pixels = decode([question.root / path for path in apart.path], shipped.image_size)
        gate = run.json(GATE, "gate")
        test = tested(run, labels)
        proven = all_tests_answered(scenario, run, labels, dict(zip(folder.sha256, folder.truth, strict=True)))
        cut = json.loads(shipped.metadata["cut"])
        calibration = json.loads(shipped.metadata["calibration"])
        probability = shipped.probabilities(pixels)
    where = {sha256: row for row, sha256 in enumerate(folder.sha256)}
    phrases = labeling.Phrases.of(scenario)
    scores = labeling.zero_shot(
        apart.vectors, labeling.text_vectors(model, phrases.all, scenario.templates), model.logit_scale
    )
    return {
        "question": question.title,
        "seed": question.seed,
        "answers": answers,
        "verdict": gate["verdict"],
        "proven": proven["verdict"],
        "clauses": gate["clauses"],
        "cut": cut,
        "bars": [scenario.gate.recall, scenario.gate.precision],
        "calibration": calibration,
        "apart": {
            "truth": apart.truth.astype(int).tolist(),
            "student": np.round(probability.astype(float), 5).tolist(),
            "words": np.round(probe.sigmoid(probe.log_odds(scores, len(phrases.positive))), 5).tolist(),
        },
        "unseen": {
            "logit": np.round(seen.logits, 4).tolist(),
            "label": np.round(seen.truth.probability, 4).tolist(),
            "split": splits_of(seen.sha256, labels),
            "truth": [int(folder.truth[where[sha]]) for sha in seen.sha256],
        },
        "labels": {
            "p": np.round(labels["p_teacher"].to_numpy().astype(float), 4).tolist(),
            "truth": [int(folder.truth[where[sha]]) for sha in labels["sha256"].to_pylist()],
            "split": labels["split"].to_pylist(),
            "gold": [-1 if g is None else int(g) for g in labels["gold"].to_pylist()],
            "picked": labels["picked"].to_pylist(),
        },
        "test": test,
    }


def tested(run: RunFolder, labels: pa.Table) -> dict[str, list[Any]]:
    """What the shipped file says of the test photos, and what the teacher does."""
    said = pq.read_table(run.file(PREDICTIONS))
    p = dict(zip(said["sha256"].to_pylist(), said["probability"].to_pylist(), strict=True))
    rows = labels.filter(pa.compute.equal(labels["split"], "test"))
    names = rows["sha256"].to_pylist()
    return {"student": [round(p[name], 5) for name in names], "teacher": rows["p_teacher"].to_pylist()}


def splits_of(sha256s: list[str], labels: pa.Table) -> list[str]:
    """The splits of some photos."""
    split = dict(zip(labels["sha256"].to_pylist(), labels["split"].to_pylist(), strict=True))
    return [split[sha] for sha in sha256s]


def all_tests_answered(scenario: Scenario, run: RunFolder, labels: pa.Table, truth: dict[str, bool]) -> dict[str, Any]:
    """What the gate would say of the same model with people's labels on all test photos."""
    names, splits = labels["sha256"].to_pylist(), labels["split"].to_pylist()
    rows = zip(names, splits, labels["gold"].to_pylist(), strict=True)
    gold = [bool(truth[name]) if split == "test" else old for name, split, old in rows]
    answered = labels.set_column(labels.schema.get_field_index("gold"), "gold", pa.array(gold, pa.bool_()))
    pq.write_table(answered, run.file(LABELS))
    before = run.json(GATE, "gate")
    judge(scenario, run)
    found: dict[str, Any] = run.json(GATE, "gate")
    pq.write_table(labels, run.file(LABELS))
    write_json(run.file(GATE), before)
    return found


def answered(scenario: Scenario, sample: Sample, count: int, model: Any, seed: int) -> tuple[dict[str, bool], set[str]]:
    """A simulated review: answers by sha256, and which of them were picked for doubt."""
    if not count:
        return {}, set()
    phrases = labeling.Phrases.of(scenario)
    texts = labeling.text_vectors(model, phrases.all, scenario.templates)
    logits = probe.log_odds(labeling.zero_shot(sample.vectors, texts, model.logit_scale), len(phrases.positive))
    splits = np.array(assign(sample.sha256, sample.group.tolist(), (logits >= 0).tolist(), seed))
    parts = probe.features(sample.vectors, logits)[:, :-1]
    unasked = np.full(len(logits), np.nan)
    photos = Photos(
        sample.sha256, sample.path, sample.group, splits, logits, sample.vectors, parts, unasked, 0.5, {}
    )  # fmt: skip
    turns = order.random_order(sample.sha256, splits.tolist())
    said: list[int] = []
    places = 0
    while len(said) < count:
        gold = {sample.sha256[i]: bool(sample.truth[i]) for i in said}
        found = label(photos, gold, {sample.sha256[i] for i in turns[:places]})
        places += round(BATCH * order.RANDOM_SHARE)
        batch = [i for i in turns[:places] if i not in said]
        fresh = (splits == "train") & ~np.isin(sample.group, sample.group[[*said, *batch]])
        more = BATCH - len(batch)
        pick = (
            order.spread(parts, found.doubt, sample.group, fresh, more)
            if found.learned
            else order.first(turns, sample.group, fresh, more)
        )
        said += batch + pick
    gold = {sample.sha256[i]: bool(sample.truth[i]) for i in said}
    return gold, set(gold) - {sample.sha256[i] for i in turns[:places]}


if __name__ == "__main__":
    main()
