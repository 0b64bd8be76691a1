"""Zero-shot classification with onnxruntime alone: open_clip's own answers, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from clip_factory.encoders import load_encoder
from clip_factory.errors import FactoryError, ImageError, ModelError, TeacherError
from clip_factory.runtime import ZeroShot
from clip_factory.runtime import encoder_folder as files
from clip_factory.runtime.onnx_encoder import OnnxEncoder
from clip_factory.scenario import Teacher
from support.tiny_encoders import tiny_encoder

PHRASES = ["disc", "long bar", "cat"]
TEMPLATES = ["a photo of a {}.", "a drawing of a {}"]
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "open_clip", "timm", "transformers", "lightning"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture
def photos(shapes: Path) -> list[Path]:
    return sorted((shapes / "photos").iterdir())[:20]


def without_torch(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NO_TORCH + code, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("low_memory", [False, True])
def test_answers_are_those_of_open_clips_own_classifier(
    exported_encoder: Path, photos: list[Path], low_memory: bool
) -> None:
    encoder = tiny_encoder()
    weights = open_clip.build_zero_shot_classifier(
        encoder.network, encoder.tokenize, PHRASES, [template.format for template in TEMPLATES], device="cpu"
    )
    seen = torch.stack([encoder.transform(Image.open(path).convert("RGB")) for path in photos])
    with torch.no_grad():
        logits = encoder.logit_scale * encoder.network.encode_image(seen, normalize=True) @ weights
    wanted = logits.softmax(dim=1).numpy()
    answers = ZeroShot.load(exported_encoder, low_memory=low_memory).classify(photos, PHRASES, templates=TEMPLATES)
    assert [answer.path for answer in answers] == [str(path) for path in photos]
    given = np.array([[answer.probabilities[phrase] for phrase in PHRASES] for answer in answers])
    assert np.allclose(given, wanted, atol=1e-4)
    assert [answer.label for answer in answers] == [PHRASES[place] for place in given.argmax(axis=1)]
    assert [answer.probability for answer in answers] == given.max(axis=1).tolist()


def test_a_fresh_process_without_torch_gives_the_same(exported_encoder: Path, photos: list[Path]) -> None:
    code = """
