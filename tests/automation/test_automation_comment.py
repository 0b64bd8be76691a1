"""The comment on a pull request: what it says of passed, refused, broken and missing runs, and how it is posted."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from automation import pr_comment, runs, worst_images
from automation.comment import Result, Setting, render
from automation.markdown import MAX_COMMENT
from automation.pictures import captioned
from clip_factory import run_folder as files
from clip_factory.errors import FactoryError
from clip_factory.registry import PublishOptions, open_registry, publish
from clip_factory.runtime.atomic import write_json
from support.automation_run import NOT_PROVEN, PASSES, REFUSED, SHA, whole
from support.fake_github import REPO, Downloads
from support.fake_github_work import FakeWork
from support.finished_run import said
from support.markdown_read import foreign_html, kinds

EXPECTED = [{"name": name, "path": f"datasets/{name}/scenario.yaml"} for name in ("red-ball", "wet-floor")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that passed and one that was refused, with their sheets, as artifacts are unpacked."""
    folder = tmp_path_factory.mktemp("artifacts")
    whole(folder / "run-red-ball", "red-ball", PASSES)
    whole(folder / "run-wet-floor", "wet-floor", REFUSED)
    worst_images.main(folder, folder)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The passed run alone, to be tampered with."""
    return Path(shutil.copytree(next(made.glob("run-red-ball/datasets/*/2*/")), tmp_path / "runs" / "run"))


@pytest.fixture
def comment(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def call(folder: Path, **options: object) -> tuple[str, dict[str, str]]:
        defaults = {"registry": "", "alias": "champion", "commit": "", "expect": "", "pull": "", "send": False}
        defaults["allow_unproven"] = False
        capsys.readouterr()
        pr_comment.main(folder, tmp_path / "out", **(defaults | options))
        lines = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
        return (tmp_path / "out" / "comment.md").read_text(encoding="utf-8"), lines

    return call


def test_a_run_that_passed_and_one_that_was_refused(made: Path, comment, tmp_path: Path) -> None:
    text, lines = comment(made, commit=SHA, registry=str(tmp_path / "none"), expect=json.dumps(EXPECTED))
    passed, refused = text.split("### ")[1:]

    assert text.startswith("## clip-factory: 1 passed, 1 refused\n")
    assert passed.startswith("✅ `red-ball` passed")
    assert "| ➖ unproven, not decisive |" in passed
    assert "1 of 81 test photos answered wrongly, by people’s labels." in passed
    assert "Refused." not in passed
    assert refused.startswith("❌ `wet-floor` was refused by the gate")
    gates = [said(path)["verdict"] for path in sorted(made.glob("run-*/datasets/*/2*/gate.json"))]
    assert f"> **Passed.** {gates[0]['headline']}\n" in passed
    assert f"> **Refused.** {gates[1]['headline']}\n>\n> - {gates[1]['reasons'][0]}\n" in refused
    assert "To prove" not in text
    for part in (passed, refused):
        assert f"git checkout {SHA}\nfactory run datasets/" in part
        assert "**First of its name:**" in part
        assert 'alt="Curves of the training"' in part
        assert 'alt="The photos on which it does worst"' in part
        assert " · 3.2\u202fmin · 300 photos, " in part
    assert lines == {"passed": "false", "runs": "2", "publish": json.dumps(EXPECTED[:1], separators=(",", ":"))}
    assert foreign_html(text) == []
    assert "table_open" in kinds(text)
    summary = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "<img" not in summary
    assert ("Look at the photos below" in text, "Look at the photos in the run’s report.html" in summary) == (
        True,
        True,
    )
    assert "`red-ball` passed" in summary


def test_against_the_champion(made: Path, comment, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    champion = whole(tmp_path / "old", "red-ball", replace(NOT_PROVEN, noise=0.2, negative=("apple", "pear | `x`")))
    publish(champion, open_registry(str(registry)), "champion", PublishOptions(allow_unproven=True))
    text, _ = comment(made / "run-red-ball", registry=str(registry))

    assert "**Against `@champion`, version 1**: " in text
    assert "| agrees with its teacher | " not in text, "it is of no interest once people have labeled"
    assert "| `negative` | without `` pear ¦ `x` `` | with `tomato`, `blue ball`, `empty room`" in text
    assert f"factory models rollback red-ball champion --registry {registry}" in text
    assert "scenario.images" not in text


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is not proven: nobody has checked its teacher."""
    return whole(tmp_path_factory.mktemp("short") / "run-dry-floor", "dry-floor", NOT_PROVEN)


