"""Photos copied into folders of their classes, and a scenario of each class: nothing is ever overwritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clip_factory.errors import ImagesError, ScenarioError
from clip_factory.label_sources import zero_shot
from clip_factory.run_folder import sha256_file
from clip_factory.scenario import load
from clip_factory.zeroshot.class_scenarios import write_scenarios
from clip_factory.zeroshot.classes import prompts_of
from clip_factory.zeroshot.classification import Classification
from clip_factory.zeroshot.folder_result import FolderResult
from clip_factory.zeroshot.sorting import file_name, sort_into
from support.axis_encoder import AxisEncoder
from support.pictures import draw_shape

PATHS, ANSWERS = ["a/p.png", "a/q.png", "b/p.png"], ["disc", "unsure", "disc"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three different photos, two with one file name."""
    for seed, path in enumerate(PATHS):
        file = tmp_path / "photos" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_shape("disc", seed).save(file)
    return tmp_path / "photos"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_photo_is_copied_byte_for_byte_into_the_folder_of_its_answer(photos: Path, tmp_path: Path) -> None:
    before = contents(photos)
    assert sort_into(tmp_path / "new" / "sorted", photos, PATHS[:2], ANSWERS[:2]) == 2

    assert contents(tmp_path / "new" / "sorted") == {
        "disc/p.png": before["a/p.png"],
        "unsure/q.png": before["a/q.png"],
    }
    assert contents(photos) == before, "the photos stay where they are"


def test_of_two_photos_with_one_name_the_second_bears_its_hash(photos: Path, tmp_path: Path) -> None:
    assert sort_into(tmp_path / "sorted", photos, PATHS, ANSWERS) == 3

    name = f"disc/p-{sha256_file(photos / 'b/p.png')[:8]}.png"
    made = contents(tmp_path / "sorted")
    assert set(made) == {"disc/p.png", "unsure/q.png", name}
    assert made[name] == (photos / "b/p.png").read_bytes()


def test_what_is_there_byte_for_byte_is_not_copied_again(photos: Path, tmp_path: Path) -> None:
    sort_into(tmp_path / "sorted", photos, PATHS, ANSWERS)
    before = contents(tmp_path / "sorted")

    assert sort_into(tmp_path / "sorted", photos, PATHS, ANSWERS) == 0
    assert contents(tmp_path / "sorted") == before


def test_a_file_of_the_users_own_is_never_overwritten(photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "sorted" / "disc" / "p.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    sort_into(tmp_path / "sorted", photos, PATHS, ANSWERS)

    assert own.read_bytes() == b"mine"
    assert len(contents(tmp_path / "sorted")) == 4, "all three are there beside it"


@pytest.mark.parametrize("target", [".", "new/folder", "a", "../photos/b"])
def test_a_target_inside_of_the_photos_is_refused_before_anything_is_copied(photos: Path, target: str) -> None:
    before = contents(photos)
    with pytest.raises(ImagesError, match=r"(?s)lies in the folder of the photos.*--sort-into DIR"):
        sort_into(photos / target, photos, PATHS, ANSWERS)
    assert contents(photos) == before and not (photos / "new").exists()


def test_a_link_that_leads_into_the_photos_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    with pytest.raises(ImagesError, match="lies in the folder of the photos"):
        sort_into(tmp_path / "link" / "sorted", photos, PATHS, ANSWERS)


def test_a_folder_beside_the_photos_with_a_longer_name_is_none_of_theirs(photos: Path, tmp_path: Path) -> None:
    assert sort_into(tmp_path / "photos sorted", photos, PATHS, ANSWERS) == 3


def test_a_target_that_cannot_be_written_is_an_error_of_ours(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImagesError, match="cannot be written"):
        sort_into(tmp_path / "file", photos, PATHS, ANSWERS)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("sea coast", "sea-coast"),
        ("../../etc", "etc"),
        ("a/b\\c:d", "a-b-c-d"),
        ("metal_bar", "metal_bar"),
        ("\u72ac", "\u72ac"),
        ("..", "class"),
        ("x" * 200, "x" * 80),
    ],
)
def test_no_name_of_a_class_leads_out_of_the_target(name: str, safe: str) -> None:
    assert file_name(name) == safe


# Scenarios


def result(phrases: dict[str, list[str]], templates: tuple[str, ...]) -> FolderResult:
    p = np.full((2, len(phrases)), 1 / len(phrases))
    return FolderResult(
        ["p.png", "q.png"],
        Classification(tuple(phrases), p),
        prompts_of(phrases, templates),
        templates,
        AxisEncoder(*phrases),
    )


SEA = {"sea coast": ["sea coast", "ocean"], "big_dog": ["big dog"], "cat": ["cat"]}


def test_each_class_has_a_scenario_against_the_phrases_of_all_others(tmp_path: Path) -> None:
    files = write_scenarios(tmp_path / "new" / "scenarios", result(SEA, ("my {}!", "your {}")), tmp_path / "photos")

    assert [file.name for file in files] == ["sea-coast.yaml", "big-dog.yaml", "cat.yaml"]
    made = [load(file) for file in files]
    assert [one.name for one in made] == ["sea-coast", "big-dog", "cat"]
    assert [one.positive for one in made] == [("sea coast", "ocean"), ("big dog",), ("cat",)]
    assert made[0].negative == ("big dog", "cat") and made[2].negative == ("sea coast", "ocean", "big dog")
    assert {one.templates for one in made} == {("my {}!", "your {}")}
    assert {one.images.path for one in made} == {str((tmp_path / "photos").absolute())}


def test_one_class_alone_leaves_its_negatives_to_everyday_things(tmp_path: Path) -> None:
    (file,) = write_scenarios(tmp_path, result({"cat": ["cat"]}, ("a {}",)), tmp_path)

    assert load(file).negative is None


def test_sentences_of_a_class_are_its_phrases_as_they_stand(tmp_path: Path) -> None:
    sentences = {"cat": ["A cat has fur.", "A cat purrs."], "hen": ["A hen pecks."]}
    files = write_scenarios(tmp_path, result(sentences, ("{}",)), tmp_path)

    assert load(files[0]).positive == ("A cat has fur.", "A cat purrs.")
    assert load(files[0]).negative == ("A hen pecks.",)


def test_a_scenario_asks_with_the_prompts_of_the_classes(tmp_path: Path) -> None:
    """Its text vectors have the classes' directions."""
    made = result({"cat": ["cat"], "dog": ["dog"]}, ("a {}", "the {} itself"))
    (scenario, _) = (load(file) for file in write_scenarios(tmp_path, made, tmp_path))
    texts = zero_shot.text_vectors(made.encoder, scenario.positive + scenario.negative, scenario.templates)

    assert texts == pytest.approx(made.classes.vectors(made.encoder))


def test_a_scenario_that_is_there_is_not_overwritten_and_none_is_written_beside_it(tmp_path: Path) -> None:
    (tmp_path / "cat.yaml").write_text("mine")
    with pytest.raises(ScenarioError, match=r"cat\.yaml is there already"):
        write_scenarios(tmp_path, result(SEA, ("a {}",)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cat.yaml"]
    assert (tmp_path / "cat.yaml").read_text() == "mine"


def test_a_class_that_a_scenario_may_not_name_is_refused_by_its_name_and_nothing_is_written(tmp_path: Path) -> None:
    phrases = {"helmet": ["helmet"], "bare": ["no helmet"]}
    with pytest.raises(ScenarioError, match="class helmet"):
        write_scenarios(tmp_path / "new", result(phrases, ("a {}",)), tmp_path)
    assert not list((tmp_path / "new").iterdir())
