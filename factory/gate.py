"""The gate: a written rule, measured on the shipped bytes, on images that training never saw.

Every clause says what was measured, on how many images, with which interval, and what it concludes:
`pass`, `fail`, `unproven` (the sample is too small to show it either way), or `not measured`.
The gate refuses when a clause fails. It never claims what a sample cannot show.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from factory import artifacts as files
from factory import export
from factory.artifacts import RunFolder, atomic, sha256_file, write_json
from factory.errors import ExportError
from factory.runtime import Model
from factory.runtime.images import load_square
from factory.scenario import Scenario

Verdict = Literal["pass", "fail", "unproven", "not measured"]

CONFIDENT = 0.9
"""The teacher is confident where its probability of its own answer is at least this."""

Z95 = 1.959964
"""Two-sided 95 % point of the normal distribution."""


@dataclass(frozen=True)
class Share:
    """A share of images, with its 95 % Wilson interval."""

    figure: float
    n: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class Clause:
    """One line of the rule, and what became of it."""

    name: str
    rule: str
    figure: float | None
    n: int
    interval: tuple[float, float] | None
    verdict: Verdict
    says: str


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % score interval of a binomial share (Wilson 1927); (0, 1) for an empty sample."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def share(hits: np.ndarray) -> Share:
    """The share of true entries of a boolean `(N,)`."""
    n = len(hits)
    return Share(float(hits.mean()) if n else float("nan"), n, wilson(int(hits.sum()), n))


def least_sample(bar: float) -> int:
    """The smallest sample of which even a perfect score shows, at 95 %, a share of at least `bar`."""
    n = 1
    while bar < 1 and wilson(n, n)[0] < bar:
        n += 1
    return n


@dataclass(frozen=True)
class Evidence:
    """The test split: what the shipped file says, and what it is held against. Arrays are of length N."""

    student: np.ndarray
    """Probability of yes from the shipped file, in [0, 1]."""
    network: np.ndarray
    """The same from the trained network in torch."""
    teacher: np.ndarray
    """Probability of yes from the teacher."""
    gold: np.ndarray
    """1 yes, 0 no, -1 where no person has said."""
    threshold: float

    @property
    def says_yes(self) -> np.ndarray:
        """The student's answers."""
        return self.student >= self.threshold

    @property
    def truth(self) -> np.ndarray:
        """The best answers there are: gold where it exists, else the teacher's."""
        return np.where(self.gold >= 0, self.gold == 1, self.teacher >= 0.5)


def judge(scenario: Scenario, run: RunFolder) -> None:
    """Measure the shipped file on the test split; write predictions.parquet and gate.json; stamp the model.

    Raises:
        RunError: An earlier stage's file is missing.
        ImageError: A test image has changed or vanished.
    """
    model_path = run.need(files.MODEL, "export")
    labels = pq.read_table(run.need(files.LABELS, "label"))
    model = Model.load(model_path)
    held_out = labels.filter(pc.is_in(labels["split"], pa.array(["val", "test"])))
    pixels = _pixels(scenario, held_out["path"].to_pylist(), model.image_size)
    shipped = model.probabilities(pixels)
    _write_predictions(run, held_out, shipped)

    test = np.array(held_out["split"].to_pylist()) == "test"
    rows = held_out.filter(pa.array(test))
    evidence = Evidence(
        student=shipped[test],
        network=export.network_probabilities(run, pixels[test]),
        teacher=rows["p_teacher"].to_numpy(),
        gold=np.array([-1 if gold is None else int(gold) for gold in rows["gold"].to_pylist()]),
        threshold=model.threshold,
    )
    latency = _latency_ms(model, pixels[0])
    stamped = _stamp(model_path, summarise(weigh(scenario, evidence, model_path.stat().st_size)))
    if not np.array_equal(stamped.probabilities(pixels), shipped):
        raise ExportError(f"{model_path}: answers changed when the gate's figures were written into the file")
    size = model_path.stat().st_size
    clauses = weigh(scenario, evidence, size)
    run_inputs = {files.LABELS: sha256_file(run.file(files.LABELS)), files.MODEL: sha256_file(model_path)}
    write_json(
        run.file(files.GATE),
        {
            "passed": is_passed(clauses),
            "clauses": [asdict(clause) for clause in clauses],
            "figures": figures(evidence) | {"latency_ms": {"one_image": latency, "threads": 1}, "bytes": size},
            "inputs": run_inputs,
        },
    )


