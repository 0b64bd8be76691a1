"""A model file, loaded and asked: what it answers, what is refused, and what the runtime must never import."""

import base64
import hashlib
import io
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from itertools import count, islice
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from clip_factory import runtime
from clip_factory.runtime import FactoryError, ImageError, Model, ModelError, Prediction
from clip_factory.runtime import prefetch as ahead
from clip_factory.runtime.inputs import expand
from clip_factory.runtime.onnx_wire import has_external_data
from support.red_model import METADATA, SIZE, WEIGHTS, graph, outside, save


@pytest.fixture
def model(tmp_path) -> Model:
    return Model.load(save(tmp_path / "red.onnx"))


def flat(color: str, size: int = 20) -> Image.Image:
    return Image.new("RGB", (size, size), color)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# --- answers


def test_golden_predictions(model):
    """These numbers must never move: they pin decoding, resizing, the graph and its inputs and outputs."""
    y, x = np.mgrid[0:32, 0:48]
    rendered = np.stack([5 * x, 8 * y, 255 - 5 * x], axis=2).astype(np.uint8)
    turned = rendered[::-1] // 2
    found = [p.probability for p in model.predict([png(Image.fromarray(rendered)), rendered, turned])]
    assert found == pytest.approx([0.416476, 0.416476, 0.337488], abs=1e-5)
    assert [p.probability for p in model.predict([flat(c) for c in ("red", "lime", "blue", "white", "black")])] == (
        pytest.approx([0.999089, 0.006693, 0.047426, 0.731059, 0.268941], abs=1e-5)
    )


def test_paths_bytes_pil_and_arrays_get_the_same_answer(model, tmp_path):
    image = flat("tomato")
    image.save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    answers = model.predict([path, str(path), path.read_bytes(), image, np.asarray(image)])
    assert [a.path for a in answers] == [str(path), str(path), None, None, None]
    assert len({a.probability for a in answers}) == 1
    assert {a.label for a in answers} == {"yes"}


def test_a_source_that_cannot_be_read_does_not_stop_the_others(model, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    missing = tmp_path / "missing.png"
    answers = model.predict([flat("red"), tmp_path / "text.png", b"", missing, flat("blue")], batch_size=2)
    assert [a.label for a in answers] == ["yes", None, None, None, "no"]
    assert answers[1] == Prediction(str(tmp_path / "text.png"), None, None, "not an image that can be read")
    assert [a.error for a in answers] == [None, "not an image that can be read", "empty", "no such file", None]


def test_only_unreadable_and_no_images_at_all(model):
    assert [a.error for a in model.predict([b"x", b"y"])] == ["not an image that can be read"] * 2
    assert model.predict([]) == []


def test_order_is_kept_over_batches_and_workers(model):
    levels = np.random.default_rng(0).permutation(100).astype(np.uint8)
    images = [np.full((5, 7, 3), [2 * level, 0, 0], np.uint8) for level in levels]
    alone = [model.predict([image])[0].probability for image in images]
    for batch_size, workers in ((1, 1), (7, 3), (64, 8), (1000, None)):
        together = model.predict(images, batch_size=batch_size, workers=workers)
        assert [a.probability for a in together] == pytest.approx(alone, abs=1e-5)


def test_threshold(tmp_path):
    strict = Model.load(save(tmp_path / "strict.onnx", threshold="0.999"))
    assert strict.predict([flat("red"), flat("tomato")])[0].label == "yes"
    assert strict.predict([flat("tomato")])[0].label == "no"
    assert strict.predict([flat("tomato")], threshold=0.5)[0].label == "yes"
    assert strict.predict([flat("black")], threshold=0)[0].label == "yes"


def test_an_endless_stream_is_taken_little_by_little(model):
    taken = count()

    def camera():
        while True:
            next(taken)
            yield flat("red")

    answers = model.iter_predict(camera(), batch_size=4, workers=2)
    assert [a.label for a in islice(answers, 10)] == ["yes"] * 10
    answers.close()
    assert next(taken) <= 10 + 3 * 4 + 2
    assert not [t for t in threading.enumerate() if t.name.startswith("predict")]


def test_batches_start_small_and_never_pass_the_limit():
    asked = []

    def ask(batch):
        asked.append((len(batch), threading.current_thread().name))
        return batch[:, 0, 0, 0] / 255

    images = [np.full((3, 3, 3), level, np.uint8) for level in range(40)]
    alone, three = [1, 2, 3, *[4] * 8, 2], [*[1] * 3, *[2] * 3, *[3] * 3, *[4] * 5, 2]
    for workers, sizes in ((1, alone), (3, three)):
        asked.clear()
        found = list(ahead.predict_ahead(images, [ahead.Network(2, ask)], batch_size=4, workers=workers))
        assert [answer for _, answer in found] == [(level / 255,) for level in range(40)]
        assert sorted(size for size, _ in asked) == sorted(sizes)
        assert all(name.startswith("predict") is (workers > 1) for _, name in asked)
    asked.clear()
    assert len(list(ahead.predict_ahead(images[:1], [ahead.Network(2, ask)], batch_size=4, workers=3))) == 1
    assert asked == [(1, threading.current_thread().name)], "one image needs no other thread"


def test_a_network_that_fails_stops_the_stream_and_its_threads():
    def ask(batch):
        raise ModelError("red: the network fails (out of memory)")

    with pytest.raises(ModelError, match=r"^red: the network fails \(out of memory\)$"):
        list(ahead.predict_ahead([flat("red")] * 40, [ahead.Network(2, ask)], batch_size=4, workers=3))
    assert not [t for t in threading.enumerate() if t.name.startswith("predict")]


def test_many_threads_share_a_model(model):
    images = [np.full((9, 9, 3), [level, 0, 0], np.uint8) for level in range(0, 250, 10)]
    alone = [a.probability for a in model.predict(images)]
    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(lambda _: model.predict(images, batch_size=5), range(24)):
            assert [a.probability for a in answers] == pytest.approx(alone, abs=1e-5)


def test_one_lazy_pil_image_in_several_places(model, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as lazy:
        answers = model.predict([lazy] * 40, workers=8)
    assert {a.error for a in answers} == {None}
    assert len({a.probability for a in answers}) == 1


def test_probabilities(model):
    batch = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    batch[1] = 255
    found = model.probabilities(batch)
    assert (found.dtype, found.shape) == (np.float32, (3,))
    assert found == pytest.approx([0.268941, 0.731059, 0.268941], abs=1e-5)
    assert model.probabilities(batch[:0]).shape == (0,)
    for wrong in (batch.astype(np.float32), batch[0], batch[:, :8], batch[..., :1]):
        with pytest.raises(ImageError, match=r"expected uint8 \(N, 16, 16, 3\)"):
            model.probabilities(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"threshold": float("nan")}, "threshold nan"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"workers": 0}, "workers 0"),
    ],
)
def test_arguments_out_of_range(model, options, message):
    with pytest.raises(FactoryError, match=message):
        model.predict([flat("red")], **options)


