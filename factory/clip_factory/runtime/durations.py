"""Lengths of time as people write them: `2s`, `500ms`, `1m`, or a number of seconds."""

from __future__ import annotations

import re
from fractions import Fraction

from clip_factory.runtime.runtime_errors import FactoryError

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
"""Milliseconds of each; a number without a unit counts seconds."""
MIN_MILLISECONDS, MAX_MILLISECONDS = 10, 24 * UNITS["h"]

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) *(ms|s|m|h)?", re.ASCII)


def milliseconds(duration: str | float, name: str = "") -> int:
    """A length of time in whole milliseconds.

    Args:
        duration: A number of seconds, or a number with one of `UNITS`: `2s`, `500ms`, `1.5m`.
        name: What a message calls it, such as `--every`.

    Raises:
        FactoryError: It is neither, no multiple of a millisecond, or not from 10 ms to 24 h.
    """
    where = f"{name} " if name else ""
    match = None if isinstance(duration, bool) else _DURATION.fullmatch(str(duration).strip())
    if match is None:
        raise FactoryError(f"{where}{str(duration)[:40]!a} is no length of time", hint="such as: 2s, 500ms, 1m, or 0.5")
    value = Fraction(match[1]) * UNITS[match[2] or "s"]
    if value.denominator != 1:
        raise FactoryError(f"{where}{duration}: finer than a millisecond", hint="give a multiple of 1ms")
    if not MIN_MILLISECONDS <= value <= MAX_MILLISECONDS:
        raise FactoryError(f"{where}{duration}: expected a length of time from 10ms to 24h")
    return int(value)


def seconds_text(value: int) -> str:
    """Milliseconds in the one way in which files say them: `2s`, `0.5s`."""
    return f"{value / 1000:.3f}".rstrip("0").rstrip(".") + "s"
