"""The open_clip road, on a tiny checkpoint that the tests make: load, embed, refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clip_factory import encoders as teacher
from clip_factory import scenario
from clip_factory.errors import ImagesError, TeacherError
from clip_factory.runtime.preprocessing import read_rgb


@pytest.fixture(scope="module")
def tiny(tiny_clip: Path) -> teacher.Teacher:
    return teacher.load(scenario.Teacher(model=f"local-dir:{tiny_clip}"))


def files(shapes: Path, n: int) -> list[tuple[str, Path]]:
    return [(path.name, path) for path in sorted((shapes / "photos").iterdir())[:n]]


def test_vectors_have_unit_length_and_the_named_dimension(tiny: teacher.Teacher, shapes: Path) -> None:
    batch = torch.stack([tiny.preprocess(read_rgb(path)) for _, path in files(shapes, 3)])

    for vectors in (tiny.embed_images(batch), tiny.embed_texts(["a disc", "a bar", "x"])):
        assert vectors.shape == (3, tiny.dim)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_preprocessing_is_the_checkpoints_own(tiny: teacher.Teacher, shapes: Path) -> None:
    tensor = tiny.preprocess(read_rgb(files(shapes, 1)[0][1]))

    assert tensor.shape == (3, tiny.image_side, tiny.image_side) == (3, 32, 32)
    assert float(tensor.min()) >= -1 and float(tensor.max()) <= 1, "mean and std are 0.5 in the checkpoint"


def test_the_key_follows_weights_and_preprocessing(tiny: teacher.Teacher, tiny_clip: Path, tmp_path: Path) -> None:
    same = teacher.load(scenario.Teacher(model=f"local-dir:{tiny_clip}"))
    config = (tiny_clip / "open_clip_config.json").read_text()
    (tmp_path / "open_clip_config.json").write_text(config.replace("[0.5, 0.5, 0.5]", "[0.4, 0.5, 0.5]", 1))
    (tmp_path / "open_clip_model.safetensors").symlink_to(tiny_clip / "open_clip_model.safetensors")
    other = teacher.load(scenario.Teacher(model=f"local-dir:{tmp_path}"))

    assert tiny.key == same.key
    assert tiny.key != other.key


def test_images_are_embedded_once(tiny: teacher.Teacher, shapes: Path, tmp_path: Path) -> None:
    store, seen = teacher.EmbeddingStore(tmp_path), []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    assert teacher.embed(tiny, files(shapes, 5), store, 2, progress) == 5
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert teacher.embed(tiny, files(shapes, 7), store, 2, progress) == 2
    assert teacher.embed(tiny, files(shapes, 7), store, 2, progress) == 0


def test_stored_vectors_are_the_teachers(tiny: teacher.Teacher, shapes: Path, tmp_path: Path) -> None:
    store, some = teacher.EmbeddingStore(tmp_path), files(shapes, 5)
    teacher.embed(tiny, some, store, 2, lambda *_: None)
    direct = tiny.embed_images(torch.stack([tiny.preprocess(read_rgb(path)) for _, path in some]))

    assert store.get(tiny.key, [name for name, _ in some]) == pytest.approx(direct, abs=1e-3)


def test_a_photo_that_changed_since_the_scan_is_named(tiny: teacher.Teacher, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"gone")

    with pytest.raises(ImagesError, match=r"x\.jpg: not an image that can be read: it has changed"):
        teacher.embed(tiny, [("x", tmp_path / "x.jpg")], teacher.EmbeddingStore(tmp_path), 2, lambda *_: None)


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
        teacher.load(scenario.Teacher(model=model, pretrained=pretrained))

    assert message in str(caught.value)


def test_a_pickle_in_place_of_weights_is_not_run(tiny_clip: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "owned"),))  # type: ignore[return-value]

    (tmp_path / "open_clip_config.json").write_text((tiny_clip / "open_clip_config.json").read_text())
    torch.save(Evil(), tmp_path / "open_clip_pytorch_model.bin")

    with pytest.raises(TeacherError):
        teacher.load(scenario.Teacher(model=f"local-dir:{tmp_path}"))
    assert not (tmp_path / "owned").exists()


def test_auto_falls_back_to_offline_with_a_warning() -> None:
    chosen, warning = teacher.resolve(scenario.Teacher(batch_size=7))

    assert (chosen.model, chosen.batch_size) == ("offline", 7)
    assert warning is not None and "neither cached nor reachable" in warning


def test_a_named_teacher_is_taken_at_its_word() -> None:
    spec = scenario.Teacher(model="ViT-B-32-256", pretrained="x")

    assert teacher.resolve(spec) == (spec, None)
