"""Is the verdict before training true? Folder names know which photos are a yes; the verdict sees only the labels.

    python benchmarks/readiness.py PHOTOS --store STORE
    python benchmarks/readiness.py PHOTOS --store STORE --sets scenes flowers image_text/textures10

PHOTOS holds sets of class folders; a `classes.csv` (folder,name) gives their words. Each class is a question about its
set, with the background as negatives and with the other classes; with its photos as they are, thinned to one in six and
to 3 %, and taken away. Words that mean nothing in a photo, and names of the other sets' classes, are asked too. What is
not in the store is embedded.

What a question is worth is read from the folder names: `good` has an AUC of .85 and balanced accuracy of .7 or more at
a probability of 0.5, `beyond` an AUC below .65, `middling` is between, `no yes` has none. The bars of the verdict were
chosen on half of the classes of the first sets (TUNED); the table shows the others apart. `--choose` tries other bars.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

sys.path.insert(0, str(Path(__file__).parents[1]))

from clip_factory.images import scan as images
from clip_factory.images.photo import Photo
from clip_factory.label_sources.labeling import certainty
from clip_factory.label_sources.probabilities import log_odds, sigmoid
from clip_factory.label_sources.zero_shot import phrase_probabilities, text_vectors
from clip_factory.labels import Labels
from clip_factory.readiness import BARS, Readiness, assess
from clip_factory.readiness.assess import Bars, decide
from clip_factory.scenario import Teacher as TeacherSpec
from clip_factory.scenario.prompts import BACKGROUND

SETS = (
    "scenes",
    "flowers",
    "image_text/steel_defects",
    "catsdogs",
    "image_text/weather",
    "image_text/magnetic_tile",
    "image_text/pacs_photo",
    "image_text/scene15",
    "image_text/textures10",
    "image_text/clothing",
    "image_text/produce",
    "image_text/grocery",
    "image_text/caltech101",
)
TUNED = SETS[:3]
NONSENSE = (
    "a spoonful of justice",
    "Tuesday",
    "quantum chromodynamics",
    "a feeling of regret",
    "the square root of seven",
    "loud music",
    "tax return",
    "zxqv",
    "democracy",
    "the year 1848",
)
MAX_CLASSES = 25
"""Of a set; of a larger one every second, third and so on is asked."""
MAX_NEGATIVES = 12
ABSENT = 3
"""Names asked of each other set."""
VERDICTS = ("ready", "doubtful", "carries nothing")
COSTS = {
    ("good", "doubtful"): 1,
    ("good", "carries nothing"): 8,
    ("middling", "ready"): 1,
    ("middling", "carries nothing"): 2,
    ("beyond", "doubtful"): 1,
    ("beyond", "ready"): 6,
    ("no yes", "doubtful"): 1,
    ("no yes", "ready"): 6,
}
"""Of a verdict that is not right, by what the question is worth."""
WORTHS = ("good", "middling", "beyond", "no yes")


@dataclass(frozen=True)
class Set:
    """Photos with their vectors and the names of their classes."""

    vectors: np.ndarray
    """float32 `(N, D)`."""
    classes: np.ndarray
    """`(N,)` the name of each photo's class."""


@dataclass(frozen=True)
class Question:
    """One question about some photos of a set, and what folder names say of them."""

    photos: str
    mix: str
    words: str
    negatives: tuple[str, ...]
    rows: np.ndarray
    truth: np.ndarray
    tuned: bool
    """Whether the verdict's bars were chosen on it."""


@dataclass(frozen=True)
class Result:
    """The verdict and the truth."""

    question: Question
    logits: np.ndarray
    """`(N,)` log-odds of yes."""
    readiness: Readiness
    auc: float
    balanced: float
    """Both NaN where there is no yes."""

    @property
    def worth(self) -> str:
        """One of WORTHS."""
        if np.isnan(self.auc):
            return "no yes"
        if self.auc < 0.65:
            return "beyond"
        return "good" if self.auc >= 0.85 and self.balanced >= 0.7 else "middling"


