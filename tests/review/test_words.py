"""Other words on the review page against the label stage itself, with a real encoder; and counted by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_factory import api
from clip_factory import run_folder as files
from clip_factory.errors import TeacherError
from clip_factory.gold.journal import Journal
from clip_factory.labels import Labels
from clip_factory.review import words
from clip_factory.review.pool import Pool
from clip_factory.review.session import Session
from clip_factory.review.words import WordTrials
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario, dump, load
from clip_factory.scenario.prompts import BACKGROUND
from clip_factory.zeroshot import look_alikes
from review.test_review_server import Site
from support.axis_encoder import AxisEncoder, unit
from support.review_page import served
from support.review_run import label_shapes

VERBS = ("try", "suggest", "accept")


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory, shapes: Path, tiny_clip: Path) -> Path:
    folder = tmp_path_factory.mktemp("labeled")
    label_shapes(folder, shapes, tiny_clip)
    return folder


@pytest.fixture
def site(labeled: Path, tmp_path: Path) -> Iterator[Site]:
    """A copy of the run, of its answers' place and of the store, served."""
    bench = Path(shutil.copytree(labeled, tmp_path / "bench"))
    (file,) = bench.glob(f"runs/*/*/{files.SCENARIO}")
    file.write_text(file.read_text(encoding="utf-8").replace(str(labeled), str(bench)), encoding="utf-8")
    with served(file.parent, bench / "store") as page:
        opened = Site(page, file.parent, bench / "store", [])
        opened.sha256s = opened.get("/api/items")["columns"]["sha256"]
        yield opened


def post(site: Site, verb: str, positive: Any, negative: Any, run: str | None = None) -> tuple[int, str]:
    body = {"positive": positive, "negative": negative, "run": run or site.id}
    reply = site.ask("POST", f"/api/words/{verb}", body)
    return reply.status, reply.read().decode()


def sent(site: Site, verb: str, positive: list[str], negative: list[str]) -> Any:
    status, text = post(site, verb, positive, negative)
    assert status == 200, text
    return json.loads(text)


def discs(site: Site, count: int) -> dict[str, str]:
    """Answers to the first photos of the training split: every other file is a disc."""
    columns = site.get("/api/items")["columns"]
    rows = zip(columns["sha256"], columns["path"], columns["split"], strict=True)
    train = [(sha, "yes" if int(path[1:4]) % 2 == 0 else "no") for sha, path, split in rows if split == "train"]
    return dict(train[:count])


def give(site: Site, answers: dict[str, str]) -> None:
    for word in ("yes", "no"):
        named = [sha for sha, answer in answers.items() if answer == word]
        assert not named or site.answer(sha256=named, answer=word) == 200


def given(site: Site) -> dict[str, str]:
    columns = site.get("/api/items")["columns"]
    return {sha: answer for sha, answer in zip(columns["sha256"], columns["answer"], strict=True) if answer}


def test_the_words_in_force_and_whether_everyday_things_stand_in(site: Site) -> None:
    stated = site.get("/api/words")
    sent(site, "accept", ["disc"], [])

    assert stated == {"positive": ["disc"], "negative": ["bar", "stripe"], "stated": True, "refused": ""}
    assert site.get("/api/words") == stated | {"negative": list(BACKGROUND), "stated": False}


@pytest.mark.parametrize("answers", [0, 40], ids=["by words and groups", "with answers enough for a probe"])
def test_what_is_tried_is_what_factory_label_writes_with_these_words(answers: int, site: Site) -> None:
    give(site, discs(site, answers))
    tried = sent(site, "try", ["a dog", "circle"], ["cat", "ball"])
    file = site.run / files.SCENARIO
    file.write_text(dump(load(file).model_copy(update={"positive": ("a dog", "circle"), "negative": ("cat", "ball")})))
    before = Labels.of_run(RunFolder(site.run))
    after = api.label(site.run, store=site.store, go_on=True).path
    written = Labels.of_run(RunFolder(after))

    assert tried["p"] == pytest.approx(written.p_teacher.tolist(), abs=1e-6)
    assert tried["says"] == written.metadata["probe"]["says"]
    assert int(written.labeled.sum()) == answers
    assert np.abs(written.p_teacher - before.p_teacher).max() > 0.1, "other words say something else"


def test_trying_changes_nothing_on_the_disk_or_on_the_page(site: Site) -> None:
    give(site, discs(site, 12))
    files_before, items, in_force = site.written(), site.get("/api/items"), site.get("/api/words")
    first = sent(site, "try", ["a dog"], ["cat"])
    again = sent(site, "try", ["a dog"], ["cat"])

    assert first == again
    assert site.written() == files_before
    assert site.get("/api/items") == items
    assert site.get("/api/words") == in_force


