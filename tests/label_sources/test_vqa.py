"""Models that are asked the question: answers by transformers' own ways, in any batch; what is refused; the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from clip_factory.errors import FactoryError, ScenarioError, TeacherError
from clip_factory.images.photo import Photo
from clip_factory.label_sources import answerers, labeling, vqa
from clip_factory.label_sources.answerers import AnswerClassifier, Answerer, NextToken, QuestionEncoder, load_answerer
from clip_factory.label_sources.checkpoint import find_checkpoint
from clip_factory.label_sources.source import find_label_source
from clip_factory.scenario import Labeling, Scenario
from clip_factory.store import EmbeddingStore
from support import tiny_vqa

QUESTION = "Is there a red disc in this photo?"
SIZES = ((40, 60), (100, 30), (64, 64), (20, 90))
KINDS: dict[str, tuple[Callable[[Path], Path], type]] = {
    "vilt": (tiny_vqa.vilt, AnswerClassifier),
    "blip": (tiny_vqa.blip, QuestionEncoder),
    "idefics3": (tiny_vqa.idefics3, NextToken),
    "llava": (tiny_vqa.llava, NextToken),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("vqa")
    return {name: save(folder / name) for name, (save, _) in KINDS.items()}


def load(folder: Path) -> Answerer:
    return load_answerer(find_checkpoint(f"local-dir:{folder}"))


def pictures() -> list[Image.Image]:
    """Of different sizes, so that prompts and pixels of a batch are filled up."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (*size, 3)).astype(np.uint8)) for size in SIZES]


@pytest.mark.parametrize("kind", KINDS)
def test_four_photos_at_once_are_answered_as_one_at_a_time(kind: str, checkpoints: dict[str, Path]) -> None:
    answerer = load(checkpoints[kind])
    assert isinstance(answerer, KINDS[kind][1])
    together = answerer.answer(pictures(), QUESTION)
    alone = np.concatenate([answerer.answer([image], QUESTION) for image in pictures()])

    assert together.shape == (4, 2) and together.dtype == np.float64
    assert np.log(together) == pytest.approx(np.log(alone), abs=1e-5)
    assert (together > 0).all() and (together.sum(axis=1) < 1).all()
    assert np.ptp(np.log(together[:, 0] / together[:, 1])) > 0.1, "the photos are seen"
    assert np.abs(answerer.answer(pictures(), "Is it green?") - together).max() > 1e-4, "the question is read"


def test_the_same_photo_is_answered_alike_each_time(checkpoints: dict[str, Path]) -> None:
    """ViLT draws parts of a photo at random."""
    answerer = load(checkpoints["vilt"])
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first = answerer.answer(pictures(), QUESTION)

    assert answerer.answer(pictures(), QUESTION).tobytes() == first.tobytes()
    assert torch.equal(torch.random.get_rng_state(), state), "nobody else's random numbers are used up"


def test_a_classifiers_answer_is_the_softmax_of_its_own_logits(checkpoints: dict[str, Path]) -> None:
    """By the model's own class; its answers are in the order no, blue, yes, 2."""
    folder = checkpoints["vilt"]
    model = transformers.ViltForQuestionAnswering.from_pretrained(folder, max_image_length=-1).eval()
    processor = transformers.ViltProcessor.from_pretrained(folder)
    answers = load(folder).answer(pictures(), QUESTION)

    for image, (yes, no) in zip(pictures(), answers, strict=True):
        with torch.inference_mode():
            logits = model(**processor(image, QUESTION, return_tensors="pt")).logits[0]
        assert [yes, no] == pytest.approx(logits.softmax(-1)[[2, 0]].tolist(), abs=1e-6)
        assert yes / (yes + no) == pytest.approx(logits[[2, 0]].softmax(-1)[0].item(), abs=1e-6)


