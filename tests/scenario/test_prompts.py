"""Templates and negations: what phrases become before they are embedded."""

from __future__ import annotations

import pytest

from clip_factory.scenario import prompts


@pytest.mark.parametrize("name", prompts.TEMPLATE_SETS)
def test_every_template_set_has_one_slot_a_line(name: prompts.TemplateSet) -> None:
    templates = prompts.template_set(name)

    assert all(template.count("{}") == 1 for template in templates)
    assert len(set(templates)) == len(templates)


def test_the_clip_set_is_the_papers() -> None:
    import open_clip

    assert list(prompts.template_set("clip-80")) == [fill("{}") for fill in open_clip.OPENAI_IMAGENET_TEMPLATES]


@pytest.mark.parametrize(
    ("phrase", "word"),
    [
        ("no helmet", "no"),
        ("a head without a helmet", "without"),
        ("not a cat", "not"),
        ("knot", None),
        ("nothing", None),
    ],
)
def test_negations_are_found(phrase: str, word: str | None) -> None:
    assert prompts.negation_in(phrase) == word
