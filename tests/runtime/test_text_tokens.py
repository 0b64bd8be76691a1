"""Tokens without torch are open_clip's own, whatever the text."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import open_clip
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from clip_factory.encoders.offline import build_tokenizer
from clip_factory.encoders.tokenizer_file import tokenizer_file
from clip_factory.errors import FactoryError, ModelError
from clip_factory.runtime.text_tokens import TextTokens
from support.tiny_encoders import siglip_tokenizer, tiny_encoder

CLIP = open_clip.SimpleTokenizer()
CLIP_FILE, CLIP_SETTINGS = tokenizer_file(CLIP)
EXPORTED = TextTokens(CLIP_FILE.encode(), CLIP_SETTINGS)
UNASSIGNED = {"Cn", "Co", "Cs"}
"""Categories of signs that are letters to one library and not to another, by the version of Unicode that it knows."""


@given(st.text(st.characters(exclude_categories=UNASSIGNED), max_size=60))
@example("don't DON'T it's \u2019s")
@example("\u0130stanbul \u017fharp \u212a")
@example("<start_of_text> hi <end_of_text>")
@example("a  b\u00a0c\u200bd")
def test_any_text_has_the_tokens_that_clip_gives_it(text: str) -> None:
    assume(not {unicodedata.category(sign) for sign in CLIP.clean_fn(text)} & UNASSIGNED)
    assert np.array_equal(EXPORTED([text]), CLIP([text]).numpy())


@pytest.mark.parametrize("clean", ["canonicalize", "lower", "whitespace"])
@pytest.mark.parametrize("strip", [False, True])
def test_tokenizers_of_hugging_face_give_their_own_tokens(clean: str, strip: bool, tmp_path: Path) -> None:
    theirs = siglip_tokenizer(tmp_path, strip_sep_token=strip)
    theirs.clean_fn = open_clip.tokenizer.get_clean_fn(clean)
    file, settings = tokenizer_file(theirs)
    ours = TextTokens(file.encode(), settings)
    texts = ["A Photo_of a RED apple!", "cat", "", "zebra " * 9, "\u00fc"]
    assert np.array_equal(ours(texts), theirs(texts).numpy())
    assert (ours(["cat"]) == 1).any() is np.bool_(not strip), "the sign for the end is 0 where it is stripped"


def test_the_offline_tokenizer_fills_up_to_the_longest_only() -> None:
    theirs = build_tokenizer()
    ours = TextTokens(*_encoded(theirs))
    texts = ["a cat", "a much longer text about a cat that sits on a mat"]
    assert np.array_equal(ours(texts), theirs(texts).numpy())
    assert ours(texts[:1]).shape[1] < ours(texts).shape[1]
    assert ours.unknown_words("a \U0001f41d \u5bff cat") == ["\U0001f41d"] or ours.unknown_words("a \u5bff cat")


def _encoded(tokenize) -> tuple[bytes, dict]:
    file, settings = tokenizer_file(tokenize)
    return file.encode(), settings


@pytest.mark.parametrize("text", ["", "a cat", "one two three four five six seven eight nine ten eleven"])
def test_tokens_are_counted_beyond_what_is_seen(text: str) -> None:
    encoder = tiny_encoder()
    ours = TextTokens(*_encoded(encoder.tokenize))
    assert ours.context_length == encoder.context_length == 12
    assert ours.token_count(text) == encoder.token_count(text) == len(CLIP.encode(text)) + 2
    assert ours([text]).shape == (1, 12)


def test_words_that_the_tokenizer_does_not_know(tmp_path: Path) -> None:
    tokenize = siglip_tokenizer(tmp_path)
    ours = TextTokens(*_encoded(tokenize))
    assert ours.unknown_words("red \u5bff\u53f8 apple") == ["\u5bff\u53f8"]
    assert EXPORTED.unknown_words("red \u5bff\u53f8 apple") == [], "CLIP's falls back to bytes"


def test_a_damaged_file_and_settings_of_a_newer_version_are_refused() -> None:
    with pytest.raises(ModelError, match=r"tokenizer.json is no tokenizer"):
        TextTokens(b'{"version": "1.0"}', CLIP_SETTINGS)
    with pytest.raises(ModelError, match="cleaned in a way that is not known: rot13"):
        TextTokens(CLIP_FILE.encode(), {**CLIP_SETTINGS, "clean": "rot13"})


@pytest.mark.parametrize("missing", ["tokenizers", "ftfy"])
def test_a_missing_library_is_named_with_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(FactoryError, match=f"the package {missing}") as error:
        TextTokens(CLIP_FILE.encode(), CLIP_SETTINGS)
    assert "clip-factory[zero-shot]" in str(error.value)


def test_the_file_is_plain_json() -> None:
    assert json.loads(CLIP_FILE)["model"]["type"] == "BPE"
