"""Releases in a registry of files, without a run behind them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from clip_factory.runtime.releases.release_index import LAYOUT, Entry, Index
from clip_factory.runtime.releases.release_record import FileEntry, Release


def release_of(model: bytes, version: int, card: bytes = b"# red", **changes: Any) -> Release:
    sha256 = hashlib.sha256(model).hexdigest()
    files = {"model.onnx": FileEntry(sha256, len(model))}
    files["card.md"] = FileEntry(hashlib.sha256(card).hexdigest(), len(card))
    said = {"name": "red", "question": "Is it red?", "classes": ("no", "yes"), "threshold": 0.5, "sha256": sha256}
    said |= {"size": len(model), "passed": True, "forced": False, "created": "2026-11-25T09:00:00Z", "by": "Ana"}
    return Release(**(said | {"version": version, "files": files} | changes))


def write(root: Path, *releases: Release, layout: str = LAYOUT, champion: int = 1) -> None:
    versions = {one.version: one for one in releases}
    index = Index({releases[0].name: Entry("Is it red?", {"champion": champion}, versions)}, layout)
    (root / "index.json").write_text(json.dumps(index.to_json()), encoding="utf-8")


def keep(root: Path, data: bytes) -> Path:
    sha256 = hashlib.sha256(data).hexdigest()
    path = root / "blobs" / sha256[:2] / sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
