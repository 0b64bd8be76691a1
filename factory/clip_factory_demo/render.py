"""Make the demo's pictures; `factory demo` calls `render_set`.

Nothing is downloaded. Each picture is a small ray-traced scene with random things, ground, light, lens and sensor,
fixed by the seed and the picture's number, so that the same seed writes the same bytes on the same machine.
"""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from clip_factory.runtime.processors import usable_cpus
from clip_factory_demo.hard_cases import WRITERS, Truth
from clip_factory_demo.staging import KINDS, photograph

HERE = Path(__file__).parent
YES = "soccer ball"
"""The class of which the demo's question asks."""
YES_SHARE = 0.45
"""Share of the pictures that show it; the other classes share the rest evenly."""

MARK = ".rendered"
"""File in the output folder that lists the pictures made there, so that a later call removes those and no others."""
DRAFT = ".rendering"
"""Folder in the output folder where the pictures grow; a killed call leaves nothing else behind."""

Progress = Callable[[int, int], None]
"""Called with the number of pictures made and the number wanted."""


def _classes(count: int, seed: int) -> list[str]:
    """The class of every picture, in random order."""
    yes = round(count * YES_SHARE)
    others = [name for name in KINDS if name != YES]
    names = [YES] * yes + [others[k % len(others)] for k in range(count - yes)]
    return [names[k] for k in np.random.default_rng([seed, 0]).permutation(count)]


def photographs(folder: Path, count: int, seed: int, progress: Progress | None) -> Truth:
    """Render and save the ordinary pictures, in as many processes as there are processors."""
    workers = min(usable_cpus(), count)
    shares = [[str(value) for value in (folder, count, seed, first, workers)] for first in range(1, workers + 1)]
    if workers == 1:
        _render_share(folder, count, seed, 1, 1)
    else:
        command = [sys.executable, "-c", WORKER]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        started = [subprocess.Popen([*command, *share], env=environment) for share in shares]  # noqa: S603 - this file
        try:
            while any(one.poll() is None for one in started):
                time.sleep(0.1)
                if progress:
                    progress(sum(1 for _ in folder.glob("img_*.jpg")), count)
        finally:
            for one in started:
                one.kill()
        if any(one.wait() for one in started):
            raise RuntimeError("a process that renders pictures has failed")
    if progress:
        progress(count, count)
    return [(_file(number), name) for number, name in enumerate(_classes(count, seed), 1)]


WORKER = (
    "import sys; from clip_factory_demo.render import _render_share as go; go(sys.argv[1], *map(int, sys.argv[2:]))"
)
"""What a process of its own runs."""


def _render_share(folder: Path | str, count: int, seed: int, first: int, step: int) -> None:
    """Render and save every `step`-th picture from `first` on; quality varies as between cameras."""
    names = _classes(count, seed)
    for number in range(first, count + 1, step):
        rng = np.random.default_rng([seed, number])
        picture = Image.fromarray(photograph(names[number - 1], rng))
        draft = Path(folder, f".{_file(number)}")
        picture.save(draft, "JPEG", quality=int(rng.integers(72, 95)))
        draft.rename(Path(folder, _file(number)))  # a picture that is seen is whole


def _file(number: int) -> str:
    return f"img_{number:04d}.jpg"


def _hard_cases(folder: Path, first: int, seed: int) -> Truth:
    """Write the awkward files of hard_cases.py, numbered from `first`."""
    truth: Truth = []
    for write, files in WRITERS.items():
        truth += write(folder, first, np.random.default_rng([seed, first]))
        first += files
    return truth


def _clear(out: Path) -> None:
    """Remove what an earlier call left in `out`; FileExistsError if something else lies in the way."""
    mark = out / MARK
    if mark.exists():
        for name in mark.read_text(encoding="utf-8").split():
            (out / "images" / name).unlink(missing_ok=True)
        return
    ours = ["images", "truth.csv"] + (["scenario.yaml"] if out.resolve() != HERE.resolve() else [])
    in_the_way = [name for name in ours if (out / name).exists()]
    if in_the_way:
        raise FileExistsError(f"{out} already holds {', '.join(in_the_way)}, not made here; name another folder")


def _write_truth(path: Path, truth: Truth) -> None:
    """Write the answers to the demo's question as `path,label` rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "label"])
        rows.writerows((name, "yes" if kind == YES else "no") for name, kind in truth)


def render_set(out: Path | str, count: int = 400, seed: int = 0, progress: Progress | None = None) -> Truth:
    """Fill `out` with the demo: images/, truth.csv and scenario.yaml (kept if there); an older set is replaced.

    Args:
        out: Folder, made if missing.
        count: Ordinary pictures, at least 1; the awkward files of hard_cases.py come on top.
        seed: Any integer >= 0; the same seed writes the same bytes.
        progress: Called after every ordinary picture.

    Returns:
        (file name inside images/, class name) of every file that can be read. truth.csv, outside images/ so that no
        stage sees it by accident, holds the same files with the answer to the question, as `path,label` rows.

    Raises:
        FileExistsError: `out` holds pictures, answers or a scenario that no earlier call made.
    """
    out = Path(out)
    _clear(out)
    folder = out / DRAFT
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth = photographs(folder, count, seed, progress) + _hard_cases(folder, count + 1, seed)
    made = sorted(folder.iterdir())
    (out / MARK).write_text("".join(f"{file.name}\n" for file in made), encoding="utf-8")
    (out / "images").mkdir(exist_ok=True)
    for file in made:
        file.replace(out / "images" / file.name)
    folder.rmdir()
    _write_truth(out / "truth.csv", truth)
    if not (out / "scenario.yaml").exists():
        shutil.copyfile(HERE / "scenario.yaml", out / "scenario.yaml")
    return truth