def main() -> None:
    """Embed what is missing, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of sets of class folders")
    parser.add_argument("--store", type=Path, required=True, help="embedding store")
    parser.add_argument("--sets", nargs="+", default=SETS, help="folders below PHOTOS")
    parser.add_argument("--teacher", default="offline")
    parser.add_argument("--wrong", action="store_true", help="list the questions whose verdict is wrong")
    parser.add_argument("--choose", action="store_true", help="try other bars on those that they are chosen on")
    options = parser.parse_args()
    from clip_factory import encoders as teacher  # pulls torch

    model = teacher.load_encoder(TeacherSpec(model=options.teacher))
    sets = {name: gather(options.photos / name, options.store, model) for name in options.sets}
    asked = list(questions(sets))
    phrases = sorted({phrase for q in asked for phrase in (q.words, *q.negatives)})
    texts = dict(zip(phrases, text_vectors(model, phrases, "photo"), strict=True))
    results = [ask(question, sets[question.photos], texts, model.logit_scale) for question in asked]
    for tuned in (True, False):
        print_verdicts(
            "bars chosen on these" if tuned else "kept apart", [r for r in results if r.question.tuned == tuned]
        )
    compare([r for r in results if not r.question.tuned])
    if options.wrong:
        listed(results)
    if options.choose:
        choose([r for r in results if r.question.tuned])


def gather(folder: Path, store: Path, model: object) -> Set:
    """The photos of the class folders in `folder`, one a content."""
    from clip_factory import encoders as teacher

    scanned = images.scan(folder, store / "scan.sqlite", lambda done, total: None).to_pylist()
    files = {row["sha256"]: row["path"] for row in scanned if row["reason"] is None}
    words = {}
    if (folder / "classes.csv").is_file():
        with open(folder / "classes.csv", newline="", encoding="utf-8") as file:
            words = {row["folder"]: row["name"] for row in csv.DictReader(file)}
    shelf, shas = teacher.EmbeddingStore(store), sorted(files)
    teacher.embed(model, [Photo(sha, folder / files[sha]) for sha in shas], shelf, 64, lambda done, total: None)
    folders = [files[sha].split("/")[0] for sha in shas]
    return Set(shelf.get(model.key, shas), np.array([words.get(name, name) for name in folders]))


def questions(sets: dict[str, Set]) -> Iterator[Question]:
    """All questions about all sets, always the same."""
    random = np.random.default_rng(0)
    for name, photos in sets.items():
        names = sorted(set(photos.classes.tolist()))
        for number, words in enumerate(names[:: -(-len(names) // MAX_CLASSES)]):
            tuned = name in TUNED and number % 2 == 0
            for negatives in (background(words), look_alikes(names, words)):
                for mix, rows in mixes(photos.classes == words, random):
                    yield Question(name, mix, words, negatives, rows, photos.classes[rows] == words, tuned)
        everything, none = np.arange(len(photos.classes)), np.zeros(len(photos.classes), bool)
        for number, words in enumerate(NONSENSE):
            tuned = name in TUNED and number % 2 == 0
            for negatives in (BACKGROUND, tuple(names[:MAX_NEGATIVES])):
                yield Question(name, "nonsense", words, negatives, everything, none, tuned)
        for other in (other for other in sets if other != name):
            strange = sorted(set(sets[other].classes.tolist()) - set(names))
            for words in random.choice(strange, min(ABSENT, len(strange)), replace=False).tolist():
                yield Question(name, "absent", words, background(words), everything, none, False)


def background(words: str) -> tuple[str, ...]:
    """The negatives of a scenario that names none."""
    return tuple(phrase for phrase in BACKGROUND if phrase not in words.casefold())


def look_alikes(names: list[str], words: str) -> tuple[str, ...]:
    """Other classes of the set, at most MAX_NEGATIVES, always the same."""
    others = [name for name in names if name != words]
    if len(others) <= MAX_NEGATIVES:
        return tuple(others)
    return tuple(np.random.default_rng(1).choice(others, MAX_NEGATIVES, replace=False).tolist())


def mixes(truth: np.ndarray, random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """The photos as they are, with fewer yes, and with none."""
    yes, no = np.flatnonzero(truth), np.flatnonzero(~truth)
    yield "as it is", np.arange(len(truth))
    yield "taken away", no
    for mix, count, most in (("one in six", len(no) // 5, len(yes)), ("3 %", round(len(no) * 0.03 / 0.97), len(yes))):
        if 4 <= count < most:
            yield mix, np.concatenate([no, random.choice(yes, count, replace=False)])


def ask(question: Question, photos: Set, texts: dict[str, np.ndarray], logit_scale: float) -> Result:
    """The verdict of the labels that a run would make, and what they are worth."""
    columns = np.stack([texts[phrase] for phrase in (question.words, *question.negatives)])
    logits = log_odds(phrase_probabilities(photos.vectors[question.rows], columns, logit_scale), 1)
    p, truth = sigmoid(logits), question.truth
    names = np.arange(len(p)).astype(str).astype(object)
    labels = Labels(
        sha256=names,
        path=names,
        group=np.arange(len(p), dtype=np.int32),
        p_teacher=p.astype(np.float32),
        scores=np.zeros((len(p), 0), np.float32),
        gold=np.full(len(p), np.nan),
        picked=np.zeros(len(p), bool),
        split=np.full(len(p), "train"),
        weight=certainty(p),
    )
    if not truth.any():
        return Result(question, logits, assess(labels), np.nan, np.nan)
    answers = p >= 0.5
    balanced = (answers[truth].mean() + (~answers[~truth]).mean()) / 2
    return Result(question, logits, assess(labels), float(roc_auc_score(truth, logits)), float(balanced))


def print_verdicts(title: str, results: list[Result]) -> None:
    """Worth against verdict, in counts; what is carried by nothing, by its cause."""
    print(f"\n{title}: {len(results)} questions")
    print(f"{'':<10}{'':<12}" + "".join(f"{v:>17}" for v in VERDICTS) + f"{'one side':>12}{'beyond':>8}")
    for worth in WORTHS:
        for mix in ("", "as it is", "one in six", "3 %", "taken away", "absent", "nonsense"):
            rows = [r for r in results if r.worth == worth and mix in ("", r.question.mix)]
            if not rows:
                continue
            verdicts = Counter(r.readiness.verdict for r in rows)
            causes = Counter(r.readiness.cause for r in rows if r.readiness.verdict == "carries nothing")
            cells = "".join(f"{verdicts[v]:>11} {verdicts[v] / len(rows):>4.0%} " for v in VERDICTS)
            print(f"{'' if mix else worth:<10}{mix or 'all':<12}{cells}{causes['one side']:>11}{causes['beyond']:>8}")


def compare(results: list[Result]) -> None:
    """How well each figure parts good from beyond, and good from no yes: the area under its ROC curve."""
    figures: dict[str, Callable[[Result], float]] = {
        "separation": lambda r: r.readiness.facts.separation,
        "clarity": lambda r: r.readiness.facts.clarity,
        "share of sure photos": lambda r: r.readiness.facts.sure.figure,
        "mean probability": lambda r: r.readiness.facts.expected,
        "Otsu's share": lambda r: otsu(r.logits),
        "mixture's gain": lambda r: mixture_gain(r.logits),
    }
    print(f"\n{'figure':<24}{'good / beyond':>16}{'good / no yes':>16}")
    for name, figure in figures.items():
        areas = []
        for bad in ("beyond", "no yes"):
            rows = [r for r in results if r.worth in ("good", bad)]
            good = [r.worth == "good" for r in rows]
            areas.append(roc_auc_score(good, [figure(r) for r in rows]) if len(set(good)) == 2 else np.nan)
        print(f"{name:<24}" + "".join(f"{area:>16.3f}" for area in areas))


def otsu(logits: np.ndarray) -> float:
    """The largest share of variance that lies between two sides of a cut (Otsu 1979)."""
    z, n = np.sort(logits), np.arange(1, len(logits))
    sums = np.cumsum(z)
    below, above = sums[:-1] / n, (sums[-1] - sums[:-1]) / (len(z) - n)
    return float((n * (len(z) - n) * (above - below) ** 2).max() / len(z) ** 2 / z.var())


def mixture_gain(logits: np.ndarray) -> float:
    """Held-out log-likelihood a photo, in nats, of two Gaussians over that of one; two folds."""
    order = np.random.default_rng(0).permutation(len(logits))
    gains = []
    for fold in (0, 1):
        learned, held = logits[order[fold::2], None], logits[order[1 - fold :: 2], None]
        one, two = (GaussianMixture(k, random_state=0, reg_covar=0.05).fit(learned).score(held) for k in (1, 2))
        gains.append(two - one)
    return float(np.mean(gains))


def choose(results: list[Result]) -> None:
    """The cost of bars: of each worth the mean over its questions, summed; the ten cheapest, and those in force."""
    grids = ((0.6, 0.65, 0.7, 0.75), (0.75, 0.8, 0.85, 0.9), (0.05, 0.1, 0.15, 0.2, 0.25), (0.3, 0.35, 0.4, 0.45, 0.5))
    tried = {Bars(*numbers): cost(results, Bars(*numbers)) for numbers in product(*grids)}
    for bars in [*sorted(tried, key=lambda bars: tried[bars])[:10], BARS]:
        print(f"{tried[bars]:.3f}  {bars}")


def cost(results: list[Result], bars: Bars) -> float:
    """What the wrong verdicts of these bars cost."""
    paid: dict[str, list[int]] = {worth: [] for worth in WORTHS}
    for result in results:
        paid[result.worth].append(COSTS.get((result.worth, decide(result.readiness.facts, bars)[0]), 0))
    return float(sum(np.mean(costs) for costs in paid.values() if costs))


def listed(results: list[Result]) -> None:
    """Good questions that were stopped; those beyond the teacher, or without a yes, that were called ready."""
    for r in results:
        wrong = {"good": "carries nothing", "beyond": "ready", "no yes": "ready"}.get(r.worth)
        if r.readiness.verdict == wrong:
            q = r.question
            asked = f"{q.photos} {q.mix}, {q.words!r} / {q.negatives[0]}..."
            print(f"{r.worth} called {wrong}: {asked}: {r.readiness.sentence}")


if __name__ == "__main__":
    main()
