"""Encoders exported to ONNX are the encoders in torch: vectors, preprocessing, tokens; what differs is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import open_clip
import pytest
import torch
from PIL import Image
from torchvision import transforms

from clip_factory.encoders import load_encoder, onnx_export
from clip_factory.encoders.onnx_export import export_encoder, export_named
from clip_factory.encoders.open_clip import load_offline
from clip_factory.encoders.preprocessing_steps import preprocessing_steps
from clip_factory.encoders.tokenizer_file import HARD_TEXTS, tokenizer_file
from clip_factory.errors import TeacherError
from clip_factory.runtime import encoder_folder as files
from clip_factory.runtime.image_steps import to_pixels
from clip_factory.runtime.onnx_encoder import OnnxEncoder
from clip_factory.scenario import Teacher
from support.axis_encoder import AxisEncoder
from support.tiny_encoders import KINDS, siglip_tokenizer, tiny_encoder

SIZES = [(32, 32), (33, 200), (640, 48), (5, 7), (1, 900), (97, 61)]
WORDS = ["a red apple", "cats, dogs & 2 birds", "x", "", "word " * 50]
SLOW_KINDS = {"convnext", "mobileclip"}


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def least_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape and len(ours)
    return float((ours * theirs).sum(axis=1).min())


def encoder_of(kind: str, folder: Path):
    return tiny_encoder(kind, siglip_tokenizer(folder / "words") if kind == "siglip" else None)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW_KINDS else ()) for kind in KINDS]
)
def test_every_kind_of_encoder_gives_the_vectors_that_it_gives_in_torch(kind: str, tmp_path: Path) -> None:
    encoder = encoder_of(kind, tmp_path)
    export_encoder(encoder, tmp_path / "out")
    exported = OnnxEncoder.load(tmp_path / "out")
    photos = [noise(*size) for size in SIZES]
    assert least_cosine(exported.embed_images(photos), encoder.embed_images(photos)) > 0.9999
    assert least_cosine(exported.embed_texts(WORDS), encoder.embed_texts(WORDS)) > 0.9999
    assert min(exported.fidelity().values()) > 0.9999
    assert (exported.dim, exported.image_size, exported.name, exported.license) == (
        encoder.dim,
        encoder.image_size,
        encoder.name,
        encoder.license,
    )
    assert exported.logit_scale == pytest.approx(encoder.logit_scale)
    assert exported.logit_bias == encoder.logit_bias == (-10 if kind == "siglip" else 0)


@pytest.mark.slow
def test_the_offline_encoder_answers_alike_in_every_precision(shapes: Path, tmp_path: Path) -> None:
    encoder = load_offline()
    photos = [Image.open(path).convert("RGB") for path in sorted((shapes / "photos").iterdir())[:64]]
    texts = encoder.embed_texts(["a photo of a disc", "a photo of a bar"])
    wanted = encoder.embed_images(photos)
    for precision, least in (("fp32", 0.9999), ("fp16", 0.999), ("int8", 0.99)):
        made = export_named(Teacher(model="offline"), tmp_path / precision, precision)
        assert min(made.image_cosine, made.text_cosine) >= least
        exported = load_encoder(Teacher(model=f"onnx:{tmp_path / precision}"))
        vectors = exported.embed_images(photos)
        assert least_cosine(vectors, wanted) >= least
        here, there = vectors @ exported.embed_texts(["a photo of a disc", "a photo of a bar"]).T, wanted @ texts.T
        assert np.mean(here.argmax(axis=1) == there.argmax(axis=1)) >= 0.98
    sizes = {name: sum(file.stat().st_size for file in (tmp_path / name).glob("*.data")) for name in files.PRECISIONS}
    assert sizes["fp16"] < 0.55 * sizes["fp32"] and sizes["int8"] < 0.4 * sizes["fp32"]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_narrow_weights_are_smaller_and_near(exported_encoder: Path, precision: str, tmp_path: Path) -> None:
    export_encoder(tiny_encoder(), tmp_path / "out", precision)
    small, large = OnnxEncoder.load(tmp_path / "out"), OnnxEncoder.load(exported_encoder)
    photos = [noise(*size) for size in SIZES]
    assert least_cosine(small.embed_images(photos), large.embed_images(photos)) > 0.99
    assert least_cosine(small.embed_texts(WORDS), large.embed_texts(WORDS)) > 0.99
    text = files.TEXT + files.DATA
    assert (tmp_path / "out" / text).stat().st_size < 0.6 * (exported_encoder / text).stat().st_size
    assert small.key != large.key and precision in small.key


def test_int8_multiplies_in_8_bits_where_the_vectors_bear_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def operators(folder: Path) -> set[str]:
        return {node.op_type for node in onnx.load(folder / files.IMAGE, load_external_data=False).graph.node}

    export_encoder(tiny_encoder(), tmp_path / "bears", "int8")
    monkeypatch.setattr(onnx_export, "BEARS_INT8", 1.1)
    export_encoder(tiny_encoder(), tmp_path / "bears not", "int8")
    assert "MatMulInteger" in operators(tmp_path / "bears")
    assert "MatMulInteger" not in operators(tmp_path / "bears not")


def test_what_an_exported_graph_holds_passes_the_checker(exported_encoder: Path) -> None:
    for name in (files.IMAGE, files.TEXT):
        onnx.checker.check_model(str(exported_encoder / name), full_check=True)


def test_vectors_that_differ_from_torch_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_export.MIN_COSINE, "fp32", 1.1)
    with pytest.raises(TeacherError, match=r"image tower has a cosine of 1\.00000 to torch's, expected 1\.1"):
        export_encoder(tiny_encoder(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TeacherError, match="is there already"):
        export_encoder(tiny_encoder(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_encoder_that_is_not_in_torch_is_refused(tmp_path: Path, exported_encoder: Path) -> None:
    with pytest.raises(TeacherError, match="runs elsewhere than in torch"):
        export_encoder(AxisEncoder(), tmp_path / "out")
    with pytest.raises(TeacherError, match="runs elsewhere than in torch"):
        export_named(Teacher(model=f"onnx:{exported_encoder}"), tmp_path / "out", "fp32")
    with pytest.raises(TeacherError, match="precision int4: not known"):
        export_named(Teacher(model="offline"), tmp_path / "out", "int4")


def test_the_encoder_works_on_after_its_export(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    before = encoder.embed_images([noise(50, 40)])
    export_encoder(encoder, tmp_path / "out")
    assert np.array_equal(encoder.embed_images([noise(50, 40)]), before)
    assert next(encoder.network.parameters()).device.type == encoder.device.type


# --- preprocessing


def transform(kind: str):
    if kind == "timm":
        from clip_factory.encoders.offline import build_towers, preprocessing

        return preprocessing(build_towers())
    return open_clip.transform.image_transform(32, is_train=False, resize_mode=kind, interpolation="bicubic")


@pytest.mark.parametrize("kind", ["shortest", "squash", "timm"])
def test_steps_give_the_pixels_of_torchvision(kind: str) -> None:
    theirs = transform(kind)
    steps, (mean, std) = preprocessing_steps(theirs)
    for size in [*SIZES, (31, 32), (32, 31), (259, 300), (1000, 260), (293, 292)]:
        image = noise(*size)
        if max(size) > 8 * min(size) and kind != "squash":
            continue  # of a long image the middle is taken first: see test_open_clip_tags.py
        pixels = torch.from_numpy(to_pixels(image, steps).copy()).permute(2, 0, 1) / 255
        ours = (pixels - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)
        assert torch.allclose(ours, theirs(image), atol=1e-6), (kind, size)


@pytest.mark.parametrize(
    "step",
    [transforms.RandomCrop(3), transforms.Grayscale(3), transforms.Resize(32, max_size=64), transforms.Pad(2)],
    ids=lambda one: type(one).__name__,
)
def test_preprocessing_that_is_not_known_is_refused(step: object) -> None:
    with pytest.raises(TeacherError, match="cannot be exported"):
        preprocessing_steps(transforms.Compose([transforms.Resize((32, 32)), step, transforms.ToTensor()]))


def test_an_image_tower_that_would_see_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder()
    real = encoder.transform
    encoder.transform = transforms.Compose([*real.transforms, transforms.Lambda(lambda x: x)])
    monkeypatch.setattr(
        onnx_export, "preprocessing_steps", lambda _: (preprocessing_steps(real)[0], ([0] * 3, [1] * 3))
    )
    with pytest.raises(TeacherError, match="its preprocessing cannot be exported"):
        export_encoder(encoder, tmp_path / "out")


# --- tokenizers


def test_tokenizers_of_other_kinds_are_refused() -> None:
    with pytest.raises(TeacherError, match="of a kind that cannot be exported"):
        tokenizer_file(lambda texts: torch.zeros(len(texts), 4))
    with pytest.raises(TeacherError, match="of a kind that cannot be exported"):
        tokenizer_file(open_clip.SimpleTokenizer(reduction_mask="shuffle"))


def test_a_tokenizer_that_its_file_does_not_repeat_is_refused(tmp_path: Path) -> None:
    tokenize = siglip_tokenizer(tmp_path)
    tokenize.clean_fn = open_clip.tokenizer.get_clean_fn("whitespace")
    monkey = type(tokenize).__call__

    class Other(type(tokenize)):
        def __call__(self, texts, context_length=None):
            return monkey(self, [text.upper() for text in texts], context_length)

    Other.__name__ = "HFTokenizer"
    tokenize.__class__ = Other
    with pytest.raises(TeacherError, match="exported, it reads"):
        tokenizer_file(tokenize)


def test_hard_texts_tell_cleaning_functions_apart(tmp_path: Path) -> None:
    """So that the check in `tokenizer_file` sees a wrong one."""
    tokenize = siglip_tokenizer(tmp_path)
    seen = {}
    for clean in ("lower", "whitespace", "canonicalize"):
        tokenize.clean_fn = open_clip.tokenizer.get_clean_fn(clean)
        seen[clean] = tuple(map(tuple, tokenize(list(HARD_TEXTS)).tolist()))
    assert len(set(seen.values())) == 3
