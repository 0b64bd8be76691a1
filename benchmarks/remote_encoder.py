"""Photos a second by way of an encoder's server, against the same encoder in the process that reads the photos.

    python benchmarks/remote_encoder.py PHOTOS --photos 400 --encoder offline --clients 1 4

Reads the same photos each time into a new store, and prints photos a second and the processors' time for a photo, and
their ratios to those without a server. Server and clients share this machine's processors: what is measured is what the
way costs, not what another machine would gain. `--encoder none` stands for an encoder that takes no time: what is left
is the way itself.

    python benchmarks/remote_encoder.py PHOTOS --photos 100 --formats

prints what a photo would cost in several lossless formats, and as the file that it comes from.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import httpx2
import numpy as np
from PIL import Image

CLIENT = "import sys; from benchmarks.remote_encoder import run_client; run_client(*sys.argv[1:])"


class Cost(NamedTuple):
    """What embedding costs."""

    seconds: float
    processor: float
    """Seconds of all processors, which do not grow when others use the machine, too."""


class NoEncoder:
    """Vectors of length 1 that cost nothing."""

    name = key = "none"
    license, dim, image_size, logit_scale, logit_bias = "CC0-1.0", 512, 224, 100.0, 0.0

    def __init__(self) -> None:
        self.about: dict[str, object] = {"name": "none", "key": "none", "license": self.license, "dim": self.dim}

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """float32 `(N, 512)`."""
        return np.eye(1, self.dim, dtype=np.float32).repeat(len(images), axis=0)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 `(P, 512)`."""
        return np.eye(1, self.dim, dtype=np.float32).repeat(len(texts), axis=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--photos", type=int, default=400, dest="count")
    parser.add_argument("--encoder", default="offline")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--formats", action="store_true")
    options = parser.parse_args()
    from clip_factory.runtime import find_images

    files = sorted(find_images(options.photos))[: options.count]
    if options.formats:
        compare_formats(files)
        return
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            here = cost_here(options.encoder, files, Path(folder) / "here")
            report("without a server", len(files), here, here)
            for clients in options.clients:
                through = cost_through_server(options.encoder, files, clients, Path(folder))
                report(f"{clients} client{'s' * (clients > 1)}", len(files), through, here)


def compare_formats(files: Sequence[Path]) -> None:
    """Bytes, and milliseconds to write and to read, of a photo as an image tower of 224 pixels would be sent it."""
    from clip_factory.runtime.preprocessing import read_rgb

    images = [read_rgb(file, min_side=224) for file in files]
    pixels = sum(image.width * image.height for image in images) / len(images)
    print(
        f"{len(images)} photos of {pixels:,.0f} pixels; the files: {mean([f.stat().st_size for f in files]):,.0f} bytes"
    )
    settings: dict[str, dict[str, Any]] = {
        "pixels": {},
        "PNG, level 1": {"format": "PNG", "compress_level": 1},
        "lossless WebP, fastest": {"format": "WEBP", "lossless": True, "quality": 0, "method": 0},
    }
    for name, options in settings.items():
        start = time.perf_counter()
        written = [encode(image, options) for image in images]
        middle = time.perf_counter()
        for image, data in zip(images, written, strict=True):
            Image.open(io.BytesIO(data)).load() if options else Image.frombytes("RGB", image.size, data)
        times = np.diff([start, middle, time.perf_counter()]) * 1e3 / len(images)
        print(f"{name:<24}{mean(list(map(len, written))):>12,.0f} bytes{times[0]:>8.2f} ms{times[1]:>8.2f} ms")


def encode(image: Image.Image, options: dict[str, Any]) -> bytes:
    """An image in a format, or its pixels as they are."""
    if not options:
        return image.tobytes()
    image.save(file := io.BytesIO(), **options)
    return file.getvalue()


def loaded(name: str) -> Any:
    """The encoder of a name."""
    from clip_factory.encoders import load_encoder
    from clip_factory.scenario import Teacher

    return NoEncoder() if name == "none" else load_encoder(Teacher.parse(name))


def embedded(encoder: Any, files: Sequence[Path], store: Path) -> Cost:
    """What it costs to embed photos into a new store."""
    from clip_factory.encoders import EmbeddingStore, embed
    from clip_factory.images.photo import Photo

    photos = [Photo.of(file) for file in files]
    start, used = time.perf_counter(), time.process_time()
    embed(encoder, photos, EmbeddingStore(store), 64, lambda done, total: None)
    return Cost(time.perf_counter() - start, time.process_time() - used)


def cost_here(name: str, files: Sequence[Path], store: Path) -> Cost:
    """Without a server; the first batch, which is slower, is left out of the count as it is for the server."""
    encoder = loaded(name)
    encoder.embed_images([Image.new("RGB", (encoder.image_size, encoder.image_size))] * 8)
    return embedded(encoder, files, store)


def run_client(url: str, names: str, store: str) -> None:
    """Embed the photos that a file names, once a line comes in; print the processor's seconds."""
    encoder, files = loaded(url), [Path(line) for line in Path(names).read_text().splitlines()]
    embedded(encoder, [], Path(store))
    print("ready", flush=True)
    sys.stdin.readline()
    print(embedded(encoder, files, Path(store)).processor, flush=True)


def cost_through_server(name: str, files: Sequence[Path], clients: int, folder: Path) -> Cost:
    """From a signal to all clients until the last one is done; of the server and all clients."""
    command = [sys.executable, __file__, "--serve", name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        url = server.stdout.readline().strip()
        processes = []
        for index in range(clients):
            part = folder / f"{clients}-{index}.txt"
            part.write_text("\n".join(str(file.resolve()) for file in files[index::clients]))
            arguments = [sys.executable, "-c", CLIENT, url, str(part), str(folder / f"store-{clients}-{index}")]
            pipe = subprocess.PIPE
            processes.append(subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, env=environment))
        for process in processes:
            process.stdout.readline()
        start, used = time.perf_counter(), server_seconds(url)
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        of_clients = sum(float(process.stdout.readline()) for process in processes)
        cost = Cost(time.perf_counter() - start, server_seconds(url) - used + of_clients)
        for process in processes:
            process.communicate()
        server.terminate()
    return cost


def server_seconds(url: str) -> float:
    """Seconds of the processor that a server has used."""
    text = httpx2.get(f"{url}/metrics").text
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("process_cpu_seconds_total ")))


def serve(name: str) -> None:
    """Serve an encoder at any free port, and print the address."""
    from functools import partial

    from clip_factory.encoders.wire_format import Limits
    from clip_factory.serve.embedding_app import Settings
    from clip_factory.serve.encoder_server import prepare

    settings = Settings(Limits.of_pixels(178_000_000, 120), 64, 0.005, 1024, 1_100_000_000)
    made = prepare(partial(loaded, name), "127.0.0.1", 0, None, settings)
    made.encoder.embed_images([Image.new("RGB", (made.encoder.image_size, made.encoder.image_size))] * 8)
    made.serve(lambda url: print(url, flush=True))


def report(what: str, count: int, cost: Cost, base: Cost) -> None:
    """One line."""
    rates = f"{count / cost.seconds:>8.1f} photos/s, {base.seconds / cost.seconds:.2f} of without"
    processor = f"{1e3 * cost.processor / count:>8.1f} ms of processors a photo, {cost.processor / base.processor:.2f}"
    print(f"{what:<18}{rates}{processor} of without", flush=True)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["--serve"] else main()
