"""A scenario file of each class: the other classes are what it is told apart from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clip_factory.errors import ScenarioError
from clip_factory.runtime.atomic import atomic
from clip_factory.scenario import dump, validated
from clip_factory.zeroshot.folder_result import FolderResult
from clip_factory.zeroshot.sorting import file_name


def write_scenarios(folder: Path, result: FolderResult, images: Path) -> list[Path]:
    """Write NAME.yaml of each class, and return their paths; a file that is there is never overwritten.

    Args:
        folder: Where to; made where it is missing.
        result: The classes and templates.
        images: The photos.

    Raises:
        ScenarioError: A file is there already, or a class is none that a scenario may name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / f"{_slug(name)}.yaml": _scenario(name, result, images) for name in result.classes.names}
    if taken := next((file for file in texts if file.exists()), None):
        raise ScenarioError(f"{taken} is there already", hint="name another folder, or move it away")
    for file, text in texts.items():
        with atomic(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(texts)


def _scenario(name: str, result: FolderResult, images: Path) -> str:
    phrases = dict(zip(result.classes.names, _phrases(result), strict=True))
    tree: Mapping[str, Any] = {
        "name": _slug(name),
        "positive": phrases[name],
        "negative": [text for other, texts in phrases.items() if other != name for text in texts] or None,
        "templates": list(result.templates),
        "images": {"path": str(images.absolute())},
    }
    return dump(validated({key: value for key, value in tree.items() if value}, f"class {name}"))


def _phrases(result: FolderResult) -> list[list[str]]:
    """The phrases of each class, as its prompts in the first template hold them."""
    before, _, after = result.templates[0].partition("{}")
    count = len(result.templates)
    return [
        [text.removeprefix(before).removesuffix(after) for text in texts[::count]] for texts in result.classes.prompts
    ]


def _slug(name: str) -> str:
    return "-".join(part for part in file_name(name).lower().replace("_", "-").split("-") if part.isascii()) or "class"