def test_what_is_not_proven_is_told_and_how_to_prove_it(short: Path, comment) -> None:
    text, lines = comment(short.parent)
    verdict = said(short / files.GATE)["verdict"]

    assert verdict["state"] == "not proven"
    assert text.startswith("## clip-factory: 1 not proven\n\n### 🟡 `dry-floor` is not proven\n")
    reasons = "\n".join(f"> - {reason}" for reason in verdict["reasons"])
    assert f"> **Not proven.** {verdict['headline']}\n>\n{reasons}\n>\n> It is not published as long as" in text
    assert (lines["passed"], lines["publish"]) == ("false", "[]")
    last = text[text.index("### To prove what is not proven") :]
    assert last.splitlines()[4:10] == [
        "```sh",
        "factory run datasets/dry-floor/scenario.yaml",
        "factory review runs/dry-floor --prove",
        "git add datasets/dry-floor/scenario.answers.jsonl",
        'git commit --message "Answers of people"',
        "git push",
    ]
    assert "`gold: labels.csv`" in last.splitlines()[-1]
    assert "None of 81 test photos answered wrongly, by its teacher’s word." in text
    assert "decisive" not in text
    assert foreign_html(text) == []


def test_what_is_not_proven_may_be_published_where_that_is_allowed(short: Path, comment) -> None:
    text, lines = comment(short.parent, allow_unproven=True)

    assert "is not proven\n" in text and "It may be published all the same" in text
    assert "To prove what is not proven" not in text
    assert [one["name"] for one in json.loads(lines["publish"])] == ["dry-floor"]
    assert lines["passed"] == "false"


def test_the_table_says_what_a_user_gains_and_loses(made: Path, comment) -> None:
    text, _ = comment(made)
    heading, _, *rows = (line for line in text.splitlines() if line.startswith("|"))
    cells = [[cell.strip() for cell in row.split("|")[1:6]] for row in (heading, *rows[:2])]

    assert cells == [
        ["scenario", "verdict", "finds", "false alarms", "by"],
        ["`red-ball`", "✅ passed", "39 of 39", "1 of 42", "people’s labels"],
        ["`wet-floor`", "❌ refused", "34 of 39", "17 of 42", "people’s labels"],
    ]


def test_figures_that_are_made_up_are_not_believed(copy: Path, comment) -> None:
    """What is compared with the champion is counted again."""
    honest = runs.read(copy).figures
    _edit(files.GATE, lambda gate: gate["figures"]["gold"]["student"].update(hits=400, misses=0))(copy)
    _edit(files.GATE, lambda gate: gate["figures"].update(calibration_error=0.0, more=1))(copy)

    assert runs.read(copy).figures == honest


