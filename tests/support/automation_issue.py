"""Issues as GitHub's form makes them, and events that carry them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from automation import form

SHA256 = "5" * 64
URL = "https://example.org/photos.zip"


def body(change: bool = False, **answers: str) -> str:
    """The body of an issue: `name`, `question`, `yes`, `no`, `images`, `sha256`, or what a usual one says."""
    said = {"name": "forklift", "question": "Is there a forklift?", "yes": "forklift\nforklift truck in a warehouse"}
    said |= {"no": "pallet truck\ncrane", "images": URL, "sha256": SHA256} | answers
    fenced = {"yes", "no"}
    lines = []
    for key, label in zip(("name", "question", "yes", "no", "images", "sha256"), form.LABELS, strict=False):
        answer = said[key] or form.EMPTY
        lines += [f"### {label}", "", f"```text\n{answer}\n```" if key in fenced and said[key] else answer, ""]
    return "\n".join([*lines, f"### {form.EXISTS}", "", f"- [{'x' if change else ' '}] Yes: change it as said above"])


def event(path: Path, text: str, number: int = 7, **more: Any) -> Path:
    """The file of an event `issues: labeled`."""
    issue = {"number": number, "title": "`rm -rf /`", "body": text, "user": {"login": "mallory"}} | more
    path.write_text(json.dumps({"issue": issue, "repository": {"default_branch": "main"}}), encoding="utf-8")
    return path
