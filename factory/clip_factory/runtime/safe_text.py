"""Text that may be a stranger's, as it may stand in a message: short, and nothing in it that a terminal obeys."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that turn the direction of the text that follows, and so could make it read as something else."""


def shown(value: Any) -> str:
    """A value as it may stand in a message: ASCII, short, and nothing in it that a terminal obeys."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain(text: object, max_length: int = 200) -> str:
    """Text that may be a stranger's, as it may stand in a message: one line, short, nothing that a terminal obeys."""
    line = "".join(sign if sign.isprintable() else " " for sign in str(text)).strip()
    return line[:max_length] or type(text).__name__


def visible(text: str) -> str:
    r"""A text of any lines without what a terminal or a browser would obey instead of showing it.

    Control characters and signs that turn the direction become one mark each; a byte of a file's name that is no text
    is shown as in `caf\xe9.jpg`. Line ends and tabs stay.
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def _visible(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":
        return f"\\x{ord(sign) - 0xDC00:02x}"
    obeyed = unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or sign in TURNING
    return "\N{REPLACEMENT CHARACTER}" if obeyed and sign not in "\n\t" else sign


def is_unicode(text: str) -> bool:
    """Whether a text can be written at all: none of its signs is half of one (a lone surrogate)."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def is_plain(text: str) -> bool:
    """Whether a text has no control characters, line ends, or signs that turn its direction."""
    return all(unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp") and sign not in TURNING for sign in text)


def without_secrets(url: str) -> str:
    """An address as it may stand in a log, message or file: without user, password, query and fragment.

    What is no address is returned as it is.
    """
    head, mark, tail = url.partition("://")
    if not mark or not head.replace("+", "").isalnum():
        return url
    tail = tail.partition("#")[0].partition("?")[0]
    host, slash, path = tail.partition("/")
    return f"{head}://{host.rpartition('@')[2]}{slash}{path}"
