"""What the actions of others do, done on this machine: a closed list, anything else is refused."""

from __future__ import annotations

import fnmatch
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from support.git import git

if TYPE_CHECKING:
    from support.workflow_runner import Work


class ActionError(Exception):
    """An action fails, as it does on GitHub too."""


HEAVY = ("torch", "torchvision", "lightning", "open_clip", "timm", "transformers")
"""Not there where only the extra `automation` is installed."""
BLOCK = """import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy}:
            raise ModuleNotFoundError(f"{{name}} is not in the extra `automation`", name=name)
sys.meta_path.insert(0, Block())
"""
UV = """#!/bin/sh
# Stands in for uv: `uv pip install ... --editable ROOT[EXTRAS]` makes this machine's packages importable, and the
# folders of ROOT that hatchling does.
set -eu
[ "$1 $2" = "pip install" ]
while [ $# -gt 0 ]; do
    case "$1" in
        --constraint) test -s "$2" ;;
        --editable) target=$2 ;;
    esac
    shift
done
root=${target%\\[*}; extras=${target##*\\[}
"$VIRTUAL_ENV/bin/python" -c 'import sys, tomllib
from pathlib import Path
root = Path(sys.argv[1]).resolve()
build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
packages = build["targets"]["wheel"]["packages"]
for folder in build.get("dev-mode-dirs") or {str(Path(name).parent) for name in packages}:
    print(root / folder)' "$root" > "$VIRTUAL_ENV/site/a.pth"
if [ "$extras" = "automation]" ]; then echo "import block" > "$VIRTUAL_ENV/site/b.pth"; fi
"""


def checkout(work: Work, given: dict) -> dict:
    """actions/checkout: with `fetch-depth: 0` the history and all branches, else one commit."""
    assert given["persist-credentials"] is False, "the token would lie in .git/config"
    assert given.get("repository", work.run.event_slug) == work.run.event_slug, "only this repository is there"
    target = work.workspace / given.get("path", "")
    ref = given.get("ref") or work.run.event.sha
    target.mkdir(parents=True, exist_ok=True)
    for words in (["init", "-q"], ["remote", "add", "origin", f"file://{work.run.runner.site.bare}"]):
        git(target, *words)
    named = ref if ref.startswith("refs/") or len(ref) == 40 else f"refs/heads/{ref}"
    if given.get("fetch-depth") == 0:
        git(target, "fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")
    depth = [] if given.get("fetch-depth") == 0 else ["--depth", "1"]
    git(target, "fetch", "-q", *depth, "origin", named)
    git(target, "checkout", "-q", "--detach", "FETCH_HEAD")
    return {}


def setup_uv(work: Work, given: dict) -> dict:
    """astral-sh/setup-uv: an environment with this Python, and a `uv` that installs nothing."""
    home = Path(given["venv-path"])
    site = home / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (home / "site").symlink_to(site)
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (home / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n", encoding="utf-8")
    here = [path for path in sys.path if path.endswith("-packages")]
    (site / "c.pth").write_text("\n".join(here) + "\n", encoding="utf-8")
    (site / "block.py").write_text(BLOCK.format(heavy=HEAVY), encoding="utf-8")
    uv = home / "bin" / "uv"
    uv.write_text(UV, encoding="utf-8")
    uv.chmod(0o755)
    work.environment["VIRTUAL_ENV"] = str(home)
    work.environment["PATH"] = f"{home / 'bin'}:{work.environment['PATH']}"
    return {}


def cache_restore(work: Work, given: dict) -> dict:
    """actions/cache/restore: the exact key, else the newest that `restore-keys` begin; from this branch or main."""
    seen = [one for one in work.run.runner.caches if one.ref in (work.run.event.ref, "refs/heads/main")]
    prefixes = given.get("restore-keys", "").split()
    exact = [one for one in seen if one.key == given["key"]]
    found = exact or [one for prefix in prefixes for one in reversed(seen) if one.key.startswith(prefix)]
    if not found:
        return {"cache-hit": "false"}
    shutil.copytree(found[0].content, work.workspace / given["path"], dirs_exist_ok=True)
    return {"cache-hit": str(bool(exact)).lower(), "cache-matched-key": found[0].key}


def cache_save(work: Work, given: dict) -> dict:
    """actions/cache/save: an entry is never changed."""
    work.run.runner.keep(work.run.event.ref, given["key"], work.workspace / given["path"])
    return {}


def cache(work: Work, given: dict) -> dict:
    """actions/cache: restores now, and saves when the job has succeeded."""
    outputs = cache_restore(work, given)
    if outputs["cache-hit"] == "false":
        work.after.append(lambda: cache_save(work, given))
    return outputs


def upload(work: Work, given: dict) -> dict:
    """actions/upload-artifact: what lies in a folder, hidden files only where they are asked for."""
    source, target = work.workspace / given["path"], work.run.artifacts / given["name"]
    assert given.get("overwrite") is True or not target.exists(), f"there are two artifacts {given['name']}"
    hidden = None if given.get("include-hidden-files") is True else shutil.ignore_patterns(".*")
    if source.is_dir() and any(source.iterdir()):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=hidden)
    return {}


def download(work: Work, given: dict) -> dict:
    """actions/download-artifact: one by name into `path`, or all of a pattern each into a folder of its name."""
    target = work.workspace / given["path"]
    if name := given.get("name"):
        expired = work.run.runner.expired
        if (expired and name.startswith(expired)) or not (work.run.artifacts / name).is_dir():
            raise ActionError(f"no artifact {name}")
        shutil.copytree(work.run.artifacts / name, target, dirs_exist_ok=True)
        return {}
    for artifact in sorted(work.run.artifacts.iterdir()):
        if fnmatch.fnmatch(artifact.name, given["pattern"]):
            shutil.copytree(artifact, target / artifact.name)
    return {}


ACTIONS: dict[str, Callable[[Work, dict], dict]] = {
    "actions/checkout": checkout,
    "astral-sh/setup-uv": setup_uv,
    "actions/cache": cache,
    "actions/cache/restore": cache_restore,
    "actions/cache/save": cache_save,
    "actions/upload-artifact": upload,
    "actions/download-artifact": download,
}
