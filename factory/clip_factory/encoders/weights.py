"""Which weights a teacher has, told without loading them: so a run sees whether its labels are of today's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from clip_factory.scenario import Teacher


def weights_state(teacher: Teacher) -> str:
    """Changes when the teacher's weights do: hex sha256.

    Of a folder (`local-dir:`), names, sizes and times of its files; of a model of the hub, the revision that is cached.
    All others are told apart by name, tag, and the version of the package that brings them.
    """
    kind, _, place = teacher.model.partition(":")
    state = [teacher.model, teacher.pretrained or ""]
    if kind in ("local-dir", "onnx"):
        state += _files(Path(place))
    elif kind == "hf-hub":
        state.append(_revision(place))
    return hashlib.sha256("\0".join(state).encode()).hexdigest()


def _files(folder: Path) -> list[str]:
    files = sorted(path for path in folder.glob("*") if path.is_file())
    return [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]


def _revision(name: str) -> str:
    """The commit that the hub's cache holds of a model; empty where there is none."""
    from huggingface_hub.constants import HF_HUB_CACHE

    main = Path(HF_HUB_CACHE) / f"models--{name.partition('@')[0].replace('/', '--')}" / "refs" / "main"
    try:
        return main.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
