"""JSON from a stranger, taken apart value by value; whatever is not as expected is an error that names its place."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from typing import Any

from clip_factory.runtime.runtime_errors import RegistryError

HEX = re.compile(r"[0-9a-f]{64}")
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that turn the direction of the text that follows, and so could make it read as something else."""


def loads(data: bytes | str, where: str) -> Any:
    """Decode JSON.

    Raises:
        RegistryError: It is not JSON (NaN and Infinity are not either), or nested too deeply.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{where}: not JSON ({type(error).__name__}: {str(error)[:80]})") from None


def shown(value: Any) -> str:
    """A value as it may stand in a message: ASCII, short, and nothing in it that a terminal obeys."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain(text: object, most: int = 200) -> str:
    """Text that may be a stranger's, as it may stand in a message: one line, short, nothing that a terminal obeys."""
    line = "".join(sign if sign.isprintable() else " " for sign in str(text)).strip()
    return line[:most] or type(text).__name__


class Fields:
    """The values of one JSON object, each taken once and checked.

    Args:
        tree: A decoded JSON value.
        where: What it is called in an error.

    Raises:
        RegistryError: It is not an object; likewise every method, where a value is not what it asks for.
    """

    def __init__(self, tree: Any, where: str) -> None:
        if not isinstance(tree, dict):
            raise RegistryError(f"{where}: is {shown(tree)}, expected an object")
        self.tree = tree
        self._where = where
        self._taken: set[str] = set()

    def take(self, key: str) -> Any:
        """Any value."""
        if key not in self.tree:
            raise RegistryError(f"{self._where}: `{key}` is missing")
        self._taken.add(key)
        return self.tree[key]

    def no_more(self) -> None:
        """Refuse keys that were not taken."""
        if unknown := [key for key in self.tree if key not in self._taken]:
            raise RegistryError(f"{self._where}: unknown key {shown(unknown[0])}", hint="a newer factory may read it")

    def text(self, key: str, most: int) -> str:
        """A line of text of 1 to `most` characters, without control characters."""
        value = self.take(key)
        if not isinstance(value, str) or not 1 <= len(value) <= most or not _is_plain(value):
            raise self._wrong(key, f"one line of at most {most} characters")
        return value

    def match(self, key: str, pattern: re.Pattern[str], most: int) -> str:
        """A text that a pattern describes from end to end."""
        value = self.take(key)
        if not isinstance(value, str) or len(value) > most or not pattern.fullmatch(value):
            raise self._wrong(key, f"text like {pattern.pattern}")
        return value

    def sha256(self, key: str) -> str:
        """64 hex digits, small letters."""
        value = self.take(key)
        if not isinstance(value, str) or not HEX.fullmatch(value):
            raise self._wrong(key, "64 hex digits in small letters")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def share(self, key: str) -> float:
        """A number in [0, 1]."""
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise self._wrong(key, "a number in [0, 1]")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def exactly(self, key: str, expected: tuple[str, ...]) -> tuple[str, ...]:
        """A list with these texts and no others."""
        if self.take(key) != list(expected):
            raise self._wrong(key, json.dumps(list(expected)))
        return expected

    def base64(self, key: str, size: int) -> str | None:
        """Base64 of `size` bytes, or null."""
        value = self.take(key)
        if value is None:
            return None
        try:
            right = isinstance(value, str) and len(base64.b64decode(value, validate=True)) == size
        except ValueError:
            right = False
        if not right:
            raise self._wrong(key, f"base64 of {size} bytes, or null")
        return str(value)

    def mapping(self, key: str, pattern: re.Pattern[str], most: int) -> dict[str, Any]:
        """An object whose keys a pattern describes from end to end."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        for name in value:
            if len(name) > most or not pattern.fullmatch(name):
                raise RegistryError(f"{self._where}: `{key}` has {shown(name)}, expected text like {pattern.pattern}")
        return value

    def _wrong(self, key: str, expected: str) -> RegistryError:
        return RegistryError(f"{self._where}: `{key}` is {shown(self.tree[key])}, expected {expected}")


def _is_plain(text: str) -> bool:
    return all(unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp") and sign not in TURNING for sign in text)
