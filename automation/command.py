"""How the programs run: one command each, results for later steps on stdout, words for people on stderr."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from clip_factory.errors import FactoryError
from clip_factory.terminal import err, plain, run_app

OUTPUT = re.compile(r"[\x20-\x7e]*")
SHA = re.compile(r"[0-9a-f]{40}")
AllowUnproven = Annotated[
    bool,
    typer.Option("--allow-unproven", help="What is not proven may be published too.", envvar="FACTORY_ALLOW_UNPROVEN"),
]
"""Policy of a repository: an option of the programs that publish, or say what will be."""


def application(name: str, function: Callable[..., None]) -> typer.Typer:
    """The command line of `python -m automation.NAME`."""
    app = typer.Typer(
        name=f"python -m automation.{name}",
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(function)
    return app


def program(name: str, function: Callable[..., None]) -> None:
    """Run `function` as the command `python -m automation.NAME`, and leave with the factory's exit codes."""
    run_app(application(name, function))


def outputs(**values: object) -> None:
    """Print `name=value` lines for $GITHUB_OUTPUT; what is no text is written as JSON.

    Raises:
        FactoryError: A value has a sign that could end its line: it would become an output of its own.
    """
    lines = []
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, separators=(",", ":"))
        if not OUTPUT.fullmatch(text):
            raise FactoryError(f"the output {name} is {text[:80]!a}: expected one line of ASCII")
        lines.append(f"{name}={text}")
    print("\n".join(lines))  # noqa: T201 - rich would wrap or color


def say(text: object) -> None:
    """Print words for people to stderr, with nothing in them that a terminal or a runner's log would run_app."""
    for line in str(text).splitlines():
        shown = plain(line)
        err.print(f" {shown}" if shown.lstrip().startswith("::") else shown)  # `::` begins a command to the runner


def environment(name: str, purpose: str) -> str:
    """The value of an environment variable that GitHub sets.

    Raises:
        FactoryError: It is not set.
    """
    value = os.environ.get(name, "")
    if not value:
        raise FactoryError(f"{name} is not set: {purpose}", hint="GitHub sets it in every job; set it to try by hand")
    return value


def read_json(path: Path, most: int) -> Any:
    """A JSON file of at most `most` bytes.

    Raises:
        FactoryError: It is larger, cannot be read, or is no JSON.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise FactoryError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > most:
        raise FactoryError(f"{path}: more than {most:,} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FactoryError(f"{path}: not JSON ({type(error).__name__})") from None
