"""Classes in words: from a list, from folders, from files of several forms, and the prompts that stand for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest

from clip_factory.encoders import load_encoder
from clip_factory.encoders.open_clip import OpenClipEncoder
from clip_factory.errors import ScenarioError
from clip_factory.scenario import Teacher
from clip_factory.scenario.prompts import BACKGROUND, TEMPLATE_SETS, template_set
from clip_factory.zeroshot import classes
from clip_factory.zeroshot.classes import ClassPrompts, prompts_of, read_classes, read_templates
from support.axis_encoder import AxisEncoder


def written(folder: Path, name: str, content: object) -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


# Lists and folders


def test_a_list_has_a_class_for_each_name_without_the_spaces_around_it() -> None:
    assert classes.named(" cat, sea coast ,,dog,") == {"cat": ["cat"], "sea coast": ["sea coast"], "dog": ["dog"]}


def test_a_list_that_names_a_class_twice_is_refused_with_that_name() -> None:
    with pytest.raises(ScenarioError, match="class 'dog' is named twice"):
        classes.named("cat,dog, dog")


def test_folders_are_classes_once_each_in_the_order_of_the_alphabet() -> None:
    assert list(classes.of_folders(["dog", "cat", "", "dog"])) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("sea_coast", "sea coast"), ("PolarBear", "polar bear"), ("BMW", "BMW"), ("T-shirt", "T-shirt"), ("a  b", "a b")],
)
def test_the_name_of_a_folder_is_said_in_words(name: str, said: str) -> None:
    assert classes.of_folders([name]) == {name: [said]}


# Files of names


def test_a_line_has_a_class_and_after_a_colon_its_phrases(tmp_path: Path) -> None:
    file = written(tmp_path, "c.txt", "\ufeff# animals\nsea: sea coast, ocean\n\n  big_dog  \ncat:\n")

    assert read_classes(file) == ({"sea": ["sea coast", "ocean"], "big_dog": ["big dog"], "cat": ["cat"]}, False)


def test_a_line_without_a_name_is_refused_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("# animals\ncat\n: dog\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=rf"{file}:3: a class without a name"):
        read_classes(file)


def test_a_json_list_has_the_class_names(tmp_path: Path) -> None:
    assert read_classes(written(tmp_path, "c.JSON", ["cat", "sea coast"])) == (
        {"cat": ["cat"], "sea coast": ["sea coast"]},
        False,
    )


BENCHMARK = {"flowers": ["pink primrose", "rose"], "pets": ["Abyssinian", "Bengal", "pug"]}


@pytest.mark.parametrize("data_set", BENCHMARK)
def test_names_by_data_set_are_those_of_the_data_set_that_is_asked_for(tmp_path: Path, data_set: str) -> None:
    """The form of CLIP_benchmark's en_classnames.json."""
    phrases, whole = read_classes(written(tmp_path, "en_classnames.json", BENCHMARK), data_set)

    assert list(phrases) == BENCHMARK[data_set] and not whole


def test_a_file_of_one_data_set_needs_no_name(tmp_path: Path) -> None:
    phrases, whole = read_classes(written(tmp_path, "c.json", {"pets": ["pug", "Bengal"]}))

    assert list(phrases) == ["pug", "Bengal"] and not whole


def test_a_data_set_that_the_file_does_not_hold_is_refused_with_those_that_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"(?s)no data set 'cars'.*it holds: flowers, pets"):
        read_classes(written(tmp_path, "c.json", BENCHMARK), "cars")
    with pytest.raises(ScenarioError, match=r"(?s)no data set 'cars'.*it holds: none"):
        read_classes(written(tmp_path, "list.json", ["pug", "Bengal"]), "cars")


# CuPL

CUPL = {
    "lorikeet": ["A lorikeet is a small, colorful parrot.", "A photo of a {} on a branch."],
    "hen": ["A hen pecks at corn.", "The {c} has a red comb."],
}


def test_sentences_are_whole_prompts_with_the_name_in_their_places(tmp_path: Path) -> None:
    phrases, whole = read_classes(written(tmp_path, "cupl.json", CUPL))

    assert whole
    assert phrases["lorikeet"] == ["A lorikeet is a small, colorful parrot.", "A photo of a lorikeet on a branch."]
    assert phrases["hen"][1] == "The hen has a red comb."


def test_texts_of_an_object_that_are_single_words_are_put_into_templates(tmp_path: Path) -> None:
    assert read_classes(written(tmp_path, "c.json", {"sea": ["ocean", "coast"], "cat": ["cat"]})) == (
        {"sea": ["ocean", "coast"], "cat": ["cat"]},
        False,
    )


@pytest.mark.parametrize(
    "content", [{"cat": [1, 2], "dog": ["dog"]}, {"cat": [], "dog": ["dog"]}, {"cat": [" "], "dog": ["d"]}, [], {}, 5]
)
def test_json_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ScenarioError, match="neither a list of class names nor texts by class"):
        read_classes(written(tmp_path, "c.json", content))