def test_a_decoders_answer_is_what_generate_would_begin_with(checkpoints: dict[str, Path]) -> None:
    folder = checkpoints["blip"]
    model = transformers.BlipForQuestionAnswering.from_pretrained(folder).eval()
    processor = transformers.BlipProcessor.from_pretrained(folder)
    ids = [processor.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
    answers = load(folder).answer(pictures(), QUESTION)

    for image, both in zip(pictures(), answers, strict=True):
        inputs = processor(image, QUESTION, return_tensors="pt")
        assert both == pytest.approx(first_scores(model, inputs).softmax(-1)[ids].tolist(), abs=1e-6)


def test_a_language_models_answer_is_what_generate_would_say_first(checkpoints: dict[str, Path]) -> None:
    """With the checkpoint's own chat template, one photo at a time; every way to write yes and no counts."""
    folder = checkpoints["idefics3"]
    model = transformers.Idefics3ForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    sides = [
        [processor.tokenizer.convert_tokens_to_ids(f"\u2581{w}") for w in s] for s in (("yes", "Yes"), ("no", "No"))
    ]
    answers = load(folder).answer(pictures(), QUESTION)

    for image, both in zip(pictures(), answers, strict=True):
        content = [{"type": "image", "image": image}, {"type": "text", "text": f"{QUESTION} Answer yes or no."}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        assert (inputs["input_ids"] == processor.tokenizer.bos_token_id).sum() == 1
        share = first_scores(model, inputs).softmax(-1)
        assert both == pytest.approx([share[ids].sum().item() for ids in sides], abs=1e-6)


def first_scores(model: transformers.PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    said = model.generate(**inputs, max_new_tokens=1, do_sample=False, output_scores=True, return_dict_in_generate=True)
    return said.scores[0][0]


def test_without_a_chat_template_the_question_is_asked_plainly(checkpoints: dict[str, Path]) -> None:
    folder = checkpoints["llava"]
    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    prompt = f"<image>\nQuestion: {QUESTION} Answer yes or no. Answer:"
    ids = [processor.tokenizer.convert_tokens_to_ids(f"\u2581{word}") for word in ("yes", "Yes")]
    answers = load(folder).answer(pictures(), QUESTION)

    for image, (yes, _) in zip(pictures(), answers, strict=True):
        share = first_scores(model, processor(images=image, text=prompt, return_tensors="pt")).softmax(-1)
        assert yes == pytest.approx(share[ids].sum().item(), abs=1e-6)


@pytest.mark.parametrize("kind", ["idefics3", "llava"])
def test_prompts_are_filled_up_at_their_end(kind: str, checkpoints: dict[str, Path]) -> None:
    """Before it, what fills up would move the places of all that follows."""
    answerer, masks = load(checkpoints[kind]), []
    network = answerer._model  # type: ignore[attr-defined]
    network.register_forward_pre_hook(
        lambda module, given, named: masks.append(named["attention_mask"]), with_kwargs=True
    )
    answerer.answer(pictures(), QUESTION)

    (mask,) = masks
    assert mask[:, 0].all()
    assert mask[:, -1].all() == (kind == "llava"), "the first kind's prompts are of different lengths"


def test_nothing_is_generated_and_a_vocabulary_is_computed_for_the_last_tokens_alone(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer, shapes = load(checkpoints["idefics3"]), []
    network = answerer._model  # type: ignore[attr-defined]
    monkeypatch.setattr(network, "generate", lambda **_: pytest.fail("generates"))
    network.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    answerer.answer(pictures(), QUESTION)

    ((count, positions, _),) = shapes
    assert count == 4 and positions <= 4


@pytest.mark.parametrize("word", ["yes", "no"])
def test_a_tokenizer_without_a_token_for_an_answer_is_refused(word: str, tmp_path: Path) -> None:
    tiny_vqa.idefics3(tmp_path / "model", word, word.capitalize())
    with pytest.raises(TeacherError, match=rf"its tokenizer has no single token for {word}\n"):
        load(tmp_path / "model")


def test_a_classifier_of_other_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="yes and no are not among its 2 answers"):
        load(tiny_vqa.vilt(tmp_path / "model", ("cat", "dog")))


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.ViTForImageClassification(transformers.ViTConfig(**shape, image_size=16)).save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match="ViTForImageClassification answers no questions about photos"):
        load(tmp_path)


def test_a_checkpoint_without_its_last_layer_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """transformers would fill it with random weights."""
    folder = shutil.copytree(checkpoints["vilt"], tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=rf"lacks {len(weights) - len(kept)} of its weights \(first: classifier"):
        load(folder)


def test_what_is_no_checkpoint_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints["vilt"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no-such"}))
    with pytest.raises(TeacherError, match="transformers cannot load it"):
        load(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_that_would_not_be_read_to_its_end_is_refused(kind: str, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ScenarioError, match=r"question: has \d+ tokens, and the model local-dir:\S+ reads \d+"):
        load(checkpoints[kind]).answer(pictures(), "red " * 600)


def test_a_question_that_holds_the_sign_for_a_photo_is_refused(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(TeacherError, match="cannot be asked about photos"):
        load(checkpoints["idefics3"]).answer(pictures(), "Is this <image> red?")


@pytest.mark.parametrize(
    ("size", "side"),
    [
        ({"height": 384, "width": 384}, 384),
        ({"longest_edge": 2048}, 2048),
        ({"shortest_edge": 3136, "longest_edge": 1_048_576}, 1024),  # areas
        ({}, answerers.DEFAULT_SIDE),
    ],
)
def test_photos_are_decoded_as_large_as_the_processor_keeps_them(size: dict[str, int], side: int) -> None:
    class Processor:
        class image_processor:  # noqa: N801
            pass

    Processor.image_processor.size = size  # type: ignore[attr-defined]
    assert answerers._side(Processor()) == side


class Counting:
    """Answers as if it saw; counts."""

    version, image_size = "test-1", 32

    def __init__(self, mass: float = 0.5) -> None:
        self.questions: list[str] = []
        self.mass = mass

    def answer(self, images: list[Image.Image], question: str) -> np.ndarray:
        self.questions += [question] * len(images)
        return self.mass * np.array([[0.75, 0.25]] * len(images))


@pytest.fixture
def photos(shapes: Path) -> list[Photo]:
    return [Photo.of(path) for path in sorted((shapes / "photos").glob("*.png"))[:18]]


@pytest.fixture
def source(checkpoints: dict[str, Path]) -> vqa.VisualQuestionAnswering:
    return vqa.VisualQuestionAnswering(find_checkpoint(f"local-dir:{checkpoints['vilt']}"), Counting())


def scenario(model: object = "local-dir:x", **keys: object) -> Scenario:
    tree = {"name": "disc", "positive": ["disc"], "labels": {"source": "vqa", "model": str(model)}, **keys}
    return Scenario.model_validate(tree)


def test_the_scenarios_question_is_asked_once_a_photo_and_question(
    source: vqa.VisualQuestionAnswering, photos: list[Photo], tmp_path: Path
) -> None:
    store, counting = EmbeddingStore(tmp_path), source._answerer
    scores = labeling.score(source, photos, scenario(), store)
    assert counting.questions == ["Does the photo show: disc?"] * 18
    assert scores.p == pytest.approx([0.75] * 18) and scores.by_phrase.sum(axis=1) == pytest.approx([0.5] * 18)

    labeling.score(source, photos, scenario(negative=["bar"], question="Does the photo show: disc?"), store)
    labeling.score(source, photos, scenario("local-dir:another-place"), store)
    assert len(counting.questions) == 18, "phrases for no, and where the same checkpoint lies, are not in the question"
    labeling.score(source, photos[:3], scenario(question="Is there a disc?"), store)
    assert counting.questions[18:] == ["Is there a disc?"] * 3


def test_what_was_answered_before_a_kill_is_kept(
    source: vqa.VisualQuestionAnswering, photos: list[Photo], tmp_path: Path
) -> None:
    store, counting = EmbeddingStore(tmp_path), source._answerer
    gone = [*photos[:17], Photo("0" * 64, photos[17].path)]
    with pytest.raises(FactoryError, match="it has changed since it was scanned"):
        labeling.score(source, gone, scenario(), store)
    asked = len(counting.questions)
    labeling.score(source, photos, scenario(), store)

    assert asked >= 16 and len(counting.questions) - asked == 2


def test_name_license_and_key_are_the_checkpoints(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    one, two = (vqa.load_vqa(scenario(f"local-dir:{checkpoints[kind]}")) for kind in ("vilt", "blip"))

    assert one.about == {"name": f"local-dir:{checkpoints['vilt']}", "license": "cc0-1.0"}
    assert one.key != two.key
    moved = shutil.copytree(checkpoints["vilt"], tmp_path / "moved")
    assert vqa.load_vqa(scenario(f"local-dir:{moved}")).key == one.key


@pytest.mark.parametrize(("mass", "warned"), [(0.009, True), (0.011, False)])
def test_a_model_that_answers_something_else_is_warned_of_also_where_the_store_answers(
    mass: float,
    warned: bool,
    source: vqa.VisualQuestionAnswering,
    photos: list[Photo],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source._answerer.mass = mass
    for _ in range(2):
        scores = labeling.score(source, photos, scenario(), EmbeddingStore(tmp_path))
        assert ("does not answer this question with yes or no" in capsys.readouterr().err) is warned
        assert scores.p == pytest.approx([0.75] * 18), "the ratio is what it was"


def test_the_source_is_known_by_its_name(checkpoints: dict[str, Path]) -> None:
    asked = scenario(f"local-dir:{checkpoints['llava']}")
    loaded = find_label_source(asked)(asked, None, None)  # type: ignore[arg-type]

    assert isinstance(loaded, vqa.VisualQuestionAnswering)
    with pytest.raises(ValueError, match="vqa needs a `model`"):
        Labeling(source="vqa")
