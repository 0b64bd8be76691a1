"""Photos copied to a folder: never moved, and never in the place of another file."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clip_factory.errors import ImagesError
from clip_factory.runtime.atomic import atomic_new
from clip_factory.runtime.inputs import covers


@dataclass
class Copies:
    """A folder that photos are copied to, and how many were."""

    folder: Path
    made: int = 0
    there: int = 0
    """Photos that lay there already, byte for byte: the same command may be given again."""
    samples: int = 0
    """Samples of videos, which are no files and are not copied."""

    @classmethod
    def to(cls, folder: Path, arguments: Iterable[str]) -> Copies:
        """The folder, made if it is not there.

        Args:
            folder: Where copies go.
            arguments: What the photos are read from, as `inputs` takes them.

        Raises:
            ImagesError: It lies where the next reading would take the copies for photos, or is no folder.
        """
        if folder.exists() and not folder.is_dir():
            raise ImagesError(f"{folder}: a file, where copies need a folder", hint="name a folder")
        source = next((one for one in arguments if covers(one, folder)), None)
        if source is not None:
            raise ImagesError(
                f"{folder} lies within {source}: the copies would be among its photos the next time",
                hint="copy to a folder outside",
            )
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def add(self, path: str, name: str) -> Path:
        """Copy a photo, with its times.

        Args:
            path: The photo.
            name: Where it goes below the folder. Where another file has that place, the folders that the photo lies
                in come before it, one after the other, until the place is free.

        Returns:
            Where the copy is.

        Raises:
            ImagesError: Every place is taken.
        """
        source = Path(os.path.abspath(path))
        for place in _places(source, name):
            target = self.folder / place
            if _is_copy(source, target):
                self.there += 1
                return target
            if _copied(source, target):
                self.made += 1
                return target
        raise ImagesError(f"{path}: other files have every name for it in {self.folder}", hint="copy to another folder")

    @property
    def summary(self) -> str:
        """What was done, in words."""
        again = f"; {self.there} were there already" if self.there else ""
        samples = f"; {self.samples} samples of videos are no files, and were not copied" if self.samples else ""
        return f"copied {self.made} photo{'' if self.made == 1 else 's'} to {self.folder}{again}{samples}"


def _places(source: Path, name: str) -> list[Path]:
    """The name as it is wanted, then longer and longer tails of the photo's own path."""
    wanted = [part for part in PurePosixPath(name).parts if part not in ("..", "/", source.anchor)]
    own = source.parts[1:]
    return [Path(*wanted), *(Path(*own[-length:]) for length in range(len(wanted) + 1, len(own) + 1))]


def _is_copy(source: Path, target: Path) -> bool:
    try:
        return target.is_file() and filecmp.cmp(source, target, shallow=False)
    except OSError:
        return False


def _copied(source: Path, target: Path) -> bool:
    """Copy under a temporary name, then take the right one; False if another file has it, or a folder on the way."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return False
    try:  # not flushed to the disk: the photo itself stays where it is
        with atomic_new(target, sync=False, need_links=False) as temporary:
            shutil.copyfile(source, temporary)
            with suppress(OSError):  # times are a courtesy
                shutil.copystat(source, temporary)
    except FileExistsError:
        return False
    return True
