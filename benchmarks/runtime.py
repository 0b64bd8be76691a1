"""What the base install costs and how fast it answers, in an environment that holds nothing else.

    python -m build --wheel
    python -m venv bare && bare/bin/pip install dist/clip_factory-*.whl
    bare/bin/python benchmarks/runtime.py MODEL.onnx PHOTOS --count 1000 --rounds 5
    bare/bin/python benchmarks/runtime.py MODEL.onnx PHOTOS --count 1000 --enlarge 1600 --grain 5

Enlarged photos are smooth, and decode faster than those of a camera; `--grain` makes their files as large as its.

Each round does all things once, one after the other, so that a noisy machine slows all alike; medians are printed.
Beside the times by the clock stand those of the processor, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from PIL import Image

from clip_factory.runtime import Model, find_images, read_rgb, to_square
from clip_factory.runtime.processors import usable_cpus

BARE = "import onnxruntime, numpy, PIL.Image"
OURS = "from clip_factory.runtime import Model"
CLOCK = "import time\nwall, cpu = time.perf_counter(), time.process_time()\n"
SAY = "\nprint(time.perf_counter() - wall, time.process_time() - cpu)"
MEMORY = "\nprint(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
ANSWER = "model = Model.load({model!r})\nmodel.predict({photos!r})"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=1000, help="photos of the folder that are used")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--enlarge", type=int, metavar="PIXELS", help="first make the longer side of each this long")
    parser.add_argument("--grain", type=float, default=0, help="noise that is added to enlarged photos, of 255")
    options = parser.parse_args()
    with prepared(options.photos, options.count, options.enlarge, options.grain) as photos:
        sides = [Image.open(photo).size for photo in photos]
        pixels = statistics.median(w * h for w, h in sides) / 1e6
        stored = statistics.median(Path(photo).stat().st_size for photo in photos) / 1000
        print(f"{len(photos)} photos, median {pixels:.2f} megapixels and {stored:.0f} kB;", end=" ")
        print(f"{usable_cpus()} processors; model of {options.model.stat().st_size / 1000:.0f} kB")
        if options.enlarge is None:
            installed()
            imports(options.rounds)
            first_answer(options.model, photos[0], options.rounds)
            memory(options.model, photos)
            single(Model.load(options.model), photos)
        folder(Model.load(options.model), photos, options.rounds)


@contextmanager
def prepared(root: Path, count: int, side: int | None, grain: float) -> Iterator[list[str]]:
    """Paths of the photos; with `side`, of enlarged copies with Gaussian noise of standard deviation `grain`."""
    paths = find_images(root)[:count]
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as made:
        if side is not None:
            for number, path in enumerate(paths):
                image = read_rgb(path)
                scale = side / max(image.size)
                size = round(image.width * scale), round(image.height * scale)
                pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32)
                pixels = pixels + grain * random.standard_normal(pixels.shape, np.float32)
                copy = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
                copy.save(Path(made, f"{number:06}.jpg"), quality=90)
            paths = find_images(made)
        yield [str(path) for path in paths]


def installed() -> None:
    """Megabytes of the package and all that it needs."""
    sizes: dict[str, float] = {}
    waiting = ["clip-factory"]
    while waiting:
        name = re.split(r"[ ;<>=!~(\[]", waiting.pop())[0].lower().replace("_", "-")
        if name in sizes:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # of another system or Python
            continue
        files = [Path(str(file.locate())) for file in package.files or ()]
        sizes[name] = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
        waiting += [need for need in package.requires or () if "extra ==" not in need]
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    print(f"installed: {sum(sizes.values()):.0f} MB;", ", ".join(f"{name} {size:.1f}" for name, size in largest[:6]))


def imports(rounds: int) -> None:
    """Import time, against the three libraries that it stands on."""
    times = [[python(CLOCK + program + SAY) for program in (BARE, OURS)] for _ in range(rounds)]
    for kind, index in (("clock", 0), ("processor", 1)):
        bare, ours = (statistics.median(float(row[i].split()[index]) for row in times) for i in (0, 1))
        print(f"{OURS}, {kind}: {ours * 1000:.0f} ms, {ours / bare:.2f} times onnxruntime, numpy, PIL")


def first_answer(model: Path, photo: str, rounds: int) -> None:
    """From loading to the first answer, in fresh processes that have imported everything."""
    program = f"{OURS}\n{CLOCK}{ANSWER.format(model=str(model), photos=[photo])}{SAY}"
    wall, cpu = zip(*(map(float, python(program).split()) for _ in range(rounds)), strict=True)
    print(
        f"load and first answer: {statistics.median(wall) * 1000:.0f} ms, processor {statistics.median(cpu) * 1000:.0f}"
    )


def memory(model: Path, photos: list[str]) -> None:
    """Resident memory after all predictions, and after the imports alone."""
    bare = int(python(BARE + MEMORY)) / 1000
    full = int(python(f"{OURS}\n{ANSWER.format(model=str(model), photos=photos)}{MEMORY}")) / 1000
    print(f"resident after {len(photos)} predictions: {full:.0f} MB; onnxruntime, numpy, PIL alone: {bare:.0f} MB")


def single(model: Model, photos: Sequence[str]) -> None:
    """One prediction at a time."""
    wall, cpu = [], []
    for photo in photos:
        started = time.perf_counter(), time.thread_time()
        model.predict([photo])
        wall.append((time.perf_counter() - started[0]) * 1000)
        cpu.append((time.thread_time() - started[1]) * 1000)
    for kind, times in (("clock", wall), ("processor", cpu)):
        p50, p99 = np.quantile(times[1:], [0.5, 0.99])
        print(f"one prediction, {kind}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


def folder(model: Model, photos: list[str], rounds: int) -> None:
    """A folder of photos, against only decoding them, and decoding and squashing them."""

    def decode(photo: str) -> None:
        with Image.open(photo) as image:
            image.load()

    def squash(photo: str) -> None:
        to_square(read_rgb(photo, min_side=model.image_size), model.image_size)

    def each(work: Callable[[str], None]) -> Callable[[], None]:
        def run() -> None:
            with ThreadPoolExecutor(usable_cpus()) as pool:
                for _ in pool.map(work, photos):
                    pass

        return run

    works = {"decode": each(decode), "squash": each(squash), "predict": lambda: list(model.iter_predict(photos))}
    wall: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.perf_counter(), time.process_time()
            work()
            wall[name].append(time.perf_counter() - started[0])
            cpu[name].append(time.process_time() - started[1])
    for kind, spent in (("clock", wall), ("processor", cpu)):
        rate = len(photos) / statistics.median(spent["predict"])
        decoded, squashed = (statistics.median(np.divide(spent[n], spent["predict"])) for n in ("decode", "squash"))
        print(
            f"folder, {kind}: {rate:.0f} images/s; {decoded:.2f} of decoding, {squashed:.2f} of decoding and squashing"
        )


def python(program: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{json.dumps(program)}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
