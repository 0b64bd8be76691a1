"""The record of a release: what it answers, the hashes of its files, what the gate said, who published and signed it.

Everything in it comes from afar, so every value is checked here and nothing else of the runtime sees it before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from clip_factory.runtime.releases.json_fields import Fields
from clip_factory.runtime.releases.release_reference import MAX_NAME, SLUG
from clip_factory.runtime.runtime_errors import RegistryError

MODEL = "model.onnx"
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*")
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)")
MAX_TEXT = 1000
"""Characters of a question or of the name of who published."""
MAX_FILE = 256_000_000
"""Bytes of one file of a release; an index that speaks of more is refused, so that it cannot fill a disk."""
CLASSES = ("no", "yes")
State = Literal["passed", "not proven", "refused"]
SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class FileEntry:
    """The content of one file of a release."""

    sha256: str
    """Hex, small letters."""
    size: int
    """Bytes, 1 to `MAX_FILE`."""


@dataclass(frozen=True)
class Release:
    """One version of a model; never changed once it is published."""

    name: str
    version: int
    """1 or more; never used twice under one name."""
    question: str
    """One line."""
    classes: tuple[str, ...]
    threshold: float
    """Probability in [0, 1] from which the answer is yes."""
    sha256: str
    """Hex sha256 of model.onnx."""
    size: int
    """Bytes of model.onnx."""
    passed: bool
    """Whether the gate passed it."""
    forced: bool
    """Whether it was published although the gate refused it; neither of the two: see `state`."""
    created: str
    """When it was published: ISO 8601, UTC."""
    by: str
    """Who published it, one line."""
    files: Mapping[str, FileEntry]
    """File name -> content; model.onnx is always among them."""
    signature: str | None = None
    """Base64 of the ed25519 signature over `canonical`, or None."""

    @property
    def state(self) -> State:
        """What the gate said of it."""
        return state_of(passed=self.passed, forced=self.forced)

    @classmethod
    def parse(cls, tree: Any, where: str = "release") -> Release:
        """Check a decoded JSON value and make a release of it.

        Args:
            tree: What `to_json` gave, or what a stranger says it did.
            where: What the value is called in an error.

        Raises:
            RegistryError: A key is missing or unknown, or a value is not as the attributes above say.
        """
        fields = Fields(tree, where)
        files = fields.mapping("files", FILE_NAME, MAX_NAME)
        release = cls(
            name=fields.match("name", SLUG, MAX_NAME),
            version=fields.integer("version", 1, 999_999_999),
            question=fields.text("question", MAX_TEXT),
            classes=fields.exactly("classes", CLASSES),
            threshold=fields.share("threshold"),
            sha256=fields.sha256("sha256"),
            size=fields.integer("size", 1, MAX_FILE),
            passed=fields.flag("passed"),
            forced=fields.flag("forced"),
            created=fields.match("created", UTC, 40),
            by=fields.text("by", MAX_TEXT),
            files={name: _file(value, f"{where}.files.{name}") for name, value in files.items()},
            signature=fields.base64("signature", SIGNATURE_BYTES),
        )
        fields.refuse_unknown()
        if release.files.get(MODEL) != FileEntry(release.sha256, release.size):
            raise RegistryError(f"{where}: `files` and `sha256`, `size` disagree about {MODEL}")
        return release

    def to_json(self) -> dict[str, Any]:
        """The release as a JSON object; `parse` of it gives the same release."""
        return asdict(self) | {"classes": list(self.classes)}

    def canonical(self, identity: str | None = None) -> bytes:
        """What a signature is made over: the JSON object without `signature`, keys sorted, no spaces, UTF-8.

        In a registry that has an identity, that follows on a line of its own: a record that was signed for one registry
        means nothing in another. It is no key of the record, of which earlier versions could then read nothing.
        """
        tree = {key: value for key, value in self.to_json().items() if key != "signature"}
        text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return (text if identity is None else f"{text}\n{identity}").encode()

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def state_of(*, passed: bool, forced: bool) -> State:
    """What the gate said of a release, by the two flags of its record.

    The record has no key of its own for this: an earlier version refuses keys that it does not know, and could then
    read nothing of the registry. It never wrote both flags false, and reads that as refused.
    """
    return "passed" if passed else "refused" if forced else "not proven"


def one_line(question: str) -> str:
    """A model's question as a release states it: white space folded, `MAX_TEXT` characters at most."""
    return " ".join(question.split())[:MAX_TEXT]


def _file(tree: Any, where: str) -> FileEntry:
    fields = Fields(tree, where)
    entry = FileEntry(fields.sha256("sha256"), fields.integer("size", 1, MAX_FILE))
    fields.refuse_unknown()
    return entry
