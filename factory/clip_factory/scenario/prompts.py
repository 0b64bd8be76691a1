"""Phrases become prompts: the named template sets, the background set, and what CLIP does not understand."""

from __future__ import annotations

import re
from typing import Literal, get_args

from clip_factory.scenario.clip_templates import CLIP_80

PLAIN = ("{}",)
PHOTO = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up photo of a {}.",
    "a photo of one {} and its surroundings.",
    "a good photo of a {}.",
    "a cropped photo of a {}.",
    "a small photo with a {} in it.",
)
SATELLITE = (
    "a satellite photo of a {}.",
    "an aerial photo of a {}.",
    "a {} seen from above.",
    "satellite imagery showing a {}.",
    "an overhead view of a {}.",
)
PRODUCT = (
    "a product photo of a {}.",
    "a {} on a white background.",
    "a catalog picture of a {}.",
    "a {} for sale.",
    "a studio photo of a {}.",
)
CAMERA_TRAP = (
    "a camera trap photo of a {}.",
    "a trail camera picture of a {}.",
    "a {} in the wild, seen by a motion-activated camera.",
    "a night-time infrared photo of a {}.",
    "a blurry wildlife photo of a {}.",
)
_TEMPLATES = {
    "plain": PLAIN,
    "photo": PHOTO,
    "satellite": SATELLITE,
    "product": PRODUCT,
    "camera-trap": CAMERA_TRAP,
    "clip-80": CLIP_80,
}
TemplateSet = Literal["plain", "photo", "satellite", "product", "camera-trap", "clip-80"]
TEMPLATE_SETS: tuple[TemplateSet, ...] = get_args(TemplateSet)
"""The names that a scenario may give."""

BACKGROUND = (
    "person",
    "animal",
    "plant",
    "food",
    "vehicle",
    "building",
    "street",
    "room",
    "piece of furniture",
    "tool",
    "landscape",
    "sky",
    "water",
    "wall",
    "floor",
    "text on a page",
    "abstract texture",
    "everyday object",
)
"""What stands in for the negatives when a scenario names none: one word each for most of what photos show."""

_NEGATION = re.compile(
    r"\b(no(?!\. ?\d)|not|non(?!-)|without|never|nor|neither|isn't|aren't|lacks?|lacking|absence of|free of)\b",
    re.IGNORECASE,
)
"""`No. 7` is a number, and `non-stick` a property of what is to be seen."""
_MAYBE = re.compile(
    r"\b(missing|absent|empty of|minus|sans|pas de|ohne|kein(?:e[nmrs]?)?|nicht|sin|ning\u00fan|senza|sem|zonder|geen|"
    r"aucune?|nessun[oa]?|ningun[oa]|nenhuma?|n\u00e3o|mangler|saknar|ilman|tanpa|kh\u00f4ng|f\u0103r\u0103|n\u00e9lk\u00fcl|"
    r"\u017eiadn[yae]|\u017e\u00e1dn[\u00fd\u00e1\u00e9]|\u03c7\u03c9\u03c1\u03af\u03c2|\u0628\u062f\u0648\u0646|\u05dc\u05dc\u05d0|"
    r"utan|ingen|uden|uten|bez|brak|\u0431\u0435\u0437|\u043d\u0435\u0442)\b|\u6ca1\u6709|\u65e0|\u4e0d|\u306a\u3057|\u306a\u3044|"
    r"\u6c92\u6709|\u7121\u3057|\u092c\u093f\u0928\u093e|\u0e44\u0e21\u0e48\u0e21\u0e35|\uc5c6",
    re.IGNORECASE,
)
"""Words that deny something in some phrases and languages, and are harmless in others."""
_QUOTED = re.compile(r'"[^"]*"')


def negation_in(phrase: str) -> str | None:
    """The negating word in a phrase, or None.

    CLIP-type teachers see "no helmet" as "helmet" (Yuksekgonul et al. 2023, arXiv:2210.01936). What stands in double
    quotes is a name, as in `"no parking" sign`, and may say what it likes.
    """
    match = _NEGATION.search(_QUOTED.sub("", phrase))
    return match.group(0) if match else None


def may_deny(phrase: str) -> str | None:
    """A word in a phrase that may say that something is not there, or None.

    A list of a few words in a few languages: that it finds nothing proves nothing.
    """
    match = _MAYBE.search(_QUOTED.sub("", phrase))
    return match.group(0) if match else None


def template_set(name: TemplateSet) -> tuple[str, ...]:
    """The templates of a named set, each with one `{}`."""
    return _TEMPLATES[name]


def fill(templates: tuple[str, ...], phrase: str) -> list[str]:
    """The prompts of one phrase, one for each template."""
    return [template.replace("{}", phrase) for template in templates]
