"""What a gate.json says in the end: one of three states and one sentence, made here for console, report, card, comment.

`passed`      people's labels show, at 95 %, that the model does what the rule asks
`not proven`  nothing is broken, and not enough is shown: too few labels from people, or none
`refused`     a clause is broken
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

State = Literal["passed", "not proven", "refused"]


@dataclass(frozen=True)
class Verdict:
    """The gate's last word."""

    state: State
    headline: str
    """One sentence, led by what a user loses: misses and false alarms, and whose labels say so."""
    reasons: tuple[str, ...] = ()
    """Why it is not `passed`, a sentence each; empty where it is."""

    @property
    def passed(self) -> bool:
        """Whether people's labels show that the model does what the rule asks."""
        return self.state == "passed"


def read(gate: Mapping[str, Any]) -> Verdict:
    """The verdict of a gate.json, decoded; of one that an earlier version wrote, as far as it goes.

    Raises:
        ValueError: It says neither what the verdict is nor whether the model passed.
    """
    stored = gate.get("verdict")
    if isinstance(stored, Mapping) and stored.get("state") in get_args(State):
        return Verdict(stored["state"], str(stored.get("headline", "")), tuple(map(str, stored.get("reasons", ()))))
    if not isinstance(gate.get("passed"), bool):
        raise ValueError("it does not say whether the model passed")
    clauses = gate.get("clauses")
    broken = [str(c.get("says", "")) for c in clauses or () if isinstance(c, Mapping) and c.get("verdict") == "fail"]
    if gate["passed"]:
        return Verdict("passed", "Passed the rule of an earlier version.")
    return Verdict("refused", " ".join(broken) or "Nothing shows that it is right.", tuple(broken))
