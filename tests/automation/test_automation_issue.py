"""An issue becomes a branch, a pull request and a dispatch, or a comment that says what to mend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from automation import form
from automation.issue_to_scenario import Issue, main
from clip_factory.errors import FactoryError, RegistryError, ScenarioError
from support.automation_issue import SHA256, URL, body, event
from support.fake_github import REPO, Downloads
from support.fake_github_work import ALL, STRANGER, FakeWork

PATH = "datasets/forklift/scenario.yaml"
BRANCH = "heads/prompt/forklift"
FORM = Path(__file__).parents[2] / ".github" / "ISSUE_TEMPLATE" / "new-prompt.yml"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWork]:
    with Downloads() as downloads, FakeWork(downloads) as server:
        for name, value in {
            "GITHUB_API_URL": server.url,
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_TOKEN": "job",
            "GITHUB_REPOSITORY": REPO,
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("FACTORY_BOT", raising=False)
        yield server


@pytest.fixture
def ask(tmp_path: Path):
    def run(text: str, number: int = 7) -> None:
        main(event(tmp_path / "event.json", text, number), "new-prompt.yml", False)

    return run


def written(github: FakeWork) -> dict:
    return YAML(typ="safe").load(github.read(BRANCH, PATH))


def test_an_issue_becomes_a_pull_request(github: FakeWork, ask, capsys: pytest.CaptureFixture[str]) -> None:
    ask(body())
    (pull,) = github.pulls.values()

    assert written(github) == {
        "name": "forklift",
        "question": "Is there a forklift?",
        "positive": ["forklift", "forklift truck in a warehouse"],
        "negative": ["pallet truck", "crane"],
        "images": {"url": URL, "sha256": SHA256},
    }
    assert github.paths(BRANCH) == {PATH}
    assert (pull["title"], pull["head"]["ref"], pull["base"]["ref"]) == ("New prompt: forklift", BRANCH[6:], "main")
    assert "Closes #7" in pull["body"]
    (said,) = github.said(7)
    assert f"Pull request #{pull['number']} adds it" in said
    inputs = {"pull": str(pull["number"]), "names": "forklift"}
    assert github.dispatched == [("new-prompt.yml", {"ref": "prompt/forklift", "inputs": inputs})]
    number = pull["number"]
    assert capsys.readouterr().out == (
        f"name=forklift\nbranch=prompt/forklift\npull={number}\nurl=https://github.com/{REPO}/pull/{number}\n"
    )


def test_asked_again_nothing_is_done_twice(github: FakeWork, ask) -> None:
    ask(body())
    head = github.refs[BRANCH]
    ask(body())

    assert (github.refs[BRANCH], len(github.pulls), len(github.said(7)), len(github.dispatched)) == (head, 1, 1, 1)


def test_an_edited_issue_brings_its_pull_request_up_to_date(github: FakeWork, ask) -> None:
    ask(body())
    ask(body(question="Is a forklift there?"))
    (pull,) = github.pulls.values()

    assert written(github)["question"] == "Is a forklift there?"
    assert "Is a forklift there?" in pull["body"]
    assert (len(github.said(7)), len(github.dispatched)) == (1, 2)


def test_what_people_committed_to_the_branch_stays(github: FakeWork, ask) -> None:
    ask(body())
    github.write(BRANCH, "datasets/forklift/gold.csv", b"path,label\n")
    ask(body(question="Is a forklift there?"))

    assert github.paths(BRANCH) == {PATH, "datasets/forklift/gold.csv"}


def test_a_branch_left_over_from_before_starts_anew(github: FakeWork, ask) -> None:
    github.refs[BRANCH] = github.refs["heads/main"]
    github.write(BRANCH, "old.txt", b"old")
    ask(body())

    assert github.paths(BRANCH) == {PATH}


def test_a_name_that_is_taken_needs_the_tick(github: FakeWork, ask) -> None:
    before = b"# ours\nname: forklift\npositive: [lift]  # short\nteacher: {model: offline}\nimages: {path: photos}\n"
    github.write("heads/main", PATH, before)
    with pytest.raises(ScenarioError, match="'forklift' is taken"):
        ask(body())
    assert (github.pulls, BRANCH in github.refs) == ({}, False)
    ask(body(change=True))

    text = github.read(BRANCH, PATH).decode()
    assert written(github)["teacher"] == {"model": "offline"}
    assert text.startswith("# ours\nname: forklift\n")
    assert [said.count("Pull request #") for said in github.said(7)] == [1]


@pytest.mark.parametrize(
    "there", [b"name: [", b"name: caf\xe9\n", b"- a\n- b\n", b"", b"name: a\0b\n", b"a: " + b"[" * 5000]
)
def test_a_scenario_that_is_broken_on_main_is_answered_on_the_issue(github: FakeWork, ask, there: bytes) -> None:
    github.write("heads/main", PATH, there)
    with pytest.raises(ScenarioError):
        ask(body(change=True))

    assert "what is there under this name cannot be read: it must be mended first" in github.said(7)[0]
    assert (github.pulls, BRANCH in github.refs) == ({}, False)


def test_a_workflow_that_could_not_be_started_is_started_by_the_next_try(github: FakeWork, ask) -> None:
    github.tokens = {"job": ALL - {"actions"}}
    with pytest.raises(RegistryError):
        ask(body())
    assert (len(github.pulls), github.dispatched) == (1, [])
    github.tokens = {"job": ALL}
    ask(body())
    ask(body())

    assert (len(github.pulls), len(github.dispatched)) == (1, 1)


def test_another_issue_cannot_take_over_a_pull_request(github: FakeWork, ask) -> None:
    ask(body())
    head = github.refs[BRANCH]
    with pytest.raises(ScenarioError, match="is at work on 'forklift': take another name"):
        ask(body(question="Is there something else?"), number=8)

    assert github.refs[BRANCH] == head
    assert "take another name" in github.said(8)[0]


def test_an_issue_that_changes_its_name_leaves_no_second_pull_request(github: FakeWork, ask) -> None:
    ask(body())
    with pytest.raises(ScenarioError):
        ask(body(name="Red Forklift"))
    (complaint,) = github.said(7)
    ask(body(name="red-forklift"))
    first, second = github.pulls.values()

    assert f"Until then pull request #{first['number']} stays as it is." in complaint
    assert (first["state"], second["state"], second["head"]["ref"]) == ("closed", "open", "prompt/red-forklift")
    assert [said.count(f"#{second['number']} adds it") for said in github.said(7)] == [1]


def test_an_issue_cannot_name_another_pull_request_as_its_own(github: FakeWork, ask) -> None:
    ask(body(name="crane", question=""), number=6)
    (theirs,) = github.pulls.values()
    for attack in (
        f"<!-- clip-factory: pull {theirs['number']} -->",
        f"x\n<!-- clip-factory: pull {theirs['number']} -->",
    ):
        with pytest.raises(ScenarioError):
            ask(body(yes=attack + "\n### Name\nx"))
        with pytest.raises(ScenarioError):
            ask(body(name=attack))
        ask(body())

    assert [pull["state"] for pull in github.pulls.values()] == ["open", "open"]


def test_a_complaint_is_mended_in_place(github: FakeWork, ask) -> None:
    with pytest.raises(ScenarioError):
        ask(body(name="Fork lift"))
    (complaint,) = github.said(7)
    ask(body())
    (answer,) = github.said(7)

    assert "`Name: 'Fork lift': use small letters, digits and single dashes, such as `" not in complaint
    assert "use small letters, digits and single dashes" in complaint
    assert "Pull request #" in answer


def test_a_strangers_copy_of_our_mark_is_left_alone(github: FakeWork, ask) -> None:
    fake = "<!-- clip-factory: issue_to_scenario -->\nall is well"
    github.speak(7, fake, STRANGER)
    ask(body())

    assert github.said(7)[0] == fake
    assert "Pull request #" in github.said(7)[1]


def test_a_comment_among_hundreds_is_found_and_copies_of_it_go(github: FakeWork, ask) -> None:
    for number in range(250):
        github.speak(7, f"talk {number}", STRANGER)
    for _ in range(2):
        github.speak(7, "<!-- clip-factory: issue_to_scenario -->\nearlier")
    ask(body())

    assert [said for said in github.said(7) if "clip-factory" in said and "Pull request #" in said]
    assert len(github.said(7)) == 251


def test_an_answer_that_was_lost_makes_no_second_pull_request(github: FakeWork, ask, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    github.lost = "PUT /repos/acme/models/contents/"
    ask(body())

    assert (len(github.pulls), written(github)["name"]) == (1, "forklift")


@pytest.mark.parametrize("right", sorted(ALL))
def test_a_token_without_a_right_is_an_error_that_says_so(github: FakeWork, ask, right: str) -> None:
    github.tokens = {"job": ALL - {right}}

    with pytest.raises(RegistryError) as caught:
        ask(body())
    assert str(caught.value).endswith(
        f"{REPO}: not allowed (403: Resource not accessible by integration)\n"
        "  the job needs the right in its `permissions:`; see automation/README.md"
    )


def test_words_that_are_not_latin_are_shown_to_the_reviewer(github: FakeWork, ask) -> None:
    ask(body(yes="forklift\nсор", no="Gabelstapler\nフォークリフト"))
    (pull,) = github.pulls.values()

    assert "may look like it: `сор`, `U+0441`, `U+043E`, `U+0440`" in pull["body"]
    assert "`フォークリフト`" in pull["body"]
    assert "Gabelstapler`," not in pull["body"]


def test_a_closed_issue_is_done_with(github: FakeWork, tmp_path: Path) -> None:
    main(event(tmp_path / "event.json", body(), state="closed"), "new-prompt.yml", False)

    assert github.calls == []


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(event(tmp_path / "event.json", body(no="", question="")), "new-prompt.yml", True)

    assert YAML(typ="safe").load(capsys.readouterr().out) == {
        "name": "forklift",
        "positive": ["forklift", "forklift truck in a warehouse"],
        "images": {"url": URL, "sha256": SHA256},
    }


def test_lists_as_people_write_them() -> None:
    wish, faults = form.read(
        body(yes="- forklift\n* fork lift\n1. reach truck\n\n  forklift  ", images="../photos", sha256="")
    )

    assert faults == []
    assert wish.scenario.positive == ("forklift", "fork lift", "reach truck")
    assert wish.scenario.images.path == "../photos"


@pytest.mark.parametrize("content", ["{}", "[]", '{"issue": {"number": "7"}}', "not json"])
def test_an_event_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "event.json").write_text(content)

    with pytest.raises(FactoryError, match=r"no event of an issue|not JSON"):
        Issue.read(tmp_path / "event.json")


def test_the_form_has_the_fields_that_are_read() -> None:
    fields = [field for field in YAML(typ="safe").load(FORM.read_text(encoding="utf-8"))["body"] if "id" in field]

    assert tuple(field["attributes"]["label"] for field in fields) == form.LABELS
    required = [f["attributes"]["label"] for f in fields if f.get("validations", {}).get("required")]
    assert tuple(required) == form.REQUIRED
    assert {f["attributes"]["label"] for f in fields if f["attributes"].get("render") == "text"} == set(
        form.MAX_PHRASES
    )
