"""A model in other processes: pickled, sent to a pool, copied by a fork; and how many processors there are for it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clip_factory.runtime import Model, processors
from clip_factory.runtime.processors import cgroup_quota, usable_cpus

PICTURE = np.full((8, 8, 3), 200, np.uint8)


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return Model.load(tiny_model)


def answer(model: Model) -> float:
    return model.predict(PICTURE).probability


def test_a_model_is_pickled_as_the_bytes_of_its_file(model: Model, tiny_model: Path) -> None:
    copy = pickle.loads(pickle.dumps(model))
    assert (copy.sha256, copy.name, copy.threshold) == (model.sha256, model.name, model.threshold)
    assert copy.metadata == model.metadata
    assert answer(copy) == answer(model)
    assert len(pickle.dumps(model)) < tiny_model.stat().st_size + 1000


def test_a_pickle_that_was_altered_is_refused(model: Model) -> None:
    from clip_factory.runtime import ModelError

    data = pickle.dumps(model)
    assert data.count(b"clip-factory/1") == 1
    with pytest.raises(ModelError):
        pickle.loads(data.replace(b"clip-factory/1", b"clip-factory/9"))


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_pool_answers_as_the_process_does(model: Model, method: str) -> None:
    here = answer(model)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(answer, [model] * 4) == [here] * 4


def test_a_fork_after_loading_answers_too(model: Model) -> None:
    here = answer(model)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=lambda: results.put(answer(model)))
    child.start()
    assert results.get(timeout=60) == here
    child.join(60)


# --- processors


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    usable_cpus.cache_clear()
    yield
    usable_cpus.cache_clear()


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "rubbish"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "count"), [("50000", 1), ("100000", 1), ("250000", 3), ("max", 4)])
def test_affinity_and_quota_both_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, count: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    monkeypatch.setattr(processors, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert usable_cpus() == count


def test_torch_keeps_to_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from clip_factory import memory

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for allowed, threads in ((4, 3), (3, 3), (1, 1)):
            monkeypatch.setattr(memory, "usable_cpus", lambda allowed=allowed: allowed)
            memory.keep_to_quota()
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_no_room_counts_processors_by_itself() -> None:
    """Whoever starts threads asks `usable_cpus`, which knows of affinity and quota."""
    package = Path(processors.__file__).parents[1]
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "ThreadPoolExecutor()" not in text, file
        assert "os.cpu_count" not in text or file.name in ("processors.py", "doctor.py"), file
