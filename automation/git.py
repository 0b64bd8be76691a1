"""What git keeps: commits and files are read from the repository's objects, never from the working tree."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from clip_factory.errors import FactoryError

SECONDS = 120
"""How long one call of git may take."""
REGULAR = ("100644", "100755")


@dataclass(frozen=True)
class Entry:
    """One file of a commit."""

    path: str
    mode: str
    """Git's: 100644 a file, 100755 one that can be run, 120000 a link, 160000 a repository of its own."""
    blob: str
    """Hash of the content."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Git:
    """A repository on this machine."""

    root: Path

    def commit(self, ref: str) -> str:
        """The hash of the commit that a reference stands for.

        Raises:
            FactoryError: There is none.
        """
        try:
            return self._text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").strip()
        except FactoryError:
            hint = "check out the whole history: fetch-depth: 0"
            raise FactoryError(f"{ref!a} is no commit of the repository at {self.root}", hint=hint) from None

    def changed(self, base: str, head: str) -> list[str]:
        """The paths that `head` adds, changes or deletes since it left `base`."""
        return self._names("diff", "--name-only", "-z", "--no-renames", f"{base}...{head}", "--")

    def differs(self, one: str, other: str, below: list[str]) -> list[str]:
        """The paths at or below some that are not the same in two commits."""
        return self._names("--literal-pathspecs", "diff", "--name-only", "-z", "--no-renames", one, other, "--", *below)

    def files(self, commit: str) -> dict[str, Entry]:
        """The files of a commit, by path."""
        entries = {}
        for line in self._names("ls-tree", "-r", "-z", "--long", commit):
            about, _, path = line.partition("\t")
            mode, _, blob, size = about.split()
            entries[path] = Entry(path, mode, blob, int(size) if size.isdigit() else 0)
        return entries

    def read(self, entry: Entry) -> bytes:
        """The content of a file."""
        return self._run("cat-file", "blob", entry.blob)

    def _names(self, *words: str) -> list[str]:
        """What a command with `-z` lists."""
        return [name for name in self._text(*words).split("\0") if name]

    def _text(self, *words: str) -> str:
        return self._run(*words).decode("utf-8", "surrogateescape")

    def _run(self, *words: str) -> bytes:
        git = shutil.which("git")
        if git is None:
            raise FactoryError("git is not installed")
        # a list of words, no shell; what comes from outside is a hash, or stands behind --end-of-options or --
        done = subprocess.run(  # noqa: S603
            [git, "-C", str(self.root), *words], capture_output=True, timeout=SECONDS, check=False
        )
        if done.returncode:
            message = re.sub(r"\s+", " ", done.stderr.decode("utf-8", "replace"))[:300]
            raise FactoryError(f"git {words[0]} fails in {self.root}: {message!a}")
        return done.stdout
