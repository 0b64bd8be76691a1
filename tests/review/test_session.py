"""A review: what is asked, what is told of the teacher, what goes out and comes back."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from clip_factory.errors import ReviewError
from clip_factory.gold.answer_table import AnswerRow, AnswerTable
from clip_factory.gold.journal import default_reviewer
from clip_factory.label_sources import probe
from clip_factory.review import sampling
from clip_factory.review.import_export import exchange_answers, export_answers, import_answers
from clip_factory.review.items import ITEMS
from clip_factory.review.session import Session
from clip_factory.review.teacher_accuracy import estimate_accuracy, expected_change
from clip_factory.run_folder import RunFolder
from support.make_run import RunKind
from support.review_run import make_review

Made = tuple[RunFolder, Path, dict[str, bool]]


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_review(tmp_path_factory.mktemp("review"))


@pytest.fixture
def made(drawn_once: Made, tmp_path: Path) -> Made:
    """A copy of the run, so that no answers are there yet; photos and store are shared."""
    run, store, truth = drawn_once
    return RunFolder(Path(shutil.copytree(run.path, tmp_path / "run"))), store, truth


@pytest.fixture
def ada(made: Made) -> Session:
    return Session.open(made[0], "Ada", made[1])


def item(session: Session, sha256: str) -> dict:
    return next(row for row in session.items().to_pylist() if row["sha256"] == sha256)


def answer_as(session: Session, sha256s: list[str], truth: dict[str, bool]) -> None:
    for side, word in ((True, "yes"), (False, "no")):
        said = [sha for sha in sha256s if truth[sha] is side]
        if said:
            session.answer(said, word)


def test_items_say_all_that_the_page_shows(ada: Session) -> None:
    table = ada.items()
    rows = table.to_pylist()

    assert table.schema == ITEMS
    assert [row["sha256"] for row in rows] == sorted(row["sha256"] for row in rows)
    assert {row["duplicates"] for row in rows} == {2}
    assert all(0 <= row[name] <= 1 for row in rows for name in ("p", "doubt", "mistake"))
    assert all((row["student"] is None) == (row["split"] == "train") for row in rows)
    assert not any(row["disagrees"] for row in rows if row["student"] is None)
    assert any(row["disagrees"] for row in rows)


def test_answers_are_seen_at_once_by_others_and_by_the_next_session(made: Made, ada: Session) -> None:
    bob = Session.open(made[0], "Bob", made[1])
    first, second = ada.items()["sha256"].to_pylist()[:2]
    ada.answer([first, second], "yes", minutes=0.5)
    bob.answer([first], "no", minutes=1.5)

    assert item(ada, first)["conflict"] and item(ada, first)["answer"] is None
    assert (item(bob, second)["answer"], item(bob, second)["by"]) == ("yes", "Ada")
    assert bob.conflicts() == [
        {"sha256": first, "path": item(ada, first)["path"], "answers": {"Ada": "yes", "Bob": "no"}}
    ]
    again = Session.open(made[0], "Cy", made[1])
    again.answer([first], "no", resolve=True)
    assert ada.conflicts() == [] and item(ada, first)["answer"] == "no"
    counts = ada.counts()
    assert (counts["answered"], counts["yes"], counts["no"], counts["minutes"]) == (2, 1, 1, 2.0)
    assert counts["reviewers"] == ["Ada", "Cy"]
    assert again.undo() == [first] and ada.conflicts()


def test_a_photo_of_another_run_is_refused(ada: Session) -> None:
    known = ada.items()["sha256"][0].as_py()
    for names in ([known, "ab" * 32], []):
        with pytest.raises(ReviewError, match="no photo"):
            ada.answer(names, "yes")
    assert not ada.journal.path.exists(), "not one of them was recorded"


def test_a_batch_is_doubtful_diverse_and_a_fifth_random(made: Made, ada: Session) -> None:
    answer_as(ada, [row["sha256"] for row in ada.items().to_pylist() if row["split"] == "train"][:24], made[2])
    asked = ada.next_batch(20)
    rows = [item(ada, sha) for sha in asked]
    picked = [row for row in rows if not row["random"]]
    train = [r["doubt"] for r in ada.items().to_pylist() if r["split"] == "train" and r["answer"] is None]

    assert len(set(asked)) == 20
    assert sum(row["random"] for row in rows) == 4
    assert sum(row["split"] == "test" for row in rows) == 2, "every other random photo is a test photo"
    assert {row["split"] for row in picked} == {"train"}
    assert len({row["group"] for row in picked}) == len(picked)
    assert np.mean([row["doubt"] for row in picked]) > np.mean(train)


def test_before_anyone_has_spoken_a_batch_is_random_and_of_the_training_split(ada: Session) -> None:
    rows = [item(ada, sha) for sha in ada.next_batch(20)]
    turn = {i: place for place, i in enumerate(sampling.random_order(ada.pool.sha256, ada.pool.splits.tolist()))}
    places = [turn[ada.pool.sha256.index(row["sha256"])] for row in rows if not row["random"]]

    assert len(rows) == 20
    assert places == sorted(places)
    assert {row["split"] for row in rows if not row["random"]} == {"train"}


def test_random_photos_that_wait_come_again_before_others_are_drawn(ada: Session) -> None:
    first = [sha for sha in ada.next_batch(20) if item(ada, sha)["random"]]
    second = [sha for sha in ada.next_batch(20) if item(ada, sha)["random"]]

    assert first == second


def test_what_was_asked_of_one_is_not_asked_of_another_for_a_while(made: Made, ada: Session) -> None:
    bob = Session.open(made[0], "Bob", made[1])

    assert not set(ada.next_batch(20)) & set(bob.next_batch(20))


def turns(session: Session) -> list[str]:
    """The test photos in the order of their turns."""
    photos = session.pool
    found = sampling.random_order(photos.sha256, photos.splits.tolist())
    return [photos.sha256[i] for i in found if photos.splits[i] == "test"]


def test_to_prove_it_only_test_photos_are_asked_in_their_turn(made: Made, ada: Session) -> None:
    first, tests = ada.next_batch(6, tests_only=True), turns(ada)
    assert first == tests[:6]
    assert all(item(ada, sha)["random"] for sha in first), "they count as drawn"

    answer_as(ada, first[:4], made[2])
    assert ada.next_batch(6, tests_only=True) == tests[4:10], "those that wait come first"


def test_what_was_answered_before_its_turn_counts_when_that_comes(made: Made, ada: Session) -> None:
    tests = turns(ada)
    answer_as(ada, [tests[1], tests[-1]], made[2])
    assert ada.student_figures()["answered"] == 0, "someone picked them"

    asked = ada.next_batch(6, tests_only=True)
    answer_as(ada, asked, made[2])
    assert tests[1] not in asked
    drawn = {row["sha256"] for row in ada.items().to_pylist() if row["random"]}
    assert drawn == set(tests[: len(drawn)]), "a beginning of the order"
    assert ada.student_figures()["answered"] == len(drawn & {tests[1], *asked}) == len(asked) + 1
    answer_as(ada, [sha for sha in tests if item(ada, sha)["answer"] is None], made[2])
    assert ada.next_batch(6, tests_only=True) == []
    assert ada.student_figures()["answered"] == len(tests), "with nothing left to ask, all have had their turn"


def test_the_ordinary_draw_goes_on_where_it_was(made: Made, ada: Session) -> None:
    found = sampling.random_order(ada.pool.sha256, ada.pool.splits.tolist())
    answer_as(ada, ada.next_batch(10, tests_only=True), made[2])
    for _ in range(8):
        answer_as(ada, ada.next_batch(20), made[2])
    drawn = {row["sha256"] for row in ada.items().to_pylist() if row["random"]}

    others = [ada.pool.sha256[i] for i in found[:32] if ada.pool.splits[i] != "test"]
    assert set(others) <= drawn, "photos of the other splits have their turn, too"


def test_test_photos_that_wait_for_one_are_not_asked_of_another(made: Made, ada: Session) -> None:
    bob = Session.open(made[0], "Bob", made[1])

    assert not set(ada.next_batch(6, tests_only=True)) & set(bob.next_batch(6, tests_only=True))


def test_the_proof_is_fair_whatever_was_picked_out_before() -> None:
    """All mistakes were found by hand; the photos drawn still show their true share."""
    random = np.random.default_rng(0)
    off = []
    for _ in range(4000):
        right = random.random(100) < 0.8
        drawn = sampling.sample_tests(random.permutation(100).tolist(), right, 20)
        off.append(right[drawn].mean() - right.mean())

    assert abs(np.mean(off)) < 3 * np.std(off) / np.sqrt(len(off))


def test_the_proof_counts_what_the_gate_counts(made: Made, ada: Session) -> None:
    """Gold file, draws, picks by hand, conflicts, unsure: against what labeling hands to the gate."""
    from clip_factory.gold.gold_labels import collect
    from clip_factory.scenario import load

    run, store, truth = made
    tests = turns(ada)
    gold = run.path / "gold.csv"
    lines = [f"{ada.path_of(sha)},{'yes' if truth[sha] else 'no'}" for sha in tests[-4:]]
    gold.write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    text = run.file("scenario.yaml").read_text(encoding="utf-8")
    run.file("scenario.yaml").write_text(text.replace("gold:\n", f"gold: {gold}\n"), encoding="utf-8")
    session, bob = (Session.open(run, who, store) for who in ("Cy", "Bob"))
    asked = session.next_batch(12, tests_only=True)
    answer_as(session, [*asked[:8], tests[-6]], truth)
    session.answer(asked[8:9], "unsure")
    for who, said in ((session, "yes"), (bob, "no")):
        who.answer([asked[0], tests[-1]], said)

    gold_labels = collect(load(run.file("scenario.yaml")), run.table("images.parquet", "label"))
    counted = [sha for sha in tests if sha in gold_labels.labels and sha not in gold_labels.picked]
    student = dict(zip(session.pool.sha256, session.pool.student >= session.pool.threshold, strict=True))
    pairs = [(gold_labels.labels[sha], bool(student[sha])) for sha in counted]
    proof = session.student_figures()

    assert len(counted) == 7 + 3, "without the unsure one, the two in conflict and the one picked by hand"
    assert proof["confusion"] == {
        "hits": pairs.count((True, True)),
        "misses": pairs.count((True, False)),
        "false_alarms": pairs.count((False, True)),
        "correct_rejections": pairs.count((False, False)),
    }
    rows = session.items().to_pylist()
    waiting = sum(row["random"] and row["answer"] is None and not row["conflict"] for row in rows)
    assert (proof["answered"], proof["waiting"], proof["tests"]) == (10, waiting, len(tests))
    assert waiting >= 3, "those of the batch; the draw may have come a little further"
    assert asked[0] not in session.next_batch(len(tests), tests_only=True), "a conflict is settled in the grid"


def as_the_student(session: Session, sha256s: list[str]) -> dict[str, bool]:
    """A truth by which the student is never wrong."""
    said = dict(zip(session.pool.sha256, session.pool.student >= session.pool.threshold, strict=True))
    return {sha: bool(said[sha]) for sha in sha256s}


def test_the_proof_says_how_far_it_is(tmp_path: Path) -> None:
    run, store, _ = make_review(tmp_path, RunKind(images=300, gold=0))
    session = Session.open(run, "Ada", store)
    told = [session.student_figures()["says"]]
    needed = [session.student_figures()["needed"]]
    while session.student_figures()["state"] == "open":
        asked = session.next_batch(10, tests_only=True)
        answer_as(session, asked[:9], as_the_student(session, asked))
        told.append(session.student_figures()["says"])
        needed.append(session.student_figures()["needed"])
    proof = session.student_figures()
    session_waits = proof["waiting"]
    asked = session.next_batch(session_waits, tests_only=True)
    answer_as(session, asked, as_the_student(session, asked))

    guess = "Nothing is shown yet; about 300 more answers are needed."
    assert told[0] == f"{guess} Only 81 test photos are left: more photos are needed.", "at its teacher's word"
    assert all(f"about {n} more answer" in says for n, says in zip(needed[:-1], told[:-1], strict=True))
    assert (proof["state"], proof["needed"]) == ("shown", 0)
    assert proof["says"].endswith(
        f"To have the gate say so, answer the {session_waits} that wait, then run `factory run {run.path}`."
    )
    assert session.student_figures()["says"].endswith(f"To have the gate say so, run `factory run {run.path}`.")


def test_the_proof_says_when_it_is_broken_or_used_up(made: Made, ada: Session) -> None:
    tests = turns(ada)
    few = as_the_student(ada, tests)
    answer_as(ada, ada.next_batch(len(tests), tests_only=True), few)
    says = ada.student_figures()["says"]
    assert ada.student_figures()["state"] == "used up"
    assert says.startswith(
        f"All {len(tests)} test photos are answered: more photos are needed. Shown so far: it finds "
    )

    answer_as(ada, tests, {sha: not yes for sha, yes in few.items()})
    assert ada.student_figures()["state"] == "broken"
    assert "at least 70 % of the yes photos must be found" in ada.student_figures()["says"]


def test_without_a_model_there_is_nothing_to_prove(made: Made) -> None:
    made[0].file("predictions.parquet").unlink()
    session = Session.open(made[0], "Ada", made[1])
    proof = session.student_figures()

    assert (proof["state"], proof["confusion"], proof["needed"]) == ("no model", None, None)
    assert proof["says"] == f"There is no model yet to hold answers against: `factory run {made[0].path}` makes one."


def test_asking_ends_when_all_is_answered(made: Made, ada: Session) -> None:
    for _ in range(100):
        asked = ada.next_batch(40)
        if not asked:
            break
        answer_as(ada, asked, made[2])

    rows = ada.items().to_pylist()
    assert not [row for row in rows if row["split"] != "val" and row["random"] and row["answer"] is None]
    assert ada.teacher_accuracy()["n"] == sum(row["random"] for row in rows)


def test_the_random_order_knows_only_hashes_and_takes_test_photos_in_turn() -> None:
    names = [f"{i:064x}" for i in range(200)]
    splits = ["test" if i % 5 == 0 else "train" for i in range(200)]
    found = sampling.random_order(names, splits)

    assert sorted(found) == list(range(200))
    assert [splits[i] for i in found[:80]] == ["test", "train"] * 40
    assert found == sampling.random_order(names, splits)
    tests = [i for i in found if splits[i] == "test"]
    assert tests != sorted(tests)


def test_the_estimate_is_right_on_average_whatever_else_was_answered() -> None:
    """The teacher is wrong on the doubtful; these are answered first; the drawn ones still show the true share."""
    random = np.random.default_rng(0)
    shares = []
    for trial in range(200):
        names = [f"{trial}-{i}" for i in range(300)]
        right = random.random(300) < 0.8
        answered = set(np.flatnonzero(~right).tolist())  # every mistake was found by its doubt
        drawn = sampling.random_order(names, ["test" if i % 7 == 0 else "train" for i in range(300)])[:40]
        answered |= set(drawn)
        shares.append(right[[i for i in drawn if i in answered]].mean() - right.mean())

    assert abs(np.mean(shares)) < 3 * np.std(shares) / np.sqrt(len(shares)) + 1e-9


def test_the_estimate_counts_random_photos_alone(made: Made, ada: Session) -> None:
    rows = ada.items().to_pylist()
    wrong = [row["sha256"] for row in rows if row["predicted"] != made[2][row["sha256"]]]
    answer_as(ada, wrong[:5], made[2])

    assert ada.teacher_accuracy()["n"] == 0
    assert ada.teacher_accuracy()["accuracy"] is None
    asked = ada.next_batch(25)
    waiting = ada.teacher_accuracy()
    answer_as(ada, asked, made[2])
    done = ada.teacher_accuracy()

    assert done["n"] == sum(row["random"] for row in ada.items().to_pylist())
    assert waiting["n"] < done["n"]
    ada.next_batch(25)
    assert "of those drawn wait for an answer" in ada.teacher_accuracy()["says"]
    assert done["interval"][0] <= (done["accuracy"] or 0) <= done["interval"][1]


def test_enough_is_a_rule_with_numbers() -> None:
    few, many = estimate_accuracy(np.ones(20, bool), 0, 0, 999), estimate_accuracy(np.ones(60, bool), 0, 0, 999)
    half = estimate_accuracy(np.arange(60) % 2 == 0, 0, 0, 999)

    assert (few["enough"], many["enough"], half["enough"]) == (False, True, False)
    assert not estimate_accuracy(np.ones(60, bool), 1, 0, 999)["enough"], "one that was drawn waits"
    assert estimate_accuracy(np.ones(9, bool), 0, 1, 10)["enough"], "all photos are answered"
    assert "hardly move" in many["says"] and "expected to move it by" in half["says"]


def test_the_expected_change_is_what_happens() -> None:
    random = np.random.default_rng(1)
    hits = random.random((20_000, 45)) < 0.9
    moved = hits.mean(axis=1) - hits[:, :40].mean(axis=1)

    assert expected_change(36, 40, 5) == pytest.approx(moved.std(), rel=0.15)


def test_answers_teach_the_labels_without_opening_a_photo(made: Made, ada: Session, tmp_path: Path) -> None:
    away = ada.pool.root.rename(tmp_path / "away")
    before = ada.items().to_pylist()
    train = [row["sha256"] for row in before if row["split"] == "train"][:60]
    flipped = {sha: not yes for sha, yes in made[2].items()}  # people mean the opposite of what the words say
    answer_as(ada, train, flipped)
    after = {row["sha256"]: row for row in ada.items().to_pylist()}
    away.rename(ada.pool.root)

    assert "A linear probe on the folder's own groups replaces" in ada.counts()["probe"]
    unseen = [sha for sha, row in after.items() if row["split"] == "test"]
    assert np.mean([after[sha]["predicted"] == flipped[sha] for sha in unseen]) > 0.9


def test_small_fits_run_on_one_thread(ada: Session, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    fit = probe._fitted

    def fitted(*given):
        threads.update(library["num_threads"] for library in threadpool_info())
        return fit(*given)

    monkeypatch.setattr(probe, "_fitted", fitted)
    answer_as(ada, [row["sha256"] for row in ada.items().to_pylist() if row["split"] == "train"][:30], made[2])
    with threadpool_limits(2):
        ada.items()

    assert threads == {1}


def test_likely_mistakes_are_found(made: Made, ada: Session) -> None:
    rows = ada.items().to_pylist()
    sure = [row["sha256"] for row in rows if row["split"] == "train" and row["predicted"] == made[2][row["sha256"]]]
    slips = sure[:4]
    answer_as(ada, sure[4:44], made[2])
    answer_as(ada, slips, {sha: not made[2][sha] for sha in slips})
    marks = {row["sha256"]: row["mistake"] for row in ada.items().to_pylist()}

    assert min(marks[sha] for sha in slips) > np.median([marks[sha] for sha in sure[4:44]])
    assert ada.counts()["suspects"] > 0
    assert {sha for sha in slips if item(ada, sha)["suspect"]}


def test_a_session_needs_no_torch(made: Made) -> None:
    code = (
        "import sys; from pathlib import Path; from clip_factory.run_folder import RunFolder\n"
        "from clip_factory.review import import_export; from clip_factory.review.session import Session\n"
        "Session.open(RunFolder(Path(sys.argv[1])), 'Ada', Path(sys.argv[2])).items()\n"
        "print([m for m in ('torch', 'lightning', 'open_clip') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made[0].path), str(made[1])], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_csv_goes_out_and_comes_back(made: Made, ada: Session, tmp_path: Path) -> None:
    names = ada.items()["sha256"].to_pylist()
    answer_as(ada, names[:6], made[2])
    ada.answer(names[6:8], "unsure")
    assert export_answers(ada, tmp_path / "out" / "gold.csv") == 6
    rows = list(csv.DictReader((tmp_path / "out" / "gold.csv").open()))
    assert {row["path"]: row["label"] for row in rows} == {
        ada.path_of(sha): "yes" if made[2][sha] else "no" for sha in names[:6]
    }
    assert {row["reviewer"] for row in rows} == {"Ada"}

    ada.journal.path.unlink()
    bob = Session.open(made[0], "Bob", made[1])
    assert import_answers(bob, tmp_path / "out" / "gold.csv") == 6
    assert import_answers(bob, tmp_path / "out" / "gold.csv") == 0, "nothing is said twice"
    assert {item(bob, sha)["by"] for sha in names[:6]} == {"Ada"}


def test_the_command_takes_and_gives(made: Made, ada: Session, tmp_path: Path) -> None:
    first = ada.pool.paths[0]
    (tmp_path / "in.csv").write_text(f"path,label,reviewer\n{first},no,Bob\n", encoding="utf-8")
    told = exchange_answers(made[0].path, made[1], None, tmp_path / "in.csv", tmp_path / "out.csv")

    assert told == f"1 new answers from {tmp_path / 'in.csv'}\n1 answers in {tmp_path / 'out.csv'}"
    assert (tmp_path / "out.csv").read_text() == f"path,label,reviewer\n{first},no,Bob\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("g.csv", "path,label\nno/such.jpg,yes\n", r"g\.csv:2: 'no/such\.jpg' is no photo of this run"),
        ("g.csv", "path,label\n../../etc/passwd,yes\n", "is no photo of this run"),
        ("g.csv", "path,label\n{path},maybe\n", r"g\.csv:2: label 'maybe' is none of"),
        ("g.csv", "photograph,verdict\n", "needs the columns path,label"),
        ("g.json", "{", "cannot be read"),
        ("g.json", '{"data": 1}', "no list of Label Studio tasks"),
        ("g.json", '[{"data": {"path": "{path}"}, "annotations": [{"result": 7}]}]', "not in the form"),
        ("g.txt", "", "neither a folder"),
    ],
)
def test_bad_imports_are_refused_whole(ada: Session, tmp_path: Path, name: str, text: str, message: str) -> None:
    good = ada.pool.paths[1]
    text = text.replace("path,label\n", f"path,label\n{good},yes\n", 1) if "2:" not in message else text
    (tmp_path / name).write_text(text.replace("{path}", ada.pool.paths[0]), encoding="utf-8")

    with pytest.raises(ReviewError, match=message):
        import_answers(ada, tmp_path / name)
    assert not ada.journal.path.exists()


@pytest.mark.parametrize("link", [False, True])
def test_folders_are_copies_and_come_back_under_any_name(
    made: Made, ada: Session, tmp_path: Path, *, link: bool
) -> None:
    names = ada.items()["sha256"].to_pylist()[:6]
    answer_as(ada, names, made[2])
    photos = sorted(ada.pool.root.rglob("*.jpg"))

    assert export_answers(ada, tmp_path / "sorted", link=link) == 6
    assert sorted(ada.pool.root.rglob("*.jpg")) == photos, "nothing was moved"
    with pytest.raises(ReviewError, match="with something in it"):
        export_answers(ada, tmp_path / "sorted")
    with pytest.raises(ReviewError, match=r"answers\.tsv: answers are not written in this form"):
        export_answers(ada, tmp_path / "answers.tsv")
    assert not (tmp_path / "answers.tsv").exists()

    moved = next(p for p in (tmp_path / "sorted" / "bad").rglob("*.jpg"))
    moved.rename(tmp_path / "sorted" / "yes" / "renamed.jpg")  # a person drags it to the other side
    bob = Session.open(made[0], "Bob", made[1])
    assert import_answers(bob, tmp_path / "sorted") == 6
    assert len(bob.conflicts()) == 1


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert default_reviewer() == "unknown"


def test_label_studio_goes_out_and_comes_back(made: Made, ada: Session, tmp_path: Path) -> None:
    names = ada.items()["sha256"].to_pylist()
    answer_as(ada, names[:4], made[2])
    ada.answer(names[4:5], "unsure")
    assert export_answers(ada, tmp_path / "tasks.json") == 5
    tasks = json.loads((tmp_path / "tasks.json").read_text())

    assert len(tasks) == 120
    assert all(len(task["predictions"]) == 1 and 0.5 <= task["predictions"][0]["score"] <= 1 for task in tasks)
    assert tasks[0]["predictions"][0]["result"][0]["value"]["choices"][0] in ("yes", "no")
    assert tasks[0]["annotations"][0]["completed_by"] == {"email": "Ada"}

    for task in tasks:  # as Label Studio gives it back: its own number for the person, only the address of the image
        task["data"] = {"image": task["data"]["image"]}
        for annotation in task["annotations"]:
            annotation |= {"completed_by": 7, "was_cancelled": False}
    tasks[0]["annotations"][0]["was_cancelled"] = True
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    ada.journal.path.unlink()
    bob = Session.open(made[0], "Bob", made[1])

    assert import_answers(bob, tmp_path / "back.json") == 4
    assert item(bob, names[0])["answer"] is None, "a skipped task says nothing"
    assert (item(bob, names[1])["answer"], item(bob, names[1])["by"]) == ("yes" if made[2][names[1]] else "no", "7")
    assert item(bob, names[4])["answer"] == "unsure"


@pytest.mark.parametrize(
    ("key", "address"),
    [
        ("image", "/data/upload/3/1a2b3c4d-{name}"),
        ("photo", "/data/local-files/?d=photos%2F{quoted}"),
        ("image", "/data/local-files/?d={backslashes}"),
        ("image", "s3://bucket/photos/{path}"),
        ("img", "https://host/files/{path}?token=1"),
    ],
)
def test_label_studio_names_photos_in_many_ways(ada: Session, tmp_path: Path, key: str, address: str) -> None:
    path, sha256 = ada.pool.paths[3], ada.pool.sha256[3]
    forms = {"quoted": quote(path, safe=""), "backslashes": quote(path.replace("/", "\\"))}
    named = address.format(path=path, name=path.rpartition("/")[2], **forms)
    choice = {"type": "choices", "value": {"choices": ["yes"]}}
    tasks = [{"data": {key: named}, "annotations": [{"result": [choice]}]}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    assert import_answers(ada, tmp_path / "tasks.json") == 1
    assert item(ada, sha256)["answer"] == "yes"


def test_a_label_studio_name_that_several_photos_have_is_named(ada: Session, tmp_path: Path) -> None:
    table = AnswerTable(tmp_path, "Ada", [replace_row(ada, 0, "a/same.jpg"), replace_row(ada, 1, "b/same.jpg")])
    with pytest.raises(
        ReviewError, match=r"x: 'same\.jpg' may mean several photos of this run\n  name more of the path"
    ):
        table.sha256_of("same.jpg", "x")


def replace_row(session: Session, place: int, path: str) -> AnswerRow:
    return AnswerRow(session.pool.sha256[place], path, 0.5, False, None, None, {})


def fiftyone_dataset(folder: Path, labels: dict, manifest: dict | None = None) -> Path:
    folder.mkdir()
    (folder / "labels.json").write_text(json.dumps({"classes": ["no", "yes"], "labels": labels}), encoding="utf-8")
    if manifest is not None:
        (folder / "data.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_fiftyone_goes_out_and_comes_back(made: Made, ada: Session, tmp_path: Path) -> None:
    names = ada.items()["sha256"].to_pylist()
    answer_as(ada, names[:5], made[2])
    ada.answer(names[5:6], "unsure")
    assert export_answers(ada, tmp_path / "out.fiftyone") == 5
    labels = json.loads((tmp_path / "out.fiftyone" / "labels.json").read_text())
    manifest = json.loads((tmp_path / "out.fiftyone" / "data.json").read_text())

    assert labels["classes"] == ["no", "yes"]
    assert {sha: one["label"] for sha, one in labels["labels"].items()} == {
        sha: "yes" if made[2][sha] else "no" for sha in names[:5]
    }
    assert set(manifest) == set(names) and all(Path(path).is_file() for path in manifest.values())
    with pytest.raises(ReviewError, match="with something in it"):
        export_answers(ada, tmp_path / "out.fiftyone")

    ada.journal.path.unlink()
    bob = Session.open(made[0], "Bob", made[1])
    assert [import_answers(bob, tmp_path / "out.fiftyone") for _ in range(2)] == [5, 0]
    assert {item(bob, sha)["by"] for sha in names[:5]} == {"Ada"}


def test_what_fiftyone_writes_is_taken(made: Made, ada: Session, tmp_path: Path) -> None:
    """Its keys are names without endings; labels are numbers of classes, words, or objects; photos may be renamed."""
    paths = [ada.pool.root / path for path in ada.pool.paths[:4]]
    stem = str(Path(ada.pool.paths[3]).with_suffix(""))
    labels = {"one": 1, "two": {"label": "no", "confidence": 0.9}, "three": None, str(paths[2]): "yes", stem: [0]}
    source = fiftyone_dataset(tmp_path / "set", labels, {"one": str(paths[0]), "two": "../renamed.jpg"})
    shutil.copyfile(paths[1], tmp_path / "renamed.jpg")

    assert import_answers(ada, source) == 4
    assert [item(ada, sha)["answer"] for sha in ada.pool.sha256[:4]] == ["yes", "no", "yes", "no"]

    copied = fiftyone_dataset(tmp_path / "copied", {"a/photo": "unsure"})
    (copied / "data" / "a").mkdir(parents=True)
    shutil.copyfile(ada.pool.root / ada.pool.paths[7], copied / "data" / "a" / "photo.jpg")
    assert import_answers(ada, copied) == 1
    assert item(ada, ada.pool.sha256[7])["answer"] == "unsure"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"no/such": 1}, "labels.json: no/such: 'no/such' is no photo of this run"),
        ({"{path}": "rose"}, "label 'rose' is none of"),
        ({"{path}": 2}, "not in the form of fiftyone"),
        ({"{path}": {"confidence": 1}}, "not in the form of fiftyone"),
        (7, "not in the form of fiftyone"),
    ],
)
def test_bad_datasets_of_fiftyone_are_refused_whole(ada: Session, tmp_path: Path, labels: dict, message: str) -> None:
    if isinstance(labels, dict):
        good, bad = ada.pool.sha256[1], ada.pool.paths[0]
        labels = {good: "yes"} | {key.replace("{path}", bad): label for key, label in labels.items()}

    with pytest.raises(ReviewError, match=message):
        import_answers(ada, fiftyone_dataset(tmp_path / "set", labels))
    assert not ada.journal.path.exists()


def test_an_export_never_takes_the_place_of_a_file(made: Made, ada: Session, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("path,label\na.jpg,yes\n", encoding="utf-8")
    with pytest.raises(ReviewError, match="is there already"):
        export_answers(ada, mine)
    assert mine.read_text(encoding="utf-8") == "path,label\na.jpg,yes\n"
