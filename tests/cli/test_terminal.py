"""What is printed: text from elsewhere as it is."""

from __future__ import annotations

import io

from clip_factory.terminal import SafeConsole


def test_codes_of_emoji_in_names_stay_as_they_are() -> None:
    file = io.StringIO()
    SafeConsole(file=file, width=80).print("a:dog:1.jpg of hf-hub:x:")

    assert file.getvalue() == "a:dog:1.jpg of hf-hub:x:\n"
