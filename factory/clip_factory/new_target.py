"""Another target for a run that is there: what each would come to, and the scenario with the one that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clip_factory.errors import RunError
from clip_factory.exporters import threshold_for
from clip_factory.exporters.threshold import Threshold
from clip_factory.run_folder import HELD_OUT, LABELS, MODEL, SCENARIO, STUDENT, RunFolder
from clip_factory.runtime.atomic import write_text
from clip_factory.scenario import Scenario, dump, load, validated


def expected_thresholds(run: RunFolder, targets: Sequence[Any]) -> list[Threshold]:
    """Where the run's own target, then each other one, puts the threshold; nothing is changed.

    Args:
        run: The run.
        targets: Values of `target` in a scenario file.

    Raises:
        RunError: The run has no model yet.
        ScenarioError: A target is not allowed.
    """
    scenario = load(run.file(SCENARIO))
    needs = [scenario.need, *(_with_target(scenario, target, free=True).need for target in targets)]
    return [threshold_for(run, need) for need in dict.fromkeys(needs)]


def write_target(run: RunFolder, target: Any) -> None:
    """Write another target into the run's scenario.yaml, if there is a threshold that reaches it.

    Raises:
        RunError: The run has no model yet, or no threshold reaches the target.
        ScenarioError: The target is not allowed, or the gate asks for more than it aims at.
    """
    for name in (LABELS, STUDENT, HELD_OUT, MODEL):
        run.need(name, "run")
    scenario = _with_target(load(run.file(SCENARIO)), target)
    best = threshold_for(run, scenario.need)
    if not best.reached:
        raise RunError(
            f"no threshold has {best.target}: the nearest, {best.threshold:g}, has {best.precision:.1%}",
            hint="ask for less, or better the labels: factory review RUN",
        )
    write_text(run.file(SCENARIO), dump(scenario))


def _with_target(scenario: Scenario, target: Any, *, free: bool = False) -> Scenario:
    """The same scenario with another target, costs in their older form put aside; `free`: with no rule of the gate."""
    tree = scenario.model_dump()
    gate = tree["gate"] | {"false_yes_cost": 1.0, "false_no_cost": 1.0}
    if free:
        gate |= {"recall": 0.0, "precision": 0.0, "false_alarms": 1.0}
    return validated(tree | {"target": target, "gate": gate})