# --- loading


def test_attributes_are_read_only(tmp_path):
    path = save(tmp_path / "red.onnx", gate='{"passed": true}')
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    model = Model.load(str(path), sha256=sha256.upper())
    assert (model.name, model.question, model.threshold, model.image_size) == ("red", "Is it red?", 0.5, SIZE)
    assert model.sha256 == sha256
    assert model.metadata["gate"] == '{"passed": true}'
    with pytest.raises(TypeError):
        model.metadata["name"] = "blue"
    with pytest.raises(FrozenInstanceError):
        model.threshold = 0.1


def refusal(path: Path, **options) -> str:
    with pytest.raises(ModelError) as caught:
        Model.load(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_not_a_model_file(tmp_path, capfd):
    path = tmp_path / "bad.onnx"
    assert "cannot be opened" in refusal(path)
    for content in (b"", b"this is no model at all", b"ORTM" * 20, png(flat("red")), bytes(range(256))):
        path.write_bytes(content)
        assert "not a" in refusal(path)
    path.write_bytes(save(tmp_path / "good.onnx").read_bytes()[:-40])
    assert "not an ONNX file" in refusal(path)
    assert capfd.readouterr() == ("", ""), "onnxruntime must not log what is raised"


def test_another_sha256(tmp_path):
    assert "not 00ff" in refusal(save(tmp_path / "red.onnx"), sha256="00ff")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "`format` is missing, expected 'clip-factory/1'"),
        ({"format": "clip-factory/2"}, "`format` is 'clip-factory/2'"),
        ({"name": None, "question": None}, "metadata without name, question"),
        ({"classes": '["yes", "no"]'}, "`classes` is ['yes', 'no']"),
        ({"classes": "no, yes"}, "`classes` is not JSON"),
        ({"threshold": "1.01"}, "`threshold` is 1.01, expected a number in [0, 1]"),
        ({"threshold": "-0.1"}, "`threshold` is -0.1"),
        ({"threshold": "nan"}, "`threshold` is nan"),
        ({"threshold": "half"}, "`threshold` is 'half', expected a number"),
        ({"image_size": "0"}, "`image_size` is 0"),
        ({"image_size": "16.5"}, "`image_size` is '16.5'"),
        ({"image_size": "32"}, "`preprocessing` has size 16, expected 32"),
        ({"preprocessing": "[]"}, "`preprocessing` has resize None"),
        ({"preprocessing": METADATA["preprocessing"].replace("squash", "crop")}, "has resize 'crop'"),
        ({"preprocessing": METADATA["preprocessing"].replace("RGB", "BGR")}, "has channels 'BGR'"),
    ],
)
def test_metadata_that_is_refused(tmp_path, changes, message):
    assert message in refusal(save(tmp_path / "bad.onnx", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": ("photo", TensorProto.UINT8, ["N", SIZE, SIZE, 3])}, "expected image tensor(uint8)"),
        ({"input": ("image", TensorProto.FLOAT, ["N", SIZE, SIZE, 3])}, "input is image tensor(float)"),
        ({"input": ("image", TensorProto.UINT8, ["N", 8, 8, 3])}, "['N', 8, 8, 3], expected"),
        ({"input": ("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])}, "input is image tensor(uint8) [1, 16, 16, 3]"),
        ({"output": ("p", TensorProto.FLOAT, ["N"])}, "output is p"),
    ],
)
def test_graphs_that_are_refused(tmp_path, changes, message):
    assert message in refusal(save(tmp_path / "bad.onnx", graph(**changes)))


def test_a_second_output_is_refused(tmp_path):
    proto = graph()
    proto.graph.output.append(helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["N"]))
    assert "output is probability" in refusal(save(tmp_path / "bad.onnx", proto))


def test_a_network_that_gives_no_probabilities(tmp_path):
    model = Model.load(save(tmp_path / "logits.onnx", graph(squash="Identity"), name="re\x1b[2Jd"))
    with pytest.raises(ModelError, match=r"^re \[2Jd: the network gives \(1,\) values that are no probabilities"):
        model.predict([flat("red")])


def test_what_a_file_says_does_not_reach_the_terminal_as_it_is(tmp_path):
    name = "im\x1b[2J\nage"
    named = graph(input=(name, TensorProto.UINT8, ["N", SIZE, SIZE, 3]))
    assert "input is im [2J age tensor(uint8)" in refusal(save(tmp_path / "named.onnx", named))
    broken = graph()
    broken.graph.node[0].op_type = name
    said = refusal(save(tmp_path / "broken.onnx", broken))
    assert r"it computes 'im\x1b[2J\nage'" in said
    assert "\x1b" not in said
    for path in tmp_path.iterdir():
        assert all(sign.isprintable() for line in refusal(path).split("\n  ") for sign in line)
    assert len(refusal(save(tmp_path / "long.onnx", format="x" * 10_000))) < 600 + len(str(tmp_path))


# --- external data


def constant() -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0]))
    outside(node.attribute[0].t)
    return node


