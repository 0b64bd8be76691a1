"""Phrases that a teacher cannot tell from others are refused, and words that it does not know are named."""

from __future__ import annotations

import numpy as np
import pytest

from clip_factory import encoders
from clip_factory.encoders import Encoder
from clip_factory.errors import ScenarioError
from clip_factory.label_sources.zero_shot import zero_shot
from clip_factory.pipeline import _check_early
from clip_factory.progress import console
from clip_factory.scenario import Scenario, Teacher
from clip_factory.scenario.prompts import may_deny, negation_in


@pytest.fixture(scope="module")
def offline() -> Encoder:
    return encoders.load_encoder(Teacher(model="offline"))


def asked(encoder: Encoder, *positive: str, negative: tuple[str, ...] = ("cat",)) -> str:
    """What is said on the console when one photo is scored."""
    scenario = Scenario(name="x", positive=positive, negative=negative, templates="plain")
    with console.capture() as said:
        scores = zero_shot(encoder, np.ones((1, encoder.dim), np.float32) / np.sqrt(encoder.dim), scenario)
    assert scores.by_phrase.shape == (1, len(positive) + len(negative))
    return said.get()


def test_words_that_the_teacher_knows_need_no_word(offline: Encoder) -> None:
    assert asked(offline, "dog", "qwertyzxcv", "caf\u00e9") == ""


@pytest.mark.parametrize("phrase", ["\u72d7", "\U0001f415", "\U0001f415 \u72d7"])
def test_a_phrase_of_unknown_words_is_refused(offline: Encoder, phrase: str) -> None:
    with pytest.raises(ScenarioError) as told:
        asked(offline, "dog", phrase)
    assert told.value.what == f"phrase {phrase!r}: the teacher offline knows none of its words"
    with pytest.raises(ScenarioError):
        asked(offline, "dog", negative=(phrase,))


def test_single_unknown_words_are_named(offline: Encoder) -> None:
    said = asked(offline, "\U0001f415 dog")
    assert said == "warning: phrase '\U0001f415 dog': the teacher offline does not know \U0001f415\n"


def test_an_encoder_that_cannot_say_what_it_knows_is_not_asked(tiny_clip) -> None:
    clip = encoders.load_encoder(Teacher(model=f"local-dir:{tiny_clip}"))
    assert clip.unknown_words("\u72d7 \U0001f415") == [], "its tokenizer falls back to bytes"
    assert asked(clip, "\u72d7") == ""


def test_phrases_that_are_one_to_the_teacher_are_refused(offline: Encoder) -> None:
    with pytest.raises(ScenarioError) as told:
        asked(offline, "bird", "cafe", negative=("cat", "caf\u00e9"))  # its tokenizer strips accents
    assert told.value.what == "phrases 'cafe' and 'caf\u00e9' are the same to the teacher offline"


NAMES = ["non-stick pan", "No. 7 billiard ball", "no.7 ball", "Nonpareil", "nothing", '"no entry" sign']


@pytest.mark.parametrize("phrase", NAMES)
def test_names_are_no_negations(phrase: str) -> None:
    assert negation_in(phrase) is None


@pytest.mark.parametrize("phrase", ["no helmet", "person without helmet", "not a dog", "no. helmet", "a non helmet"])
def test_negations_are_found(phrase: str) -> None:
    assert negation_in(phrase)


DENYING = {"sans casque": "sans", "missing helmet": "missing", "ohne Helm": "ohne", "kein Helm": "kein"}
DENYING |= {"sin casco": "sin", "\u0431\u0435\u0437 \u043a\u0430\u0441\u043a\u0438": "\u0431\u0435\u0437"}
DENYING |= {"\u6ca1\u6709\u5934\u76d4": "\u6ca1\u6709"}


@pytest.mark.parametrize("phrase", [*DENYING, "casino", "sinking ship", "helmet", '"missing" poster'])
def test_what_may_deny_something_is_said_with_the_limits_of_saying_so(phrase: str) -> None:
    word = DENYING.get(phrase)
    assert may_deny(phrase) == word
    with console.capture() as said:
        _check_early(Scenario(name="x", positive=(phrase,)))
    wanted = (
        f"warning: {phrase!r} may say by {word!r} that something is not there, which CLIP does not understand"
        " (only some words of some languages are known here): name what is to be seen\n"
    )
    assert said.get() == (wanted if word else "")
