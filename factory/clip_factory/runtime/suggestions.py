"""What somebody who mistyped a word may have meant: the one place that every "did you mean" comes from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

MIN_SIMILARITY = 0.6
"""Share of matching letters (difflib's ratio, 0 to 1) from which a word is worth suggesting."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, whatever the letters' case; None if none is like it."""
    from difflib import get_close_matches  # only after a mistake

    folded = {one.casefold(): one for one in known}
    matches = get_close_matches(word.casefold(), folded, n=1, cutoff=MIN_SIMILARITY)
    return folded[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint for an error: `did you mean ball?` where a known word is like it, then what else to do.

    Args:
        word: What was typed.
        known: What could have been typed.
        otherwise: The hint where nothing is like it; else it follows the question.
    """
    match = nearest(word, known)
    if match is None:
        return otherwise
    return f"did you mean {match}?" + (f"  {otherwise}" if otherwise else "")


def nearest_file(missing: Path, endings: Iterable[str]) -> str | None:
    """The file beside a missing one that is most like it, by its name without the ending; None if none is like it.

    Args:
        missing: The path that was typed, with or without an ending.
        endings: Those of the files that could have been meant, such as `.yaml`.
    """
    if not missing.parent.is_dir():
        return None
    files = {path.stem: path for ending in endings for path in sorted(missing.parent.glob(f"*{ending}"))}
    match = nearest(missing.stem, files)
    return None if match is None else str(files[match])
