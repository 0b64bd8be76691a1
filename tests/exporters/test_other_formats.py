"""An export format of another package: one file and one entry point, and the gate has a parity clause for it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from clip_factory import exporters
from clip_factory.errors import ExportError, PluginError
from clip_factory.exporters.exporter import EXPORTERS, load_exporter
from clip_factory.gate.evaluate_model import evaluate
from clip_factory.run_folder import GATE, MODEL, RunFolder
from clip_factory.runtime import Model
from clip_factory.scenario import Scenario, Target
from support.shapes_run import make_student_run

PACKAGE = '''
import torch

from clip_factory.exporters.exporter import ExportSource, FloatStudent
from clip_factory.exporters.calibration import Calibration
from clip_factory.students.network import Student


class TorchExporter:
    """The network as torch saves it; `drift` is added to every probability."""

    drift = 0.0
    file_name = "model.pt"

    def export(self, source, path):
        network = source.student.network
        stored = {
            "config": network.config,
            "state_dict": network.state_dict(),
            "calibration": source.metadata["calibration"],
            "threshold": source.metadata["threshold"],
        }
        torch.save(stored, path)
        return [{"bytes": path.stat().st_size}]

    def probabilities(self, path, pixels):
        stored = torch.load(path, weights_only=True)
        network = Student(**stored["config"])
        network.load_state_dict(stored["state_dict"])
        return FloatStudent(network.eval(), Calibration.read(stored["calibration"])).probabilities(pixels) + self.drift


class DriftingExporter(TorchExporter):
    drift = 0.05
    file_name = "model.drift"


class GreedyExporter(TorchExporter):
    file_name = "gate.json"
'''
ENTRY_POINTS = """
[clip_factory.exporters]
torch = other_formats_package:TorchExporter
drifting = other_formats_package:DriftingExporter
greedy = other_formats_package:GreedyExporter
missing = no_such_package_of_formats:Exporter
onnx = other_formats_package:TorchExporter
"""

Trained = tuple[Scenario, RunFolder]


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return make_student_run(tmp_path_factory.mktemp("formats"), shapes)


@pytest.fixture
def run(trained: Trained, tmp_path: Path) -> RunFolder:
    """A copy of the trained run."""
    shutil.copytree(trained[1].path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package, as pip would install it."""
    site = tmp_path / "site"
    about = site / "other_formats_package-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "other_formats_package.py").write_text(PACKAGE, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-formats-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.delitem(sys.modules, "other_formats_package", raising=False)
    monkeypatch.syspath_prepend(site)


def clauses(run: RunFolder) -> dict[str, dict[str, object]]:
    return {clause["name"]: clause for clause in run.json(GATE, "gate")["clauses"]}


def test_other_packages_add_formats_and_replace_none() -> None:
    assert EXPORTERS.names == ["onnx", "drifting", "greedy", "missing", "torch"]
    assert load_exporter("onnx").file_name == MODEL


def test_the_gate_holds_a_parity_clause_for_each_file(trained: Trained, run: RunFolder) -> None:
    scenario, _ = trained
    exporters.export(scenario, run, ["torch", "drifting"])
    evaluate(scenario, run)

    found = clauses(run)
    assert run.file("model.pt").is_file()
    assert found["parity_torch"]["verdict"] == "pass"
    assert found["parity_torch"]["figure"] == pytest.approx(0, abs=1e-6)
    assert found["parity_drifting"]["verdict"] == "fail"
    assert found["parity_drifting"]["figure"] == pytest.approx(0.05, abs=1e-6)
    assert "The drifting file's probabilities differ" in str(found["parity_drifting"]["says"])
    assert run.json(GATE, "gate")["verdict"]["state"] == "refused"
    assert "parity_torch" in Model.load(run.file(MODEL)).metadata["gate"]


def test_a_run_without_other_formats_has_the_clauses_it_always_had(trained: Trained, run: RunFolder) -> None:
    exporters.export(trained[0], run)
    evaluate(trained[0], run)

    assert [name for name in clauses(run) if name.startswith("parity")] == ["parity"]
    assert "formats" not in run.events("rungs")[-1]


def test_other_formats_follow_the_student_and_its_threshold(trained: Trained, run: RunFolder) -> None:
    scenario, _ = trained
    exporters.export(scenario, run, ["torch"])
    first = run.file("model.pt").read_bytes()
    run.file("model.pt").unlink()
    exporters.export(scenario, run)
    assert run.file("model.pt").is_file(), "exported again with the student"

    exporters.rethreshold(scenario.model_copy(update={"target": Target(recall=0.99)}), run)
    assert run.file("model.pt").read_bytes() != first, "its threshold is another"
    exporters.export(scenario, run, [])
    assert run.events("rungs")[-1].get("formats") is None


def test_a_format_keeps_to_its_own_file(trained: Trained, run: RunFolder) -> None:
    with pytest.raises(ExportError, match=r"export format 'greedy' writes 'gate.json'"):
        exporters.export(trained[0], run, ["greedy"])


def test_unknown_and_broken_formats_are_named() -> None:
    with pytest.raises(ExportError, match="no export format 'torhc'") as unknown:
        load_exporter("torhc")
    assert "torch" in str(unknown.value.hint)
    with pytest.raises(PluginError, match="other-formats-package cannot be imported"):
        load_exporter("missing")
