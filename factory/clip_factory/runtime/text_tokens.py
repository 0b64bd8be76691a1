"""Texts to the numbers that a text tower reads, with Hugging Face's tokenizers library."""

from __future__ import annotations

import functools
import html
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from clip_factory.runtime.runtime_errors import FactoryError, ModelError

NEEDS = "pip install 'clip-factory[zero-shot]'"


class TextTokens:
    """A tokenizer as a file holds it; `TextTokens(file, settings)(texts)` gives their tokens."""

    def __init__(self, file: bytes, settings: Mapping[str, Any]) -> None:
        """Parse a tokenizer.

        Args:
            file: A tokenizer.json, with truncation and padding in it.
            settings: `clean`, one of `CLEANERS`; `context_length`, tokens that are seen at most; `zeros`, ids that
                become 0; `unknown`, the id of what it does not know, or None.

        Raises:
            FactoryError: The package tokenizers, or ftfy where texts are cleaned, is not installed.
            ModelError: The file is no tokenizer, or the settings are not known.
        """
        tokenizers = _tokenizers()
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(file.decode())
        except Exception as error:  # the library raises a bare Exception
            raise ModelError(f"tokenizer.json is no tokenizer ({error})", hint="export the encoder again") from None
        cleaner = str(settings.get("clean"))
        if cleaner not in CLEANERS:
            raise ModelError(f"its texts are cleaned in a way that is not known: {cleaner[:100]}", hint=_NEWER)
        self._clean = CLEANERS[cleaner]
        if cleaner != "none":
            _ftfy()
        self.context_length = int(settings["context_length"])
        self._zeros = [int(one) for one in settings.get("zeros", [])]
        self._unknown: int | None = settings.get("unknown")

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """N texts to int64 `(N, L)`."""
        ids = [one.ids for one in self._tokenizer.encode_batch([self._clean(text) for text in texts])]
        tokens = np.array(ids, np.int64).reshape(len(texts), -1)
        tokens[np.isin(tokens, self._zeros)] = 0
        return tokens

    def token_count(self, text: str) -> int:
        """How many tokens a text has, seen or not, the signs for start and end included."""
        return len(self._untruncated.encode(self._clean(text)).ids)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that hold something for which the tokenizer has only the sign for the unknown."""
        if self._unknown is None:
            return []
        return [word for word in text.split() if self._unknown in self([word])]

    @functools.cached_property
    def _untruncated(self) -> Any:
        tokenizer = type(self._tokenizer).from_str(self._tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def _fixed(text: str) -> str:
    """Broken Unicode and escaped HTML mended, as CLIP's authors did before they trained."""
    fixed: str = _ftfy().fix_text(text)
    return html.unescape(html.unescape(fixed)).strip()


def _spaces(text: str) -> str:
    return " ".join(_fixed(text).split())


def _canonical(text: str) -> str:
    """Without punctuation, in lower case, as SigLIP's authors did."""
    bare = _fixed(text).replace("_", " ").translate(str.maketrans("", "", string.punctuation))
    return " ".join(bare.lower().split())


CLEANERS: Mapping[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "whitespace": _spaces,
    "lower": lambda text: _spaces(text).lower(),
    "canonicalize": _canonical,
}
"""What is done to a text before it is split, by the names that open_clip has for it."""


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise FactoryError("words need the package tokenizers, which is not installed", hint=NEEDS) from None
    return tokenizers


def _ftfy() -> Any:
    try:
        import ftfy
    except ImportError:
        raise FactoryError("words need the package ftfy, which is not installed", hint=NEEDS) from None
    return ftfy


_NEWER = "a newer version of the factory made it: pip install -U clip-factory"
