"""Releases of each state: what the record says of them, what commands print, what the champion may be."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clip_factory.cli.main import app
from clip_factory.errors import RunError
from clip_factory.gate.verdict import read
from clip_factory.registry import NotProvenError, PublishOptions, make_pair, open_registry, publish
from clip_factory.registry.release_reader import read_checked
from clip_factory.registry.trust import Trust
from clip_factory.run_folder import RunFolder
from clip_factory.runtime.atomic import write_json
from clip_factory.runtime.releases.release_record import Release
from clip_factory.runtime.runtime_errors import RegistryError
from support.finished_run import NOT_PROVEN, PASSES, REFUSED, another, finished, said, write_manifest

KEYS = {
    *("name", "version", "question", "classes", "threshold", "sha256", "size", "passed", "forced"),
    *("created", "by", "files", "signature"),
}
"""Of a record: an earlier version refuses a record with any other key, and with it the whole registry."""
ALLOWED = PublishOptions(by="Ada", allow_unproven=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    made = {"passed": PASSES, "not proven": NOT_PROVEN, "refused": REFUSED}
    return {state: finished(folder / state, recipe) for state, recipe in made.items()}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    place = str(tmp_path / "registry")
    monkeypatch.setenv("FACTORY_REGISTRY", place)
    monkeypatch.setenv("FACTORY_BY", "Ada")
    return place


@pytest.fixture
def all_three(registry: str, runs: dict[str, Path]) -> str:
    """Versions 1 to 3: passed, which is champion; not proven; refused."""
    assert call("publish", runs["passed"], "--alias", "champion").exit_code == 0
    assert call("publish", runs["not proven"], "--allow-unproven").stdout == "red-ball@2\n"
    assert call("publish", runs["refused"], "--force").stdout == "red-ball@3\n"
    return registry


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_publishing_what_is_not_proven_exits_with_4_and_says_how_to_prove_it(registry: str, runs: dict) -> None:
    run = runs["not proven"]
    verdict = said(run / "gate.json")["verdict"]
    assert verdict["state"] == "not proven"

    for words in ((), ("--force",), ("--alias", "champion")):
        stopped = call("publish", run, *words)
        assert (stopped.exit_code, stopped.stdout) == (4, "")
        first, second = stopped.stderr.splitlines()
        assert first == f"not proven: {run}: {verdict['headline']} {' '.join(verdict['reasons'])}"
        assert second.startswith(f"  prove it by answering random test photos: factory review {run} --prove; or ")
        assert "--allow-unproven" in second
    assert not Path(registry).exists()


def test_what_is_not_proven_is_published_where_that_is_allowed(registry: str, runs: dict) -> None:
    done = call("publish", runs["not proven"], "--allow-unproven", "--alias", "champion")

    assert (done.exit_code, done.stdout) == (0, "red-ball@1\n")
    assert done.stderr == "champion of red-ball: version none -> 1\n"
    tree = said(Path(registry) / "index.json")["models"]["red-ball"]
    assert tree["aliases"] == {"champion": 1}
    assert (tree["versions"]["1"]["passed"], tree["versions"]["1"]["forced"]) == (False, False)


def test_to_allow_what_is_not_proven_is_not_to_force_what_was_refused(registry: str, runs: dict) -> None:
    assert call("publish", runs["refused"], "--allow-unproven").exit_code == 1
    assert not Path(registry).exists()


@pytest.mark.parametrize("state", ["passed", "not proven", "refused"])
def test_every_state_is_read_back_from_a_record_that_earlier_versions_read(
    state: str, registry: str, runs: dict
) -> None:
    release = publish(runs[state], open_registry(registry), options=replace(ALLOWED, force=True)).release
    record = said(Path(registry) / "models/red-ball/versions/000001.json")

    assert record.keys() == KEYS
    assert Release.parse(record).state == release.state == state


def test_a_record_of_an_earlier_version_says_passed_or_refused(runs: dict, registry: str) -> None:
    tree = publish(runs["passed"], open_registry(registry)).release.to_json()

    assert Release.parse(tree).state == "passed"
    assert Release.parse(tree | {"passed": False, "forced": True}).state == "refused"


def test_the_card_says_that_it_is_not_proven_and_who_allowed_it(registry: str, runs: dict) -> None:
    """A name is anybody's text: it is read as code, in which nothing is a link, a picture or HTML."""
    opened, name = open_registry(registry), "Eve ``</p> ![x](https://evil.example) @octocat"
    release = publish(runs["not proven"], opened, options=replace(ALLOWED, by=name)).release
    card, own = read_checked(opened, release, "card.md").decode(), (runs["not proven"] / "card.md").read_text("utf-8")
    front, _, body = own.partition("\n---\n\n")

    notice = card.removeprefix(f"{front}\n---\n\n").removesuffix(body)
    assert notice == (
        f"> **Published although it is not proven.** ``` {name} ``` allowed it. Nothing is broken, and not enough is"
        " shown; `gate.json` says what is missing.\n\n"
    )


