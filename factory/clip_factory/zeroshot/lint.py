"""What is doubtful about phrases, before a photo is looked at: each remark says what, which phrase, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clip_factory.encoders import Encoder
from clip_factory.label_sources.zero_shot import text_vectors
from clip_factory.scenario.prompts import fill, may_deny, negation_in
from clip_factory.zeroshot.vocabulary import far_apart, singular

Kind = Literal["negation", "unknown word", "ambiguous", "spelling", "plural", "too long", "too near", "twice"]
SAME = 0.9
"""Cosine of two phrases of opposite sides from which the encoder makes next to no difference between them: of the
44,850 pairs of 300 common nouns the `offline` encoder puts 2 above it, "suit" and "suiting" among them."""
_ARTICLE = re.compile(r"^(an?|the)\s+", re.IGNORECASE)
_COUNT = re.compile(r"^(\d+|two|three|four|five|six|seven|eight|nine|ten|many|several|some)\s+", re.IGNORECASE)
"""What counts things goes with plurals only."""
_CAMEL = re.compile(r"[a-z][A-Z]")


@dataclass(frozen=True)
class Remark:
    """One doubtful thing."""

    kind: Kind
    phrase: str
    text: str
    """What is doubtful and what to do, in a sentence that names the phrase."""


def lint(
    positive: Sequence[str], negative: Sequence[str], templates: Sequence[str], encoder: Encoder | None = None
) -> list[Remark]:
    """What is doubtful about the phrases of a question.

    Args:
        positive: Phrases for yes.
        negative: Phrases for no; empty where everyday things stand in.
        templates: Each with one `{}`.
        encoder: Asked for its words, its context length and its vectors; None leaves these out.
    """
    remarks = [remark for phrase in (*positive, *negative) for remark in _of_words(phrase, templates)]
    remarks += _twice(positive, negative)
    if encoder is not None:
        remarks += [remark for phrase in (*positive, *negative) for remark in _of_tokens(phrase, templates, encoder)]
        remarks += _too_near(positive, negative, templates, encoder)
    return remarks


def _of_words(phrase: str, templates: Sequence[str]) -> Iterator[Remark]:
    """What can be seen from the words alone."""
    if word := negation_in(phrase) or may_deny(phrase):
        says = "says" if negation_in(phrase) else "may say"
        yield Remark(
            "negation",
            phrase,
            f"{phrase!r} {says} by {word!r} that something is not there, which CLIP does not understand: name what is "
            "to be seen instead, and give its opposite as a negative phrase",
        )
    if "_" in phrase or _CAMEL.search(phrase):
        spaced = re.sub(r"_+", " ", _CAMEL.sub(lambda match: f"{match[0][0]} {match[0][1].lower()}", phrase))
        yield Remark("spelling", phrase, f"{phrase!r} is spelled as a file is named: write {spaced!r}")
    yield from _of_noun(phrase, templates)


def _of_noun(phrase: str, templates: Sequence[str]) -> Iterator[Remark]:
    bare = _ARTICLE.sub("", phrase.strip())
    if meanings := far_apart(bare):
        listed = "; or ".join(f"{one.definition} ({one.kind})" for one in meanings)
        kinds = " or ".join(repr(one.kind) for one in meanings)
        yield Remark(
            "ambiguous",
            phrase,
            f"{phrase!r} has several senses: {listed}. Add a word that only the right one goes with, of {kinds}",
        )
    last = bare.split()[-1] if bare else ""
    one = singular(last)
    article = next((template for template in templates if re.search(r"\ban? \{\}|\bone \{\}", template)), None)
    if one and article:
        better = _COUNT.sub("", f"{bare[: len(bare) - len(last)]}{one}")
        yield Remark(
            "plural",
            phrase,
            f"{phrase!r} is a plural, and a template makes it {article.replace('{}', phrase)!r}: write {better!r}, "
            "or use templates that fit",
        )


def _twice(positive: Sequence[str], negative: Sequence[str]) -> Iterator[Remark]:
    seen: dict[str, str] = {}
    for phrase in (*positive, *negative):
        bare = _ARTICLE.sub("", phrase.strip()).casefold()
        if bare in seen:
            yield Remark("twice", phrase, f"{phrase!r} and {seen[bare]!r} are the same phrase: leave one of them out")
        seen.setdefault(bare, phrase)


def _of_tokens(phrase: str, templates: Sequence[str], encoder: Encoder) -> Iterator[Remark]:
    """What the encoder's tokenizer makes of the words."""
    unknown_words: Callable[[str], list[str]] = getattr(encoder, "unknown_words", lambda text: [])
    if unknown := unknown_words(phrase):
        yield Remark(
            "unknown word",
            phrase,
            f"{phrase!r}: the encoder {encoder.name} does not know {', '.join(unknown)}: say it in words that it "
            "knows, such as English ones",
        )
    is_truncated: Callable[[str], bool] = getattr(encoder, "is_truncated", lambda text: False)
    if any(is_truncated(prompt) for prompt in fill(tuple(templates), phrase)):
        yield Remark(
            "too long",
            phrase,
            f"{phrase!r} is longer than the encoder {encoder.name} reads: say it in fewer words, its end is not seen",
        )


def _too_near(
    positive: Sequence[str], negative: Sequence[str], templates: Sequence[str], encoder: Encoder
) -> Iterator[Remark]:
    """Pairs of opposite sides between which the encoder makes next to no difference."""
    if not negative:
        return
    texts = text_vectors(encoder, (*positive, *negative), tuple(templates))
    cosines = texts[: len(positive)] @ texts[len(positive) :].T
    for row, column in np.argwhere(cosines > SAME):
        yield Remark(
            "too near",
            positive[row],
            f"{positive[row]!r} and {negative[column]!r} are nearly the same to the encoder {encoder.name} (cosine "
            f"{cosines[row, column]:.3f}): say one of them otherwise",
        )
