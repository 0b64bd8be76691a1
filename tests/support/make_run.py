"""A finished run without the hours: rendered photos, random but realistic tables, a tiny ONNX file, real figures."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper
from PIL import Image, ImageDraw, ImageFilter

from clip_factory import run_folder as files
from clip_factory.gate import rule
from clip_factory.gate.evidence import collect
from clip_factory.gate.figures import compute_figures
from clip_factory.gate.verdict import read
from clip_factory.labels import Labels
from clip_factory.run_folder import RunFolder, read_json, sha256_file
from clip_factory.runtime import Model
from clip_factory.runtime.atomic import write_json
from clip_factory.runtime.model_checks import PREPROCESSING
from clip_factory.scenario import Scenario, dump
from clip_factory.seen_photos import write_splits

SIZE = 64
TEACHER = "offline-" + "ab" * 8
"""The teacher's key."""
PROBE = "A linear probe replaces the zero-shot labels: it is right on 90.0%, zero-shot on 80.0%."
CUT = {
    "threshold": 0.43,
    "interval": [0.31, 0.58],
    "target": "break-even",
    "recall": 0.8765,
    "precision": 0.8654,
    "false_alarms": 0.0987,
    "base_rate": 0.4123,
    "against": "gold and teacher",
    "images": 77,
    "reached": True,
}
"""What a model says of its threshold: a `threshold.Cut`, which would bring torch into every test."""


@dataclass(frozen=True)
class RunKind:
    """What kind of run to make."""

    name: str = "red-ball"
    images: int = 120
    gold: float = 0.4
    """Share of images that a person has labeled."""
    picked: float = 0.0
    """Share of these that were asked for because they looked doubtful."""
    noise: float = 1.6
    """How far the student strays from the teacher, in log-odds."""
    one_sided_test: bool = False
    question: str = "Is there a red ball?"
    positive: tuple[str, ...] = ("red ball", "red rubber ball on the floor")
    negative: tuple[str, ...] | None = ("apple", "tomato", "blue ball", "empty room", "traffic light", "balloon")
    path: str = "photos/{side}/{i:04}.jpg"
    license: str | None = None
    gate: dict | None = None
    """Bars that differ from the defaults."""


PASSES = RunKind(images=300, gold=1, noise=0.1)
NOT_PROVEN = RunKind(images=300, gold=0, noise=0.1)
REFUSED = RunKind(images=300, gold=1, noise=8.0)
"""A run of each state."""


def make_run(folder: Path, kind: RunKind = RunKind()) -> tuple[Scenario, RunFolder]:
    """Write a run folder and its photos below `folder`."""
    random = np.random.default_rng(7)
    run = RunFolder(folder / "2026-11-21T09-00-00")
    run.path.mkdir(parents=True)
    scenario = Scenario.model_validate(
        {
            "name": kind.name,
            "question": kind.question,
            "positive": kind.positive,
            "negative": kind.negative,
            "images": {"path": str(folder / "images")},
            "teacher": {"model": "offline"},
            "gate": kind.gate or {},
        }
    )
    run.file(files.SCENARIO).write_text(dump(scenario), encoding="utf-8")
    rows = _draw_photos(folder / "images", kind, random)
    table = _write_labels(run, kind, rows, random)
    _write_images(run, rows)
    write_splits(run)
    _write_model(run, scenario, kind, len(_held_out(table)))
    _write_training(run, random)
    _write_verdict(run, scenario, table, kind, random)
    for stage, seconds in {"scan": 3.21, "label": 48.6, "train": 131.0, "export": 7.4, "evaluate": 2.2}.items():
        run.log("done", stage=stage, seconds=seconds, reads={})
    fits = [("fp32", 291_804, 0.0), ("fp16", 152_310, 0.0004), ("int8", 84_120, 0.0091)]
    run.log("rungs", rows=[{"precision": p, "bytes": b, "parity": e, "taken": p == "fp32"} for p, b, e in fits])
    return scenario, run


def _draw_photos(root: Path, kind: RunKind, random: np.random.Generator) -> list[dict]:
    rows = []
    for i in range(kind.images):
        yes = bool(random.random() < 0.42)
        path = kind.path.format(side="ab"[yes], i=i)
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        _photo(yes, random).save(file, "JPEG", quality=85)
        rows.append({"path": path, "yes": yes, "sha256": sha256_file(file), "bytes": file.stat().st_size})
    return rows


