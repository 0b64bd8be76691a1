"""Other words on the review page: tried without changing anything, and accepted into the run's scenario."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clip_factory import run_folder as files
from clip_factory.label_sources.auto_refinement import AutoRefinement
from clip_factory.label_sources.probabilities import sigmoid
from clip_factory.label_sources.refinement import PseudoLabels
from clip_factory.label_sources.source import Phrases
from clip_factory.review import words
from clip_factory.scenario import load
from clip_factory.store import EmbeddingStore
from clip_factory.zeroshot.wordings import PhraseScorer
from review.test_review_server import Site
from support.make_run import TEACHER
from support.review_page import served
from support.review_run import make_review
from support.sign_encoder import SignEncoder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    run, store, truth = make_review(tmp_path)
    monkeypatch.setattr(words, "load_encoder", lambda teacher: SignEncoder())
    with served(run.path, store) as page:
        yield Site(page, run.path, store, sorted(truth))


def ask(site: Site, verb: str, positive: object, negative: object, run: str | None = None) -> tuple[int, dict]:
    import json

    reply = site.ask("POST", f"/api/words/{verb}", {"positive": positive, "negative": negative, "run": run or site.id})
    text = reply.read().decode()
    return reply.status, json.loads(text) if reply.status == 200 else {"text": text}


def truth_of(site: Site) -> np.ndarray:
    columns = site.get("/api/items")["columns"]
    return np.array(["/b/" in path for path in columns["path"]])


def test_the_words_of_the_run_are_those_of_its_scenario(site: Site) -> None:
    scenario = load(site.run / files.SCENARIO)
    sent = site.get("/api/words")

    assert tuple(sent["positive"]) == scenario.positive
    assert sent["stated"] is (scenario.negative is not None) and sent["refused"] == ""


def test_what_is_tried_is_what_the_label_stage_would_write_and_changes_nothing(site: Site) -> None:
    before, items = site.written(), site.get("/api/items")["columns"]
    status, sent = ask(site, "try", ["plus"], ["minus"])
    vectors = EmbeddingStore(site.store).get(TEACHER, items["sha256"])
    templates = load(site.run / files.SCENARIO).templates
    assert templates == "photo"
    from clip_factory.scenario.prompts import template_set

    logits = PhraseScorer(SignEncoder(), vectors).log_odds(Phrases(("plus",), ("minus",)), template_set("photo"))
    count = len(logits)
    expected = AutoRefinement().refine(
        PseudoLabels(
            logits, sigmoid(logits), vectors, np.full(count, np.nan), np.array(items["group"]),
            np.array(items["split"]), np.ones(count, bool),
        )
    )  # fmt: skip

    assert status == 200 and sent["p"] == pytest.approx(expected.p, abs=1e-4)
    assert ((np.array(sent["p"]) >= 0.5) == truth_of(site)).mean() > 0.95
    assert sent["answers"] == {"count": 0, "before": 0, "after": 0}
    assert site.written() == before and site.get("/api/items")["columns"]["p"] == items["p"]


def test_the_answers_given_so_far_are_counted_for_words_and_for_each_phrase(site: Site) -> None:
    truth = truth_of(site)
    for yes in (True, False):
        named = [sha for sha, side in zip(site.sha256s, truth, strict=True) if side == yes][:6]
        assert site.answer(sha256=named, answer="yes" if yes else "no", key=f"key-{os.urandom(6).hex()}") == 200
    _, right = ask(site, "try", ["plus"], ["minus"])
    _, turned = ask(site, "try", ["minus"], ["plus"])
    _, mixed = ask(site, "try", ["plus", "minus day"], ["sea"])

    assert right["answers"]["count"] == 12 and right["answers"]["after"] >= 11
    assert turned["answers"]["after"] <= 1
    costs = {one["phrase"]: one["right"] for one in mixed["costs"]}
    assert set(costs) == {"plus", "minus day"}, "the only phrase of a side cannot be left out"
    assert costs == {"plus": 6, "minus day": -6}


def test_accepted_words_are_written_into_the_runs_scenario_and_label_the_page(site: Site) -> None:
    before = load(site.run / files.SCENARIO)
    status, sent = ask(site, "accept", ["plus"], ["minus"])
    after = load(site.run / files.SCENARIO)
    columns = site.get("/api/labels")["columns"]

    assert status == 200 and sent["command"] == f"factory run {site.run}"
    assert (after.positive, after.negative) == (("plus",), ("minus",))
    assert after.model_copy(update={"positive": before.positive, "negative": before.negative}) == before
    assert (np.array(columns["predicted"]) == truth_of(site)).mean() > 0.95


def test_words_that_a_scenario_may_not_have_are_refused_with_their_reason(site: Site) -> None:
    before = site.written()
    for verb in ("try", "accept", "suggest"):
        status, sent = ask(site, verb, ["no helmet"], [])
        assert status == 400 and "which CLIP does not understand" in sent["text"]
    assert ask(site, "try", [], [])[0] == ask(site, "try", "plus", [])[0] == ask(site, "try", [1], [])[0] == 400
    assert ask(site, "accept", ["plus"], ["minus"], run="another")[0] == 409
    assert site.written() == before


def test_remarks_come_with_the_trial(site: Site) -> None:
    _, sent = ask(site, "try", ["plus"], ["plus_sign"])

    assert {one["kind"] for one in sent["remarks"]} >= {"spelling", "too near"}


def test_labels_of_another_source_say_why_no_words_can_be_tried(site: Site) -> None:
    file = site.run / files.SCENARIO
    file.write_text(file.read_text(encoding="utf-8").replace("source: zero-shot", "source: detector"))

    assert "the labels are by detector" in site.get("/api/words")["refused"]
    assert ask(site, "try", ["plus"], [])[0] == 400


def test_suggestions_name_the_photos_that_would_turn(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip_factory.zeroshot import look_alikes

    monkeypatch.setattr(look_alikes, "common_nouns", lambda: ("minus noun", "plus noun", "desert"))
    status, sent = ask(site, "suggest", ["something"], ["minus"])

    assert status == 200
    assert {one["phrase"] for one in sent["suggestions"]} <= {"minus noun", "plus noun", "desert"}
    assert all(set(one["turned"]) <= set(site.sha256s) for one in sent["suggestions"])
    assert any(one["turned"] for one in sent["suggestions"])


def test_words_need_the_token_as_all_else_does(site: Site) -> None:
    for method, path in (("GET", "/api/words"), ("POST", "/api/words/try"), ("POST", "/api/words/accept")):
        assert site.ask(method, path, {} if method == "POST" else None, Cookie="").status == 403
