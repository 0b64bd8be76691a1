"""Run folders with nothing in them but what they are found by."""

from __future__ import annotations

import json
from pathlib import Path


def run_at(path: Path, begun: float, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in ("scenario.yaml", *names):
        (path / name).touch()
    (path / "log.jsonl").write_text(
        json.dumps({"time": begun, "event": "start", "request": "another"}) + "\n", encoding="utf-8"
    )
    return path