def test_accepted_words_are_the_runs_and_label_the_page_and_the_next_command(site: Site) -> None:
    answers = discs(site, 24)
    give(site, answers)
    before, columns = load(site.run / files.SCENARIO), site.get("/api/items")["columns"]
    journal = Path(before.answers).read_bytes()
    tried = sent(site, "try", ["a dog"], ["cat", "ball"])
    written = sent(site, "accept", ["a dog"], ["cat", "ball"])
    after, shown = load(site.run / files.SCENARIO), site.get("/api/labels")["columns"]

    assert written == {"file": str(site.run / files.SCENARIO), "command": f"factory run {site.run}"}
    assert (after.positive, after.negative) == (("a dog",), ("cat", "ball"))
    assert after.model_copy(update={"positive": before.positive, "negative": before.negative}) == before
    assert shown["p"] == pytest.approx(tried["p"], abs=1e-4)
    assert shown["predicted"] != columns["predicted"]
    assert given(site) == answers
    assert Path(before.answers).read_bytes() == journal
    api.label(site.run, store=site.store, go_on=True)
    labels = Labels.of_run(RunFolder(site.run))
    assert (labels.positive, labels.negative) == (("a dog",), ("cat", "ball"))
    assert labels.p_teacher.tolist() == pytest.approx(shown["p"], abs=1e-4)
    assert int(labels.labeled.sum()) == 24


def test_a_page_opened_after_accepted_words_has_them_in_force(site: Site) -> None:
    sent(site, "accept", ["a dog"], ["cat"])
    with served(site.run, site.store) as page:
        words_of_the_next = Site(page, site.run, site.store, []).get("/api/words")

    assert (words_of_the_next["positive"], words_of_the_next["negative"]) == (["a dog"], ["cat"])


@pytest.mark.parametrize(
    ("positive", "negative", "why"),
    [
        (["no helmet"], ["cat"], "'no helmet' says 'no', which CLIP does not understand"),
        (["disc"], ["Disc"], "'disc' is both a positive and a negative phrase"),
        (["disc", "disc"], ["bar"], "names the same phrase twice"),
        ([], ["bar"], "needs at least one entry"),
        (["disc"], [""], "must not be empty"),
        ("disc", ["bar"], "positive and negative must be lists of phrases"),
        (["disc"], [1], "positive and negative must be lists of phrases"),
        (["disc"], None, "positive and negative must be lists of phrases"),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_words_that_no_scenario_may_have_are_refused_and_why(
    verb: str, positive: Any, negative: Any, why: str, site: Site
) -> None:
    before = site.written()
    status, text = post(site, verb, positive, negative)

    assert status == 400
    assert why in text
    assert site.written() == before


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_of_another_run_gets_nothing_of_this_one(verb: str, site: Site) -> None:
    before = site.written()
    status, text = post(site, verb, ["a dog"], ["cat"], run="another")

    assert status == 409
    assert "this page shows another run" in text
    assert site.written() == before


def test_labels_by_another_source_than_words_say_so(site: Site) -> None:
    file = site.run / files.SCENARIO
    file.write_text(file.read_text(encoding="utf-8").replace("source: zero-shot", "source: detector"))
    before = site.written()

    assert site.get("/api/words")["refused"] == "the labels are by detector, which asks in its own way"
    for verb in VERBS:
        status, text = post(site, verb, ["a dog"], ["cat"])
        assert status == 400 and "the labels are by detector: its words cannot be tried here" in text
    assert site.written() == before


def test_words_without_their_encoder_are_not_accepted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(teacher: object) -> None:
        raise TeacherError("the weights are gone")

    monkeypatch.setattr(words, "load_encoder", away)
    before = site.written()
    for verb in VERBS:
        status, text = post(site, verb, ["a dog"], ["cat"])
        assert status == 400 and "the weights are gone" in text
    assert site.written() == before, "the page was told that it is not done"


def test_words_that_the_label_stage_would_refuse_are_not_accepted(site: Site) -> None:
    """A tokenizer makes one text of both: `factory label` could not go on."""
    before = site.written()
    status, text = post(site, "accept", ["red ball"], ["red  ball"])

    assert status == 400
    assert "are the same to the teacher" in text
    assert site.written() == before


@dataclass
class Small:
    """A few photos whose vectors are written out."""

    trials: WordTrials
    session: Session
    names: list[str]


def small(folder: Path, encoder: AxisEncoder, vectors: list[list[float]], log_odds: list[float], run: str) -> Small:
    count = len(vectors)
    there = RunFolder(folder / run)
    there.path.mkdir()
    scenario = Scenario(name="dog", positive=("dog",), negative=("sea",))
    there.file(files.SCENARIO).write_text(dump(scenario), encoding="utf-8")
    names = [f"{i:064x}" for i in range(count)]
    pool = Pool(
        sha256=names,
        paths=[f"{i}.jpg" for i in range(count)],
        groups=np.arange(count),
        splits=np.full(count, "train"),
        log_odds=np.array(log_odds, float),
        vectors=unit(np.array(vectors, float)),
        components=np.array(vectors, float),
        student=np.full(count, np.nan),
        threshold=0.5,
        gold_file={},
        run=str(there.path),
    )
    session = Session(pool, Journal(folder / "answers.jsonl"), "ann")
    return Small(WordTrials(there, session, folder / "store"), session, names)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> AxisEncoder:
    """The axes are dog, wolf, cat, and all else."""
    axes = AxisEncoder("dog", "wolf", "cat")
    monkeypatch.setattr(words, "load_encoder", lambda teacher: axes)
    return axes


def test_what_each_phrase_costs_counted_by_hand(tmp_path: Path, encoder: AxisEncoder) -> None:
    """A dog (yes), a wolf (no), a cat (no), a dog beside a larger cat (yes), and a photo that nobody is sure of.

    With all four phrases the wolf is wrongly a yes and the last a no: 2 right. Without "dog" the dog is lost too: 1.
    Without "wolf" the wolf becomes a no: 3. Without "cat" the cat becomes a yes, and the dog beside it, too: 2.
    Without "sea" nothing changes: 2.
    """
    vectors = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.6, 0, 0.8, 0], [0, 0, 0, 1]]
    made = small(tmp_path, encoder, vectors, [2, -2, -2, -2, -2], "run")
    for name, answer in zip(made.names, ("yes", "no", "no", "yes", "unsure"), strict=True):
        made.session.answer([name], answer)
    tried = made.trials.tried(["dog", "wolf"], ["cat", "sea"])

    assert tried["answers"] == {"count": 4, "before": 3, "after": 2}
    assert tried["costs"] == [
        {"phrase": "dog", "positive": True, "right": 1},
        {"phrase": "wolf", "positive": True, "right": -1},
        {"phrase": "cat", "positive": False, "right": 0},
        {"phrase": "sea", "positive": False, "right": 0},
    ]
    assert [one["phrase"] for one in made.trials.tried(["dog"], ["cat", "sea"])["costs"]] == ["cat", "sea"]