def test_whoever_allows_it_the_same_run_is_one_version(registry: str, runs: dict) -> None:
    opened = open_registry(registry)
    first = publish(runs["not proven"], opened, options=ALLOWED)
    second = publish(runs["not proven"], opened, options=replace(ALLOWED, by="Bob"))

    assert (second.release, first.new, second.new) == (first.release, True, False)


def test_the_signature_covers_the_state(registry: str, runs: dict, tmp_path: Path) -> None:
    private, public = make_pair(tmp_path / "keys")
    assert call("publish", runs["not proven"], "--allow-unproven", "--key", private).exit_code == 0
    record = Path(registry) / "models/red-ball/versions/000001.json"
    for claim in ({"passed": True}, {"forced": True}):
        honest = said(record)
        write_json(record, honest | claim)
        opened = open_registry(registry)
        with pytest.raises(RegistryError, match="was altered after it was signed"):
            Trust.read(public).check(opened, opened.index().models["red-ball"].versions[1])
        write_json(record, honest)


def test_list_and_show_say_the_state(all_three: str, runs: dict) -> None:
    rows = call("models", "list", "red-ball").stdout.splitlines()[1:]
    assert [re.split(r"\s{2,}", row.strip())[-1] for row in rows] == ["REFUSED, forced", "not proven", "passed"]
    assert "  REFUSED, forced  " in call("models", "list").stdout

    for version, state, shown in ((1, "passed", "passed"), (2, "not proven", "not proven"), (3, "refused", "REFUSED,")):
        text = call("models", "show", f"red-ball@{version}").stdout
        assert re.search(rf"^gate +{shown}", text, re.MULTILINE)
        assert f"\n{said(runs[state] / 'gate.json')['verdict']['headline']}\n" in text
        tree = json.loads(call("models", "show", f"red-ball@{version}", "--format", "json").stdout)
        assert tree["state"] == state
    (listed,) = map(json.loads, call("models", "list", "--format", "json").stdout.splitlines())
    assert [one["state"] for one in listed["versions"]] == ["passed", "not proven", "refused"]


def test_the_champion_is_what_passed_unless_somebody_says_otherwise(all_three: str) -> None:
    unproven, refused = (call("models", "promote", f"red-ball@{version}", "champion") for version in (2, 3))
    assert (unproven.exit_code, refused.exit_code) == (4, 1)
    assert unproven.stderr.startswith(
        "not proven: red-ball@2: it is not proven; champion does not stand for such a release\n  let it all the same:"
        " --allow-unproven; "
    )
    assert refused.stderr.startswith("refused: red-ball@3: the gate refused it; champion does not stand for such")
    for version, flag, code in ((2, "--force", 4), (3, "--allow-unproven", 1)):
        assert call("models", "promote", f"red-ball@{version}", "champion", flag).exit_code == code
    assert open_registry(all_three).index().models["red-ball"].aliases == {"champion": 1}

    for version, flag in ((2, "--allow-unproven"), (3, "--force")):
        assert call("models", "promote", f"red-ball@{version}", "champion", flag).stdout == f"red-ball@{version}\n"


def test_other_aliases_stand_for_anything(all_three: str) -> None:
    for version in (1, 2, 3):
        assert call("models", "promote", f"red-ball@{version}", "shadow").exit_code == 0


