"""The words of a comparison: one line, made here for console, page, `models diff` and the pull request's comment."""

from __future__ import annotations

from clip_factory.evaluation.difference_intervals import Difference
from clip_factory.statistics import Confusion

BY_PEOPLE = "by people's labels"
AGAINST_TEACHER = "against the teacher, which nobody has checked"
EQUAL = "no difference outside chance: "


def in_counts(
    names: tuple[str, str],
    _counted: tuple[Confusion, Confusion],
    recall: Difference,
    alarms: Difference,
    *,
    subject: int,
    verdict: str,
) -> str:
    """On the same photos: "B finds 9 more of 43 (3 to 15), same false alarms among 300 (-2 to 2)".

    Args:
        names: What the two are called.
        _counted: Not needed: the differences hold the counts.
        recall: Of what they find, the subject against the other.
        alarms: Of their false alarms, likewise.
        subject: Index in `names` of the one that the line is about.
        verdict: As `Comparison.verdict`.
    """
    known = recall.p_value is not None  # which photos differ, and not their number alone
    if known and not any((recall.only_first, recall.only_second, alarms.only_first, alarms.only_second)):
        return f"no difference: the same answers on all {recall.n + alarms.n:,} photos"
    hits, extra = round(recall.figure * recall.n), round(alarms.figure * alarms.n)
    finds = f"finds {_more(hits)} of {recall.n:,} {_span(recall, recall.n)}"
    if not hits:
        finds = f"finds as many of {recall.n:,} {_span(recall, recall.n)}"
    among = f"among {alarms.n:,} {_span(alarms, alarms.n)}"
    alarm = f"{_more(extra)} false {_plural(extra, 'alarm')} {among}" if extra else f"same false alarms {among}"
    return _sentence(names[subject], finds, alarm, recall, alarms, verdict)


def in_points(
    names: tuple[str, str],
    counted: tuple[Confusion, Confusion],
    recall: Difference,
    alarms: Difference,
    *,
    subject: int,
    verdict: str,
) -> str:
    """On different photos: "B finds 30 of 43 against 21 of 40, 17 points more (-3 to 35), ..."; as `in_counts`."""
    one, other = counted[subject], counted[1 - subject]
    finds = (
        f"finds {one.hits:,} of {one.yes:,} against {other.hits:,} of {other.yes:,}, "
        f"{_points(recall.figure)} {_span(recall, 100)}"
    )
    alarm = (
        f"{one.false_alarms:,} false {_plural(one.false_alarms, 'alarm')} among {one.no:,} against "
        f"{other.false_alarms:,} among {other.no:,}, {_points(alarms.figure)} {_span(alarms, 100)}"
    )
    return _sentence(names[subject], finds, alarm, recall, alarms, verdict)


def one_sided(counted: tuple[Confusion, Confusion], *, any_yes: bool) -> str:
    """Where one of the answers has no photo."""
    n = counted[1].yes + counted[1].no
    if not n:
        return "cannot be told: no photo that may measure them has a label"
    lacking = "no" if any_yes else "yes"
    return f"cannot be told: of the {n:,} labeled {_plural(n, 'photo')} none is a {lacking}"


def hidden(names: tuple[str, str], better: int, auc: Difference) -> str:
    """A better ranking that does not show in the answers."""
    high, low = (auc.second, auc.first) if better else (auc.first, auc.second)
    return (
        f"{names[better]} ranks better (AUC {_area(high)} against {_area(low)}) but its threshold hides it: "
        "factory threshold RUN"
    )


def _sentence(name: str, finds: str, alarm: str, recall: Difference, alarms: Difference, verdict: str) -> str:
    if verdict == "equal":
        return f"{EQUAL}{name} {finds}, {alarm}"
    if verdict == "trade-off":
        but = ", but raises" if _within_chance(recall) else " but raises"
        return f"{name} {finds}{_within_chance(recall)}{but} {alarm}{_within_chance(alarms)}"
    return f"{name} {finds}{_within_chance(recall)}, {alarm}{_within_chance(alarms)}"


def _within_chance(side: Difference) -> str:
    return "" if side.sign or not side.figure else ", within chance"


def _more(count: int) -> str:
    return f"{abs(count):,} {'more' if count > 0 else 'fewer'}"


def _points(figure: float) -> str:
    points = round(100 * figure)
    if not points:
        return "no more and no fewer"
    return f"{abs(points)} {_plural(points, 'point')} {'more' if points > 0 else 'fewer'}"


def _plural(count: int, word: str) -> str:
    return word if abs(count) == 1 else f"{word}s"


def _span(side: Difference, unit: int) -> str:
    """The interval in whole units, in the direction that the words give the figure; one that leaves out 0 shows it."""
    low, high = (end * unit for end in side.interval)
    if round(side.figure * unit) < 0:
        low, high = -high, -low
    low_end, high_end = round(low), round(high)
    if low > 0:
        low_end, high_end = max(low_end, 1), max(high_end, 1)
    elif high < 0:
        low_end, high_end = min(low_end, -1), min(high_end, -1)
    return f"({_signed(low_end)} to {_signed(high_end)})"


def _signed(value: int) -> str:
    return f"{value:,}".replace("-", "\N{MINUS SIGN}")


def _area(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")
