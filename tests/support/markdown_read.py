"""What a reader of GitHub-flavoured Markdown obeys in a text, and what it only shows: code is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

OWN_HTML = re.compile(
    r"\s*(<!-- clip-factory: [a-z0-9 =@._-]+ -->|</?details>|<details><summary>([^<]|</?b>)*</summary>"
    r'|<p><img alt="[A-Za-z ]+" src="[^"<>]+" width="\d+"></p>)\s*'
)
"""The only HTML that our comments hold."""


def tokens(text: str) -> Iterator[Token]:
    """All tokens, those within lines too."""
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table"]).parse(text):
        yield token
        yield from token.children or ()


def obeyed(text: str) -> str:
    """All that is neither code nor HTML of ours: words, addresses, HTML of others."""
    found = []
    for token in tokens(text):
        found += [str(value) for value in token.attrs.values() if token.type in ("link_open", "image")]
        if token.type in ("text", "image"):
            found.append(token.content)
    found += foreign_html(text)
    return "\n".join(found)


def foreign_html(text: str) -> list[str]:
    """Pieces of HTML that are not ours."""
    html = [token.content for token in tokens(text) if token.type.startswith("html_")]
    pieces = [piece for block in html for piece in re.split(r"(?<=>)\s*\n", block) if piece.strip()]
    return [piece for piece in pieces if not OWN_HTML.fullmatch(piece)]


def kinds(text: str) -> set[str]:
    """The kinds of tokens that are there."""
    return {token.type for token in tokens(text)}
