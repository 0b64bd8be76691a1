"""Figures as people read them: shares, sizes, times and intervals as short texts."""

from __future__ import annotations

import math
import re
from typing import Any

THIN = "\u202f"
"""Narrow no-break space: between a number and its unit."""
ABSENT = "–"

STATES = {
    "passed": ("Passed", "pass", "People’s labels show that it does what was asked."),
    "not proven": ("Not proven", "unproven", "Nothing speaks against it; too little is shown to rely on it."),
    "refused": ("Refused", "fail", "A rule is broken: do not rely on it."),
}
"""Each state of a verdict: its word, its tone, what it means."""

SHORT = "A figure lies below what was asked, if not by more than chance: do not rely on it."
"""What `not proven` means where a figure is on the wrong side of its bar."""
EARLIER = "That rule asked less than today’s: it could be met by saying no."
"""What `passed` means where an earlier version judged."""

CLAUSES = {
    "recall": "Finds the yes photos",
    "precision": "Right when it says yes",
    "false_alarms": "Few false alarms",
    "balanced_agreement": "Follows its teacher on both answers",
    "agreement": "Agrees with its teacher",
    "gold_accuracy": "Right by people’s labels",
    "parity": "Ships what was trained",
    "bytes": "Fits the size budget",
    "both_classes": "Tested on both answers",
}
SHARES = ("recall", "precision", "false_alarms", "balanced_agreement", "agreement", "gold_accuracy")
"""Clauses whose figure is a share of images, in [0, 1]."""

BY = {
    "people": "people’s labels",
    "teacher": "its teacher’s word",
    "either": "people’s labels where there are any, else its teacher’s word",
}
"""Whose word counts as right."""
TARGETS = {
    "break-even": "break-even: about as many false alarms as misses",
    "balanced": "balanced: yes and no photos weigh alike, however rare one is",
}
"""What the named targets of a scenario mean; others are in words already."""
BASE_RATES = {
    "gold": "by people’s labels of all of them",
    "gold and teacher": "by people’s labels, and where there are none by the teacher’s probabilities, brought to them",
    "teacher": "by the teacher’s probabilities; no person has said anything",
}
"""Where a base rate comes from."""
_RULE = re.compile(r"(>=|<=) ([0-9.]+(?:e-?\d+)?)")


def known(value: Any) -> bool:
    """Whether there is a finite number to print."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def share(value: Any) -> str:
    """A share in [0, 1] as per cent: 0.968 is `96.8 %`; never rounded up to 100."""
    if not known(value):
        return ABSENT
    percent = math.floor(value * 1000 + 0.5) / 10
    if percent >= 100 > value * 100 + 1e-9:
        percent = 99.9
    return f"{percent:.1f}".removesuffix(".0") + f"{THIN}%"


def number(value: Any, digits: int = 3) -> str:
    """A number to `digits` significant digits, whole numbers in full with thousands set apart."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not known(value):
        return str(value) if isinstance(value, str) else ABSENT
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", THIN)
    text = f"{value:.{digits}g}"
    return text if abs(value) < 1000 else f"{value:,.0f}".replace(",", THIN)


def decimal(value: Any) -> str:
    """A figure that is no share, such as an area, with three decimals."""
    return f"{value:.3f}" if known(value) else ABSENT


def score(value: Any) -> str:
    """A probability with two decimals; one that only rounds to 0 or 1 says so."""
    if not known(value):
        return ABSENT
    if 0 < value < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"


def kilobytes(count: Any) -> str:
    """A number of bytes in kB of 1,000 bytes."""
    if not known(count):
        return ABSENT
    return f"{count / 1000:.1f}".removesuffix(".0") + f"{THIN}kB"


def duration(seconds: Any) -> str:
    """Seconds as `0.4 s`, `12 s` or `3 min 20 s`."""
    if not known(seconds):
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s" if seconds < 9.95 else f"{seconds:.0f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{THIN}min {rest}{THIN}s"


def interval(bounds: Any) -> str:
    """A pair of shares as `93.5 to 98.5 %`."""
    if not bounds or not all(known(bound) for bound in bounds):
        return ABSENT
    low, high = (share(bound) for bound in bounds)
    return f"{low.removesuffix(THIN + '%')} to {high}"


def figure(clause: dict[str, Any]) -> str:
    """What a clause measured, in its unit."""
    return _in_unit(clause["name"], clause.get("figure"))


def bound(clause: dict[str, Any]) -> float | None:
    """The number in a rule such as `>= 0.95`; None where the rule is of another form."""
    parts = _RULE.fullmatch(str(clause.get("rule", "")))
    return float(parts[2]) if parts else None


def rule(clause: dict[str, Any]) -> str:
    """What a clause demands, in its unit: `>= 0.95` is `at least 95 %`."""
    text = str(clause.get("rule", ""))
    parts = _RULE.fullmatch(text)
    if not parts:
        return text
    return f"at {'least' if parts[1] == '>=' else 'most'} {_in_unit(clause['name'], float(parts[2]))}"


def _in_unit(name: str, value: Any) -> str:
    if name in SHARES:
        return share(value)
    return kilobytes(value) if name == "bytes" else number(value)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 image`, `2 images`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"
