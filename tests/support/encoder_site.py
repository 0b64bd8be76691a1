"""An encoder's server in a thread, and one in a process of its own; the encoder needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from clip_factory.encoders.wire_format import Limits
from clip_factory.serve.embedding_app import Settings
from clip_factory.serve.encoder_server import EncoderServer, prepare
from support.axis_encoder import AxisEncoder

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-many-letters"
COUNTING = '''
import os
import sys
import threading
import time

from support.axis_encoder import AxisEncoder


class Counting(AxisEncoder):
    """Takes its time, and writes down how many photos it has embedded, a line a batch."""

    name = key = "counting-1"

    def embed_images(self, images):
        # glibc has the memory of large tensors zeroed anew in any other thread
        assert "encoders" not in sys.argv or threading.current_thread() is threading.main_thread()
        time.sleep(0.02 * len(images))
        with open(os.environ["COUNTED"], "a") as file:
            file.write(f"{len(images)}\\n")
        return super().embed_images(images)


def load(teacher):
    return Counting("red", "green", "blue")
'''


class GatedEncoder(AxisEncoder):
    """Embeds when it is let, and writes down its batches."""

    def __init__(self) -> None:
        super().__init__("red", "green", "blue")
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.batches: list[int] = []
        self.gate.set()

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.batches.append(len(images))
        self.entered.release()
        assert self.gate.wait(30)
        return super().embed_images(images)


def settings(**given: Any) -> Settings:
    """Small limits, but for those that are given."""
    limits = {"pixels": 10_000, "seconds": 20, "photos": 16, "texts": 8}
    limits = Limits.of_pixels(**{name: given.pop(name, value) for name, value in limits.items()})
    return Settings(limits, **{"max_batch": 8, "max_wait": 0.001, "max_waiting": 32, "max_held": 50_000_000, **given})


@contextmanager
def served(encoder: Any, token: str | None = None, **given: Any) -> Iterator[EncoderServer]:
    """A server that answers for as long as the context lasts."""
    made = prepare(lambda: encoder, "127.0.0.1", 0, token, settings(**given))
    thread = threading.Thread(target=made.serve, args=(lambda url: None,))
    thread.start()
    try:
        yield made
    finally:
        made.serving.should_exit = True
        thread.join()


def site(folder: Path) -> dict[str, str]:
    """An installed package with the encoder `counting`; the environment in which processes know it."""
    dist = folder / "counting-1.0.dist-info"
    dist.mkdir(parents=True)
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text("[clip_factory.encoders]\ncounting = counting_encoder:load\n")
    (folder / "counting_encoder.py").write_text(COUNTING)
    paths = (folder, ROOT / "factory", ROOT / "tests")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COUNTED": str(folder / "counted.txt")}


def counted(environment: dict[str, str]) -> int:
    """How many photos the encoder `counting` has embedded, in all of its processes."""
    return sum(map(int, Path(environment["COUNTED"]).read_text().split()))


def start(environment: dict[str, str], port: int = 0, *options: str) -> tuple[subprocess.Popen[str], str]:
    """`factory encoders serve counting`, once it answers, and its address."""
    command = [sys.executable, "-m", "clip_factory", "encoders", "serve", "counting", "--port", str(port), *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:"), process.stderr.read()
    return process, address


def pictures(count: int, side: int = 8, seed: int = 0) -> list[Image.Image]:
    """Pictures no two of which are alike."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side + 1, 3), np.uint8)
    return [Image.fromarray(one) for one in pixels]


def metric(text: str, name: str, **labels: str) -> float:
    """A value of a server's metrics."""
    values = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert values, f"no {name} {labels}"
    return sum(values)
