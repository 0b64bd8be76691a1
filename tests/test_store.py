"""The embedding store: once written never lost, whoever else writes and whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clip_factory.encoders import EmbeddingStore
from clip_factory.errors import StoreError

ABOUT: dict[str, object] = {"name": "test"}


def unit(n: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_come_back_in_the_order_asked(tmp_path: Path) -> None:
    store, vectors = EmbeddingStore(tmp_path), unit(4)
    with store.writer("t", ABOUT) as writer:
        writer.add(["a", "b"], vectors[:2])
        writer.add(["c", "d"], vectors[2:])

    found = store.get("t", ["d", "a", "a"])

    assert found == pytest.approx(vectors[[3, 0, 0]], abs=2e-3)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1])
    assert store.known("t") == {"a", "b", "c", "d"}
    assert len(list(tmp_path.rglob("*.parquet"))) == 1, "a writer folds its own shards into one"


def test_teachers_do_not_mix(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    with store.writer("one", ABOUT) as writer:
        writer.add(["a"], unit(1))

    assert store.known("two") == set()
    with pytest.raises(StoreError, match="1 of 1 images have no vectors"):
        store.get("two", ["a"])


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    with store.writer("t", ABOUT) as writer:
        writer.add(["a"], unit(1))
    shard = next(tmp_path.rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:50])

    with pytest.raises(StoreError, match="damaged") as caught:
        store.known("t")
    assert str(shard) in str(caught.value)


WRITER = """
import sys, numpy as np
from pathlib import Path
from clip_factory.store import EmbeddingStore
root, name, batches = sys.argv[1:]
with EmbeddingStore(Path(root)).writer("t", {"name": "test"}) as writer:
    for batch in range(int(batches)):
        writer.add([f"{name}-{batch}-{i}" for i in range(4)], np.eye(4, dtype=np.float32))
        print(batch, flush=True)
"""


def start_writer(root: Path, name: str, batches: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), name, str(batches)], stdout=subprocess.PIPE, text=True
    )


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    writers = [start_writer(tmp_path, name, 40) for name in ("x", "y")]
    while any(writer.poll() is None for writer in writers):
        store.known("t")  # a reader in the middle of it all sees whole shards only
        time.sleep(0.01)

    assert [writer.wait() for writer in writers] == [0, 0]
    assert store.known("t") == {f"{n}-{b}-{i}" for n in "xy" for b in range(40) for i in range(4)}


def test_kill_9_loses_the_batch_in_flight_at_most(tmp_path: Path) -> None:
    writer = start_writer(tmp_path, "x", 10_000)
    assert writer.stdout is not None
    written = [int(writer.stdout.readline()) for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()

    known = EmbeddingStore(tmp_path).known("t")

    assert {f"x-{b}-{i}" for b in written for i in range(4)} <= known
    assert len(known) % 4 == 0, "no half batch"
