"""The journal: what people said is never lost, whoever else writes and whatever dies."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clip_factory.errors import ReviewError
from clip_factory.gold.journal import Journal
from clip_factory.gold.ledger import Event, Ledger

A, B, C = ({name: f"{name}.jpg"} for name in "abc")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "ball.answers.jsonl")


def rows(journal: Journal) -> dict[str, dict]:
    return {row["sha256"]: row for row in pq.read_table(journal.table).to_pylist()}


def test_an_answer_is_on_the_disk_with_who_and_when(journal: Journal) -> None:
    journal.answer("Ada", A | B, "yes", minutes=0.5)
    line = json.loads(journal.path.read_text())

    assert (line["reviewer"], line["answer"], line["images"]) == ("Ada", "yes", A | B)
    assert line["time"].endswith("+00:00")
    assert Journal(journal.path).ledger().gold == {"a": True, "b": True}
    assert journal.table.name == "ball.gold.parquet"
    assert rows(journal)["a"] | {"time": ""} == {
        "sha256": "a",
        "path": "a.jpg",
        "label": "yes",
        "conflict": False,
        "random": False,
        "reviewer": "Ada",
        "time": "",
    }


def test_the_latest_answer_of_one_reviewer_counts_and_none_takes_it_back(journal: Journal) -> None:
    journal.answer("Ada", A | B | C, "yes")
    journal.answer("Ada", A, "no")
    journal.answer("Ada", B, None)
    journal.answer("Ada", C, "unsure")

    assert journal.ledger().gold == {"a": False}
    assert journal.ledger().undecided == {"c"}
    assert "b" not in journal.ledger().images


def test_people_who_disagree_leave_a_photo_unlabeled_until_it_is_resolved(journal: Journal) -> None:
    journal.answer("Ada", A | B, "yes")
    journal.answer("Bob", A, "no")
    journal.answer("Bob", B, "unsure")
    image = journal.ledger().images["a"]

    assert image.conflict
    assert image.answers == {"Ada": "yes", "Bob": "no"}
    assert journal.ledger().gold == {"b": True}, "unsure contradicts no one"
    assert rows(journal)["a"]["label"] is None
    assert rows(journal)["a"]["reviewer"] == "Ada, Bob"

    journal.answer("Cy", A, "no", resolves=True)
    assert journal.ledger().gold["a"] is False
    journal.answer("Ada", A, "yes")
    assert journal.ledger().images["a"].conflict, "an answer after the resolving one counts anew"


def test_undo_is_a_record_of_its_own_and_takes_back_a_whole_act(journal: Journal) -> None:
    journal.answer("Ada", A | B, "yes")
    journal.answer("Bob", C, "yes")
    journal.answer("Ada", A | B | C, "no")
    before = journal.path.read_bytes()

    undone = journal.undo("Ada")

    assert undone is not None
    assert set(undone.images) == {"a", "b", "c"}
    assert journal.path.read_bytes().startswith(before)
    assert journal.ledger().gold == {"a": True, "b": True, "c": True}
    assert journal.undo("Ada") is not None
    assert journal.ledger().gold == {"c": True}
    assert journal.undo("Ada") is None
    assert journal.ledger().gold == {"c": True}, "what Bob said is Bob's"


def test_what_was_drawn_at_random_is_remembered(journal: Journal) -> None:
    journal.record_batch("Ada", A | B, ["a"], 3)
    journal.answer("Ada", A | B, "yes")

    assert json.loads(journal.path.read_text().splitlines()[1])["random"] == ["a"]
    assert (journal.ledger().sampled, journal.ledger().places) == ({"a"}, 3)
    assert (rows(journal)["a"]["random"], rows(journal)["b"]["random"]) == (True, False)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_names_that_do_not_fit_are_refused(journal: Journal, name: str) -> None:
    with pytest.raises(ReviewError, match="no reviewer's name"):
        journal.answer(name, A, "yes")
    assert not journal.path.exists()


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("undo"), st.sampled_from(["Ada", "Bob"])),
        st.tuples(
            st.just("answer"),
            st.sampled_from(["Ada", "Bob"]),
            st.sets(st.sampled_from("abc"), min_size=1),
            st.sampled_from(["yes", "no", "unsure", None]),
            st.booleans(),
        ),
    ),
    max_size=8,
)


def play(journal: Journal, acts: list) -> None:
    for act in acts:
        if act[0] == "undo":
            journal.undo(act[1])
        else:
            _, who, names, answer, resolves = act
            journal.answer(who, {name: name for name in sorted(names)}, answer, resolves=resolves)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS, cut=st.integers(0, 200))
@example(acts=[("answer", "Ada", {"a"}, "yes", False), ("undo", "Ada")], cut=1000)  # its end alone is missing
def test_a_torn_tail_loses_the_last_act_at_most(tmp_path_factory: pytest.TempPathFactory, acts: list, cut: int) -> None:
    whole = Journal(tmp_path_factory.mktemp("journal") / "x.answers.jsonl")
    play(whole, acts)
    lines = whole.path.read_bytes().splitlines(keepends=True) if whole.path.exists() else []
    torn = Journal(whole.path.with_name("torn.answers.jsonl"))
    kept, last = lines[:-1], (lines or [b""])[-1]
    torn.path.write_bytes(b"".join(kept) + last[: min(cut, max(len(last) - 1, 0))])

    kept_journal = Journal(whole.path.with_name("kept.answers.jsonl"))
    kept_journal.path.write_bytes(b"".join(kept))
    assert torn.ledger() == kept_journal.ledger(), "what stands before the torn line stands"

    torn.answer("Cy", {"z": "z.jpg"}, "yes")
    again = Journal(torn.path).ledger()
    assert again.gold == kept_journal.ledger().gold | {"z": True}, "the next line is not glued to the torn one"
    assert torn.ledger() == again, "reading bit by bit and reading at once agree"


@given(acts=ACTS)
@settings(max_examples=50)
def test_undoing_everything_leaves_nothing(acts: list) -> None:
    events = [
        Event(str(i), str(i), "answer", act[1], dict.fromkeys(act[2], ""), act[3], resolves=act[4])
        for i, act in enumerate(acts)
        if act[0] == "answer"
    ]
    undone = [Event(f"u{event.id}", "", "undo", event.reviewer, undoes=event.id) for event in events]

    assert Ledger.of(events + undone).images == {}
    for image in Ledger.of(events).images.values():
        assert image.conflict is (image.answer is None)


def test_a_table_that_cannot_be_written_costs_no_answer(journal: Journal) -> None:
    journal.table.mkdir(parents=True)
    journal.answer("Ada", A, "yes")
    assert Journal(journal.path).ledger().gold == {"a": True}

    journal.table.rmdir()
    journal.answer("Ada", B, "no")
    assert rows(journal).keys() == {"a", "b"}


WRITER = """
import sys
from pathlib import Path
from clip_factory.gold.journal import Journal
path, who, count = sys.argv[1:]
journal = Journal(Path(path))
for i in range(int(count)):
    journal.answer(who, {f"{who}-{i}": "x" * 2000, "both": ""}, "yes" if who == "Ada" else "no")
    print(i, flush=True)
