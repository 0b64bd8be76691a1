"""Did a change of the code change what it makes? Two run folders of one scenario, by an older and a newer version.

    python benchmarks/same_run.py runs-before/cat/TIME runs-after/cat/TIME

Compares the values of labels.parquet, the student's weights, and the graph of model.onnx without its metadata, bit by
bit, and prints a line for each. Exit code 1 when one of them differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx
import pyarrow.parquet as pq
import torch


def label_differences(before: Path, after: Path) -> list[str]:
    """Names of the columns of labels.parquet whose values differ, or that only one of the two has."""
    tables = [pq.read_table(run / "labels.parquet") for run in (before, after)]
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    return [
        name
        for name in names
        if not all(name in table.column_names for table in tables) or not tables[0][name].equals(tables[1][name])
    ]


def weight_differences(before: Path, after: Path) -> list[str]:
    """Names of the student's tensors that differ in name, shape or any bit."""
    states = [
        torch.load(run / "student.ckpt", map_location="cpu", weights_only=True)["state_dict"] for run in (before, after)
    ]
    names = dict.fromkeys(name for state in states for name in state)
    return [
        name
        for name in names
        if not all(name in state for state in states) or not torch.equal(states[0][name], states[1][name])
    ]


def graph_bytes(run: Path) -> bytes:
    """model.onnx without what it says of itself in words: metadata, producer, documentation."""
    model = onnx.load(run / "model.onnx")
    del model.metadata_props[:]
    model.producer_version = model.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Compare two run folders and print what is the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    runs = options.before, options.after
    differences = {
        "values of labels.parquet": label_differences(*runs),
        "weights of student.ckpt": weight_differences(*runs),
        "graph of model.onnx": [] if graph_bytes(runs[0]) == graph_bytes(runs[1]) else ["bytes"],
    }
    for what, different in differences.items():
        print(f"{what:<26}{'same' if not different else 'differ: ' + ', '.join(different[:8])}")
    sys.exit(any(differences.values()))


if __name__ == "__main__":
    main()
