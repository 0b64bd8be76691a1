"""Remarks on phrases: each names the phrase and what to do, and what is in order has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clip_factory.encoders import Encoder, load_encoder
from clip_factory.label_sources.zero_shot import text_vectors
from clip_factory.scenario import Teacher
from clip_factory.scenario.prompts import may_deny, template_set
from clip_factory.zeroshot.lint import SAME, Remark, lint

PHOTO = template_set("photo")
PLAIN = ("{}",)


@pytest.fixture(scope="module")
def offline() -> Encoder:
    return load_encoder(Teacher(model="offline"))


@pytest.fixture(scope="module")
def tiny(tiny_clip: Path) -> Encoder:
    return load_encoder(Teacher(model=f"local-dir:{tiny_clip}"))


def of_kind(kind: str, remarks: list[Remark]) -> list[Remark]:
    return [remark for remark in remarks if remark.kind == kind]


def test_phrases_in_order_have_no_remark(offline: Encoder) -> None:
    assert lint(["forklift"], ["pallet", "empty warehouse aisle"], PHOTO, offline) == []


@pytest.mark.parametrize(("phrase", "word"), [("head without a helmet", "without"), ("ohne Helm", "ohne")])
def test_a_negation_is_named_with_its_word_and_a_way_out(phrase: str, word: str) -> None:
    (remark,) = of_kind("negation", lint([phrase], ["helmet"], PHOTO))

    assert remark.phrase == phrase
    assert repr(phrase) in remark.text and repr(word) in remark.text
    assert "name what is to be seen" in remark.text


def test_a_negation_among_the_negatives_is_remarked_on() -> None:
    (remark,) = of_kind("negation", lint(["helmet"], ["no helmet"], PHOTO))

    assert remark.phrase == "no helmet"


def test_a_name_in_quotes_denies_nothing() -> None:
    assert of_kind("negation", lint(['"no parking" sign'], ["street"], PHOTO)) == []


LANGUAGES = {
    "aucun casque": "aucun",
    "nessun casco": "nessun",
    "n\u00e3o h\u00e1 capacete": "n\u00e3o",
    "ilman kyp\u00e4r\u00e4\u00e4": "ilman",
    "tanpa helm": "tanpa",
    "kh\u00f4ng c\u00f3 m\u0169": "kh\u00f4ng",
    "\u03c7\u03c9\u03c1\u03af\u03c2 \u03ba\u03c1\u03ac\u03bd\u03bf\u03c2": "\u03c7\u03c9\u03c1\u03af\u03c2",
    "\u0628\u062f\u0648\u0646 \u062e\u0648\u0630\u0629": "\u0628\u062f\u0648\u0646",
    "\u05dc\u05dc\u05d0 \u05e7\u05e1\u05d3\u05d4": "\u05dc\u05dc\u05d0",
    "\u6c92\u6709\u982d\u76d4": "\u6c92\u6709",
    "\u092c\u093f\u0928\u093e \u0939\u0947\u0932\u092e\u0947\u091f": "\u092c\u093f\u0928\u093e",
    "\u0e44\u0e21\u0e48\u0e21\u0e35\u0e2b\u0e21\u0e27\u0e01": "\u0e44\u0e21\u0e48\u0e21\u0e35",
}


@pytest.mark.parametrize(("phrase", "word"), LANGUAGES.items())
def test_more_languages_may_deny(phrase: str, word: str) -> None:
    assert may_deny(phrase) == word
    assert of_kind("negation", lint([phrase], ["x"], PLAIN)) != []


@pytest.mark.parametrize(("phrase", "better"), [("fork_lift", "fork lift"), ("roadSign", "road sign")])
def test_a_name_of_a_file_is_written_in_words(phrase: str, better: str) -> None:
    (remark,) = of_kind("spelling", lint([phrase], ["x"], PLAIN))

    assert remark.phrase == phrase
    assert f"write {better!r}" in remark.text


def test_an_ambiguous_noun_is_named_with_both_definitions() -> None:
    (remark,) = of_kind("ambiguous", lint(["a crane"], ["truck"], PHOTO))

    assert remark.phrase == "a crane"
    assert "bird" in remark.text and "lifts" in remark.text and "Add a word" in remark.text


@pytest.mark.parametrize("phrase", ["construction crane", "cat", "forklift"])
def test_a_phrase_with_its_context_or_of_one_sense_is_not_ambiguous(phrase: str) -> None:
    assert of_kind("ambiguous", lint([phrase], ["truck"], PHOTO)) == []


def test_a_plural_in_a_template_for_one_is_written_as_one() -> None:
    (remark,) = of_kind("plural", lint(["fire trucks"], ["x"], PHOTO))

    assert remark.phrase == "fire trucks"
    assert "'a photo of a fire trucks.'" in remark.text and "write 'fire truck'" in remark.text


def test_a_plural_suits_templates_without_an_article() -> None:
    assert of_kind("plural", lint(["fire trucks"], ["x"], ("photos of {}.", "the {}"))) == []


@pytest.mark.parametrize(("positive", "negative"), [(["a Cat", "cat"], ["x"]), (["cat"], ["the CAT"])])
def test_phrases_that_differ_in_case_and_article_are_twice_the_same(positive: list[str], negative: list[str]) -> None:
    (remark,) = of_kind("twice", lint(positive, negative, PHOTO))

    assert remark.phrase == [*positive, *negative][1]
    assert repr(positive[0]) in remark.text and "leave one of them out" in remark.text


def test_words_that_the_encoder_does_not_know_are_named(offline: Encoder) -> None:
    (remark,) = of_kind("unknown word", lint(["dog \U0001f415"], ["x"], PLAIN, offline))

    assert "\U0001f415" in remark.text and "offline" in remark.text


def test_an_encoder_that_knows_every_byte_has_no_unknown_words(tiny: Encoder) -> None:
    assert of_kind("unknown word", lint(["dog \U0001f415"], ["x"], PLAIN, tiny)) == []


def test_a_phrase_past_the_context_is_too_long(tiny: Encoder, offline: Encoder) -> None:
    phrase = " ".join(["dog"] * 90)

    (remark,) = of_kind("too long", lint([phrase], ["x"], PLAIN, tiny))
    assert remark.phrase == phrase and "fewer words" in remark.text
    assert of_kind("too long", lint([phrase], ["x"], PLAIN, offline)) == [], "128 tokens, not 77"


def test_the_template_counts_toward_the_context(tiny: Encoder) -> None:
    phrase = " ".join(["dog"] * 75)

    assert of_kind("too long", lint([phrase], ["x"], PLAIN, tiny)) == []
    assert of_kind("too long", lint([phrase], ["x"], ("one {}",), tiny)) != []


def test_opposites_that_are_nearly_one_to_the_encoder_are_named_with_their_cosine(offline: Encoder) -> None:
    (remark,) = of_kind("too near", lint(["suit"], ["suiting", "glacier"], PHOTO, offline))
    texts = text_vectors(offline, ["suit", "suiting", "glacier"], PHOTO)

    assert texts[0] @ texts[1] > SAME > texts[0] @ texts[2]
    assert "'suit' and 'suiting'" in remark.text
    assert f"{np.float32(texts[0] @ texts[1]):.3f}" in remark.text


def test_phrases_of_one_side_may_be_near(offline: Encoder) -> None:
    assert of_kind("too near", lint(["suit", "suiting"], ["glacier"], PHOTO, offline)) == []


def test_without_an_encoder_only_words_are_read() -> None:
    remarks = lint(["suit", " ".join(["dog"] * 300)], ["suiting", "\U0001f415"], PLAIN)

    assert {remark.kind for remark in remarks} & {"unknown word", "too long", "too near"} == set()


def test_without_negatives_no_phrase_is_embedded(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded: list[str] = []
    monkeypatch.setattr(
        type(tiny), "embed_texts", lambda self, texts: embedded.extend(texts) or np.ones((len(texts), 1))
    )

    lint(["forklift"], [], PHOTO, tiny)
    assert embedded == []
    lint(["forklift"], ["pallet"], PHOTO, tiny)
    assert len(embedded) == 2 * len(PHOTO), "the same encoder is asked where there is something to compare"


@pytest.mark.parametrize("phrase", ["chair", "apple", "street", "sheep", "orange"])
def test_senses_of_one_kind_are_not_ambiguous(phrase: str) -> None:
    assert of_kind("ambiguous", lint([phrase], ["x"], PHOTO)) == []


@pytest.mark.parametrize("phrase", ["bat", "mouse", "date"])
def test_senses_of_different_kinds_are_ambiguous(phrase: str) -> None:
    (remark,) = of_kind("ambiguous", lint([phrase], ["x"], PHOTO))

    assert " or '" in remark.text


def test_most_class_names_of_imagenet_are_not_ambiguous() -> None:
    import open_clip

    remarks = lint(open_clip.IMAGENET_CLASSNAMES, ["x"], PLAIN)

    assert 0 < len(of_kind("ambiguous", remarks)) <= 20


def test_a_word_that_may_deny_is_not_said_to_deny() -> None:
    (certain,) = of_kind("negation", lint(["no helmet"], ["x"], PLAIN))
    (doubtful,) = of_kind("negation", lint(["minus sign"], ["x"], PLAIN))

    assert " says by 'no'" in certain.text and " may say by 'minus'" in doubtful.text


def test_a_counted_plural_is_written_without_its_number() -> None:
    (remark,) = of_kind("plural", lint(["2 cats"], ["x"], PHOTO))

    assert "write 'cat'" in remark.text


@pytest.mark.parametrize("last", ["forkliftoperators", "!", "dog", "\u72ac" * 3])
def test_a_prompt_is_truncated_from_the_first_token_that_does_not_fit(tiny: Encoder, last: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    encode = SimpleTokenizer().encode
    for count in range(60, 80):
        text = " ".join(["dog"] * count + [last])
        assert tiny.token_count(text) == len(encode(text)) + 2
        assert tiny.is_truncated(text) == (len(encode(text)) + 2 > tiny.context_length == 77)


def test_the_offline_encoder_reads_128_tokens(offline: Encoder) -> None:
    assert offline.context_length == 128
    assert not offline.is_truncated(" ".join(["dog"] * 126))
    assert offline.is_truncated(" ".join(["dog"] * 127))