def test_a_rollback_goes_to_any_release_and_says_its_state(all_three: str) -> None:
    call("models", "promote", "red-ball@3", "champion", "--force")
    call("models", "promote", "red-ball@2", "champion", "--allow-unproven")
    call("models", "promote", "red-ball@1", "champion")
    told = [call("models", "rollback", "red-ball", "champion") for _ in range(3)]

    assert [one.stderr for one in told] == [
        "champion of red-ball: version 1 -> 2, not proven\n",
        "champion of red-ball: version 2 -> 3, REFUSED, forced\n",
        "champion of red-ball: version 3 -> 1, passed\n",
    ]


def test_a_release_that_an_earlier_version_forced_is_no_champion_by_allowing(registry: str, runs: dict) -> None:
    """It called everything refused that had not passed."""
    opened = open_registry(registry)
    publish(runs["not proven"], opened, options=ALLOWED)
    record = Path(registry) / "models/red-ball/versions/000001.json"
    write_json(record, said(record) | {"forced": True})

    assert call("publish", runs["not proven"], "--allow-unproven", "--alias", "champion").exit_code == 1
    assert call("publish", runs["not proven"], "--allow-unproven", "--force", "--alias", "champion").exit_code == 0


def _copy(run: Path, folder: Path, **changes: object) -> Path:
    """A run whose gate.json says something else, finished anew."""
    copy = RunFolder(Path(shutil.copytree(run, folder)))
    write_json(copy.file("gate.json"), said(copy.file("gate.json")) | changes)
    write_manifest(copy)
    return copy.path


def test_a_verdict_is_no_better_than_its_clauses(registry: str, runs: dict, tmp_path: Path) -> None:
    said_so = read(said(runs["passed"] / "gate.json"))
    lied = _copy(runs["not proven"], tmp_path / "lied", verdict={"state": "passed", "headline": "x"}, passed=True)
    clauses = said(runs["passed"] / "gate.json")["clauses"]
    clauses[0] |= {"verdict": "fail"}
    failed = _copy(runs["passed"], tmp_path / "failed", clauses=clauses)

    assert said_so.passed
    with pytest.raises(NotProvenError):
        publish(lied, open_registry(registry))
    assert "the gate refused this run (recall)" in call("publish", failed, "--allow-unproven").stderr


def test_clauses_that_do_not_decide_refuse_nothing(registry: str, runs: dict, tmp_path: Path) -> None:
    clauses = said(runs["passed"] / "gate.json")["clauses"]
    (agreement,) = (clause for clause in clauses if clause["name"] == "agreement")
    assert agreement["decides"] is False
    agreement["verdict"] = "fail"

    assert call("publish", _copy(runs["passed"], tmp_path / "run", clauses=clauses)).exit_code == 0


@pytest.mark.parametrize(
    ("stamp", "says"),
    [
        ({"passed": False}, "refused"),
        ({"passed": False, "verdict": "refused"}, "refused"),
        ({"passed": False, "verdict": "not proven"}, "not proven"),
    ],
)
def test_a_model_that_says_worse_of_itself_than_gate_json(
    stamp: dict, says: str, registry: str, runs: dict, tmp_path: Path
) -> None:
    run = another(runs["passed"], tmp_path / "run", gate=json.dumps(stamp))

    with pytest.raises(RunError, match=f"gate.json says passed, model.onnx says {says}"):
        publish(run, open_registry(registry), options=replace(ALLOWED, force=True))


def test_a_verdict_that_is_no_words_stops_nothing(registry: str, runs: dict, tmp_path: Path) -> None:
    """gate.json of a stranger: what is shown of it moves no terminal."""
    verdict = {"state": "not proven", "headline": "\x1b[2J[red]all is well", "reasons": ["\x07"]}
    run = _copy(runs["not proven"], tmp_path / "run", verdict=verdict)

    assert "\x1b" not in call("publish", run).stderr
    call("publish", run, "--allow-unproven")
    shown = call("models", "show", "red-ball@1").stdout
    assert "\x1b" not in shown and "\N{REPLACEMENT CHARACTER}[2J[red]all is well" in shown