def test_a_file_that_is_no_json_or_no_text_is_refused_with_its_path(tmp_path: Path) -> None:
    binary = tmp_path / "b.txt"
    binary.write_bytes(b"\xff\xfe\xfa")
    for file, message in (
        (written(tmp_path, "c.json", "{"), "no JSON"),
        (binary, "cannot be read"),
        (tmp_path / "missing.txt", "cannot be read"),
    ):
        with pytest.raises(ScenarioError, match=message) as caught:
            read_classes(file)
        assert str(file) in str(caught.value)


# Templates


@pytest.mark.parametrize("name", TEMPLATE_SETS)
def test_a_named_set_is_the_one_that_scenarios_have(name: str) -> None:
    assert read_templates(name) == template_set(name)


def test_templates_of_a_file_have_the_slot_that_scenarios_write(tmp_path: Path) -> None:
    by_set = {"flowers": ["a photo of a {c}, a type of flower."], "pets": ["a {}", "the {c}"]}
    file = written(tmp_path, "en_zeroshot.json", by_set)

    assert read_templates(str(file), "flowers") == ("a photo of a {}, a type of flower.",)
    assert read_templates(str(file), "pets") == ("a {}", "the {}")
    assert read_templates(str(written(tmp_path, "one.json", ["my {c}"]))) == ("my {}",)


@pytest.mark.parametrize("text", ["a photo", "{} and {}", "{c} or {}"])
def test_a_template_with_no_or_several_places_for_the_class_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ScenarioError, match="exactly once"):
        classes.template(text)
    with pytest.raises(ScenarioError, match="exactly once"):
        read_templates(str(written(tmp_path, "t.json", ["a {}", text])))


def test_what_is_no_set_and_no_list_of_templates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"(?s)no such templates.*clip-80"):
        read_templates("clip-81")
    with pytest.raises(ScenarioError, match="no list of templates"):
        read_templates(str(written(tmp_path, "t.json", BENCHMARK)))


def test_phrases_that_all_have_an_article_need_no_photo_templates() -> None:
    assert classes.usual_templates({"cat": ["a cat"], "apes": ["An ape", "the gorilla"]}) == "plain"
    assert classes.usual_templates({"cat": ["a cat"], "dog": ["dog"]}) == "photo"
    assert classes.usual_templates({"ant": ["ant"], "theater": ["theater"]}) == "photo", "no article, but its letters"


# Prompts and their vectors


def test_every_phrase_of_a_class_is_put_into_every_template() -> None:
    made = prompts_of({"sea": ["ocean", "coast"], "cat": ["cat"]}, ("a {}", "the {}"))

    assert made.names == ("sea", "cat")
    assert made.prompts == (("a ocean", "the ocean", "a coast", "the coast"), ("a cat", "the cat"))
    assert made.pairs[3:5] == [("sea", "the coast"), ("cat", "a cat")]


@pytest.mark.parametrize(
    ("names", "prompts", "message"),
    [
        ((), (), "there are no classes"),
        (("cat", "dog", "cat"), (("a",), ("b",), ("c",)), "class 'cat' is named twice"),
        (("cat", "dog"), (("a",), ()), "class 'dog' has no prompt"),
    ],
)
def test_classes_that_make_no_sense_are_refused(names: tuple, prompts: tuple, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        ClassPrompts(names, prompts)


def test_a_class_is_the_mean_of_its_own_prompts_whatever_number_others_have() -> None:
    encoder = AxisEncoder("ocean", "coast", "cat")
    found = prompts_of({"sea": ["ocean", "coast"], "cat": ["cat"], "rest": ["rest"]}, ("a {}", "the {}")).vectors(
        encoder
    )

    half = np.sqrt(0.5)
    assert found == pytest.approx(np.array([[half, half, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), abs=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("name", ["photo", "clip-80"])
def test_vectors_are_those_of_open_clips_zero_shot_classifier(tiny_clip: Path, name: str) -> None:
    encoder = load_encoder(Teacher(model=f"local-dir:{tiny_clip}"))
    assert isinstance(encoder, OpenClipEncoder)
    names = ["cat", "sea coast", "Polar bear"]
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    oracle = open_clip.build_zero_shot_classifier(
        encoder.network, tokenizer, names, list(read_templates(name)), device="cpu"
    )
    found = prompts_of({one: [one] for one in names}, read_templates(name)).vectors(encoder)

    assert found == pytest.approx(oracle.T.detach().numpy(), abs=1e-5)


def test_everyday_things_leave_out_what_a_class_names() -> None:
    made = prompts_of({"a": ["Person on a street"], "b": ["red vehicle"]}, ("{}",))
    left = classes.background(made, ("a {}",))

    assert left == [f"a {thing}" for thing in BACKGROUND if thing not in ("person", "street", "vehicle")]
