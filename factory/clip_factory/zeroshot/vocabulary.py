"""Nouns that can be pictured, from what is installed: WordNet's as ImageNet has them, and ImageNet's class names.

timm brings the lemmas and definitions of the 21,844 noun synsets of ImageNet (Deng et al. 2009; WordNet 3.0, Fellbaum
1998). So a word that is not here may still be one; a word that is here twice has two things that can be pictured.
"""

from __future__ import annotations

import bisect
import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

MAX_COMMON = 3_000
MAX_WORDS = 2
"""A common noun has at most so many words ..."""
MAX_LETTERS = 14
"""... and so many letters."""
_ENDINGS = (
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("s", ""),
)
"""Endings of plurals and what stands in their place: the noun rules of WordNet's morphy."""
_KINDS = (
    (0, ""),
    (1_300_000, "animal"),
    (2_660_000, "object"),
    (4_616_000, ""),
    (5_210_000, "part of a body"),
    (5_611_000, ""),
    (7_550_000, "plant or food"),
    (7_938_700, ""),
    (9_180_000, "part of nature"),
    (9_450_000, ""),
    (9_600_000, "person"),
    (11_400_000, "part of nature"),
    (11_530_000, "plant or food"),
    (13_245_000, ""),
)
"""From which number of a synset on it is of which kind: WordNet numbers its noun synsets file by file, and each of its
files is one kind. Empty: what is seen in few photos by itself, such as colors, events and groups. A fruit and its tree
are one kind."""


@dataclass(frozen=True)
class Sense:
    """One thing that a noun means."""

    synset: str
    """WordNet's offset, such as n02123045."""
    lemma: str
    definition: str
    first: bool
    """Whether it is the first, the usual, name of this thing."""

    @property
    def kind(self) -> str:
        """Animal, object, person ...; empty for what is seen in few photos by itself."""
        return _KINDS[bisect.bisect([start for start, _ in _KINDS], int(self.synset[1:])) - 1][1]


def nouns() -> tuple[str, ...]:
    """Every lemma once, as WordNet writes it, in its order."""
    return tuple(_senses())


@functools.cache
def common_nouns() -> tuple[str, ...]:
    """Nouns that things are called by in everyday words: what groups of photos are named with.

    ImageNet's 1,000 class names as open_clip has them, then, up to `MAX_COMMON` in all, the first lemma of synsets
    that is written small and short. The first lemma is the usual one.
    """
    from clip_factory.encoders.open_clip import imagenet_names  # pulls torch

    first = [lemmas[0] for lemmas, _ in _synsets().values()]
    short = [noun for noun in first if noun.islower() and 2 < len(noun) <= MAX_LETTERS and _words(noun) <= MAX_WORDS]
    step = max(1, len(short) // MAX_COMMON)  # the list is by kinds: every so many-th keeps all kinds
    named = [name.lower() for name in imagenet_names()]
    return tuple(dict.fromkeys([*named, *short[::step]]))[:MAX_COMMON]


def senses(phrase: str, *, usual: bool = False) -> tuple[Sense, ...]:
    """What a noun may mean, of things that can be pictured; case does not count, and a plural means its singular.

    `usual`: only the things that are called so before anything else: `cat` is then the animal, and no tracked vehicle.
    """
    word, known = phrase.strip(), _senses()
    several = known.get(word) or known.get(word.lower()) or known.get(singular(word) or "", ())
    return tuple(one for one in several if one.first) if usual else several


def far_apart(phrase: str) -> tuple[Sense, ...]:
    """The usual senses of a noun that are of different kinds, the first of each kind; empty for one kind.

    Senses of one kind, such as a chair at a table and in an orchestra, often look alike; that a tank holds water or
    guns is overlooked for that. People who are called animals do not count.
    """
    by_kind: dict[str, Sense] = {}
    for one in senses(phrase, usual=True):
        by_kind.setdefault(one.kind, one)
    by_kind.pop("", None)
    if "animal" in by_kind:
        by_kind.pop("person", None)
    return tuple(by_kind.values()) if len(by_kind) > 1 else ()


def singular(word: str) -> str | None:
    """The singular that a plural is of, by the noun rules of WordNet's morphy; None for what is none.

    A word that is itself a noun, as `glasses` is, is no plural.
    """
    lower = word.strip().lower()
    if lower in _senses() or len(lower) < 4 or lower.endswith("ss"):
        return None
    for ending, replacement in _ENDINGS:
        base = lower.removesuffix(ending) + replacement
        if lower.endswith(ending) and base in _senses():
            return base
    return None


def _words(noun: str) -> int:
    return len(re.split(r"[ -]", noun))


@functools.cache
def _synsets() -> dict[str, tuple[tuple[str, ...], str]]:
    """Lemmas and definition of each synset."""
    spec = importlib.util.find_spec("timm")  # not imported: that pulls torch
    if spec is None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")
    folder = Path(next(iter(spec.submodule_search_locations or ()))) / "data" / "_info"
    definitions = dict(_lines((folder / "imagenet_synset_to_definition.txt").read_text("utf-8")))
    lemmas = _lines((folder / "imagenet_synset_to_lemma.txt").read_text("utf-8"))
    return {name: (tuple(one.strip() for one in text.split(",")), definitions.get(name, "")) for name, text in lemmas}


@functools.cache
def _senses() -> dict[str, tuple[Sense, ...]]:
    by_lemma: dict[str, list[Sense]] = {}
    for name, (lemmas, definition) in _synsets().items():
        for lemma in lemmas:
            by_lemma.setdefault(lemma, []).append(Sense(name, lemma, definition, lemma == lemmas[0]))
    return {lemma: tuple(several) for lemma, several in by_lemma.items()}


def _lines(text: str) -> list[tuple[str, str]]:
    pairs = (line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    return [(name, rest) for name, rest in pairs]