def test_a_registry_that_cannot_be_read_spoils_nothing(made: Path, comment, tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("no folder")
    text, lines = comment(made / "run-red-ball", registry=str(tmp_path / "registry"))

    assert "The registry could not be read" in text
    assert lines["passed"] == "true"


def test_what_was_to_run_and_did_not(made: Path, comment) -> None:
    missing = {"name": "crane", "path": "datasets/crane/scenario.yaml"}
    text, lines = comment(made / "run-red-ball", expect=json.dumps([EXPECTED[0], missing]))

    assert "⚠️ `crane` has no result" in text
    assert "the run ended before the gate was evaluated" in text
    assert json.loads(lines["publish"]) == EXPECTED[:1]
    assert lines["passed"] == "false"


def test_a_run_that_nobody_asked_for_is_passed_over(made: Path, comment) -> None:
    text, lines = comment(made, expect=json.dumps(EXPECTED[:1]))

    assert "wet-floor" not in text
    assert lines["runs"] == "1"


def test_without_artifacts_the_comment_says_that_nothing_came_of_it(tmp_path: Path, comment) -> None:
    text, lines = comment(tmp_path / "no-such-folder", expect=json.dumps(EXPECTED))

    assert text.count("There is no result: `the run ended before the gate was evaluated`") == 2
    assert (lines["passed"], lines["publish"]) == ("false", "[]")


@pytest.mark.parametrize("expect", ['[{"name": "../x", "path": ""}]', "{}x", "{}", "7", "[1]", '[{"name": "a"}]'])
def test_what_was_expected_must_be_a_plan(made: Path, comment, expect: str) -> None:
    with pytest.raises(FactoryError, match="expected the `scenarios` that changed_scenarios prints"):
        comment(made, expect=expect)


def _edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        tree = said(run / name)
        change(tree)
        write_json(run / name, tree)

    return edit


def _swap(name: str) -> Callable[[Path], None]:
    def swap(run: Path) -> None:
        (run / name).unlink()
        os.symlink("/etc/passwd", run / name)

    return swap


def _write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(data)


def _grow(run: Path) -> None:
    with open(run / files.GATE, "ab") as file:
        file.truncate(2_000_000)


BROKEN = {
    "a file that no run has": (_write("setup.py", b"x"), "'setup.py' is no file of a run"),
    "a link in the place of a file": (_swap(files.TRAINING), "training.csv is no file"),
    "a missing file": (lambda run: (run / files.STUDENT).unlink(), "student.ckpt missing"),
    "no manifest": (lambda run: (run / files.MANIFEST).unlink(), "manifest.json missing"),
    "a gate.json that is too large": (_grow, "gate.json has more than 1,000,000 bytes"),
    "a gate.json that is none": (_write(files.GATE, b"[]"), "no run of the factory (TypeError)"),
    "a gate.json nested without end": (_write(files.GATE, b"[" * 100_000), "not JSON (RecursionError)"),
    "a clause of its own": (
        _edit(files.GATE, lambda gate: gate["clauses"][0].update(name="[x](https://evil.example)")),
        "no clause of the gate is '[x](https://evil.example)'",
    ),
    "a verdict of its own": (
        _edit(files.GATE, lambda gate: gate["clauses"][0].update(verdict="<b>pass</b>")),
        "or says '<b>pass</b>'",
    ),
    "a rule in words": (
        _edit(files.GATE, lambda gate: gate["clauses"][0].update(rule="@octocat decides")),
        "recall has no rule",
    ),
    "a threshold that is no number": (
        _edit(files.GATE, lambda gate: gate["figures"].update(threshold="high")),
        "no run of the factory (KeyError)",
    ),
    "an interval that is no pair": (
        _edit(files.GATE, lambda gate: gate["clauses"][0].update(interval=0.5)),
        "recall has a figure, a number or an interval that is none",
    ),
    "a figure that is a pair": (
        _edit(files.GATE, lambda gate: gate["clauses"][0].update(figure=[0.5, 0.6])),
        "recall has a figure, a number or an interval that is none",
    ),
    "a rule that nothing can keep": (
        _edit(files.GATE, lambda gate: gate["clauses"][0].update(rule=">= " + "9" * 400)),
        "recall has a rule that nothing can keep",
    ),
    "labels that are no table": (_write(files.LABELS, b"PAR1" * 10), "no run of the factory (ArrowInvalid)"),
    "a scenario with an anchor": (_write(files.SCENARIO, b"name: &a x\npositive: [*a]\n"), "an anchor"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_folder_that_is_no_run_has_no_result(copy: Path, comment, what: str) -> None:
    tamper, why = BROKEN[what]
    tamper(copy)
    text, lines = comment(copy.parent)

    assert "has no result" in text
    assert why in text
    assert foreign_html(text) == []
    assert not kinds(text) & {"link_open", "image"}
    assert (lines["passed"], lines["publish"]) == ("false", "[]")


def _all_yes(run: Path) -> None:
    table = pq.read_table(run / files.PREDICTIONS)
    pq.write_table(table.set_column(2, "probability", [np.ones(len(table), np.float32)]), run / files.PREDICTIONS)


def _of(gate: dict, name: str) -> dict:
    return next(clause for clause in gate["clauses"] if clause["name"] == name)


def _no_false_alarms(gate: dict) -> None:
    """What another target would ask, and this one does not."""
    gate["clauses"].append(_of(gate, "recall") | {"name": "false_alarms", "rule": "<= 0.05", "figure": 0.0})


def _in_other_words(gate: dict) -> None:
    gate["verdict"]["headline"] = "[All is well](https://evil.example) @octocat"


LIES = {
    "predictions that say something else": (_all_yes, "Tested on both answers: counted again, the verdict is “fail”"),
    "a clause that failed, in a gate that passed": (
        _edit(files.GATE, lambda gate: _of(gate, "parity").update(verdict="fail", figure=0.5)),
        "gate.json says passed, its clauses say refused",
    ),
    "a better figure": (
        _edit(files.GATE, lambda gate: gate["clauses"][0].update(figure=0.999)),
        "Finds the yes photos: counted again, the verdict is “pass”",
    ),
    "a parity that is over the bar": (
        _edit(files.GATE, lambda gate: _of(gate, "parity").update(figure=0.5)),
        "Ships what was trained: figure and verdict disagree",
    ),
    "a clause left out": (
        _edit(files.GATE, lambda gate: gate["clauses"].remove(_of(gate, "bytes"))),
        "Fits the size budget: counted again",
    ),
    "a clause more": (_edit(files.GATE, _no_false_alarms), "Few false alarms: nothing in the scenario asks for it"),
    "a clause that decides, and is said not to": (
        _edit(files.GATE, lambda gate: _of(gate, "gold_accuracy").update(decides=False)),
        "Right by people’s labels: counted again, the verdict is “pass”",
    ),
    "another state": (
        _edit(files.GATE, lambda gate: gate["verdict"].update(state="not proven")),
        "gate.json says not proven, its clauses say passed",
    ),
    "a verdict in words of its own": (
        _edit(files.GATE, _in_other_words),
        "gate.json says the verdict in other words than its figures do",
    ),
    "a lower bar in the scenario": (
        lambda run: _write(
            files.SCENARIO, (run / files.SCENARIO).read_bytes().replace(b"parity: 0.01", b"parity: 0.0001")
        )(run),
        "Ships what was trained: figure and verdict disagree",
    ),
}


@pytest.mark.parametrize("what", LIES)
def test_a_gate_that_does_not_add_up_is_not_passed(copy: Path, comment, what: str) -> None:
    tamper, why = LIES[what]
    tamper(copy)
    text, lines = comment(copy.parent)

    assert "⚠️ `red-ball` does not add up" in text
    assert f"> - {why}" in text
    assert lines["publish"] == "[]"
    assert "evil" not in text
    _, lines = comment(copy.parent, allow_unproven=True)
    assert lines["publish"] == "[]"


@pytest.mark.parametrize("number", [10**400, -(10**400), 1e308, float("inf")])
@pytest.mark.parametrize("key", ["figure", "n", "interval"])
def test_a_number_that_no_run_has_spoils_no_comment(copy: Path, comment, key: str, number: float) -> None:
    value = [number, number] if key == "interval" else number
    (copy / files.GATE).write_text(json.dumps(_with(said(copy / files.GATE), key, value)), encoding="utf-8")
    text, lines = comment(copy.parent)

    assert "`red-ball`" in text
    assert key != "figure" or (lines["publish"] == "[]" and "does not add up" in text)


def _with(gate: dict, key: str, value: object) -> dict:
    gate["clauses"][0][key] = value
    gate["figures"]["more"] = {"figure": value}
    return gate


def test_no_words_of_a_run_are_passed_on(copy: Path, comment) -> None:
    def poison(gate: dict) -> None:
        for clause in gate["clauses"]:
            clause["says"] = "[all is well](https://evil.example) @octocat"
        gate["verdict"]["reasons"] = ["[all is well](https://evil.example) @octocat"]
        gate["figures"] |= {"note": "@octocat", "latency_ms": {"one_image": "<b>fast</b>"}}

    _edit(files.GATE, poison)(copy)
    (copy / files.TRAINING).write_text("epoch,val_loss,<b>\n0,@octocat,1\n1,nan,2\n", encoding="utf-8")
    text, lines = comment(copy.parent)

    assert not any(word in text for word in ("evil", "octocat", "<b>"))
    assert lines["passed"] == "true"


@pytest.mark.parametrize("cell", ["1e308", "-inf", "nan", "", "0x10"])
def test_curves_of_any_numbers_are_drawn_or_left_out(copy: Path, comment, cell: str) -> None:
    rows = f"epoch,train_loss,val_loss\n0,{cell},0.5\n1,{cell},{cell}\n{cell},1,0.4\n"
    (copy / files.TRAINING).write_text(rows, encoding="utf-8")
    text, lines = comment(copy.parent)

    assert 'alt="Curves of the training"' in text
    assert lines["passed"] == "true"


def test_the_newest_of_two_runs_counts(copy: Path, comment) -> None:
    later = Path(shutil.copytree(copy, copy.with_name("zz-later")))
    _edit(files.GATE, lambda gate: gate.update(passed=False))(later)
    _, lines = comment(copy.parent)

    assert (lines["runs"], lines["passed"]) == ("1", "false")


def test_worst_first_wrong_and_sure_then_right_and_unsure(made: Path) -> None:
    run = runs.read(next(made.glob("run-wet-floor/datasets/*/2*/")))
    labels, chosen = run.labels, worst_images.worst(run.labels, run.threshold, 1000)
    wrong = (labels.student[chosen] >= run.threshold) != labels.reference[chosen]
    side = np.where(labels.student[chosen] >= run.threshold, 1 - run.threshold, run.threshold)
    sure = np.abs(labels.student[chosen] - run.threshold) / side
    split = int(wrong.sum())

    assert 0 < split < len(chosen) == int(labels.test.sum()) == len(set(chosen.tolist()))
    assert wrong[:split].all()
    assert (np.diff(sure[:split]) <= 0).all()
    assert (np.diff(sure[split:]) >= 0).all()


def test_the_sheet_is_decoded_and_encoded_anew(made: Path, tmp_path: Path) -> None:
    run = runs.read(next(made.glob("run-red-ball/datasets/*/2*/")))
    honest = (made / "red-ball.worst.jpg").read_bytes()
    sheet = tmp_path / "sheet.jpg"
    sheet.write_bytes(honest + b"<script>hidden behind the picture</script>")
    done = captioned(run, sheet)

    assert b"<script>" not in done
    assert Image.open(io.BytesIO(done)).size == (4 * 200 + 8, 4 * 240 + 8)
    for forged in (b"", b"<svg onload=alert(1)>", honest[:2000], _png(768, 768), _jpeg(768, 767), _jpeg(20_000, 8)):
        sheet.write_bytes(forged)
        assert captioned(run, sheet) is None
    sheet.unlink()
    os.symlink(made / "red-ball.worst.jpg", sheet)
    assert captioned(run, sheet) is None


def _png(width: int, height: int) -> bytes:
    return _saved(width, height, "PNG")


def _jpeg(width: int, height: int) -> bytes:
    return _saved(width, height, "JPEG")


def _saved(width: int, height: int, kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, kind)
    return out.getvalue()


def test_two_hundred_scenarios_fit_into_one_comment(made: Path) -> None:
    run = runs.read(next(made.glob("run-red-ball/datasets/*/2*/")))
    text = render([Result(f"question-{n}", run) for n in range(200)], Setting(SHA, "registry/"))

    assert len(text) < MAX_COMMENT
    assert text.count("\n| `question-") == 200
    assert "are in the table alone" in text
    assert text.count("<details>") == text.count("</details>")


def test_two_hundred_scenarios_that_are_not_proven_fit_too(short: Path) -> None:
    run = runs.read(short)
    text = render([Result(f"question-{n}", run) for n in range(200)], Setting(SHA, "registry/"))

    assert len(text) < MAX_COMMENT
    assert text.startswith("## clip-factory: 200 not proven\n")
    assert text.count("--prove") == 5
    assert "The 195 more take the same commands." in text


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWork]:
    with Downloads() as downloads, FakeWork(downloads) as server:
        for name, value in {
            "API_URL": server.url,
            "TOKEN": "job",
            "REPOSITORY": REPO,
            "SERVER_URL": "https://g.example",
        }.items():
            monkeypatch.setenv(f"GITHUB_{name}", value)
        monkeypatch.delenv("FACTORY_BOT", raising=False)
        server.tokens = {"job": frozenset({"contents", "pull-requests", "issues"})}
        yield server


def test_it_is_posted_once_and_then_brought_up_to_date(github: FakeWork, made: Path, comment, copy: Path) -> None:
    comment(made, pull="12", send=True)
    (first,) = github.said(12)
    comment(copy.parent, pull="12", send=True)
    (second,) = github.said(12)

    assert first.startswith("<!-- clip-factory: pr_comment -->\n## clip-factory: 1 passed, 1 refused")
    assert "## clip-factory: 1 passed\n" in second
    pictures = github.paths("heads/factory-evidence")
    assert len(pictures) == 3  # the two trainings have the same curves
    for path in pictures:
        assert f'src="https://g.example/{REPO}/blob/factory-evidence/{path}?raw=true"' in first
        assert path.startswith("12/")
    assert github.read("heads/factory-evidence", sorted(pictures)[0])[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")


def test_the_pictures_have_no_history_in_common_with_the_code(github: FakeWork, made: Path, comment) -> None:
    comment(made, pull="12", send=True)
    head = github.refs["heads/factory-evidence"]
    comment(made, pull="13", send=True)

    assert github.objects[head]["parents"] == []
    assert github.objects[github.refs["heads/factory-evidence"]]["parents"] == [head]
    assert {path.split("/")[0] for path in github.paths("heads/factory-evidence")} == {"12", "13"}


def test_two_pull_requests_that_post_at_once_lose_no_picture(github: FakeWork, made: Path, comment) -> None:
    comment(made, pull="12", send=True)
    github.rival_before = f"PATCH /repos/{REPO}/git/refs/heads/factory-evidence"
    github.rival = lambda: github.write("heads/factory-evidence", "14/other.png", b"other")
    comment(made, pull="13", send=True)

    assert {path.split("/")[0] for path in github.paths("heads/factory-evidence")} == {"12", "13", "14"}


def test_without_a_pull_request_nothing_is_posted_and_that_is_said(
    github: FakeWork, made: Path, tmp_path: Path, capsys
) -> None:
    pr_comment.main(made, tmp_path / "out", "", "champion", "", "", "", True)

    assert github.calls == []
    assert "nothing is posted: --post needs the number of a pull request" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"pull": "12; id"}, {"commit": "main"}])
def test_numbers_are_numbers(made: Path, comment, options: dict[str, str]) -> None:
    with pytest.raises(FactoryError, match="expected 40 hex digits, and a number"):
        comment(made, **options)
