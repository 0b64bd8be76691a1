"""What strangers' text may hold: signs that hide, turn or imitate are named, so that nobody is misled."""

from __future__ import annotations

import re
import unicodedata

HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Unicode categories of signs that show nothing, turn the text around, or mean nothing."""
INVISIBLE_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that show nothing all the same."""
MAX_MARKS = 3
"""Combining marks on one letter; more climb over the lines around them."""
BESIDE_LATIN = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "GEORGIAN", "CANADIAN"})
"""Scripts with letters that look like Latin ones; a word that mixes them with Latin is meant to deceive."""
_WORD = re.compile(r"\w+")
_PILE = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{4,}")


def visible(text: str) -> str:
    """The text with every hidden sign written as its number, line ends too, and piled marks counted."""
    text = _PILE.sub(lambda pile: f"<{len(pile[0])} marks>", text)
    return "".join(f"<{code_point(sign)}>" if is_hidden(sign) else sign for sign in text)


def is_hidden(sign: str) -> bool:
    """Whether a sign shows nothing, or turns the text around it."""
    # variation selectors (Mn) choose a form of the sign before them and show nothing of their own
    selector = "\ufe00" <= sign <= "\ufe0f" or "\U000e0100" <= sign <= "\U000e01ef"
    return unicodedata.category(sign) in HIDDEN or sign in INVISIBLE_LETTERS or selector


def code_point(sign: str) -> str:
    """A sign's number, such as `U+202E`."""
    return f"U+{ord(sign):04X}"


def faults(text: str) -> list[str]:
    """Why a line of text could mislead who reads it; empty if it cannot.

    Words wholly of another script than Latin are no fault: `foreign` names them, and a person judges.
    """
    problems = [f"holds the hidden sign {code_point(sign)}" for sign in dict.fromkeys(text) if is_hidden(sign)]
    problems += [
        f"holds {code_point(sign)} ({unicodedata.name(sign, 'no name')}), which only looks like {plain!r}"
        for sign in dict.fromkeys(text)
        if unicodedata.category(sign).startswith("L")
        and not is_hidden(sign)
        and (plain := unicodedata.normalize("NFKC", sign)) not in (sign, unicodedata.normalize("NFC", sign))
    ]
    problems += [
        f"the word {word!r} mixes Latin letters with {_those(mixed)}: {_points(word, mixed)}"
        for word in _WORD.findall(text)
        if (mixed := scripts(word) & BESIDE_LATIN) and "LATIN" in scripts(word)
    ]
    if re.search(r"\S", text) and _tallest(text) > MAX_MARKS:
        problems.append(f"piles more than {MAX_MARKS} marks on one letter")
    return problems


def foreign(text: str) -> list[str]:
    """The words with letters of another script than Latin, which may look like Latin ones, in order."""
    return [word for word in _WORD.findall(text) if scripts(word) - {"LATIN"}]


def scripts(word: str) -> set[str]:
    """The scripts of a word's letters, by the first word of their names in Unicode."""
    letters = (sign for sign in word if unicodedata.category(sign).startswith("L"))
    return {unicodedata.name(sign, "UNKNOWN").split()[0].split("-")[0] for sign in letters}


def _tallest(text: str) -> int:
    """The most combining marks on one letter."""
    most = count = 0
    for sign in unicodedata.normalize("NFD", text):
        count = count + 1 if unicodedata.combining(sign) else 0
        most = max(most, count)
    return most


def _points(word: str, names: set[str]) -> str:
    return ", ".join(dict.fromkeys(code_point(sign) for sign in word if scripts(sign) & names))


def _those(names: set[str]) -> str:
    return " and ".join(name.capitalize() for name in sorted(names))