import json
from clip_factory.runtime import ZeroShot
answers = ZeroShot.load(sys.argv[1]).classify(sys.argv[2:], ["disc", "long bar"])
assert "torch" not in sys.modules
print(json.dumps([answer.probability for answer in answers]))
"""
    ended = without_torch(code, str(exported_encoder), *map(str, photos))
    assert ended.returncode == 0, ended.stderr
    here = ZeroShot.load(exported_encoder).classify(photos, ["disc", "long bar"])
    assert np.allclose(json.loads(ended.stdout), [answer.probability for answer in here], atol=1e-6)


def test_the_command_zeroshot_needs_no_torch(exported_encoder: Path, shapes: Path) -> None:
    code = "from clip_factory.cli.main import main; sys.argv = ['factory', *sys.argv[1:]]; main()"
    arguments = ["--classes", "disc,bar", "--encoder", f"onnx:{exported_encoder}", "--format", "json"]
    ended = without_torch(code, "zeroshot", str(shapes / "photos"), *arguments)
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)["photos"]) == 160
    refused = without_torch(code, "zeroshot", str(shapes / "photos"), "--classes", "disc,bar", "--encoder", "offline")
    assert refused.returncode == 2 and "torch is not installed" in refused.stderr, refused.stderr


def test_texts_are_embedded_once(exported_encoder: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = ZeroShot.load(exported_encoder)
    asked: list[list[str]] = []
    real = classifier.encoder.embed_texts
    monkeypatch.setattr(classifier.encoder, "embed_texts", lambda texts: asked.append(list(texts)) or real(texts))
    classifier.classify(photos[:1], ["disc", "bar"], templates=["a {}"])
    classifier.classify(photos[:1], ["disc", "bar", "cat"], templates=["a {}"])
    assert asked == [["a disc", "a bar"], ["a cat"]]
    assert classifier.embed_texts(["a bar", "a bar"]).shape == (2, 16)


def test_what_cannot_be_read_has_an_error_and_stops_nothing(exported_encoder: Path, photos: list[Path], tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:60])
    classifier = ZeroShot.load(exported_encoder)
    answers = classifier.classify([photos[0], broken, photos[1]], ["disc", "bar"])
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert answers[1].label is None and answers[1].probability is None
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        classifier.embed_images([photos[0], broken])


def test_a_folder_a_picture_an_array_and_many_are_all_taken(exported_encoder: Path, photos: list[Path]) -> None:
    classifier = ZeroShot.load(exported_encoder, threads=2)
    folder = classifier.embed_images(photos[0].parent)
    assert folder.shape == (160, 16) and folder.dtype == np.float32
    assert np.allclose(np.linalg.norm(folder, axis=1), 1, atol=1e-5)
    one = classifier.embed_images(np.asarray(Image.open(photos[0]).convert("RGB")))
    assert np.allclose(one, folder[:1], atol=1e-6)
    assert classifier.embed_images([]).shape == (0, 16)
    assert classifier.embed_texts([]).shape == (0, 16)


@pytest.mark.parametrize("phrases", [["disc"], [], ["disc", "disc"], "disc", {"disc": ["a disc"], "bar": ["a bar"]}])
def test_fewer_than_two_phrases_are_refused(exported_encoder: Path, phrases: list[str]) -> None:
    with pytest.raises(FactoryError, match="expected a list of two or more, each once"):
        ZeroShot.load(exported_encoder).classify([], phrases)


@pytest.mark.parametrize("phrases", [["disc", ""], [" ", "disc"], ["disc", None], [5, "disc"]])
def test_phrases_that_are_no_words_are_refused(exported_encoder: Path, phrases: list[str]) -> None:
    with pytest.raises(FactoryError, match=r"phrase .*: expected words"):
        ZeroShot.load(exported_encoder).classify([], phrases)


@pytest.mark.parametrize("text", ["half \ud800 of a sign", None])
def test_what_is_no_text_is_refused(exported_encoder: Path, text: str) -> None:
    with pytest.raises(FactoryError, match=r"text .*: expected text"):
        ZeroShot.load(exported_encoder).embed_texts(["disc", text])


def test_a_template_alone_is_refused_as_no_list(exported_encoder: Path) -> None:
    with pytest.raises(FactoryError, match=r"templates 'a \{\}': expected a list"):
        ZeroShot.load(exported_encoder).classify([], ["disc", "bar"], templates="a {}")


@pytest.mark.parametrize("templates", [["a photo"], ["{} and {}"], []])
def test_templates_without_one_slot_are_refused(exported_encoder: Path, templates: list[str]) -> None:
    with pytest.raises(FactoryError, match="template"):
        ZeroShot.load(exported_encoder).classify([], ["disc", "bar"], templates=templates)
    with pytest.raises(FactoryError, match="threads 0"):
        ZeroShot.load(exported_encoder, threads=0)


# --- the folder


@pytest.mark.parametrize("name", files.FILES)
@pytest.mark.parametrize("change", ["altered", "missing"])
def test_a_file_that_was_altered_or_lost_is_named(
    exported_encoder: Path, tmp_path: Path, name: str, change: str
) -> None:
    folder = Path(shutil.copytree(exported_encoder, tmp_path / "encoder"))
    if change == "missing":
        (folder / name).unlink()
    else:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
    with pytest.raises(ModelError, match=f"{name}: (missing|not the file that was exported)"):
        OnnxEncoder.load(folder)
    with pytest.raises(TeacherError, match=name):
        load_encoder(Teacher(model=f"onnx:{folder}"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format 2, expected 1"),
        ("precision", "int2", "not what was exported"),
        ("dim", 0, "not what was exported"),
        ("logit_scale", float("nan"), "not what was exported"),
        ("logit_scale", "high", "not what was exported"),
        ("sha256", None, "not what was exported"),
        ("preprocessing", [], "no fixed size"),
        ("preprocessing", [{"resize_shorter": 32, "filter": "bicubic"}], "no fixed size"),
        ("preprocessing", [{"resize": [32, 10**9], "filter": "bicubic"}], "a step that is not known"),
        ("preprocessing", [{"resize": [32, 32], "filter": "best"}], "resizes with best"),
        ("preprocessing", [{"rotate": 3}], "a step that is not known"),
        ("preprocessing", "resize", "a step that is not known"),
    ],
)
def test_what_encoder_json_says_is_checked(
    exported_encoder: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    folder = Path(shutil.copytree(exported_encoder, tmp_path / "encoder"))
    about = json.loads((folder / files.ABOUT).read_text())
    (folder / files.ABOUT).write_text(json.dumps({**about, key: value}))
    with pytest.raises(ModelError, match=message):
        OnnxEncoder.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("logit_scale", -5.0), ("license", "any"), ("preprocessing", [{"resize": [64, 64], "filter": "bicubic"}])],
)
def test_an_encoder_json_that_was_altered_is_refused(
    exported_encoder: Path, tmp_path: Path, key: str, value: object
) -> None:
    folder = Path(shutil.copytree(exported_encoder, tmp_path / "encoder"))
    about = json.loads((folder / files.ABOUT).read_text())
    (folder / files.ABOUT).write_text(json.dumps(about))
    OnnxEncoder.load(folder)  # written otherwise, it says the same
    (folder / files.ABOUT).write_text(json.dumps({**about, key: value}))
    with pytest.raises(ModelError, match=r"encoder\.json: not the file that was exported"):
        OnnxEncoder.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_a_damaged_encoder_json_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelError, match="no exported encoder"):
        OnnxEncoder.load(tmp_path)
    (tmp_path / files.ABOUT).write_text(text)
    with pytest.raises(ModelError, match=r"encoder\.json: (damaged|not what was exported)"):
        OnnxEncoder.load(tmp_path)


def test_a_file_in_place_of_the_folder_is_named_as_one(exported_encoder: Path) -> None:
    with pytest.raises(ModelError, match=r"image\.onnx: a file, and an exported encoder is a folder"):
        OnnxEncoder.load(exported_encoder / files.IMAGE)


def test_a_tilde_in_the_path_is_the_home_folder(exported_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(exported_encoder.parent))
    key = OnnxEncoder.load(exported_encoder).key
    assert load_encoder(Teacher(model=f"onnx:~/{exported_encoder.name}")).key == key


def test_the_key_follows_all_that_changes_vectors(exported_encoder: Path, tmp_path: Path) -> None:
    first = OnnxEncoder.load(exported_encoder)
    assert first.key.startswith("onnx-fp32-")
    assert first.key != tiny_encoder().key, "vectors of onnxruntime are not mixed with torch's"
    folder = Path(shutil.copytree(exported_encoder, tmp_path / "encoder"))
    assert OnnxEncoder.load(folder).key == first.key, "wherever it lies"
    about = json.loads((folder / files.ABOUT).read_text())
    about["preprocessing"][0]["filter"] = "bilinear"
    about["sha256"][files.ABOUT] = files.about_sha256(about)
    (folder / files.ABOUT).write_text(json.dumps(about))
    assert OnnxEncoder.load(folder).key != first.key
