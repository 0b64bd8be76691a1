"""Names of models and of aliases, and references to releases: forklift, forklift@3, forklift@champion."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clip_factory.runtime.runtime_errors import RegistryError
from clip_factory.runtime.safe_text import shown

CHAMPION = "champion"
"""The alias that a bare name stands for, where there is one."""
SLUG = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
VERSION = re.compile(r"[1-9][0-9]{0,8}")
MAX_NAME = 100
"""Characters of the name of a model, an alias or a file."""


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