def weigh(scenario: Scenario, evidence: Evidence, size: int) -> list[Clause]:
    """Every clause of the rule, held against the evidence; `size` is the file's, in bytes."""
    rule = scenario.gate
    return [
        _agreement(rule.agreement, evidence),
        _gold_accuracy(rule.gold_accuracy, evidence),
        _parity(rule.parity, evidence),
        _bytes(scenario.student.budget_kb, size),
        _both_classes(evidence),
    ]


def is_passed(clauses: list[Clause]) -> bool:
    """No clause failed, and the student was shown right by the teacher or by a person."""
    verdicts = {clause.name: clause.verdict for clause in clauses}
    shown = "pass" in (verdicts["agreement"], verdicts["gold_accuracy"])
    return shown and "fail" not in verdicts.values()


def summarise(clauses: list[Clause]) -> dict[str, Any]:
    """What the model file itself says of the gate; the size is left out, since saying it changes it."""
    said = [clause for clause in clauses if clause.name != "bytes"]
    return {
        "passed": is_passed(clauses),
        **{c.name: {"figure": c.figure, "n": c.n, "interval": c.interval, "verdict": c.verdict} for c in said},
    }


def figures(evidence: Evidence) -> dict[str, Any]:
    """All that is measured beside the clauses: never hidden, never decisive."""
    answers, truth = evidence.says_yes, evidence.truth
    golden = evidence.gold >= 0
    difference = np.abs(evidence.student - evidence.network)
    return {
        "test_images": len(answers),
        "threshold": evidence.threshold,
        "agreement_all": asdict(share(answers == (evidence.teacher >= 0.5))),
        "gold": {
            "student": _against(evidence.gold[golden] == 1, evidence.student[golden], evidence.threshold),
            "teacher": _against(evidence.gold[golden] == 1, evidence.teacher[golden], 0.5),
        }
        if golden.any()
        else None,
        "against_teacher": {
            **_against(evidence.teacher >= 0.5, evidence.student, evidence.threshold),
            "calibration_error": calibration_error(evidence.teacher >= 0.5, evidence.student),
        },
        "calibration_error": calibration_error(truth, evidence.student),
        "confusion": {
            "reference": "gold" if golden.all() else "gold and teacher" if golden.any() else "teacher",
            "true_yes": int((answers & truth).sum()),
            "false_yes": int((answers & ~truth).sum()),
            "true_no": int((~answers & ~truth).sum()),
            "false_no": int((~answers & truth).sum()),
        },
        "parity": {
            "mean": _mean(difference),
            "max": float(difference.max(initial=0)),
            "flips": int(((evidence.network >= evidence.threshold) != answers).sum()),
            "n": len(answers),
        },
    }


def calibration_error(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> float | None:
    """Expected calibration error over equal bins of the probability of yes (Naeini et al. 2015), in [0, 1]."""
    if not len(truth):
        return None
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        abs(float(truth[index == b].mean() - probability[index == b].mean())) * (index == b).mean() for b in set(index)
    ]
    return float(sum(gaps))


def _against(truth: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, Any]:
    answers = probability >= threshold
    both = 0 < truth.sum() < len(truth)
    return {
        "accuracy": asdict(share(answers == truth)),
        "balanced_accuracy": asdict(_balanced(truth, answers)) if both else None,
        "auc": float(roc_auc_score(truth, probability)) if both else None,
    }


def _balanced(truth: np.ndarray, answers: np.ndarray, resamples: int = 1000) -> Share:
    """Balanced accuracy with a 95 % bootstrap interval, resampled within each class."""
    random = np.random.default_rng(0)
    recalls = []
    for side in (True, False):
        right = answers[truth == side] == side
        recalls.append(right[random.integers(0, len(right), (resamples, len(right)))].mean(axis=1))
    low, high = np.percentile(np.mean(recalls, axis=0), (2.5, 97.5))
    return Share(float(balanced_accuracy_score(truth, answers)), len(truth), (float(low), float(high)))