def _photo(yes: bool, random: np.random.Generator) -> Image.Image:
    width, height = [(240, 180), (180, 240), (240, 136)][random.integers(3)]
    corners = random.integers(60, 220, (2, 2, 3)).astype(np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height * 0.72, width, height), fill=tuple(int(c) for c in random.integers(40, 120, 3)))
    for _ in range(random.integers(1, 4)):
        x, y, r = random.integers(20, width - 20), random.integers(50, height - 30), random.integers(9, 22)
        draw.rectangle((x - r, y - r, x + r, y + r), fill=tuple(int(c) for c in random.integers(30, 220, 3)))
    x, y, r = random.integers(50, width - 50), random.integers(60, height - 40), random.integers(18, 40)
    color = (206, 44, 38) if yes else tuple(int(c) for c in random.permutation([60, 110, 205]))
    draw.ellipse((x - r, y - r, x + r, y + r), fill=color)
    draw.ellipse((x - r * 0.5, y - r * 0.6, x - r * 0.1, y - r * 0.2), fill=(255, 240, 235))
    return image.filter(ImageFilter.GaussianBlur(0.8))


def _write_labels(run: RunFolder, kind: RunKind, rows: list[dict], random: np.random.Generator) -> pa.Table:
    yes = np.array([row["yes"] for row in rows])
    negative = kind.negative or ("a wall", "a tree", "a street")
    logits = random.normal(0, 1.2, (len(rows), len(kind.positive) + len(negative)))
    logits[:, 0] += np.where(yes, 6.5, -2.5)
    logits[:, len(kind.positive)] += 2.2
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    split = random.choice(["train", "val", "test"], len(rows), p=[0.6, 0.18, 0.22])
    if kind.one_sided_test:
        split[(split == "test") & yes] = "train"
    golden = random.random(len(rows)) < kind.gold
    table = pa.table(
        {
            "sha256": [row["sha256"] for row in rows],
            "path": [row["path"] for row in rows],
            "group": pa.array(np.arange(len(rows)) // 2, pa.int32()),
            "p_teacher": pa.array(scores[:, : len(kind.positive)].sum(axis=1), pa.float32()),
            "scores": pa.array(list(scores.astype(np.float32)), pa.list_(pa.float32())),
            "gold": pa.array([bool(y) if g else None for y, g in zip(yes, golden, strict=True)], pa.bool_()),
            "picked": golden & (np.arange(len(rows)) % 100 < 100 * kind.picked),
            "split": split.tolist(),
            "weight": pa.array(np.ones(len(rows)), pa.float32()),
        }
    )
    about = {
        "phrases": {"positive": kind.positive, "negative": negative},
        "teacher": {"name": "offline", "key": TEACHER, "license": "Apache-2.0"},
        "probe": {"used": True, "says": PROBE},
    }
    metadata = {name: json.dumps(value) for name, value in about.items()}
    table = table.replace_schema_metadata(metadata).sort_by("sha256")
    pq.write_table(table, run.file(files.LABELS))
    return table


def _write_images(run: RunFolder, rows: list[dict]) -> None:
    found = [(row["path"], row["sha256"], i // 2, None) for i, row in enumerate(rows)]
    found.append((rows[0]["path"] + ".copy.jpg", rows[0]["sha256"], 0, None))
    found += [("broken/holiday.jpg", "", -1, "empty file"), ("broken/<b>.png", "", -1, "not an image that can be read")]
    names = ("path", "sha256", "group", "reason")
    pq.write_table(pa.table(dict(zip(names, zip(*found, strict=True), strict=True))), run.file(files.IMAGES))


def _write_model(run: RunFolder, scenario: Scenario, kind: RunKind, held_out: int) -> None:
    """The mean brightness as the probability: small, and a real file of the factory."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor("white", TensorProto.FLOAT, [], [255.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, _metadata(scenario, kind, held_out))
    onnx.save(model, run.file(files.MODEL))


def _metadata(scenario: Scenario, kind: RunKind, held_out: int) -> dict[str, str]:
    thumb = base64.b64encode(bytes([51] * 192)).decode()
    license = {} if kind.license is None else {"license": kind.license}
    return license | {
        "format": "clip-factory/1",
        "name": scenario.name,
        "question": scenario.asked,
        "classes": '["no", "yes"]',
        "threshold": f"{CUT['threshold']:g}",
        "cut": json.dumps(CUT | {"images": held_out}),
        "calibration": json.dumps(
            {"method": "platt", "scale": 1.0, "shift": 0.0, "against": CUT["against"], "images": held_out}
        ),
        "image_size": str(SIZE),
        "preprocessing": json.dumps({"decode": "upright RGB", **PREPROCESSING, "size": SIZE}),
        "teacher": json.dumps({"name": "offline", "key": TEACHER, "license": "Apache-2.0"}),
        "backbone": "resnet-mini",
        "precision": "fp32",
        "version": "0.1.0",
        "test_vectors": json.dumps([{"thumb": thumb, "probability": 0.2}]),
    }


def _write_training(run: RunFolder, random: np.random.Generator) -> None:
    lines = ["epoch,train_loss,val_loss,val_agreement,lr,seconds"]
    for epoch in range(30):
        fall = 0.18 + 0.5 * np.exp(-epoch / 6)
        train, val = fall + random.normal(0, 0.01), fall + 0.04 + random.normal(0, 0.02)
        lines.append(f"{epoch},{train if epoch else ''},{val},{1 - 0.42 * np.exp(-epoch / 5) - 0.03},0.001,0.9")
    run.file(files.TRAINING).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_verdict(
    run: RunFolder, scenario: Scenario, table: pa.Table, kind: RunKind, random: np.random.Generator
) -> None:
    teacher = table["p_teacher"].to_numpy()
    odds = np.log(np.clip(teacher, 1e-4, 1 - 1e-4) / (1 - np.clip(teacher, 1e-4, 1 - 1e-4)))
    logits = 0.8 * odds + random.normal(0, kind.noise, len(odds))
    student = (1 / (1 + np.exp(-logits))).astype(np.float32)
    split = np.array(table["split"].to_pylist())
    _write_held_out(run, table, logits)
    held_out = np.flatnonzero(split != "train")
    asked = table.take(held_out).select(["sha256", "split"])
    pq.write_table(asked.append_column("probability", pa.array(student[held_out])), run.file(files.PREDICTIONS))
    test = split == "test"
    threshold = Model.load(run.file(files.MODEL)).threshold
    evidence = collect(Labels.from_table(table), threshold, student[test], student[test] + np.float32(0.0004))
    size = 291_804
    clauses = rule.evaluate_clauses(scenario, evidence, size)
    verdict = rule.decide(scenario, evidence, clauses)
    latency = {"latency_ms": {"one_image": 1.84, "threads": 1}, "bytes": size}
    said = {
        "verdict": asdict(verdict),
        "passed": verdict.passed,
        "clauses": [asdict(clause) for clause in clauses],
        "figures": compute_figures(scenario, evidence) | latency,
        "inputs": {files.LABELS: hashlib.sha256(b"").hexdigest()},
    }
    write_json(run.file(files.GATE), said)


def _held_out(table: pa.Table) -> np.ndarray:
    """Rows of all of val, and of every other photo of train, as if members had left them out."""
    split = np.array(table["split"].to_pylist())
    return np.flatnonzero((split == "val") | ((split == "train") & (np.arange(len(split)) % 2 == 0)))


def _write_held_out(run: RunFolder, table: pa.Table, logits: np.ndarray) -> None:
    rows = _held_out(table)
    said = {"sha256": table["sha256"].take(rows), "split": table["split"].take(rows), "logit": logits[rows]}
    pq.write_table(pa.table(said), run.file(files.HELD_OUT))


def make_older(run: RunFolder) -> None:
    """Take from a run what the version before did not write: the states of the verdict, the cut, held-out photos."""
    gate = read_json(run.file(files.GATE))
    known = ("agreement", "gold_accuracy", "parity", "bytes", "both_classes")
    passed = read(gate).state != "refused"
    clauses = [clause for clause in gate["clauses"] if clause["name"] in known]
    for clause in clauses:
        del clause["decides"]
    figures = {k: v for k, v in gate["figures"].items() if k not in ("outcome", "teacher_threshold")}
    for side in (figures["against_teacher"], *(figures["gold"] or {}).values()):
        for name in set(side) - {"accuracy", "balanced_accuracy", "auc", "calibration_error"}:
            del side[name]
    write_json(
        run.file(files.GATE), {"passed": passed, "clauses": clauses, "figures": figures, "inputs": gate["inputs"]}
    )
    model = onnx.load(run.file(files.MODEL))
    said = {entry.key: entry.value for entry in model.metadata_props if entry.key != "cut"}
    del model.metadata_props[:]
    helper.set_model_props(model, said)
    onnx.save(model, run.file(files.MODEL))
    run.file(files.HELD_OUT).unlink()
