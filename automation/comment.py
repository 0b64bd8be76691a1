"""The words of the comment on a pull request: pure functions of what was read and checked before."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from automation import champion, policy
from automation.champion import Comparison
from automation.markdown import MAX_COMMENT, block, code, codes, details, prose, table
from automation.runs import Run
from clip_factory.report import formatting as words
from clip_factory.runtime.releases.release_reference import SLUG

MARKS = {"pass": "✅ pass", "fail": "❌ fail", "unproven": "➖ unproven", "not measured": "➖ not measured"}
Outcome = Literal["passed", "not proven", "refused", "does not add up", "no result"]
OUTCOMES: Mapping[Outcome, tuple[str, str]] = {
    "passed": ("✅", "passed"),
    "not proven": ("🟡", "is not proven"),
    "refused": ("❌", "was refused by the gate"),
    "does not add up": ("⚠️", "does not add up"),
    "no result": ("⚠️", "has no result"),
}
"""The mark of each, and how its title ends."""
FOLDED_FROM = 3
"""From so many scenarios on, each is folded."""
PHRASES = 12
CURVES, WORST = "Curves of the training", "The photos on which it does worst"
"""What the pictures show, for those who cannot see them, too."""
NOT_ALLOWED = "It is not published as long as it is not proven: see the end of this comment."
ALLOWED = "It may be published all the same, since the workflow’s input `allow-unproven` is set; its card says so."
PROVEN = 5
"""Scenarios for which the commands are given that prove them; they are alike."""
WIDTH = 640
"""Of a picture in the comment, in pixels; a click shows it larger."""


@dataclass(frozen=True)
class Result:
    """One scenario of the pull request: its run, or why there is none."""

    name: str
    run: Run | None
    why: str = ""
    """Where there is no run: the reason; it may hold text from anywhere."""
    comparison: Comparison | None = None
    """None: no registry, or it could not be read."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """Alternative text -> address of the picture."""

    @property
    def outcome(self) -> Outcome:
        """The verdict, or why there is none."""
        if self.run is None:
            return "no result"
        return "does not add up" if self.run.doubts else self.run.verdict.state


@dataclass(frozen=True)
class Setting:
    """What the commands need to know."""

    commit: str = ""
    registry: str = ""
    """Address, without secrets; empty: none was named."""
    alias: str = "champion"
    allow_unproven: bool = False
    """Whether what is not proven is published all the same."""


def render(results: Sequence[Result], setting: Setting) -> str:
    """The whole comment; where it grows too long for GitHub, the last scenarios are in the table alone."""
    shown = len(results)
    while True:
        text = _render(results, setting, shown)
        if len(text) <= MAX_COMMENT - 1_000 or not shown:
            return text
        shown -= 1


def _render(results: Sequence[Result], setting: Setting, shown: int) -> str:
    count = Counter(one.outcome for one in results)
    counted = [f"{count[outcome]} {outcome}" for outcome in OUTCOMES if count[outcome]]
    parts = [f"## clip-factory: {', '.join(counted) or 'nothing to run'}"]
    if len(results) > 1:
        parts.append(_overview(results, setting))
    for one in results[:shown]:
        body = section(one, setting)
        parts.append(details(_summary(one), body) if len(results) >= FOLDED_FROM else f"### {_title(one)}\n\n{body}")
    if shown < len(results):
        parts.append(f"{len(results) - shown} more are in the table alone: the comment would be too long.")
    unproven = [one.name for one in results if one.outcome == "not proven"]
    if unproven and not setting.allow_unproven:
        parts.append(_how_to_prove(unproven))
    return "\n\n".join(parts) + "\n"


def section(one: Result, setting: Setting) -> str:
    """All that the comment says of one scenario."""
    run = one.run
    if run is None:
        return f"There is no result: {code(one.why)}. The workflow’s log says more."
    shown = {alt: f'<p><img alt="{alt}" src="{to}" width="{WIDTH}"></p>' for alt, to in one.pictures.items()}
    parts = [
        code(run.scenario.asked, 500),
        _verdict(run, setting, pictured=WORST in shown),
        _gate(run),
        shown.get(CURVES, ""),
        _wrong(run),
        shown.get(WORST, ""),
        _changes(one, setting),
        _facts(run),
        details("Commands", _commands(run, one.comparison, setting)),
    ]
    return "\n\n".join(part for part in parts if part)


def _title(one: Result) -> str:
    mark, ends = OUTCOMES[one.outcome]
    return f"{mark} {code(one.name)} {ends}"


def _summary(one: Result) -> str:
    # inside <summary> Markdown is not read, so that the name stands in HTML, and must be a name
    name = one.name if SLUG.fullmatch(one.name) else "a folder"
    mark, ends = OUTCOMES[one.outcome]
    return f"{mark} <b>{name}</b> {ends}"


def _overview(results: Sequence[Result], setting: Setting) -> str:
    return table(
        ("scenario", "verdict", "finds", "false alarms", "by", "size", "time", _at(setting)),
        [_line(one) for one in results],
        "llrrlrrl",
    )


def _line(one: Result) -> tuple[str, ...]:
    run, verdict = one.run, f"{OUTCOMES[one.outcome][0]} {one.outcome}"
    if run is None:
        return code(one.name), verdict, "", "", "", "", "", ""
    outcome = run.figures["outcome"]
    counts = [
        f"{words.number(outcome[right])} of {words.number(outcome[right] + outcome[wrong])}"
        for right, wrong in (("hits", "misses"), ("false_alarms", "correct_rejections"))
    ]
    about = words.BY[run.against], words.kilobytes(run.size), _minutes(run), _current_version(one)
    return code(one.name), verdict, *counts, *about


def _current_version(one: Result) -> str:
    if one.comparison is None:
        return ""
    return "the first" if one.comparison.version is None else f"version {one.comparison.version}"


def _verdict(run: Run, setting: Setting, *, pictured: bool) -> str:
    """The verdict's own sentence, why it is not passed, and what that means here."""
    if run.doubts:
        lines = "\n".join(f"> - {doubt}" for doubt in run.doubts)
        return f"> **The run folder contradicts itself, and will not be published.**\n{lines}"
    verdict, where = run.verdict, "below" if pictured else "in the run’s report.html"
    lead = f"> **{words.STATES[verdict.state][0]}.** {prose(verdict.headline)}"
    reasons = "\n".join(f"> - {prose(reason)}" for reason in verdict.reasons)
    advice = {
        "passed": "",
        "not proven": f"> {ALLOWED if setting.allow_unproven else NOT_ALLOWED}",
        "refused": f"> Look at the photos {where}: are the labels wrong (other phrases, or `factory review`) or the"
        " model?",
    }[verdict.state]
    return "\n>\n".join(part for part in (lead, reasons, advice) if part)


