"""What a registry says of itself: releases, aliases, references to them, and the signatures on releases.

An index is one JSON file at the registry's root, so that a client needs no server and no library of the factory's.
Everything in it comes from afar, so every value is checked here and nothing else of the runtime sees it before.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from clip_factory.runtime.releases.json_fields import Fields, loads, shown
from clip_factory.runtime.runtime_errors import RegistryError
from clip_factory.runtime.suggestions import did_you_mean

FORMAT = "clip-factory-registry/1"
INDEX = "index.json"
MODEL = "model.onnx"
CHAMPION = "champion"
"""The alias that a bare name stands for, where there is one."""

SLUG = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
VERSION = re.compile(r"[1-9][0-9]{0,8}")
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*")
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)")
LAYOUT = "blobs/{sha256:2}/{sha256}"
"""Where a file of a release lies below the registry's root, unless the index says otherwise."""
_PART = r"(?:[A-Za-z0-9_-]|\{name\}|\{version\}|\{file\}|\{sha256\}|\{sha256:2\})"
LAYOUTS = re.compile(rf"(?:\.\./)?(?:{_PART}[.]?)*{_PART}(?:/(?:{_PART}[.]?)*{_PART})*")
MAX_NAME = 100
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
        fields.no_more()
        if release.files.get(MODEL) != FileEntry(release.sha256, release.size):
            raise RegistryError(f"{where}: `files` and `sha256`, `size` disagree about {MODEL}")
        return release

    def to_json(self) -> dict[str, Any]:
        """The release as a JSON object; `parse` of it gives the same release."""
        return asdict(self) | {"classes": list(self.classes)}

    def canonical(self) -> bytes:
        """What a signature is made over: the JSON object without `signature`, keys sorted, no spaces, UTF-8."""
        tree = {key: value for key, value in self.to_json().items() if key != "signature"}
        return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Entry:
    """All that a registry holds under one name."""

    question: str
    aliases: Mapping[str, int]
    """Alias -> version; the version is always among `versions`."""
    versions: Mapping[int, Release]

    def aliases_of(self, version: int) -> list[str]:
        """The aliases that stand for a version, sorted."""
        return sorted(alias for alias, stands in self.aliases.items() if stands == version)


@dataclass(frozen=True)
class Index:
    """A registry's table of contents."""

    models: Mapping[str, Entry]
    layout: str = LAYOUT
    """Where files lie, relative to the registry's root, with {name}, {version}, {file}, {sha256} and {sha256:2} (its
    first two digits) filled in. One leading `../` is for registries on the web alone, and stays on their host."""

    @classmethod
    def parse(cls, data: bytes | str, where: str = INDEX) -> Index:
        """Read the bytes of an index.json.

        Args:
            data: At most what the caller is ready to hold in memory.
            where: What the file is called in an error.

        Raises:
            RegistryError: It is not JSON, of another format, or a value in it is not as it should be.
        """
        fields = Fields(loads(data, where), where)
        if (found := fields.take("format")) != FORMAT:
            hint = "a newer factory may read it" if isinstance(found, str) else "is this the root of a registry?"
            raise RegistryError(f"{where}: `format` is {shown(found)}, expected {shown(FORMAT)}", hint=hint)
        models = fields.mapping("models", SLUG, MAX_NAME)
        layout = fields.match("layout", LAYOUTS, MAX_TEXT) if "layout" in fields.tree else LAYOUT
        fields.no_more()
        return cls({name: _entry(name, tree, f"{where}: models.{name}") for name, tree in models.items()}, layout)

    def to_json(self) -> dict[str, Any]:
        """The index as a JSON object; `parse` of its text gives the same index."""
        models = {
            name: {
                "question": entry.question,
                "aliases": dict(entry.aliases),
                "versions": {str(version): release.to_json() for version, release in entry.versions.items()},
            }
            for name, entry in self.models.items()
        }
        return {"format": FORMAT, "models": models} | ({} if self.layout == LAYOUT else {"layout": self.layout})

    def location(self, release: Release, file: str = MODEL) -> str:
        """Where one of a release's files lies, relative to the registry's root, with `/` between the parts.

        Raises:
            RegistryError: The release has no such file.
        """
        if file not in release.files:
            raise RegistryError(f"{release} has no file {shown(file)}", hint=_those("files", release.files, file))
        sha256 = release.files[file].sha256
        filled = {"name": release.name, "version": str(release.version), "file": file, "sha256": sha256}
        return re.sub(r"\{(\w+)(:2)?\}", lambda m: filled[m[1]][: 2 if m[2] else None], self.layout)

    def find(self, reference: Reference) -> Release:
        """The release that a reference stands for.

        Raises:
            RegistryError: There is no such model, alias or version; the message names those that there are.
        """
        name = reference.name
        entry = self.models.get(name)
        if entry is None or not entry.versions:
            raise RegistryError(f"no model {name} in the registry", hint=_those("models", self.models, name))
        version = reference.version
        if reference.alias is not None:
            version = entry.aliases.get(reference.alias)
            if version is None:
                hint = _those("aliases", entry.aliases, reference.alias)
                raise RegistryError(f"{name} has no alias {reference.alias}", hint=hint)
        elif version is None:
            version = entry.aliases.get(CHAMPION, max(entry.versions))
        if version not in entry.versions:
            raise RegistryError(f"{name} has no version {version}", hint=_those("versions", entry.versions))
        return entry.versions[version]


