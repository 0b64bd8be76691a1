"""This package's int8 against onnxruntime's `quantize_static`: the same student, the same calibration photos.

    python benchmarks/quantization.py runs/cat/latest:cat runs/street/latest:street

An argument is a finished run, and the class folder that means yes in the folder of photos that it was trained on.
Every file is asked about the test photos. Ours corrects biases and keeps the sums of any two products within 16 bits
(docs/student.md); `reduce_range` is onnxruntime's answer to the latter, seven bits for all weights. `float ends` leaves
the squeeze-excite branches and the last layer in float, as ours does. Bytes are those of the graph, without metadata.
`16 bits` says whether an x86 processor without VNNI computes the same: whether no two products overflow.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from clip_factory import students
from clip_factory.exporters.calibration import Calibration
from clip_factory.exporters.export_student import TRAIN_SAMPLE
from clip_factory.exporters.onnx_exporter import calibrated
from clip_factory.exporters.onnx_graph import float_graph, int8_graph
from clip_factory.exporters.onnx_metadata import read
from clip_factory.exporters.plan import Plan, plan
from clip_factory.exporters.quantization import quantize
from clip_factory.images.photo import read_squares
from clip_factory.labels import Labels
from clip_factory.run_folder import MODEL, SCENARIO, RunFolder
from clip_factory.scenario import load
from clip_factory.students.network import normalize


@dataclass(frozen=True)
class Trained:
    """A run's student and the photos that it is measured on; `test` has N rows."""

    name: str
    ops: Plan
    """With the calibration in its last layer."""
    size: int
    mirror: bool
    sample: np.ndarray
    """Training photos, uint8 `(M, S, S, 3)`."""
    test: np.ndarray
    """uint8 `(N, S, S, 3)`."""
    truth: np.ndarray
    """bool `(N,)`, by the folders' names."""
    threshold: float

    @classmethod
    def of(cls, folder: Path, yes: str) -> Trained:
        """Read a run folder."""
        run = RunFolder.open(folder)
        student, metadata = students.load(run), read(run.file(MODEL))
        labels = Labels.of_run(run)
        train, test = (labels.of_split(split) for split in ("train", "test"))
        root = Path(load(run.file(SCENARIO)).images.path or "")
        size = int(student.config["image_size"])
        return cls(
            name=yes,
            ops=calibrated(plan(student), Calibration.read(metadata["calibration"])),
            size=size,
            mirror=bool(student.config["mirror"]),
            sample=read_squares(train.photos(root, None)[:: max(1, len(train) // TRAIN_SAMPLE)], size),
            test=read_squares(test.photos(root, None), size),
            truth=np.array([path.split("/")[0] == yes for path in test.path]),
            threshold=float(metadata["threshold"]),
        )


class Sample(CalibrationDataReader):
    """The calibration photos, one at a time: histograms take no batches of unequal size."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.parts: Iterator[np.ndarray] = iter(np.split(pixels, len(pixels)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next photo, or None."""
        part = next(self.parts, None)
        return None if part is None else {"image": part}


def ours(trained: Trained) -> onnx.ModelProto:
    """The int8 graph that the package writes."""
    image = normalize(torch.from_numpy(trained.sample).permute(0, 3, 1, 2).float())
    with torch.inference_mode():
        return int8_graph(quantize(trained.ops, image), trained.size, mirror=trained.mirror)


def theirs(trained: Trained, method: CalibrationMethod, *, float_ends: bool = False, **options: Any) -> onnx.ModelProto:
    """onnxruntime's: QDQ, uint8 activations, int8 weights a channel."""
    with TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("float", "prepared", "int8"))
        graph = float_graph(trained.ops, trained.size, mirror=trained.mirror)
        for number, node in enumerate(graph.graph.node):
            node.name = f"n{number}"  # the quantizer tells nodes apart by name
        onnx.save(graph, source)
        quant_pre_process(source, prepared)
        quantize_static(
            prepared,
            target,
            Sample(trained.sample),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            nodes_to_exclude=ends(onnx.load(prepared)) if float_ends else [],
            **options,
        )
        return onnx.load(target)


def ends(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes after a global mean that work on `(N, C, 1, 1)`: squeeze-excite branches and the head."""
    means, names = set(), []
    for node in model.graph.node:
        if node.op_type == "GlobalAveragePool" or (means & set(node.input) and node.op_type != "Mul"):
            means.update(node.output)
            names.append(node.name)
    return names


VARIANTS: dict[str, Callable[[Trained], onnx.ModelProto]] = {
    "fp32": lambda trained: float_graph(trained.ops, trained.size, mirror=trained.mirror),
    "ours": ours,
    **{
        f"{method.name}{label}": partial(theirs, method=method, **options)
        for method in (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile)
        for label, options in (
            ("", {}),
            (", float ends", {"float_ends": True}),
            (", float ends, reduce_range", {"float_ends": True, "reduce_range": True}),
        )
    },
}


def probabilities(model: onnx.ModelProto, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """What the graph answers, float32 `(N,)`, and the median milliseconds of one photo on one thread."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": part})[0] for part in np.array_split(pixels, max(1, len(pixels) // 64))]
    times = []
    for _ in range(100):
        start = time.perf_counter()
        session.run(None, {"image": pixels[:1]})
        times.append(time.perf_counter() - start)
    return np.concatenate(parts), 1000 * float(np.median(times))


def short_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with names of a few letters and no node names: what a name costs is no matter of quantization."""
    short = onnx.ModelProto()
    short.CopyFrom(model)
    graph = short.graph
    keep = {value.name for value in (*graph.input, *graph.output)} | {""}
    names: dict[str, str] = {}

    def of(name: str) -> str:
        return name if name in keep else names.setdefault(name, f"{len(names):x}")

    for node in graph.node:
        node.name = ""
        node.input[:], node.output[:] = [of(name) for name in node.input], [of(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = of(tensor.name)
    del graph.value_info[:]
    return short


def within_16_bits(model: onnx.ModelProto) -> bool:
    """Whether no sum of two products of uint8 and a convolution's int8 weights leaves int16 (VPMADDUBSW saturates)."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    for tensor in stored.values():
        weight = np.sort(numpy_helper.to_array(tensor).reshape(tensor.dims[0], -1).astype(int))
        if tensor.dims and len(tensor.dims) == 4 and weight.shape[1] > 1:
            pair = max((weight[:, -1] + weight[:, -2]).max(), -(weight[:, 0] + weight[:, 1]).min())
            if 255 * pair > 32767:
                return False
    return True


def row(trained: Trained, model: onnx.ModelProto, network: np.ndarray) -> list[str]:
    """One line of the table; `network` is what the fp32 graph answers."""
    answers, milliseconds = probabilities(model, trained.test)
    says_yes, difference = answers >= trained.threshold, np.abs(answers - network)
    return [
        f"{balanced_accuracy_score(trained.truth, says_yes):.4f}",
        f"{roc_auc_score(trained.truth, answers):.4f}",
        f"{(says_yes == (network >= trained.threshold)).mean():.4f}",
        f"{difference.mean():.4f}",
        f"{difference.max():.3f}",
        f"{model.ByteSize():,}",
        f"{short_names(model).ByteSize():,}",
        f"{milliseconds:.2f}",
        "yes" if within_16_bits(model) else "no",
    ]


def table(runs: Sequence[Trained]) -> Iterator[str]:
    """Lines of Markdown, as they are measured."""
    heads = ["question", "int8 by", "balanced accuracy", "AUC", "same answer as float", "parity mean", "parity max"]
    heads += ["bytes", "bytes, short names", "ms", "16 bits"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for trained in runs:
        network, _ = probabilities(VARIANTS["fp32"](trained), trained.test)
        for name, make in VARIANTS.items():
            yield f"| {' | '.join([trained.name, name, *row(trained, make(trained), network)])} |"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="RUN:CLASS")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    for line in table([Trained.of(Path(run), yes) for run, _, yes in (text.rpartition(":") for text in options.runs)]):
        print(line, flush=True)


if __name__ == "__main__":
    main()