"""


def start_writer(journal: Journal, who: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(journal.path), who, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_reviewers_at_once_lose_nothing(journal: Journal) -> None:
    writers = [start_writer(journal, who, 30) for who in ("Ada", "Bob")]
    for writer in writers:
        writer.communicate()

    ledger = journal.ledger()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert {sha for sha in ledger.images if sha != "both"} == {f"{w}-{i}" for w in ("Ada", "Bob") for i in range(30)}
    assert ledger.images["both"].answers == {"Ada": "yes", "Bob": "no"}
    assert rows(journal).keys() == ledger.images.keys(), "the table is as new as the journal"


def test_kill_9_loses_no_answer_that_was_acknowledged(journal: Journal) -> None:
    writer = start_writer(journal, "Ada", 10_000)
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()

    assert {f"Ada-{i}" for i in acknowledged} <= journal.ledger().images.keys()
    journal.answer("Bob", A, "no")
    assert journal.ledger().gold["a"] is False, "the lock died with its holder"


def test_a_full_disk_is_told_and_harms_nothing(journal: Journal) -> None:
    journal.answer("Ada", A, "yes")
    before = journal.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(ReviewError, match="could not be written"):
            journal.answer("Ada", B, "yes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)

    assert journal.path.read_bytes() == before
    journal.answer("Ada", B, "no")
    assert Journal(journal.path).ledger().gold == {"a": True, "b": False}
