"""The gate.json of a run: the verdict, the clauses it rests on, and every figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clip_factory.errors import RunError
from clip_factory.gate.verdict import State, Verdict, read
from clip_factory.run_folder import GATE, RunFolder


@dataclass(frozen=True, repr=False)
class GateResult:
    """What the gate has written about a run."""

    verdict: Verdict
    clauses: tuple[Mapping[str, Any], ...]
    """Each with `name`, `rule`, `figure`, `n`, `interval` (95 %) and `verdict`."""
    figures: Mapping[str, Any]
    """Every figure with its sample size and interval, as in gate.json."""

    @property
    def state(self) -> State:
        """`passed`, `not proven` or `refused`."""
        return self.verdict.state

    def __repr__(self) -> str:
        return f"<GateResult {self.state}: {self.verdict.headline}>"

    @classmethod
    def of_run(cls, run: RunFolder) -> GateResult:
        """The result of a run.

        Raises:
            RunError: The run has not been evaluated yet, or what was written is damaged.
        """
        tree = run.json(GATE, "evaluate")
        try:
            return cls(read(tree), tuple(tree.get("clauses", ())), tree.get("figures", {}))
        except (ValueError, AttributeError, TypeError) as error:
            path = run.file(GATE)
            raise RunError(f"{path}: {error}", hint=f"evaluate it again: factory evaluate {run.path}") from None
