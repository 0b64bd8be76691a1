"""The precisions: each is checked, the best that fits is taken, and a refusal says why."""

from __future__ import annotations

import pytest

from clip_factory import exporters
from clip_factory.errors import ExportError
from clip_factory.exporters.onnx_exporter import Candidate, choose_candidate
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario

Exported = tuple[Scenario, RunFolder]


def test_too_small_a_budget_is_refused_with_sizes(exported: Exported) -> None:
    scenario, run = exported
    tight = scenario.model_copy(update={"student": scenario.student.model_copy(update={"budget_kb": 20})})
    with pytest.raises(
        ExportError, match=r"no export fits student.budget_kb 20 .*: fp32 .* kB, fp16 .* kB, int8 .* kB"
    ):
        exporters.export(tight, run)


def test_an_untrue_export_is_refused(exported: Exported) -> None:
    candidate = Candidate("int8", b"x", parity=0.2, max_difference=0.9, brier=0.0)
    with pytest.raises(ExportError, match=r"differ from the network by more than gate.parity 0.01 on val: int8 0.2000"):
        choose_candidate([candidate], exported[0])


def test_of_equal_candidates_the_more_precise_is_chosen(exported: Exported) -> None:
    candidates = [Candidate(p, b"x", 0.0, 0.0, brier) for p, brier in (("fp32", 0.2), ("fp16", 0.1), ("int8", 0.1))]
    assert choose_candidate(candidates, exported[0]).precision == "fp16"
