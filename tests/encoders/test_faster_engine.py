"""`auto` on a CPU: an encoder is exported once where that pays, and runs in what is faster."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_factory.encoders import faster_engine, load_encoder, with_faster_engine
from clip_factory.encoders import onnx_export as exporting
from clip_factory.encoders.onnx_export import pictures
from clip_factory.errors import TeacherError
from clip_factory.runtime.onnx_encoder import OnnxEncoder
from clip_factory.scenario import Teacher

MANY = faster_engine.MIN_PHOTOS


@pytest.fixture
def teacher(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> Teacher:
    monkeypatch.setattr(faster_engine, "recommended_device", lambda: "cpu")
    return Teacher(model=f"local-dir:{tiny_clip}", batch_size=7)


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were exported into."""
    made: list[Path] = []
    real = exporting.export_encoder
    monkeypatch.setattr(exporting, "export_encoder", lambda encoder, to: made.append(to) or real(encoder, to))
    return made


def faster(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    monkeypatch.setattr(faster_engine, "_speedup", lambda *_: times)


def remembered() -> list[dict]:
    return [json.loads(path.read_text()) for path in Path(os.environ["FACTORY_CACHE"]).rglob("engine.json")]


def test_for_few_photos_nothing_is_exported(teacher: Teacher, exports: list[Path]) -> None:
    assert with_faster_engine(teacher, lambda: MANY - 1) == teacher
    assert exports == [] and remembered() == []


def test_what_is_faster_is_exported_once_and_used_for_any_number(
    teacher: Teacher, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, 2.0)
    chosen = with_faster_engine(teacher, lambda: MANY)
    assert chosen == teacher.model_copy(update={"engine": "onnx"})
    assert with_faster_engine(teacher, lambda: 1) == chosen
    here, there = load_encoder(chosen), load_encoder(teacher)
    assert isinstance(here, OnnxEncoder) and len(exports) == 1
    photos = pictures(32, 5)
    assert np.allclose(here.embed_images(photos), there.embed_images(photos), atol=1e-5)
    assert here.key != there.key and here.key.startswith("onnx-fp32-")
    assert here.about["engine"] == "onnxruntime, fp32"


def test_what_is_no_faster_stays_in_torch_and_leaves_no_files(
    teacher: Teacher, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, faster_engine.MIN_SPEEDUP - 0.01)
    assert with_faster_engine(teacher, lambda: MANY) == teacher
    assert with_faster_engine(teacher, lambda: MANY) == teacher
    assert len(exports) == 1 and not exports[0].exists()
    assert [said["engine"] for said in remembered()] == ["torch"]


def test_what_cannot_be_exported_stays_in_torch_with_the_reason(
    teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TeacherError("its tokenizer cannot be exported")

    monkeypatch.setattr(exporting, "export_encoder", refuse)
    assert with_faster_engine(teacher, lambda: MANY) == teacher
    assert remembered()[0]["reason"] == "its tokenizer cannot be exported"


def test_a_machine_with_a_gpu_stays_in_torch(
    teacher: Teacher, exports: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faster_engine, "recommended_device", lambda: "cuda")
    assert with_faster_engine(teacher, lambda: MANY) == teacher and exports == []


def test_other_weights_are_exported_anew(teacher: Teacher, tiny_clip: Path, exports: list[Path], monkeypatch):
    faster(monkeypatch, 2.0)
    with_faster_engine(teacher, lambda: MANY)
    os.utime(tiny_clip / "open_clip_config.json", ns=(1, 1))
    with_faster_engine(teacher, lambda: MANY)
    assert len(set(exports)) == 2


def test_a_run_from_another_machine_exports_what_this_cache_lacks(teacher: Teacher, exports: list[Path]) -> None:
    chosen = teacher.model_copy(update={"engine": "onnx"})
    first = load_encoder(chosen)
    (exports[0] / "image.onnx").write_bytes(b"damaged")
    second = load_encoder(chosen)
    assert len(exports) == 2 and exports[0] == exports[1]
    assert np.allclose(first.embed_texts(["a cat"]), second.embed_texts(["a cat"]), atol=1e-6)


def test_the_faster_of_two_is_the_one_that_takes_less_time() -> None:
    class Slow:
        def __init__(self, rounds: int) -> None:
            self.rounds = rounds

        def embed_images(self, images: list[Image.Image]) -> np.ndarray:
            return np.stack([np.sort(np.random.default_rng(i).random(20_000)) for i in range(self.rounds)])

    assert faster_engine._speedup(Slow(40), Slow(4), []) > 2 > 0.5 > faster_engine._speedup(Slow(4), Slow(40), [])
