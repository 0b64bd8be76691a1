"""The vocabulary of nouns: where it comes from, how a word finds its senses, and which plurals have a singular."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clip_factory.zeroshot import vocabulary
from clip_factory.zeroshot.vocabulary import common_nouns, nouns, senses, singular


def test_nouns_are_distinct_and_have_spaces_where_wordnet_has_underscores() -> None:
    named = nouns()

    assert len(named) == len(set(named)) > 30_000
    assert {"fire truck", "forklift", "crane"} <= set(named)
    assert not [noun for noun in named if "_" in noun or noun != noun.strip() or not noun]


def test_without_timm_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ModuleNotFoundError) as caught:
        vocabulary._synsets.__wrapped__()
    assert caught.value.name == "timm", "the command line says which install has it"


def test_every_one_of_the_synsets_is_read_with_its_definition() -> None:
    synsets = vocabulary._synsets()

    assert len(synsets) == 21_844
    assert not [name for name, (lemmas, definition) in synsets.items() if not lemmas or not definition]


def test_common_nouns_begin_with_the_class_names_of_imagenet() -> None:
    import open_clip

    classes = list(dict.fromkeys(name.lower() for name in open_clip.IMAGENET_CLASSNAMES))

    assert list(common_nouns()[: len(classes)]) == classes


def test_common_nouns_are_few_distinct_and_short() -> None:
    import open_clip

    common, classes = common_nouns(), {name.lower() for name in open_clip.IMAGENET_CLASSNAMES}
    others = [noun for noun in common if noun not in classes]

    assert len(common) == len(set(common)) <= vocabulary.MAX_COMMON
    assert len(others) > 1_000
    assert max(len(noun.replace("-", " ").split()) for noun in others) <= vocabulary.MAX_WORDS
    assert max(map(len, others)) <= vocabulary.MAX_LETTERS


def test_a_noun_of_two_things_has_both_senses_with_definitions() -> None:
    several = senses("crane", usual=True)

    assert len(several) == 2
    assert all(one.lemma == "crane" and one.synset.startswith("n") for one in several)
    assert "bird" in several[0].definition and "lifts" in several[1].definition


def test_usual_senses_leave_out_what_has_another_name_first() -> None:
    assert len(senses("cat", usual=True)) == 1 < len(senses("cat"))
    assert all(one.first for one in senses("cat", usual=True))


@pytest.mark.parametrize("word", ["Crane", "CRANE", " crane ", "cranes"])
def test_senses_do_not_depend_on_case_spaces_or_number(word: str) -> None:
    assert senses(word) == senses("crane") != ()


def test_a_word_that_is_not_in_the_vocabulary_has_no_senses() -> None:
    assert senses("qwertyish") == ()


PLURALS = {"cats": "cat", "boxes": "box", "buses": "bus", "churches": "church", "dishes": "dish", "firemen": "fireman"}
PLURALS |= {"cities": "city", "Cats": "cat", "fire trucks": "fire truck"}


@pytest.mark.parametrize(("plural", "one"), PLURALS.items())
def test_a_plural_has_the_singular_of_its_ending(plural: str, one: str) -> None:
    assert singular(plural) == one


@pytest.mark.parametrize("word", ["cat", "bus", "grass", "glasses", "lens", "glossyglass", "qwerties", "gas", ""])
def test_what_is_no_plural_of_a_noun_has_no_singular(word: str) -> None:
    assert singular(word) is None


def test_the_vocabulary_is_read_without_torch() -> None:
    code = (
        "import sys; from clip_factory.zeroshot.vocabulary import nouns, senses; "
        "print(len(nouns()) > 0, len(senses('crane')) > 0, 'torch' in sys.modules)"
    )
    here = str(Path(__file__).parents[2] / "factory")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": here})

    assert result.stdout == "True True False\n", result.stderr
