"""A registry's table of contents: models, their aliases and releases, and where the files lie.

An index is one JSON file at the registry's root, so that a client needs no server and no library of the factory's.
Everything in it comes from afar, so every value is checked here and nothing else of the runtime sees it before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clip_factory.runtime.releases.json_fields import Fields, loads
from clip_factory.runtime.releases.release_record import MAX_TEXT, MODEL, Release
from clip_factory.runtime.releases.release_reference import CHAMPION, MAX_NAME, SLUG, VERSION, Reference, is_alias
from clip_factory.runtime.runtime_errors import RegistryError
from clip_factory.runtime.safe_text import shown
from clip_factory.runtime.suggestions import did_you_mean

FORMAT = "clip-factory-registry/1"
INDEX = "index.json"
LAYOUT = "blobs/{sha256:2}/{sha256}"
"""Where a file of a release lies below the registry's root, unless the index says otherwise."""
_PART = r"(?:[A-Za-z0-9_-]|\{name\}|\{version\}|\{file\}|\{sha256\}|\{sha256:2\})"
LAYOUTS = re.compile(rf"(?:\.\./)?(?:{_PART}[.]?)*{_PART}(?:/(?:{_PART}[.]?)*{_PART})*")


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
        if (stated := fields.value("format")) != FORMAT:
            hint = "a newer factory may read it" if isinstance(stated, str) else "is this the root of a registry?"
            raise RegistryError(f"{where}: `format` is {shown(stated)}, expected {shown(FORMAT)}", hint=hint)
        models = fields.mapping("models", SLUG, MAX_NAME)
        layout = fields.match("layout", LAYOUTS, MAX_TEXT) if "layout" in fields.tree else LAYOUT
        fields.refuse_unknown()
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
            raise RegistryError(f"{release} has no file {shown(file)}", hint=_available("files", release.files, file))
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
            raise RegistryError(f"no model {name} in the registry", hint=_available("models", self.models, name))
        version = reference.version
        if reference.alias is not None:
            version = entry.aliases.get(reference.alias)
            if version is None:
                hint = _available("aliases", entry.aliases, reference.alias)
                raise RegistryError(f"{name} has no alias {reference.alias}", hint=hint)
        elif version is None:
            version = entry.aliases.get(CHAMPION, max(entry.versions))
        if version not in entry.versions:
            raise RegistryError(f"{name} has no version {version}", hint=_available("versions", entry.versions))
        return entry.versions[version]


def _entry(name: str, tree: Any, where: str) -> Entry:
    fields = Fields(tree, where)
    question = fields.text("question", MAX_TEXT)
    aliases = Fields(fields.mapping("aliases", SLUG, MAX_NAME), f"{where}.aliases")
    trees = fields.mapping("versions", VERSION, 9)
    fields.refuse_unknown()
    versions = {int(key): Release.parse(value, f"{where}.versions.{key}") for key, value in trees.items()}
    for version, release in versions.items():
        if (release.name, release.version) != (name, version):
            raise RegistryError(f"{where}.versions.{version}: the release calls itself {release}")
    targets = {alias: aliases.integer(alias, 1, 999_999_999) for alias in aliases.tree}
    for alias, version in targets.items():
        if not is_alias(alias):
            raise RegistryError(f"{where}.aliases: {alias} is a number, which would be a version")
        if version not in versions:
            raise RegistryError(f"{where}.aliases: {alias} stands for version {version}, which is not there")
    return Entry(question, targets, versions)


def _available(what: str, choices: Mapping[Any, Any], name: str = "") -> str:
    names = [str(choice) for choice in sorted(choices)]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return did_you_mean(name, names, f"{what}: {', '.join(names[-10:])}{more}" if names else f"it has no {what}")
