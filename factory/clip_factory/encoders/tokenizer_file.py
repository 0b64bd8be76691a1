"""open_clip's tokenizers as one tokenizer.json each, which Hugging Face's tokenizers library reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from clip_factory.errors import TeacherError

CLEANED_BY = {"_clean_lower": "lower", "_clean_whitespace": "whitespace", "_clean_canonicalize": "canonicalize"}
"""open_clip's cleaning functions by what the runtime calls them."""
HARD_TEXTS = (
    "",
    "a photo of 2 red apples, please",
    "It's the dog\u2019s CAT&amp;MOUSE game; we'll see they've won: don't!",
    "na\u00efve \u00fcber-caf\u00e9 \u5bff\u53f8 \U0001f41d 3.14 \u00bd \ufb01sh x\u00b2 <end_of_text> [UNK] </w>",
    '  two\tspaces \n and_underscores  #hash @at 50% (brackets) "quotes" \\ / ',
    "\u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 \u043f\u0440\u0438\u0432\u0435\u0442",
    "word " * 300,
    "a" * 400,
)
"""Texts on which tokenizers differ first."""


def tokenizer_file(tokenize: Any) -> tuple[str, dict[str, Any]]:
    """An open_clip tokenizer as a file, and the settings that the file has no place for.

    Args:
        tokenize: open_clip's `SimpleTokenizer` or `HFTokenizer`, or a function with a `backend` of the tokenizers
            library and its `context_length`.

    Returns:
        The text of tokenizer.json; the settings of `clip_factory.runtime.text_tokens.TextTokens`.

    Raises:
        TeacherError: It is of another kind, or the file does not give the same tokens.
    """
    kind = type(tokenize).__name__
    if hasattr(tokenize, "backend"):
        made = str(tokenize.backend.to_str()), _settings("none", tokenize.context_length, tokenize.unk_token_id)
    elif kind == "SimpleTokenizer" and tokenize.reduction_fn is None:
        cleaned = CLEANED_BY.get(tokenize.clean_fn.__name__, "")
        made = _byte_pairs(tokenize), _settings(cleaned, tokenize.context_length, None)
    elif kind == "HFTokenizer" and not tokenize.tokenizer_mode and hasattr(tokenize.tokenizer, "backend_tokenizer"):
        made = _hugging_face(tokenize)
    else:
        raise TeacherError(f"tokenizer {kind}: of a kind that cannot be exported", hint="keep it in torch")
    _check_same(tokenize, *made)
    return made


def _settings(clean: str, context_length: int, unknown: int | None, zeros: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"clean": clean, "context_length": context_length, "unknown": unknown, "zeros": list(zeros)}


def _byte_pairs(tokenize: Any) -> str:
    """CLIP's own byte-pair encoding (Radford et al. 2021, arXiv:2103.00020, section 2.4)."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors

    merges = sorted(tokenize.bpe_ranks, key=tokenize.bpe_ranks.get)
    tokenizer = Tokenizer(models.BPE(vocab=dict(tokenize.encoder), merges=merges, end_of_word_suffix="</w>"))
    words = pre_tokenizers.Split(Regex(f"(?i){tokenize.pat.pattern}"), behavior="removed", invert=True)
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, whole])
    start, end = tokenize.all_special_ids[:2]
    names = {number: name for name, number in tokenize.encoder.items()}
    special = [(names[start], start), (names[end], end)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name, _ in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{names[start]} $A {names[end]}", special_tokens=special
    )
    tokenizer.enable_truncation(tokenize.context_length)
    tokenizer.enable_padding(length=tokenize.context_length, pad_id=0, pad_token=names[0])
    return str(tokenizer.to_str())


def _hugging_face(tokenize: Any) -> tuple[str, dict[str, Any]]:
    from tokenizers import Tokenizer

    outer, length = tokenize.tokenizer, tokenize.context_length
    tokenizer = Tokenizer.from_str(outer.backend_tokenizer.to_str())
    tokenizer.enable_truncation(length, direction=outer.truncation_side)
    tokenizer.enable_padding(
        direction=outer.padding_side, pad_id=outer.pad_token_id, pad_token=outer.pad_token, length=length
    )
    zeros = (int(outer.sep_token_id),) if tokenize.strip_sep_token else ()
    cleaned = CLEANED_BY.get(tokenize.clean_fn.__name__, "")
    return str(tokenizer.to_str()), _settings(cleaned, length, outer.unk_token_id, zeros)


def _check_same(tokenize: Any, file: str, settings: dict[str, Any]) -> None:
    """Hold the file against the tokenizer that it was made of, on texts that are hard.

    Raises:
        TeacherError: A text has other tokens.
    """
    from clip_factory.runtime.text_tokens import TextTokens

    ours = TextTokens(file.encode(), settings)
    for text in HARD_TEXTS:
        if not np.array_equal(ours([text]), np.asarray(tokenize([text]))):
            raise TeacherError(f"tokenizer {type(tokenize).__name__}: exported, it reads {text[:40]!r} otherwise")