def _how_to_prove(names: Sequence[str]) -> str:
    """The commands by which people's answers come into the repository, for a few of the scenarios."""
    lines = []
    for name in names[:PROVEN]:
        file = PurePosixPath(policy.DATASETS, name, policy.FILE)
        lines += [f"factory run {file}", f"factory review runs/{name} --prove"]
        lines.append(f"git add {file.with_name(policy.ANSWERS)}")
    lines += ['git commit --message "Answers of people"', "git push"]
    more = f" The {len(names) - PROVEN} more take the same commands." if len(names) > PROVEN else ""
    return "\n\n".join(
        [
            "### To prove what is not proven",
            "Answer test photos on your own machine, on this branch, and push the answers: the run that follows counts"
            f" them.{more}",
            block("\n".join(lines), "sh"),
            "Or commit labels that you have, a CSV with the columns `path,label`, and name it in the scenario:"
            " `gold: labels.csv`.",
        ]
    )


def _gate(run: Run) -> str:
    rows = [
        (
            words.CLAUSES[clause["name"]],
            words.rule(clause),
            words.figure(clause),
            words.interval(clause["interval"]) if clause["name"] in words.SHARES else words.ABSENT,
            words.ABSENT if clause["name"] == "bytes" else words.number(clause["n"]),
            MARKS[clause["verdict"]] + ("" if clause["decides"] else ", not decisive"),
        )
        for clause in run.clauses
    ]
    return table(("clause", "asked", "measured", "95 % interval", "photos", "verdict"), rows, "llrrrl")


def _changes(one: Result, setting: Setting) -> str:
    comparison = one.comparison
    if comparison is None:
        return (
            "No registry was read: nothing to compare with."
            if not setting.registry
            else ("The registry could not be read, so nothing is compared with it.")
        )
    if comparison.version is None:
        return f"**First of its name:** no version stands as {_at(setting)} yet."
    rows = champion.rows(comparison)
    heading = f"**Against {_at(setting)}, version {comparison.version}**"
    if comparison.recorded is not None:
        heading = f"{heading}: {comparison.recorded.line}\n\nWhat changed"
    if not rows:
        return f"{heading}: no difference."
    more = f"\n\nand {len(rows) - champion.MAX_ROWS} more" if len(rows) > champion.MAX_ROWS else ""
    note = " (each on the test photos of its day)"
    return f"{heading}{note}\n\n" + table(("", "before", "now"), rows[: champion.MAX_ROWS]) + more


def _facts(run: Run) -> str:
    scenario, split = run.scenario, run.labels.split
    photos = f"{words.plural(len(split), 'photo')}, {words.number(int((split == 'test').sum()))} of them tested on"
    phrases = f"yes: {codes(scenario.positive, PHRASES)}; no: {codes(scenario.negative or (), PHRASES)}"
    teacher = code("/".join(filter(None, (scenario.teacher.model, scenario.teacher.pretrained))), 100)
    return (
        f"{words.kilobytes(run.size)} · {_minutes(run)} · {photos} · teacher {teacher}"
        f" · sha256 `{run.sha256[:16]}`\n\n{phrases}"
    )


def _wrong(run: Run) -> str:
    test, gold = run.labels.test, run.labels.labeled
    wrong = int(((run.labels.student >= run.threshold) != run.labels.reference)[test].sum())
    by = words.BY["people" if gold[test].all() else "either" if gold[test].any() else "teacher"]
    count = words.number(wrong) if wrong else "None"
    return f"{count} of {words.plural(int(test.sum()), 'test photo')} answered wrongly, by {by}."


def _minutes(run: Run) -> str:
    return f"{run.seconds / 60:.1f}{words.THIN}min"


def _commands(run: Run, comparison: Comparison | None, setting: Setting) -> str:
    teacher = "/".join(filter(None, (run.scenario.teacher.model, run.scenario.teacher.pretrained)))
    path = PurePosixPath(policy.DATASETS, run.name, policy.FILE)
    again = [f"git checkout {setting.commit}"] * bool(setting.commit)
    again.append(f"factory run {path} --teacher {shlex.quote(teacher)} --fresh")
    where = f" --registry {shlex.quote(setting.registry)}" if setting.registry else ""
    back = f"factory models rollback {run.name} {setting.alias}{where}"
    text = "To have the same run:\n\n" + block("\n".join(again), "sh")
    if comparison is not None and comparison.version is None:
        return f"{text}\n\nOnce it is published there is no version before it to roll back to."
    return f"{text}\n\nOnce it is published, to go back to the version before:\n\n" + block(back, "sh")


def _at(setting: Setting) -> str:
    return code(f"@{setting.alias}")
