"""Photos copied into a folder of each class; the photos themselves stay where they are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from clip_factory.errors import ImagesError
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.atomic import atomic


def sort_into(target: Path, root: Path, paths: Sequence[str], names: Sequence[str]) -> int:
    """Copy N photos to `target/NAME/`, and return how many were copied now.

    A photo that is there already, byte for byte, is not copied again. Of two different ones with one file name, the
    second gets the start of its hash into its name: nothing is overwritten.

    Raises:
        ImagesError: The target lies in the folder of the photos, or cannot be written.
    """
    if target.resolve().is_relative_to(root.resolve()):
        raise ImagesError(f"{target} lies in the folder of the photos", hint="name a folder outside: --sort-into DIR")
    copied = 0
    try:
        for path, name in zip(paths, names, strict=True):
            folder = target / file_name(name)
            folder.mkdir(parents=True, exist_ok=True)
            copied += _copy(root / path, folder)
    except OSError as error:
        raise ImagesError(f"{target}: cannot be written ({error})") from None
    return copied


def file_name(name: str) -> str:
    """A class as the name of a folder or file: letters, digits, `-` and `_`."""
    safe = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in name.strip()).strip("-")
    return safe[:80] or "class"


def _copy(source: Path, folder: Path) -> bool:
    target = folder / source.name
    if target.exists():
        digest = sha256_file(source)
        if sha256_file(target) == digest:
            return False
        target = folder / f"{source.stem}-{digest[:8]}{source.suffix}"
        if target.exists():
            return False
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
    return True
