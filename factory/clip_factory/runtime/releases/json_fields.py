"""JSON from a stranger, read value by value; whatever is not as expected is an error that names its place."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from clip_factory.runtime.runtime_errors import RegistryError
from clip_factory.runtime.safe_text import is_plain, shown

HEX = re.compile(r"[0-9a-f]{64}")


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


class Fields:
    """The values of one JSON object, each read and checked.

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
        self._read: set[str] = set()

    def value(self, key: str) -> Any:
        """Any value."""
        if key not in self.tree:
            raise RegistryError(f"{self._where}: `{key}` is missing")
        self._read.add(key)
        return self.tree[key]

    def refuse_unknown(self) -> None:
        """Refuse keys that no method has read."""
        if unknown := [key for key in self.tree if key not in self._read]:
            raise RegistryError(f"{self._where}: unknown key {shown(unknown[0])}", hint="a newer factory may read it")

    def text(self, key: str, max_length: int) -> str:
        """A line of text of 1 to `max_length` characters, without control characters."""
        value = self.value(key)
        if not isinstance(value, str) or not 1 <= len(value) <= max_length or not is_plain(value):
            raise self._wrong(key, f"one line of at most {max_length} characters")
        return value

    def match(self, key: str, pattern: re.Pattern[str], max_length: int) -> str:
        """A text that a pattern describes from end to end."""
        value = self.value(key)
        if not isinstance(value, str) or len(value) > max_length or not pattern.fullmatch(value):
            raise self._wrong(key, f"text like {pattern.pattern}")
        return value

    def sha256(self, key: str) -> str:
        """64 hex digits, small letters."""
        value = self.value(key)
        if not isinstance(value, str) or not HEX.fullmatch(value):
            raise self._wrong(key, "64 hex digits in small letters")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.value(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def share(self, key: str) -> float:
        """A number in [0, 1]."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise self._wrong(key, "a number in [0, 1]")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.value(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def exactly(self, key: str, expected: tuple[str, ...]) -> tuple[str, ...]:
        """A list with these texts and no others."""
        if self.value(key) != list(expected):
            raise self._wrong(key, json.dumps(list(expected)))
        return expected

    def base64(self, key: str, size: int) -> str | None:
        """Base64 of `size` bytes, or null."""
        value = self.value(key)
        if value is None:
            return None
        try:
            right = isinstance(value, str) and len(base64.b64decode(value, validate=True)) == size
        except ValueError:
            right = False
        if not right:
            raise self._wrong(key, f"base64 of {size} bytes, or null")
        return str(value)

    def mapping(self, key: str, pattern: re.Pattern[str], max_length: int) -> dict[str, Any]:
        """An object whose keys a pattern describes from end to end."""
        value = self.value(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        for name in value:
            if len(name) > max_length or not pattern.fullmatch(name):
                raise RegistryError(f"{self._where}: `{key}` has {shown(name)}, expected text like {pattern.pattern}")
        return value

    def _wrong(self, key: str, expected: str) -> RegistryError:
        return RegistryError(f"{self._where}: `{key}` is {shown(self.tree[key])}, expected {expected}")