@dataclass(frozen=True)
class Reference:
    """NAME@3 (a version), NAME@champion (an alias), or NAME: its champion, else its newest version."""

    name: str
    version: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Raises:
            RegistryError: It is none; a path never is one.
        """
        name, at, rest = text.partition("@")
        if is_slug(name):
            if not at:
                return cls(name)
            if VERSION.fullmatch(rest):
                return cls(name, version=int(rest))
            if is_alias(rest):
                return cls(name, alias=rest)
        raise RegistryError(f"{shown(text)} names no model", hint="expected NAME, NAME@VERSION or NAME@ALIAS")

    def __str__(self) -> str:
        rest = self.alias or self.version
        return self.name if rest is None else f"{self.name}@{rest}"


def state_of(*, passed: bool, forced: bool) -> State:
    """What the gate said of a release, by the two flags of its record.

    The record has no key of its own for this: an earlier version refuses keys that it does not know, and could then
    read nothing of the registry. It never wrote both flags false, and reads that as refused.
    """
    return "passed" if passed else "refused" if forced else "not proven"


def one_line(question: str) -> str:
    """A model's question as a release states it: white space folded, `MAX_TEXT` characters at most."""
    return " ".join(question.split())[:MAX_TEXT]


def is_slug(text: str) -> bool:
    """Whether a text may be the name of a model: small letters, digits, single dashes or underscores between them."""
    return len(text) <= MAX_NAME and SLUG.fullmatch(text) is not None


def is_alias(text: str) -> bool:
    """Whether a text may be an alias: like a name, but not a number, which would be a version."""
    return is_slug(text) and not text.isdigit()


def is_reference(text: str) -> bool:
    """Whether a text may stand for a release."""
    try:
        Reference.parse(text)
    except RegistryError:
        return False
    return True


def verify_signature(release: Release, public_key: bytes | str) -> None:
    """Check that the holder of a key has signed this release.

    Ed25519 (RFC 8032) over `Release.canonical`. The signature covers the hashes of all files, not the aliases: whoever
    can write the registry can still move an alias to another release that was signed.

    Args:
        release: The release, with its signature.
        public_key: An ed25519 public key, PEM (SubjectPublicKeyInfo).

    Raises:
        RegistryError: The release is not signed, the signature is not of this key or not of this content, the key is
            no ed25519 public key, or the `cryptography` package is missing.
    """
    try:  # not in the base install: only those who configure a key need it
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError:
        raise RegistryError(
            "a signature is to be checked, but cryptography is not installed", hint="pip install cryptography"
        ) from None
    try:
        key = load_pem_public_key(public_key.encode() if isinstance(public_key, str) else public_key)
    except Exception:  # ValueError, TypeError, UnsupportedAlgorithm and more
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise RegistryError(
            "the public key is not an ed25519 key in PEM",
            hint="factory models keys makes a pair: give the public one",
        )
    if release.signature is None:
        raise RegistryError(f"{release}: not signed, and a public key is configured", hint="publish it with the key")
    try:
        key.verify(base64.b64decode(release.signature), release.canonical())
    except InvalidSignature:
        raise RegistryError(
            f"{release}: the signature is not of this key, or the release was altered after it was signed",
            hint="do not use it; ask who runs the registry",
        ) from None


def _file(tree: Any, where: str) -> FileEntry:
    fields = Fields(tree, where)
    entry = FileEntry(fields.sha256("sha256"), fields.integer("size", 1, MAX_FILE))
    fields.no_more()
    return entry


def _entry(name: str, tree: Any, where: str) -> Entry:
    fields = Fields(tree, where)
    question = fields.text("question", MAX_TEXT)
    aliases = Fields(fields.mapping("aliases", SLUG, MAX_NAME), f"{where}.aliases")
    trees = fields.mapping("versions", VERSION, 9)
    fields.no_more()
    versions = {int(key): Release.parse(value, f"{where}.versions.{key}") for key, value in trees.items()}
    for version, release in versions.items():
        if (release.name, release.version) != (name, version):
            raise RegistryError(f"{where}.versions.{version}: the release calls itself {release}")
    found = {alias: aliases.integer(alias, 1, 999_999_999) for alias in aliases.tree}
    for alias, version in found.items():
        if not is_alias(alias):
            raise RegistryError(f"{where}.aliases: {alias} is a number, which would be a version")
        if version not in versions:
            raise RegistryError(f"{where}.aliases: {alias} stands for version {version}, which is not there")
    return Entry(question, found, versions)


def _those(what: str, found: Mapping[Any, Any], wanted: str = "") -> str:
    names = [str(name) for name in sorted(found)]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return did_you_mean(wanted, names, f"{what}: {', '.join(names[-10:])}{more}" if names else f"it has no {what}")