def test_a_suggestion_names_the_photos_that_turn(
    tmp_path: Path, encoder: AxisEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three photos look a little more like a wolf than like a dog, two are dogs, one is the sea."""
    monkeypatch.setattr(look_alikes, "common_nouns", lambda: ("cat", "wolf"))
    vectors = [[1, 0, 0, 0], [0.7, 0.8, 0, 0], [0.7, 0.8, 0, 0], [0.9, 0, 0.1, 0], [0.7, 0.9, 0, 0], [0, 0, 0, 1]]
    made = small(tmp_path, encoder, vectors, [1, 1, 1, 1, 1, -1], "run")
    scenario = (tmp_path / "run" / files.SCENARIO).read_bytes()
    (idea,) = made.trials.suggested(["dog"], ["sea"])

    assert idea["phrase"] == "wolf"
    assert idea["turned"] == [made.names[4], made.names[1], made.names[2]], "the most changed first"
    assert (tmp_path / "run" / files.SCENARIO).read_bytes() == scenario
    turned = np.array(made.trials.tried(["dog"], ["sea", "wolf"])["p"]) < 0.5
    assert np.flatnonzero(turned).tolist() == [1, 2, 4, 5], "with it they do turn"


def test_a_photo_a_hair_below_a_half_is_sent_as_a_no(tmp_path: Path, encoder: AxisEncoder) -> None:
    """Rounded, it would be a yes on the page, and a no in the labels."""
    made = small(tmp_path, encoder, [[1, 1.000005, 0, 0], [1.000005, 1, 0, 0]], [1, 1], "run")
    p = made.trials.tried(["dog"], ["wolf"])["p"]

    assert 0.4999 < p[0] < 0.5 <= p[1] < 0.5001


def test_the_next_command_can_be_pasted_where_the_runs_folder_has_a_space(tmp_path: Path, encoder: AxisEncoder) -> None:
    made = small(tmp_path, encoder, [[1, 0, 0, 0], [0, 1, 0, 0]], [1, 1], "my run")
    command = made.trials.accept(["dog"], ["wolf"])["command"]

    assert command == f"factory run '{tmp_path}/my run'"
