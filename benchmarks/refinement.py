"""What refinement adds to labels and to students, measured on folders of class folders that are the truth.

    python benchmarks/refinement.py labels PHOTOS... [--store DIR]
    python benchmarks/refinement.py answers PHOTOS... [--store DIR]
    python benchmarks/refinement.py wordings PHOTOS... [--store DIR]
    python benchmarks/refinement.py students PHOTOS:CLASS... [--seeds 3] [--store DIR] [--work DIR]

Every class is asked for once as the yes/no question, with everyday things as negatives (`background`) and with the
other classes (`look-alikes`). `labels`: balanced accuracy at 0.5 and of the labels in force, with all photos, with yes
thinned to 3 % of them, and the share of yes with none. `answers`: the same with 0 to 100 simulated review answers,
beside the best candidate in hindsight. `wordings`: which of five ways to ask is chosen without labels. `students`: the
gold balanced accuracy of students trained on plain and on refined labels, on test photos.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score

from clip_factory import api
from clip_factory.label_sources import auto_refinement as auto
from clip_factory.label_sources.probabilities import sigmoid
from clip_factory.label_sources.refinement import PseudoLabels
from clip_factory.label_sources.source import Phrases
from clip_factory.label_sources.transduction import Transduction
from clip_factory.labels import hard_labels
from clip_factory.scenario import Scenario, Teacher
from clip_factory.scenario.prompts import BACKGROUND
from clip_factory.zeroshot.classes import phrase
from clip_factory.zeroshot.embedded_folder import class_folders, embed_folder
from clip_factory.zeroshot.wordings import PhraseScorer, Wording, compare_wordings

RARE = 0.03
MIN_PHOTOS = 20
"""Of a class that is asked for."""
MAX_CLASSES = 12
"""Asked for in a folder of many: a random choice, always the same."""
COUNTS = (0, 20, 50, 100)


@dataclass(frozen=True, eq=False)
class Question:
    """One class as a yes/no question, on all photos or some of them."""

    photos: str
    negatives: str
    name: str
    kind: str
    vectors: np.ndarray
    log_odds: np.ndarray
    truth: np.ndarray

    def labels(self, gold: np.ndarray | None = None, unbiased: np.ndarray | None = None) -> PseudoLabels:
        """As the label stage has them; nothing is in the test split."""
        count = len(self.truth)
        return PseudoLabels(
            log_odds=self.log_odds,
            p=sigmoid(self.log_odds),
            vectors=self.vectors,
            gold=np.full(count, np.nan) if gold is None else gold,
            groups=np.arange(count),
            splits=np.full(count, "train"),
            unbiased=np.ones(count, bool) if unbiased is None else unbiased,
        )

    def accuracy(self, p: np.ndarray, *, in_force: bool = False) -> float:
        """Balanced accuracy of the answers at 0.5, or of the labels in force."""
        answers = hard_labels(p, np.full(len(p), np.nan)) if in_force else p >= 0.5
        return float(balanced_accuracy_score(self.truth, answers)) if len(set(self.truth.tolist())) > 1 else np.nan


def questions(photos: Path, store: Path, kinds: tuple[str, ...]) -> Iterator[Question]:
    """Every class of a folder, both kinds of negatives."""
    folder = embed_folder(photos, Teacher(model="offline"), store)
    rows = folder.first_of_content
    vectors, names = folder.vectors[rows], class_folders(folder)[rows]
    scorer = PhraseScorer(folder.encoder, vectors)
    classes = [name for name in sorted(set(names)) if (names == name).sum() >= MIN_PHOTOS]
    if len(classes) > MAX_CLASSES:
        classes = sorted(np.random.default_rng(1).choice(classes, MAX_CLASSES, replace=False))
    random = np.random.default_rng(0)
    for negatives in ("background", "look-alikes"):
        for name in classes:
            others = tuple(phrase(other) for other in sorted(set(names)) if other != name)
            logits = scorer.log_odds(_phrases(phrase(name), others if negatives == "look-alikes" else ()), _photo())
            for kind in kinds:
                kept = _kept(names == name, kind, random)
                if kept is not None:
                    truth = (names == name)[kept]
                    yield Question(photos.name, negatives, name, kind, vectors[kept], logits[kept], truth)


def _phrases(name: str, others: tuple[str, ...]) -> Phrases:
    return Phrases((name,), others or tuple(thing for thing in BACKGROUND if thing not in name.casefold()))


def _photo() -> tuple[str, ...]:
    return Wording(Phrases(("x",), ("y",))).chosen_templates


def _kept(yes: np.ndarray, kind: str, random: np.random.Generator) -> np.ndarray | None:
    """Rows of all photos, of those with few yes, or without any; None where yes is rare already."""
    if kind == "all":
        return np.arange(len(yes))
    few = round(RARE / (1 - RARE) * int((~yes).sum())) if kind == "rare" else 0
    if kind == "rare" and not 3 <= few < yes.sum():
        return None
    chosen = random.choice(np.flatnonzero(yes), few, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(~yes), chosen]))


def labels(folders: list[Path], store: Path) -> None:
    """Words against refined labels."""
    rows = []
    for photos in folders:
        for one in questions(photos, store, ("all", "rare", "absent")):
            words, refined = one.labels(), Transduction().refine(one.labels())
            row = {"photos": one.photos, "negatives": one.negatives, "kind": one.kind, "used": refined.used}
            for name, p in (("words", words.p), ("refined", refined.p)):
                row |= {name: one.accuracy(p), f"{name}, in force": one.accuracy(p, in_force=True)}
                row |= {f"{name}: yes": (p >= 0.5).mean(), f"{name}: expected": p.mean()}
            rows.append(row)
    table = pd.DataFrame(rows).groupby(["kind", "photos", "negatives"]).mean(numeric_only=False)
    accuracy = ["words", "refined", "words, in force", "refined, in force", "used"]
    print(table.loc[["all", "rare"]][accuracy].astype(float).round(3).to_string())
    absent = table.loc["absent"].astype(float)
    absent["growth of yes"] = absent["refined: yes"] / absent["words: yes"].clip(lower=1e-3)
    absent["growth of expected"] = absent["refined: expected"] / absent["words: expected"]
    shares = ["words: yes", "refined: yes", "growth of yes", "growth of expected", "used"]
    print("\nnone of the photos is a yes\n" + absent[shares].round(3).to_string())


def answers(folders: list[Path], store: Path, seeds: int) -> None:
    """Simulated review answers: every third photo at random, the others by doubt."""
    rows = []
    for photos in folders:
        for one in questions(photos, store, ("all",)):
            refinement = auto.AutoRefinement()
            for seed in range(seeds):
                asked = _asked(sigmoid(one.log_odds), seed)
                rows += [_after(one, refinement, asked[:count], count) for count in COUNTS]
    table = pd.DataFrame(rows)
    table["regret"] = table["best"] - table["rule"]
    print(table.groupby(["photos", "negatives", "answers"]).mean(numeric_only=True).round(3).to_string())
    print(table.groupby("answers")["regret"].mean().round(4).to_string())
    print(f"mean regret {table['regret'].mean():.4f}")


def _asked(p: np.ndarray, seed: int) -> list[tuple[int, bool]]:
    """Photos in the order of a review, and whether each was asked for its doubt."""
    by_chance = iter(np.random.default_rng(seed).permutation(len(p)).tolist())
    by_doubt = iter(np.argsort(np.abs(p - 0.5), kind="stable").tolist())
    order: dict[int, bool] = {}
    while len(order) < min(max(COUNTS), len(p)):
        doubtful = len(order) % 3 != 0
        row = next(row for row in (by_doubt if doubtful else by_chance) if row not in order)
        order[row] = doubtful
    return list(order.items())


def _after(
    one: Question, refinement: auto.AutoRefinement, asked: list[tuple[int, bool]], count: int
) -> dict[str, object]:
    gold, unbiased = np.full(len(one.truth), np.nan), np.ones(len(one.truth), bool)
    for row, doubtful in asked:
        gold[row], unbiased[row] = one.truth[row], not doubtful
    known = one.labels(gold, unbiased)
    unanswered = np.isnan(gold)
    candidates = {name: p for name, (p, _) in auto.candidates_of(known, refinement).items()}
    candidates["rule"] = refinement.refine(known).p
    scores = {
        name: float(balanced_accuracy_score(one.truth[unanswered], p[unanswered] >= 0.5))
        for name, p in candidates.items()
    }
    best = max(value for name, value in scores.items() if name != "rule")
    return {"photos": one.photos, "negatives": one.negatives, "answers": count, **scores, "best": best}


def wordings(folders: list[Path], store: Path) -> None:
    """Which of five wordings is chosen without labels, and how it does by them."""
    for photos in folders:
        folder = embed_folder(photos, Teacher(model="offline"), store)
        rows = folder.first_of_content
        names, scorer = class_folders(folder)[rows], PhraseScorer(folder.encoder, folder.vectors[rows])
        classes = sorted(set(names))
        by_wording: dict[str, list[tuple[float, float]]] = {}
        for name in classes:
            asked, others = phrase(name), tuple(phrase(other) for other in classes if other != name)
            more = (asked, f"{asked} in the background")
            ways = {
                "background, plain": Wording(_phrases(asked, ()), "plain"),
                "background, photo": Wording(_phrases(asked, ()), "photo"),
                "look-alikes, plain": Wording(_phrases(asked, others), "plain"),
                "look-alikes, photo": Wording(_phrases(asked, others), "photo"),
                "two phrases, look-alikes": Wording(Phrases(more, others), "photo"),
            }
            results = {one.wording: one for one in compare_wordings(scorer, list(ways.values()))}
            for way, wording in ways.items():
                one = results[wording]
                by_wording.setdefault(way, []).append(
                    (one.consistency or 0.0, float(balanced_accuracy_score(names == name, one.p >= 0.5)))
                )
        table = pd.DataFrame({way: np.mean(pairs, axis=0) for way, pairs in by_wording.items()}).T
        table.columns = ["consistency", "balanced accuracy"]
        chosen = table["consistency"].idxmax()
        lost = table["balanced accuracy"].max() - table["balanced accuracy"][chosen]
        print(f"{photos.name}: chosen {chosen}, {lost:.3f} below the best\n{table.round(3).to_string()}\n")


def students(asked: list[str], store: Path, seeds: int, work: Path) -> None:
    """Train on plain and on refined labels; test photos by their folders."""
    rows = []
    for one in asked:
        photos, _, name = one.rpartition(":")
        for seed in range(seeds):
            for refine in ("none", "auto"):
                row = {
                    "question": name,
                    "labels": refine,
                    "seed": seed,
                    **_student(Path(photos), name, refine, seed, store, work),
                }
                rows.append(row)
                print(row, flush=True)
    table = pd.DataFrame(rows).groupby(["question", "labels"])[["label accuracy", "student", "auc"]].mean()
    print(table.unstack().round(3).to_string())


def _student(photos: Path, name: str, refine: str, seed: int, store: Path, work: Path) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    scenario = Scenario.model_validate(
        {
            "name": f"{name}-{refine}-{seed}",
            "positive": [phrase(name)],
            "labels": {"refine": refine},
            "student": {"seed": seed},
            "images": {"path": str(photos)},
        }
    )
    run = api.export(scenario, teacher="offline", runs=work, store=store, go_on=True)
    table = run.labels
    truth = np.array([path.startswith(f"{name}/") for path in table.path])
    test = table.split == "test"
    p = np.array([one.probability for one in run.model.predict([photos / path for path in table.path[test]])])
    return {
        "label accuracy": float(balanced_accuracy_score(truth, table.p_teacher >= 0.5)),
        "student": float(balanced_accuracy_score(truth[test], p >= run.model.threshold)),
        "auc": float(roc_auc_score(truth[test], p)),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("labels", "answers", "wordings", "students"))
    parser.add_argument("photos", nargs="+", help="folders of class folders; for students FOLDER:CLASS")
    parser.add_argument("--seeds", type=int, default=3, help="of answers and students (default: %(default)s)")
    parser.add_argument("--store", type=Path, help="folder of the embedding store (default: the user's)")
    parser.add_argument("--work", type=Path, help="folder of the students' runs (default: a temporary one)")
    args = parser.parse_args()
    store = args.store or api.store_path(None)
    folders = [Path(photos) for photos in args.photos]
    if args.what == "labels":
        labels(folders, store)
    elif args.what == "answers":
        answers(folders, store, args.seeds)
    elif args.what == "wordings":
        wordings(folders, store)
    else:
        with tempfile.TemporaryDirectory() as made:
            students(args.photos, store, args.seeds, args.work or Path(made))


if __name__ == "__main__":
    main()