def test_external_data_in_an_initializer(tmp_path):
    proto = graph()
    outside(proto.graph.initializer[1])
    (tmp_path.parent / "secret.bin").write_bytes(np.array(WEIGHTS, np.float32).tobytes())
    assert "refers to data in another file" in refusal(save(tmp_path / "bad.onnx", proto))


def test_external_data_in_every_hiding_place():
    assert not has_external_data(graph().SerializeToString())
    in_node, in_branch, in_function, in_sparse = graph(), graph(), graph(), graph()
    in_node.graph.node.append(constant())
    inner = helper.make_graph([constant()], "then", [], [])
    in_branch.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    imports = [helper.make_opsetid("", 17)]
    in_function.functions.append(helper.make_function("local", "f", [], ["c"], [constant()], imports))
    in_sparse.graph.sparse_initializer.add().values.CopyFrom(constant().attribute[0].t)
    for proto in (in_node, in_branch, in_function, in_sparse):
        assert has_external_data(proto.SerializeToString())


def test_external_data_behind_a_tag_that_onnxruntime_cuts_to_32_bits():
    def field(number, content, above=0):
        tag = (number << 3 | 2) + (above << 32)
        tag_bytes = bytes(tag >> shift & 127 | 128 for shift in range(0, 28, 7)) + bytes([tag >> 28])
        return (tag_bytes if above else bytes([tag])) + bytes([len(content)]) + content

    entry = field(1, b"location") + field(2, b"../secret.bin")
    model = field(7, field(5, field(13, entry)))
    assert onnx.ModelProto.FromString(model).graph.initializer[0].external_data[0].value == "../secret.bin"
    assert has_external_data(model)
    with pytest.raises(ValueError, match="tag 4294967402 at byte 5"):
        has_external_data(field(7, field(5, field(13, entry, above=1))))


