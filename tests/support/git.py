"""git in repositories of the tests, with nothing of the user's configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path

IDENTITY = {"NAME": "Ada", "EMAIL": "ada@example.org"}
NOTHING = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": "/nowhere"}


def git(folder: Path, *words: str, data: bytes | None = None, **environment: str) -> str:
    """The output of one git command; fails loudly."""
    who = {f"GIT_{role}_{part}": text for role in ("AUTHOR", "COMMITTER") for part, text in IDENTITY.items()}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        input=data,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", **NOTHING, **who, **environment},
    )
    assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr.decode()}"
    return done.stdout.decode().strip()