def _agreement(bar: float, evidence: Evidence) -> Clause:
    sure = np.maximum(evidence.teacher, 1 - evidence.teacher) >= CONFIDENT
    found = share((evidence.says_yes == (evidence.teacher >= 0.5))[sure])
    if not found.n:
        says = f"The teacher is nowhere confident: no test image has {CONFIDENT:g} on either side."
        return Clause("agreement", f">= {bar:g}", None, 0, None, "not measured", says)
    says = f"Student and teacher agree on {found.figure:.1%} of the {found.n} test images that the teacher is sure of."
    verdict: Verdict = "pass" if found.figure >= bar else "fail"
    return Clause("agreement", f">= {bar:g}", found.figure, found.n, found.interval, verdict, says)


def _gold_accuracy(bar: float, evidence: Evidence) -> Clause:
    golden = evidence.gold >= 0
    found = share(evidence.says_yes[golden] == (evidence.gold[golden] == 1))
    needed = least_sample(bar)
    if not found.n:
        says = "No test image has a label from a person: accuracy is not known, only agreement with the teacher."
        return Clause("gold_accuracy", f">= {bar:g}", None, 0, None, "not measured", says)
    says = f"The student is right on {found.figure:.1%} of the {found.n} test images that a person has labelled."
    if found.n < needed and found.interval[1] >= bar:
        says += f" That is too few to show {bar:.0%}: label at least {needed} test images."
        return Clause("gold_accuracy", f">= {bar:g}", found.figure, found.n, found.interval, "unproven", says)
    verdict: Verdict = "pass" if found.figure >= bar else "fail"
    return Clause("gold_accuracy", f">= {bar:g}", found.figure, found.n, found.interval, verdict, says)


def _parity(bar: float, evidence: Evidence) -> Clause:
    mean = _mean(np.abs(evidence.student - evidence.network))
    says = f"The shipped file's probabilities differ from the trained network's by {mean:.2g} in the mean."
    return Clause("parity", f"<= {bar:g}", mean, len(evidence.student), None, "pass" if mean <= bar else "fail", says)


def _bytes(budget_kb: float, size: int) -> Clause:
    budget = int(budget_kb * 1000)
    says = f"The file has {size:,} bytes; {budget:,} are allowed."
    return Clause("bytes", f"<= {budget}", size, 1, None, "pass" if size <= budget else "fail", says)


def _both_classes(evidence: Evidence) -> Clause:
    rarest = min(int(side.sum()) for yes in (evidence.truth, evidence.says_yes) for side in (yes, ~yes))
    says = "The test images hold both answers, and the student gives both."
    if not rarest:
        one_sided = "student answers" if 0 < evidence.truth.sum() < len(evidence.truth) else "test images hold"
        says = f"The {one_sided} only one of yes and no: nothing is shown of the other."
    return Clause("both_classes", ">= 1", rarest, len(evidence.student), None, "pass" if rarest else "fail", says)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _pixels(scenario: Scenario, paths: list[str], size: int) -> np.ndarray:
    root = Path(scenario.images.path or ".")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(lambda path: load_square(root / path, size), paths)))


def _write_predictions(run: RunFolder, rows: pa.Table, probability: np.ndarray) -> None:
    table = rows.select(["sha256", "split"]).append_column("probability", pa.array(probability, pa.float32()))
    with atomic(run.file(files.PREDICTIONS)) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary)


def _stamp(path: Path, summary: dict[str, Any]) -> Model:
    """Write the gate's summary into the file's metadata, in place of an earlier one; return the file, loaded anew."""
    proto = onnx.load(path, load_external_data=False)
    kept = [entry for entry in proto.metadata_props if entry.key != "gate"]
    stamp = onnx.StringStringEntryProto(key="gate", value=json.dumps(summary))
    del proto.metadata_props[:]
    proto.metadata_props.extend([*kept, stamp])
    with atomic(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
    return Model.load(path)


def _latency_ms(model: Model, pixels: np.ndarray, repeats: int = 50) -> float:
    """Median milliseconds of one image through the network, decoding left out."""
    one = pixels[None]
    model.probabilities(one)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.probabilities(one)
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) * 1000, 4)