@pytest.mark.parametrize("data", [b"\x0a\xff\x01", b"\xff" * 12, b"\x0b", b"\x3a", b"\x02\x00"])
def test_bytes_that_are_no_protobuf(data):
    with pytest.raises(ValueError, match="at byte"):
        has_external_data(data)


# --- verification


def vectors(model: Model, shift: float = 0.0) -> str:
    thumbs = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    blown_up = thumbs.repeat(2, axis=1).repeat(2, axis=2)
    return json.dumps(
        [
            {"thumb": base64.b64encode(thumb.tobytes()).decode(), "probability": float(probability) + shift}
            for thumb, probability in zip(thumbs, model.probabilities(blown_up), strict=True)
        ]
    )


def test_verify_replays_the_test_vectors(model, tmp_path):
    again = Model.load(save(tmp_path / "v.onnx", test_vectors=vectors(model)))
    assert again.verify() < 1e-6
    shifted = Model.load(save(tmp_path / "w.onnx", test_vectors=vectors(model, shift=5e-4)))
    assert shifted.verify() == pytest.approx(5e-4, abs=1e-5)


def test_verify_of_a_size_that_is_no_multiple_of_8(tmp_path):
    size = 20
    preprocessing = METADATA["preprocessing"].replace('"size": 16', '"size": 20')
    proto = graph(input=("image", TensorProto.UINT8, ["N", size, size, 3]))
    thumb = np.zeros((8, 8, 3), np.uint8)
    thumb[:, 7] = 255  # columns 21 to 23 of the blown-up thumb: cut off
    stored = json.dumps([{"thumb": base64.b64encode(thumb.tobytes()).decode(), "probability": 0.26894143}])
    path = save(tmp_path / "v.onnx", proto, image_size=str(size), preprocessing=preprocessing, test_vectors=stored)
    assert Model.load(path).verify() < 1e-6


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (None, "without test_vectors"),
        ("[]", "empty"),
        ("{", "not JSON"),
        ('[{"thumb": "AAAA", "probability": 0.5}]', "cannot be read"),
        ('[{"thumb": "****", "probability": 0.5}]', "cannot be read"),
        (json.dumps([{"thumb": base64.b64encode(bytes(192)).decode(), "probability": 10**400}]), "cannot be read"),
        ('[{"probability": 0.5}]', "cannot be read"),
        ("[1]", "cannot be read"),
    ],
)
def test_verify_without_usable_vectors(tmp_path, stored, message):
    with pytest.raises(ModelError, match=message):
        Model.load(save(tmp_path / "v.onnx", test_vectors=stored)).verify()


@pytest.mark.parametrize("shift", [2e-3, float("nan")])
def test_verify_refuses_other_answers(model, tmp_path, shift):
    altered = Model.load(save(tmp_path / "v.onnx", test_vectors=vectors(model, shift)))
    with pytest.raises(ModelError, match="answers differ by"):
        altered.verify()


# --- what predict is given


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_folders_patterns_and_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "z.png", "photos/b.jpg", "photos/sub/a.PNG", "photos/notes.txt", "more/1.png", "more/2.webp")
    listed = io.StringIO("more/2.webp\r\n\nz.png\nphotos/sub\n")
    assert list(expand(["z.png"])) == ["z.png"]
    assert list(expand(["photos"])) == ["photos/b.jpg", "photos/sub/a.PNG"]
    assert list(expand(["more/*"])) == ["more/1.png", "more/2.webp"]
    assert list(expand(["**/*.PNG"])) == ["photos/sub/a.PNG"]
    assert list(expand(["*"])) == ["more/1.png", "more/2.webp", "photos/b.jpg", "photos/sub/a.PNG", "z.png"]
    assert list(expand(["-"], listed)) == ["more/2.webp", "z.png", "photos/sub/a.PNG"]
    marked = io.StringIO("\ufeffz.png\r\nmore/1.png\r\n")
    assert list(expand(["-"], marked)) == ["z.png", "more/1.png"], "as Windows writes lists"


def test_each_file_once_in_the_order_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "a.png", "b.png")
    given = ["b.png", ".", tmp_path / "a.png", "./b.png", "x/../a.png", "-"]
    assert list(expand(given, io.StringIO("a.png\n"))) == ["b.png", "a.png"]


