"""Classes in words: from a command line, a file, or the folders of the photos, as prompts for an encoder.

Files may have the forms of CLIP_benchmark (class names and templates as JSON, by data set) and of CuPL (sentences by
class; Pratt et al. 2023, arXiv:2209.03320).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_factory.encoders import Encoder
from clip_factory.errors import ScenarioError
from clip_factory.scenario.prompts import BACKGROUND, TEMPLATE_SETS, fill, template_set

SLOTS = ("{}", "{c}")
"""Where a template takes the class: as scenarios write it, and as CLIP_benchmark does."""
_ARTICLE = re.compile(r"(an?|the)\s", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class ClassPrompts:
    """C classes, each with the prompts that stand for it."""

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Raises ScenarioError where there is no class, a class without a prompt, or one class twice."""
        if not self.names:
            raise ScenarioError("there are no classes", hint="name them: --classes cat,dog")
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise ScenarioError(f"class {doubled[0]!r} is named twice", hint="name each once")
        bare = next((name for name, texts in zip(self.names, self.prompts, strict=True) if not texts), None)
        if bare is not None:
            raise ScenarioError(f"class {bare!r} has no prompt")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Class and prompt, in order."""
        return [(name, text) for name, texts in zip(self.names, self.prompts, strict=True) for text in texts]

    def vectors(self, encoder: Encoder) -> np.ndarray:
        """One vector a class: the normalized mean of its prompts' vectors; float32 `(C, D)`."""
        texts = encoder.embed_texts([text for _, text in self.pairs])
        ends = np.cumsum([len(texts) for texts in self.prompts])[:-1]
        means = np.stack([part.mean(axis=0) for part in np.split(texts, ends)])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def prompts_of(phrases: Mapping[str, Sequence[str]], templates: Sequence[str]) -> ClassPrompts:
    """Classes, each with its phrases in every template."""
    filled = [tuple(text for phrase in texts for text in fill(tuple(templates), phrase)) for texts in phrases.values()]
    return ClassPrompts(tuple(phrases), tuple(filled))


def named(text: str) -> dict[str, list[str]]:
    """Classes of a list such as `cat,dog,sea coast`: each is its own phrase."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return {name: [phrase(name)] for name in names} if len(set(names)) == len(names) else _twice(names)


def of_folders(folders: Sequence[str]) -> dict[str, list[str]]:
    """Classes of folder names, sorted; underscores and camelCase are spaces in their phrases."""
    return {name: [phrase(name)] for name in sorted({folder for folder in folders if folder})}


def phrase(name: str) -> str:
    """A folder's or column's name as one would say it: `PolarBear_young` is "polar bear young"."""
    spaced = re.sub(r"[_\s]+", " ", _CAMEL.sub(" ", name)).strip()
    return spaced.lower() if spaced != name and "_" not in name else spaced


def read_classes(file: Path, data_set: str = "") -> tuple[dict[str, list[str]], bool]:
    """Classes of a file.

    A text file has a class a line, with phrases of its own after a colon: `sea: sea coast, ocean`. A JSON file is a
    list of names, CLIP_benchmark's names by data set, or an object of names with their texts. Texts of an object that
    are whole sentences, as CuPL's are, need no template.

    Args:
        file: The file.
        data_set: Of a file that holds several.

    Returns:
        Phrases by class, and whether these are whole prompts.

    Raises:
        ScenarioError: It cannot be read, or is none of these.
    """
    content = _read(file)
    if file.suffix.lower() != ".json":
        lines = [(number, line.strip()) for number, line in enumerate(content.splitlines(), start=1)]
        listed = [_line(line, f"{file}:{number}") for number, line in lines if line and not line.startswith("#")]
        return dict(listed), False
    tree = _data_set(_parsed(content, file), data_set, file)
    if isinstance(tree, list) and tree and all(isinstance(name, str) for name in tree):
        return named(",".join(name.replace(",", " ") for name in tree)), False
    if isinstance(tree, dict) and tree and all(_texts(texts) for texts in tree.values()):
        whole = all(" " in text.strip() for texts in tree.values() for text in texts)
        return {str(name): [_filled(text, str(name)) for text in texts] for name, texts in tree.items()}, whole
    raise ScenarioError(f"{file}: neither a list of class names nor texts by class", hint='such as ["cat", "dog"]')


def read_templates(text: str, data_set: str = "") -> tuple[str, ...]:
    """Templates of a named set, or of a JSON file: a list, or CLIP_benchmark's lists by data set; `{}` is the class.

    Raises:
        ScenarioError: There is no such set or file, or it holds something else.
    """
    for known in TEMPLATE_SETS:
        if text == known:
            return template_set(known)
    file = Path(text)
    if not file.is_file():
        raise ScenarioError(f"{text}: no such templates", hint=f"a JSON file, or one of {', '.join(TEMPLATE_SETS)}")
    tree = _data_set(_parsed(_read(file), file), data_set, file)
    if not _texts(tree):
        raise ScenarioError(f"{file}: no list of templates", hint='such as ["a photo of a {}."]')
    return tuple(template(one) for one in tree)


def template(text: str) -> str:
    """A template as scenarios write it, with one `{}`.

    Raises:
        ScenarioError: It has no place for the class, or several.
    """
    if sum(text.count(slot) for slot in SLOTS) != 1:
        raise ScenarioError(f"template {text!r} must hold {{}} exactly once: the class goes there")
    return text.replace("{c}", "{}")


def usual_templates(phrases: Mapping[str, Sequence[str]]) -> str:
    """The set that is used where none is named: `plain` for phrases that all begin with an article, else `photo`."""
    texts = [text for several in phrases.values() for text in several]
    return "plain" if texts and all(_ARTICLE.match(text) for text in texts) else "photo"


def background(classes: ClassPrompts, templates: Sequence[str]) -> list[str]:
    """Prompts of everyday things that none of the classes names: what a photo may show beside them."""
    named = " ".join(text for _, text in classes.pairs).casefold()
    return [text for thing in BACKGROUND if thing not in named for text in fill(tuple(templates), thing)]


def _line(line: str, where: str) -> tuple[str, list[str]]:
    name, colon, texts = line.partition(":")
    if not name.strip():
        raise ScenarioError(f"{where}: a class without a name", hint="such as: sea: sea coast, ocean")
    phrases = [text.strip() for text in texts.split(",") if text.strip()] if colon else []
    return name.strip(), phrases or [phrase(name.strip())]


def _twice(names: list[str]) -> dict[str, list[str]]:
    doubled = next(name for name in names if names.count(name) > 1)
    raise ScenarioError(f"class {doubled!r} is named twice", hint="name each once")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{file}: cannot be read ({error})", hint="check the path") from None


def _parsed(content: str, file: Path) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ScenarioError(f"{file}: no JSON ({error})") from None


def _data_set(tree: Any, name: str, file: Path) -> Any:
    if not name:
        only = isinstance(tree, dict) and len(tree) == 1
        inner = next(iter(tree.values())) if only else tree
        return inner if only and (isinstance(inner, dict) or len(inner) > 1) else tree
    if not isinstance(tree, dict) or name not in tree:
        known = ", ".join(list(tree)[:20]) if isinstance(tree, dict) else "none"
        raise ScenarioError(f"{file}: holds no data set {name!r}", hint=f"it holds: {known}")
    return tree[name]


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)


def _filled(text: str, name: str) -> str:
    return text.replace("{c}", name).replace("{}", name)
