"""What docs/zero_shot.md says can be typed in exists: commands, options, sets of templates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clip_factory.cli.main import app

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "zero_shot.md").read_text(encoding="utf-8")
LINES = sorted(set(re.findall(r"factory ((?:zeroshot|search|prompts \w+|encoders \w+)[^`\n#]*)", DOC)))


def test_the_document_has_commands() -> None:
    assert len(LINES) > 10


@pytest.mark.parametrize("line", LINES)
def test_every_command_and_option_in_the_document_exists(line: str) -> None:
    words = line.split()
    verb = words[: 2 if words[0] in ("prompts", "encoders") else 1]
    text = CliRunner().invoke(app, [*verb, "--help"]).output

    assert "Usage" in text
    assert [option for option in re.findall(r"--[a-z][a-z-]+", line) if option not in text] == []