def test_names_that_look_like_patterns_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "a[1].png", "a1.png")
    assert list(expand(["a[1].png"])) == ["a[1].png"]
    assert list(expand(["-"], io.StringIO("a*.png\n"))) == ["a*.png"]


def test_what_stands_for_nothing_is_passed_on_and_gets_an_error(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    paths = list(expand(["missing.png", "empty", "*.jpg"]))
    assert paths == ["missing.png", "empty", "*.jpg"]
    assert [a.error for a in model.predict(paths)] == [
        "no such file",
        "an empty folder: no photo in it",
        "no such file",
    ]


# --- models of version 0.1.0

MADE = Path(__file__).parents[1] / "made_by_0_1_0"


@pytest.mark.parametrize("released", [False, True])
def test_a_model_made_by_version_0_1_0_answers_as_it_did(released):
    expected = json.loads((MADE / "expected.json").read_text(encoding="utf-8"))
    signed = {"registry": MADE / "registry", "public_key": MADE / "public.pem"}
    model = Model.load("soccer-ball@1", **signed) if released else Model.load(MADE / "run" / "model.onnx")
    photos = [MADE / "photos" / name for name in expected["probabilities"]]
    answers = dict(zip(expected["probabilities"], (one.probability for one in model.predict(photos)), strict=True))
    assert len(answers) > 50
    assert answers == pytest.approx(expected["probabilities"], abs=1e-5)
    assert model.threshold == expected["threshold"] and model.verify() <= 1e-3
    assert "licence" in model.metadata and model.metadata["license"] == "Apache-2.0"


def test_a_model_of_version_0_1_0_has_todays_keys(tmp_path):
    """It wrote `licence`, of itself and of its teacher."""
    teacher = json.dumps({"name": "offline", "licence": "MIT"})
    path = save(tmp_path / "old.onnx", licence="Apache-2.0", teacher=teacher)
    metadata = Model.load(path).metadata
    assert (metadata["license"], json.loads(metadata["teacher"])["license"]) == ("Apache-2.0", "MIT")
    assert (metadata["licence"], json.loads(metadata["teacher"])["licence"]) == ("Apache-2.0", "MIT")


def test_todays_keys_come_first(tmp_path):
    teacher = json.dumps({"licence": "old", "license": "new"})
    path = save(tmp_path / "both.onnx", licence="old", license="new", teacher=teacher)
    metadata = Model.load(path).metadata
    assert (metadata["license"], metadata["teacher"]) == ("new", teacher)


@pytest.mark.parametrize("teacher", [None, "", "[1]", "null", "{", "[" * 100_000, '{"name": "offline"}'])
def test_a_teacher_that_says_no_license_stays_as_it_is(tmp_path, teacher):
    metadata = Model.load(save(tmp_path / "odd.onnx", teacher=teacher)).metadata
    assert metadata.get("teacher") == teacher and "license" not in metadata


# --- the runtime stands alone


def test_public_names():
    assert sorted(runtime.__all__) == [
        *("Classification", "FactoryError", "ImageError", "Model", "ModelError", "OfflineWarning", "Prediction"),
        *("RegistryError", "ScoreHistogram", "Span", "VideoPrediction", "ZeroShot", "find_images", "iter_predict_all"),
        *("iter_predict_video", "read_rgb", "to_square"),
    ]
    assert all(hasattr(runtime, name) for name in runtime.__all__)


def test_a_fresh_process_imports_nothing_heavy(model, tmp_path):
    """Not at import, and not while it predicts."""
    program = f"""
import sys, clip_factory.runtime, clip_factory.runtime.inputs
model = clip_factory.runtime.Model.load({str(tmp_path / "red.onnx")!r})
import numpy
assert model.predict([numpy.zeros((4, 4, 3), numpy.uint8)])[0].label == "no"
heavy = {{"torch", "torchvision", "lightning", "open_clip", "timm", "transformers", "pandas", "pyarrow", "pydantic",
          "onnx", "scipy", "sklearn", "fsspec", "imagehash", "matplotlib", "cryptography", "platformdirs",
          "http.client", "csv"}}
print(sorted(heavy & set(sys.modules)), sorted(m for m in sys.modules if m.startswith("clip_factory.")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy, rooms = done.stdout.strip().split("] ", 1)
    assert heavy == "["
    rooms = rooms.strip("[]").split(", ")
    assert "'clip_factory.runtime.model'" in rooms
    assert all(name.startswith("'clip_factory.runtime") for name in rooms)
    assert not [name for name in rooms if "releases" in name], "a model in a file needs nothing of registries"
