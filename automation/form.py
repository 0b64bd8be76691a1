"""The issue form, read back: what a person typed under each heading of the issue, checked and made a scenario."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from automation import policy
from automation.text import faults as misleading
from clip_factory.scenario import Scenario
from clip_factory.scenario.explain import explain

NAME, QUESTION, YES, NO = "Name", "Question", "What a yes looks like", "Look-alikes"
IMAGES, SHA256, EXISTS = "Where the images are", "sha256 of the images", "Is there a scenario of this name already?"
LABELS = (NAME, QUESTION, YES, NO, IMAGES, SHA256, EXISTS)
"""Labels of the fields of .github/ISSUE_TEMPLATE/new-prompt.yml, in its order."""
REQUIRED = (NAME, YES, IMAGES)
EMPTY = "_No response_"
MAX_BODY = 65_536
"""Characters of an issue; GitHub accepts no more."""
MAX_PHRASES = {YES: 50, NO: 200}
"""Phrases that a form may name; a scenario file may hold more."""
MAX_LENGTHS = {NAME: 64, QUESTION: 500, IMAGES: policy.MAX_URL, SHA256: 64}
"""Characters of the answers that are one line."""
KEYS = {"name": NAME, "question": QUESTION, "positive": YES, "negative": NO, "images": IMAGES}
"""Key of a scenario -> the field that it comes from, for messages."""
_HEADING = re.compile(r"### +(.*?) *")
_BULLET = re.compile(r"(?:[-*+•]|\d{1,3}[.)])\s+")
_TICKED = re.compile(r"- \[[xX]\] .*")


@dataclass(frozen=True)
class ScenarioRequest:
    """What an issue asks for."""

    scenario: Scenario
    fields: dict[str, Any]
    """The keys that the form gives, as they go into the file."""
    change: bool
    """Whether it says that it changes a scenario that is there."""


def read(body: str) -> tuple[ScenarioRequest | None, list[str]]:
    """Read an issue's body.

    Returns:
        The request, None if there is any fault; and every fault, one line each.
    """
    if len(body) > MAX_BODY:
        return None, [f"the issue has {len(body):,} characters; {MAX_BODY:,} are read"]
    answers, faults = _answers(body)
    faults += [f"{label}: is required and missing" for label in REQUIRED if not answers.get(label)]
    for label, limit in MAX_LENGTHS.items():
        text = answers.get(label, "")
        if "\n" in text or len(text) > limit:
            faults.append(f"{label}: must be one line of at most {limit} characters")
    phrases = {label: _phrases(answers.get(label, "")) for label in MAX_PHRASES}
    for label, limit in MAX_PHRASES.items():
        if len(phrases[label]) > limit:
            faults.append(f"{label}: {len(phrases[label])} phrases; at most {limit}, and a dozen is plenty")
    if faults:
        return None, faults
    return _request(answers, phrases)


def _request(answers: dict[str, str], phrases: dict[str, list[str]]) -> tuple[ScenarioRequest | None, list[str]]:
    where, sha256 = answers[IMAGES], answers.get(SHA256, "")
    if "://" not in where and sha256:
        return None, [f"{SHA256}: goes with an address; {IMAGES} gives a path in the repository"]
    images = {"url": where, "sha256": sha256 or None} if "://" in where else {"path": where}
    fields: dict[str, Any] = {
        "name": answers[NAME],
        "question": answers.get(QUESTION, ""),
        "positive": phrases[YES],
        "negative": phrases[NO] or None,
        "images": {key: value for key, value in images.items() if value is not None},
    }
    fields = {key: value for key, value in fields.items() if value}
    try:
        scenario = Scenario.model_validate(fields)
    except ValidationError as error:
        odd = [f"{NAME}: {fault}" for fault in misleading(answers[NAME])]
        return None, odd + [_in_words(line) for line in explain(error, fields, "").splitlines()]
    faults = policy.faults(scenario, f"{policy.DATASETS}/{scenario.name}")
    change = bool(_TICKED.fullmatch(answers.get(EXISTS, "").strip()))
    return (None, [_in_words(fault) for fault in faults]) if faults else (ScenarioRequest(scenario, fields, change), [])


def _answers(body: str) -> tuple[dict[str, str], list[str]]:
    """What stands under each heading; headings that the form has not, or has once and the body twice, are faults."""
    by_label: dict[str, list[str]] = {}
    faults: list[str] = []
    lines: list[str] = []
    for line in body.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        heading = _HEADING.fullmatch(line)
        if heading is None:
            lines.append(line)
            continue
        label = heading[1]
        if label not in LABELS:
            faults.append(f"the heading {label[:80]!r} is none of the form's: {', '.join(LABELS)}")
        elif label in by_label:
            faults.append(f"the heading {label!r} stands there twice")
        lines = by_label[label] = []
    return {label: _bare("\n".join(lines)) for label, lines in by_label.items()}, faults


def _bare(answer: str) -> str:
    """An answer without the blank lines and the code fence that GitHub puts around it."""
    text = answer.strip("\n ")
    fence = re.fullmatch(r"(`{3,})\w*\n(.*?)\n?\1", text, re.DOTALL)
    text = fence[2].strip("\n ") if fence else text
    return "" if text == EMPTY else text


def _phrases(answer: str) -> list[str]:
    """One phrase a line; a sign of a list before it is no part of it."""
    lines = (_BULLET.sub("", line.strip(), count=1).strip() for line in answer.split("\n"))
    return list(dict.fromkeys(line for line in lines if line))


def _in_words(fault: str) -> str:
    """A fault of the scenario, by the field of the form that it comes from."""
    text = re.sub(r"^:\d+: ", "", fault)
    key, _, rest = text.partition(":")
    return f"{KEYS[key.split('.')[0]]}:{rest}" if key.split(".")[0] in KEYS else text
