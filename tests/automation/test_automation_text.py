"""Strangers' text: what hides, turns and imitates is named; in Markdown it is shown and not obeyed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from automation.command import outputs
from automation.markdown import MAX_TEXT, NOTHING, block, code, codes, table
from automation.text import faults, foreign, is_hidden, visible
from clip_factory.errors import FactoryError
from support.markdown_read import kinds, obeyed, tokens

NASTY = st.text(st.sampled_from("ab `|\\<>[]()!@#$*_~&;:/.\n\r\t-\u202e\u200b\u0301\x00\xa0"), max_size=40)


@given(NASTY)
@example("`")
@example("`` ` ```")
@example("\\|")
@example("a\n\n# b")
def test_a_code_span_is_one_code_span_whatever_stands_in_it(text: str) -> None:
    found = [token for token in tokens(f"before {code(text)} after") if token.type not in ("paragraph_open", "inline")]

    assert obeyed(f"before {code(text)} after") in ("before \n after", f"before {NOTHING} after")
    assert "code_inline" in {token.type for token in found} or code(text) == NOTHING


@given(NASTY, NASTY)
@example("\\", "|")
@example("a\\|b", "`|`")
def test_a_table_keeps_its_cells(one: str, other: str) -> None:
    text = table(("a", "b"), [(code(one), code(other)), ("x", "y")])
    found = list(tokens(text))

    assert [token.type for token in found].count("td_open") == 4
    assert kinds(text) <= {
        *("table_open", "thead_open", "tr_open", "th_open", "inline", "text", "th_close", "tr_close", "thead_close"),
        *("tbody_open", "td_open", "code_inline", "td_close", "tbody_close", "table_close"),
    }


@given(st.lists(NASTY, max_size=4).map("\n".join))
@example("```\n~~~\n````")
def test_a_block_is_one_block(text: str) -> None:
    assert kinds(f"{block(text, 'yaml')}\n\nafter") == {"fence", "paragraph_open", "inline", "text", "paragraph_close"}


@given(st.text(max_size=30))
def test_nothing_hidden_is_left(text: str) -> None:
    assert not any(map(is_hidden, visible(text)))


def test_long_texts_are_cut() -> None:
    assert len(code("a" * 10_000)) == MAX_TEXT + 2
    assert codes(["a", "b", "c"], 2) == "`a`, `b` and 1 more"
    assert codes([]) == NOTHING


@pytest.mark.parametrize(
    "text",
    [
        "forklift",
        "Müllwagen",
        "naïve café",
        "трактор",
        "フォークリフト",
        "π",
        "e\u0301",
        '"no entry" sign',
    ],
)
def test_honest_words_of_any_script_have_no_fault(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("f\u043erklift", "the word 'f\u043erklift' mixes Latin letters with Cyrillic: U+043E"),
        ("\uff46ork", "holds U+FF46 (FULLWIDTH LATIN SMALL LETTER F), which only looks like 'f'"),
        ("a\u202eb", "holds the hidden sign U+202E"),
        ("a\u00adb", "holds the hidden sign U+00AD"),
        ("a\ufe0fb", "holds the hidden sign U+FE0F"),
        ("a\u0301\u0301\u0301\u0301", "piles more than 3 marks on one letter"),
    ],
)
def test_what_misleads_is_named(text: str, fault: str) -> None:
    assert fault in faults(text)


def test_words_of_other_scripts_are_pointed_out() -> None:
    assert foreign("a сор and π") == ["сор", "π"]


def test_an_output_cannot_make_another(capsys: pytest.CaptureFixture[str]) -> None:
    outputs(names=["a", "ü\n"], count="2")
    assert capsys.readouterr().out == 'names=["a","\\u00fc\\n"]\ncount=2\n'
    for value in ("a\nb=c", "a\rb", "ü"):
        with pytest.raises(FactoryError, match="expected one line of ASCII"):
            outputs(name=value)
