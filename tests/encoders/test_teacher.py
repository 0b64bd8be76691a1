"""The open_clip road, on a tiny checkpoint that the tests make: load, embed, refuse."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from clip_factory import encoders as teacher
from clip_factory import scenario
from clip_factory.encoders import embedding
from clip_factory.encoders.decode_ahead import decode_ahead
from clip_factory.encoders.open_clip import OpenClipEncoder, load_open_clip
from clip_factory.errors import ImagesError, PluginError, TeacherError
from clip_factory.images.photo import Photo, read_photo_rgb
from clip_factory.runtime.preprocessing import read_rgb
from clip_factory.scale.executor import load_executor
from clip_factory.scale.in_process import InProcess


@pytest.fixture(scope="module")
def tiny(tiny_clip: Path) -> OpenClipEncoder:
    return load_open_clip(scenario.Teacher(model=f"local-dir:{tiny_clip}"))


def files(shapes: Path, n: int) -> list[Photo]:
    return [Photo.of(path) for path in sorted((shapes / "photos").iterdir())[:n]]


def test_vectors_have_unit_length_and_the_named_dimension(tiny: OpenClipEncoder, shapes: Path) -> None:
    images = [read_rgb(photo.path) for photo in files(shapes, 3)]

    for vectors in (tiny.embed_images(images), tiny.embed_texts(["a disc", "a bar", "x"])):
        assert vectors.shape == (3, tiny.dim)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_preprocessing_is_the_checkpoints_own(tiny: OpenClipEncoder, shapes: Path) -> None:
    tensor = tiny.preprocess([read_rgb(files(shapes, 1)[0][1])])[0]

    assert tensor.shape == (3, tiny.image_size, tiny.image_size) == (3, 32, 32)
    assert float(tensor.min()) >= -1 and float(tensor.max()) <= 1, "mean and std are 0.5 in the checkpoint"


def test_the_key_follows_weights_and_preprocessing(tiny: OpenClipEncoder, tiny_clip: Path, tmp_path: Path) -> None:
    same = teacher.load_encoder(scenario.Teacher(model=f"local-dir:{tiny_clip}"))
    config = (tiny_clip / "open_clip_config.json").read_text()
    (tmp_path / "open_clip_config.json").write_text(config.replace("[0.5, 0.5, 0.5]", "[0.4, 0.5, 0.5]", 1))
    (tmp_path / "open_clip_model.safetensors").symlink_to(tiny_clip / "open_clip_model.safetensors")
    other = teacher.load_encoder(scenario.Teacher(model=f"local-dir:{tmp_path}"))

    assert tiny.key == same.key
    assert tiny.key != other.key


def test_images_are_embedded_once(tiny: OpenClipEncoder, shapes: Path, tmp_path: Path) -> None:
    store, seen = teacher.EmbeddingStore(tmp_path), []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    assert teacher.embed(tiny, files(shapes, 5), store, 2, progress) == 5
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert teacher.embed(tiny, files(shapes, 7), store, 2, progress) == 2
    assert teacher.embed(tiny, files(shapes, 7), store, 2, progress) == 0


def test_stored_vectors_are_the_teachers(tiny: OpenClipEncoder, shapes: Path, tmp_path: Path) -> None:
    store, some = teacher.EmbeddingStore(tmp_path), files(shapes, 5)
    teacher.embed(tiny, some, store, 2, lambda *_: None)
    direct = tiny.embed_images([read_rgb(photo.path) for photo in some])

    assert store.get(tiny.key, [photo.sha256 for photo in some]) == pytest.approx(direct, abs=1e-3)


def test_a_photo_that_changed_since_the_scan_is_named(tiny: OpenClipEncoder, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "red").save(tmp_path / "x.jpg")
    store, changed = teacher.EmbeddingStore(tmp_path), Photo.of(tmp_path / "x.jpg")
    Image.new("RGB", (40, 40), "blue").save(tmp_path / "x.jpg")

    with pytest.raises(ImagesError, match=r"x\.jpg: it has changed since it was scanned"):
        teacher.embed(tiny, [changed], store, 2, lambda *_: None)
    assert store.known(tiny.key) == set(), "no vector under a hash that is another photo's"


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-33", None, "open_clip knows no such model\n  close by: ViT-B-32"),
        ("ViT-B-32-256", "laion9000", "no weights named 'laion9000'\n  set teacher.pretrained to one of: datacomp"),
        ("ViT-B-32-256", None, "no weights named None"),
        ("local-dir:/nowhere", None, "cannot be loaded"),
        ("hf-hub:nobody/nothing", None, "--teacher offline"),
    ],
)
def test_what_cannot_be_loaded_is_explained(model: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(TeacherError) as caught:
        teacher.load_encoder(scenario.Teacher(model=model, pretrained=pretrained))

    assert message in str(caught.value)


def test_a_pickle_in_place_of_weights_is_not_run(tiny_clip: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "owned"),))  # type: ignore[return-value]

    (tmp_path / "open_clip_config.json").write_text((tiny_clip / "open_clip_config.json").read_text())
    torch.save(Evil(), tmp_path / "open_clip_pytorch_model.bin")

    with pytest.raises(TeacherError):
        teacher.load_encoder(scenario.Teacher(model=f"local-dir:{tmp_path}"))
    assert not (tmp_path / "owned").exists()


def test_auto_falls_back_to_offline_with_a_warning() -> None:
    chosen, warning = teacher.resolve(scenario.Teacher(batch_size=7))

    assert (chosen.model, chosen.batch_size) == ("offline", 7)
    assert warning is not None and "neither cached nor reachable" in warning


def test_a_named_teacher_is_taken_at_its_word() -> None:
    spec = scenario.Teacher(model="ViT-B-32-256", pretrained="x")

    assert teacher.resolve(spec) == (spec, None)


def test_photos_are_decoded_in_order_and_few_wait(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def slow_to_use(photo: Photo, **size: int) -> Image.Image:
        decoded.append(photo.path)
        return read_photo_rgb(photo, **size)

    photo = 72 * 72 * 3
    monkeypatch.setattr("clip_factory.encoders.decode_ahead.read_photo_rgb", slow_to_use)
    monkeypatch.setattr("clip_factory.encoders.decode_ahead.MAX_WAITING_BYTES", 3 * photo)
    monkeypatch.setattr("clip_factory.encoders.decode_ahead.usable_cpus", lambda: 4)
    photos = files(shapes, 40)
    lead = []
    for used, image in enumerate(decode_ahead(photos, 32, 20), start=1):
        assert np.array_equal(image, read_rgb(photos[used - 1].path))
        time.sleep(0.005)
        lead.append(len(decoded) - used)

    assert len(decoded) == 40
    assert max(lead) <= 3 + 4, "those that wait, and one a thread"


def test_large_photos_make_small_batches_of_the_same_vectors(
    tiny: OpenClipEncoder, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts, progress = teacher.EmbeddingStore(tmp_path / "a"), teacher.EmbeddingStore(tmp_path / "b"), []
    teacher.embed(tiny, files(shapes, 9), whole, 4, lambda *_: None)
    monkeypatch.setattr(embedding, "MAX_BATCH_BYTES", 72 * 72 * 3)
    teacher.embed(tiny, files(shapes, 9), parts, 4, lambda done, _: progress.append(done))
    names = [photo.sha256 for photo in files(shapes, 9)]

    assert progress == [0, 2, 4, 6, 8, 9]
    assert parts.get(tiny.key, names) == pytest.approx(whole.get(tiny.key, names), abs=1e-3)


def test_work_goes_through_the_executor_in_shards(tiny: OpenClipEncoder, shapes: Path, tmp_path: Path) -> None:
    class Recording(InProcess):
        sizes: ClassVar[list[int]] = []

        def map(self, work, shards):
            shards = list(shards)
            self.sizes += map(len, shards)
            return super().map(work, shards)

    here, there = teacher.EmbeddingStore(tmp_path / "a"), teacher.EmbeddingStore(tmp_path / "b")
    teacher.embed(tiny, files(shapes, 130), here, 1, lambda *_: None)
    teacher.embed(tiny, files(shapes, 130), there, 1, lambda *_: None, Recording())
    names = [photo.sha256 for photo in files(shapes, 130)]

    assert Recording.sizes == [64, 64, 2]
    assert np.array_equal(here.get(tiny.key, names), there.get(tiny.key, names))


def test_results_come_in_the_order_of_the_shards_and_no_sooner_than_asked() -> None:
    worked: list[int] = []

    def work(shard: int) -> list[int]:
        worked.append(shard)
        return [shard, 10 * shard]

    results = InProcess().map(work, [1, 2, 3])

    assert [next(results), next(results), worked] == [1, 10, [1]]
    assert list(results) == [2, 20, 3, 30]


def test_an_executor_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load_executor(), InProcess)
    monkeypatch.setenv("FACTORY_EXECUTOR", "abacus")
    with pytest.raises(PluginError, match="abacus: no such executor\n  known: in-process"):
        load_executor()


@pytest.mark.parametrize(
    ("model", "message", "next_step"),
    [
        ("http://127.0.0.1:9", "cannot be reached", "factory encoders serve"),
        ("onnx:/models/clip", "no exported encoder", "factory encoders export"),
    ],
)
def test_what_is_not_there_is_named_with_the_command_that_makes_it(model: str, message: str, next_step: str) -> None:
    with pytest.raises(TeacherError, match=message) as caught:
        teacher.load_encoder(scenario.Teacher.parse(model))
    assert model in str(caught.value) and next_step in str(caught.value)


def test_nothing_of_torch_is_imported_before_an_encoder_is_loaded() -> None:
    code = "import sys, clip_factory.label_sources.labeling, clip_factory.encoders; print('torch' in sys.modules)"
    here = str(Path(__file__).parents[2] / "factory")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": here})

    assert result.stdout == "False\n", result.stderr
