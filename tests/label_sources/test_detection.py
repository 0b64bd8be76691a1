"""Boxes are those of transformers, lie on the photo, and decide as the rule says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clip_factory.errors import ScenarioError, TeacherError
from clip_factory.images.photo import Photo
from clip_factory.label_sources import detection
from clip_factory.label_sources.checkpoint import find_checkpoint
from clip_factory.label_sources.detection import DEFAULT, decide, load_detection, overlaps
from clip_factory.label_sources.detectors import Detections, load_detector
from clip_factory.label_sources.localization import NOTHING, LocatingSource, Rule, asked_phrases, to_scores
from clip_factory.label_sources.source import Phrases
from clip_factory.scenario import Labeling, Scenario
from support.pictures import draw_shape
from support.tiny_locators import make_clipseg, make_grounding_dino, make_owl

PHRASES = ["disc", "red bar", "stripe"]
SIZES = [(90, 60), (50, 80), (64, 64)]
FORKLIFT = Phrases(("forklift",), ("pallet truck", NOTHING))
RULE = Rule(score=0.2, min_area=0.0)
LEFT, LEFT_TOO, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.02, 0.0, 0.42, 0.4), (0.5, 0.5, 0.9, 0.9)


@pytest.fixture(scope="module", params=["owlv2", "owlvit"])
def owl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_owl(tmp_path_factory.mktemp(request.param), request.param)


def scenario(folder: Path, **labels: float) -> Scenario:
    made = Labeling(source="detection", model=f"local-dir:{folder}", **labels)
    return Scenario(name="disc", positive=("disc",), negative=("red bar", "stripe"), labels=made)


def logit(p: float | np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-np.asarray(p))


def seen(*boxes: tuple[tuple[float, ...], list[float]]) -> Detections:
    """Boxes by their edges, each with the scores of the phrases."""
    edges, scores = zip(*boxes, strict=True)
    return Detections(logit(np.array(scores)).astype(np.float32), np.array(edges, np.float32))


def test_boxes_and_scores_are_those_of_transformers_on_photos_of_any_shape(owl: Path) -> None:
    images = [draw_shape("disc", i, 120).resize(size) for i, size in enumerate(SIZES)]
    processor = transformers.AutoProcessor.from_pretrained(owl)
    network = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(owl)
    with torch.inference_mode():
        outputs = network(**processor(text=[PHRASES] * 3, images=images, return_tensors="pt"))
    expected = processor.post_process_grounded_object_detection(
        outputs, threshold=0.0, target_sizes=[(height, width) for width, height in SIZES]
    )

    detected = load_detector(find_checkpoint(f"local-dir:{owl}")).detect(images, PHRASES)

    for one, truth, (width, height) in zip(detected, expected, SIZES, strict=True):
        assert one.log_odds.shape == (36, 3)
        assert one.log_odds.argmax(axis=1).tolist() == truth["labels"].tolist()
        assert 1 / (1 + np.exp(-one.log_odds.max(axis=1))) == pytest.approx(truth["scores"].numpy(), abs=1e-5)
        assert one.boxes * [width, height, width, height] == pytest.approx(truth["boxes"].numpy(), abs=1e-3)
        assert truth["scores"].numpy().std() > 1e-3, "scores that are all alike would show nothing"


def test_a_photo_is_answered_as_if_it_were_alone(owl: Path, tmp_path: Path) -> None:
    photos = [photo(tmp_path, i, SIZES[i % 3]) for i in range(6)]
    asked = scenario(owl)
    source = load_detection(asked)

    together, alone = source.score(photos, asked), source.score(photos[4:5], asked)

    assert together.by_phrase.shape == (6, 4) and together.phrases == asked_phrases(asked)
    assert alone.log_odds[0] == pytest.approx(together.log_odds[4], abs=1e-4)
    assert together.evidence is not None and alone.evidence is not None
    assert [box.phrase for box in together.evidence[4].boxes] == [box.phrase for box in alone.evidence[0].boxes]
    assert len({round(value, 6) for value in together.log_odds.tolist()}) == 6, "another photo, another answer"


def test_large_photos_are_made_smaller_and_answered_alike(owl: Path, tmp_path: Path) -> None:
    asked = scenario(owl)
    source = load_detection(asked)
    draw_shape("disc", 1, 72).resize((96, 72)).save(tmp_path / "small.png")
    draw_shape("disc", 1, 72).resize((96, 72)).resize((1920, 1440), Image.Resampling.NEAREST).save(
        tmp_path / "large.png"
    )

    small, large = (source.score([Photo.of(tmp_path / f"{name}.png")], asked) for name in ("small", "large"))

    assert large.log_odds == pytest.approx(small.log_odds, abs=0.02)


def photo(folder: Path, number: int, size: tuple[int, int]) -> Photo:
    draw_shape("disc", number, 120).resize(size).save(folder / f"{number}.png")
    return Photo.of(folder / f"{number}.png")


@pytest.mark.parametrize(
    ("boxes", "p"),
    [
        ([(LEFT, [0.2, 0.01])], 0.5),
        ([(LEFT, [0.3, 0.01])], (0.3 / 0.7) / (0.3 / 0.7 + 0.25)),
        ([(LEFT, [0.1, 0.01]), (RIGHT, [0.3, 0.01])], (0.3 / 0.7) / (0.3 / 0.7 + 0.25)),
        ([(LEFT, [0.3, 0.3])], 0.5),
        ([(LEFT, [0.3, 0.1]), (LEFT_TOO, [0.1, 0.3])], 0.5),
        ([(LEFT, [0.3, 0.1]), (LEFT_TOO, [0.1, 0.6])], (0.3 / 0.7) / (0.3 / 0.7 + 1.5)),
        ([(LEFT, [0.3, 0.1]), (RIGHT, [0.1, 0.9])], (0.3 / 0.7) / (0.3 / 0.7 + 0.25)),
        ([(LEFT, [0.9, 0.95]), (RIGHT, [0.3, 0.1])], (0.3 / 0.7) / (0.3 / 0.7 + 0.25)),
    ],
    ids=[
        "a half at the score",
        "above the score",
        "the best box",
        "as high as a negative in the same box",
        "as high as a negative about the same thing",
        "below a negative about the same thing",
        "a negative elsewhere does not matter",
        "one box is vetoed, another counts",
    ],
)
def test_the_probability_is_a_half_where_the_answer_turns(
    boxes: list[tuple[tuple[float, ...], list[float]]], p: float
) -> None:
    scores = to_scores([decide(seen(*boxes), FORKLIFT, RULE)], FORKLIFT)

    assert scores.p == pytest.approx([p], abs=1e-6)


def test_without_negatives_the_score_alone_decides() -> None:
    asked = asked_phrases(Scenario(name="x", positive=("forklift", "lift truck")))
    assert asked == Phrases(("forklift", "lift truck"), (NOTHING,)), "no set of everyday things competes"

    answer = decide(seen((LEFT, [0.1, 0.25]), (RIGHT, [0.15, 0.05])), asked, RULE)

    assert to_scores([answer], asked).by_phrase[0] == pytest.approx([0, 4 / 7, 3 / 7], abs=1e-6)


@pytest.mark.parametrize(
    ("edges", "counts"),
    [
        ((0.1, 0.1, 0.3, 0.3), True),
        ((0.1, 0.1, 0.29, 0.3), False),
        ((-0.1, 0.1, 0.1, 0.5), True),
        ((-0.1, 0.1, 0.09, 0.5), False),
        ((1.01, 0.1, 1.5, 0.9), False),
    ],
    ids=["of the least area", "smaller", "cut off at the edge", "too small within the photo", "beside the photo"],
)
def test_only_boxes_of_the_least_area_count(edges: tuple[float, ...], counts: bool) -> None:
    answer = decide(seen((edges, [0.9, 0.1])), FORKLIFT, Rule(0.2, 0.04 - 1e-7))

    assert (answer.margin >= 0) == counts
    assert bool(answer.evidence.boxes) == counts


def test_a_photo_without_boxes_is_a_no_that_is_not_infinitely_sure() -> None:
    scores = to_scores([decide(seen((LEFT, [0.9, 0.1])), FORKLIFT, Rule(0.2, 0.5))], FORKLIFT)

    assert scores.p == pytest.approx([4e-4], rel=0.01)
    assert scores.by_phrase[0].argmax() == 2, "none of these wins"


@given(st.data())
def test_the_rule_by_the_letter(data: st.DataObject) -> None:
    count, yes, no = (data.draw(st.integers(*limits)) for limits in ((1, 8), (1, 3), (0, 3)))
    random = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    low = random.uniform(-0.1, 0.8, (count, 2)).round(1)
    boxes = np.concatenate([low, low + random.uniform(0.1, 0.6, (count, 2)).round(1)], axis=1)
    scores = random.uniform(0.01, 0.99, (count, yes + no)).round(2)
    phrases = Phrases(tuple(f"yes {i}" for i in range(yes)), (*(f"no {i}" for i in range(no)), NOTHING))
    rule = Rule(score=0.4, min_area=0.05)

    answer = decide(Detections(logit(scores), boxes), phrases, rule)

    clipped = torch.tensor(np.clip(boxes, 0, 1))
    large = torchvision.ops.box_area(clipped).numpy() >= rule.min_area
    near = torchvision.ops.box_iou(clipped, clipped).numpy() >= detection.SAME_PLACE

    def counts(i: int) -> bool:
        best = scores[i, :yes].max()
        vetoed = any(scores[j, yes:].max(initial=0) > best for j in range(count) if near[i, j] and large[j])
        return bool(large[i] and best >= rule.score and not vetoed)

    assert (answer.margin >= 0) == any(counts(i) for i in range(count))
    assert (to_scores([answer], phrases).by_phrase[0, :yes].sum() >= 0.5) == (answer.margin >= 0)


def test_shown_boxes_are_those_of_non_maximum_suppression() -> None:
    random = np.random.default_rng(1)
    low = random.uniform(0, 0.7, (40, 2))
    boxes = np.concatenate([low, low + random.uniform(0.1, 0.3, (40, 2))], axis=1).astype(np.float32)
    scores = random.uniform(0, 1, (40, 2)).astype(np.float32)
    best = scores.max(axis=1)
    kept = torchvision.ops.nms(torch.tensor(boxes), torch.tensor(best), detection.SAME_PLACE).tolist()
    kept = [i for i in kept if best[i] >= 0.2 / 2][: detection.MAX_SHOWN]

    shown = decide(Detections(logit(scores), boxes), FORKLIFT, RULE).evidence.boxes

    assert [box.phrase for box in shown] == [("forklift", "pallet truck")[scores[i].argmax()] for i in kept]
    edges = [[box.x, box.y, box.x + box.width, box.y + box.height] for box in shown]
    assert np.array(edges) == pytest.approx(np.clip(boxes[kept], 0, 1), abs=1e-4)
    assert [box.score for box in shown] == pytest.approx(best[kept], abs=1e-4)


def test_weak_boxes_are_not_shown() -> None:
    shown = decide(seen((LEFT, [0.11, 0.01]), (RIGHT, [0.09, 0.01])), FORKLIFT, RULE).evidence.boxes

    assert [(box.phrase, box.score) for box in shown] == [("forklift", 0.11)]


def test_the_winner_of_a_photo_is_the_phrase_that_decided() -> None:
    answers = [
        decide(seen((LEFT, [0.9, 0.1])), FORKLIFT, RULE),
        decide(seen((LEFT, [0.9, 0.95])), FORKLIFT, RULE),
        decide(seen((LEFT, [0.1, 0.05])), FORKLIFT, RULE),
    ]

    scores = to_scores(answers, FORKLIFT)

    assert [FORKLIFT.all[i] for i in scores.by_phrase.argmax(axis=1)] == ["forklift", "pallet truck", NOTHING]
    assert scores.by_phrase.sum(axis=1) == pytest.approx([1, 1, 1])
    assert scores.log_odds == pytest.approx([answer.margin for answer in answers], abs=1e-5)


def test_overlaps_are_those_of_torchvision() -> None:
    low = np.random.default_rng(0).uniform(0, 0.6, (6, 2))
    boxes = np.concatenate([low, low + 0.3], axis=1)

    assert overlaps(boxes, boxes[:4]) == pytest.approx(
        torchvision.ops.box_iou(torch.tensor(boxes), torch.tensor(boxes[:4])).numpy(), abs=1e-9
    )


def test_what_the_answers_rest_on_is_asked_anew_and_nothing_else(owl: Path) -> None:
    source, asked = load_detection(scenario(owl)), scenario(owl)
    same = [asked.model_copy(update=update) for update in ({"templates": "plain"}, {"question": "A disc?"})]
    named = scenario(owl, score=DEFAULT.score, min_area=0.0)
    other = [scenario(owl, score=0.3), scenario(owl, min_area=0.1), asked.model_copy(update={"negative": None})]

    assert all(source.question(one) == source.question(asked) for one in [*same, named])
    assert all(source.question(one) != source.question(asked) for one in other)


def test_another_checkpoint_has_another_key_and_its_card_names_the_license(tmp_path: Path) -> None:
    one, other = make_owl(tmp_path / "one"), make_owl(tmp_path / "other", side=56)
    (one / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    sources = [load_detection(scenario(folder)) for folder in (one, other)]

    assert sources[0].key != sources[1].key
    assert all(isinstance(source, LocatingSource) for source in sources)
    assert sources[0].about == {"name": f"local-dir:{one}", "license": "apache-2.0"}


def test_a_phrase_that_is_not_read_to_its_end_is_refused(owl: Path, tmp_path: Path) -> None:
    long = scenario(owl).model_copy(update={"negative": ("a very long stripe",)})

    with pytest.raises(ScenarioError) as caught:
        load_detection(long).score([photo(tmp_path, 0, (64, 64))], long)
    assert str(caught.value) == (
        f"phrase 'a very long stripe': has 17 tokens, and the model local-dir:{owl} reads 16\n"
        "  say it in fewer words, or name another model"
    )


def test_grounding_dino_scores_the_tokens_of_each_phrase(tmp_path: Path) -> None:
    folder = make_grounding_dino(tmp_path / "dino")
    processor = transformers.AutoProcessor.from_pretrained(folder)
    network = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    images = [draw_shape("disc", i, 120).resize(size) for i, size in enumerate(SIZES)]

    detected = load_detector(find_checkpoint(f"local-dir:{folder}")).detect(images, PHRASES)

    for image, one in zip(images, detected, strict=True):
        inputs = processor(text=[PHRASES], images=image, return_tensors="pt")
        with torch.inference_mode():
            outputs = network(**inputs)
        truth = processor.post_process_grounded_object_detection(
            outputs, inputs.input_ids, threshold=0.0, text_threshold=0.0, target_sizes=[(image.height, image.width)]
        )[0]
        assert one.boxes * [*image.size, *image.size] == pytest.approx(truth["boxes"].numpy(), abs=1e-3)
        letters = processor.tokenizer.convert_ids_to_tokens(inputs.input_ids[0])
        ends = [i for i, letter in enumerate(letters) if letter == "."]
        for column, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
            assert "".join(letters[first + 1 : last]).replace("##", "") == PHRASES[column].replace(" ", "")
            expected = outputs.logits[0, :, first + 1 : last].amax(dim=-1).numpy()
            assert one.log_odds[:, column] == pytest.approx(expected, abs=1e-4)


def test_grounding_dino_refuses_what_it_would_not_read_as_it_stands(tmp_path: Path) -> None:
    detector = load_detector(find_checkpoint(f"local-dir:{make_grounding_dino(tmp_path / 'dino')}"))

    with pytest.raises(ScenarioError, match=r"phrase 'no\. 5': the model .* ends a phrase at a full stop"):
        detector.check(["disc", "no. 5"])
    with pytest.raises(ScenarioError, match=r"has 52 tokens, and the model .* reads 48"):
        detector.check(["disc"] * 10)


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    folder = make_clipseg(tmp_path / "clipseg")

    with pytest.raises(TeacherError) as caught:
        load_detection(scenario(folder))
    assert "clipseg is no detector that is known here\n  kinds: owlv2, owlvit" in str(caught.value)


def test_a_checkpoint_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    folder = make_owl(tmp_path / "owl")
    network = transformers.Owlv2ForObjectDetection.from_pretrained(folder)
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith("box_head")}
    network.save_pretrained(folder, state_dict=weights)

    with pytest.raises(TeacherError, match=r"lacks 6 of its weights \(first: box_head"):
        load_detection(scenario(folder))
