"""An issue made with the form becomes a branch with a scenario, and a pull request.

All of the issue is data: it goes through the form's reader and the scenario's validator, into one file whose place
is `datasets/NAME/scenario.yaml` with a NAME of small letters, digits and dashes. It is written by the API alone.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from automation import form, policy
from automation.command import outputs, program, read_json, say
from automation.github import GitHub
from automation.markdown import block, code, codes
from automation.text import code_point, foreign
from clip_factory.errors import FactoryError, ScenarioError
from clip_factory.scenario import parse

MAX_EVENT = 26_000_000
"""Bytes of an event; GitHub cuts them at 25 MB."""
MARK = "issue_to_scenario"
BRANCH = "prompt/{name}"
_ADDED = re.compile(r"<!-- clip-factory: pull (\d{1,10}) -->\n")
_ORIGIN = re.compile(r"<!-- clip-factory: from issue (\d{1,10}) -->")


@dataclass(frozen=True)
class Issue:
    """The part of GitHub's event that counts."""

    number: int
    body: str
    base: str
    """The repository's default branch."""
    closed: bool = False
    """Whether it is done with."""

    @classmethod
    def read(cls, path: Path) -> Issue:
        """From the file of an event.

        Raises:
            FactoryError: It is no event of an issue.
        """
        event = read_json(path, MAX_EVENT)
        try:
            number, body, base = event["issue"]["number"], event["issue"]["body"], event["repository"]["default_branch"]
        except (KeyError, TypeError):
            number = body = base = None
        if not isinstance(number, int) or not isinstance(body, str | None) or not isinstance(base, str):
            raise FactoryError(f"{path}: no event of an issue", hint="run it on: issues, types: labeled")
        return cls(number, body or "", base, event["issue"].get("state") == "closed")


def propose(
    github: GitHub, issue: Issue, workflow: str, earlier: int | None = None
) -> tuple[form.ScenarioRequest, dict[str, Any]]:
    """Make or bring up to date the branch and the pull request that an issue asks for, and start its workflow.

    Args:
        github: The repository.
        issue: What is asked for.
        workflow: File name of what is started where the scenario changed, or was never started before.
        earlier: The pull request that our comment on the issue names: its workflow was started.

    Returns:
        The request, and the pull request as GitHub describes it.

    Raises:
        ScenarioError: The issue cannot be made a scenario; each fault has a line. Nothing was written.
        RegistryError: GitHub does not allow it, or cannot be reached.
    """
    request, faults = form.read(issue.body)
    if request is None:
        raise ScenarioError("\n".join(faults))
    name = request.scenario.name
    branch, path = BRANCH.format(name=name), f"{policy.DATASETS}/{name}/{policy.FILE}"
    before = github.text(path, issue.base, policy.MAX_BYTES)
    if before is not None and not request.change:
        raise ScenarioError(f"{form.NAME}: {name!r} is taken: take another, or tick the box that says it is changed")
    pull = github.pull(branch)
    if pull is not None and _origin(pull) != issue.number:
        raise ScenarioError(f"{form.NAME}: pull request {pull['number']} is at work on {name!r}: take another name")
    text = written(request, before)
    if pull is None:
        _start_branch(github, branch, issue.base)
    changed = github.put(branch, path, text, f"{name}: scenario from issue {issue.number}")
    pull = _open_pull(github, pull, issue, request, text)
    # what the token of a workflow opens or pushes starts no workflow by itself
    if changed or pull["number"] != earlier:
        inputs = {"pull": str(pull["number"]), "names": name}
        address = f"/actions/workflows/{workflow}/dispatches"
        github.request("POST", address, {"ref": branch, "inputs": inputs})
    return request, pull


def written(request: form.ScenarioRequest, before: bytes | None) -> str:
    """The text of the scenario file; of one that is changed, keys that the form does not name stay, comments too.

    Raises:
        ScenarioError: What would be written does not say what was wished, or what is there is no mapping in YAML.
    """
    yaml = YAML(typ="rt")
    yaml.width = 100
    try:
        tree = yaml.load(before.decode("utf-8")) if before is not None else {}
    except (YAMLError, ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise ScenarioError(f"{policy.FILE}: what is there under this name cannot be read: it must be mended first")
    for key, value in request.fields.items():
        tree[key] = value
    stream = io.StringIO()
    yaml.dump(dict(tree) if before is None else tree, stream)
    text = stream.getvalue()
    parsed = parse(text, policy.FILE)
    if any(getattr(parsed, key) != getattr(request.scenario, key) for key in request.fields):
        raise ScenarioError(f"{policy.FILE}: YAML cannot say what was asked for")
    return text


def _start_branch(github: GitHub, branch: str, base: str) -> None:
    """The branch at the head of `base`. Branches of this name are ours: one that is left over starts anew."""
    head = github.repository.head(base)
    if head is None:
        raise FactoryError(f"the repository has no branch {base!a}")
    payload = {"ref": f"refs/heads/{branch}", "sha": head}
    if github.request("POST", "/git/refs", payload, allowed=(201, 422)).status == 422:
        github.request("PATCH", f"/git/refs/heads/{branch}", {"sha": head, "force": True})


def _open_pull(
    github: GitHub, pull: dict[str, Any] | None, issue: Issue, request: form.ScenarioRequest, text: str
) -> dict[str, Any]:
    payload = {"title": f"New prompt: {request.scenario.name}", "body": describe(request, text, issue.number)}
    if pull is not None:
        return dict(github.request("PATCH", f"/pulls/{pull['number']}", payload).json)
    branch = BRANCH.format(name=request.scenario.name)
    return dict(github.request("POST", "/pulls", {**payload, "head": branch, "base": issue.base}).json)


def _origin(pull: dict[str, Any]) -> int | None:
    match = _ORIGIN.match(str(pull.get("body") or ""))
    return int(match[1]) if match else None


def describe(request: form.ScenarioRequest, text: str, issue: int) -> str:
    """The pull request's description."""
    scenario = request.scenario
    phrases = [scenario.asked, *scenario.positive, *(scenario.negative or ())]
    lines = [
        f"<!-- clip-factory: from issue {issue} -->",
        f"From #{issue}. The question: {code(scenario.asked, 500)}",
        block(text, "yaml"),
        *(f"- {line}" for line in _strange(phrases)),
        f"Closes #{issue} when it is merged. The run's result comes as a comment below.",
    ]
    return "\n\n".join(lines)


def _strange(phrases: list[str]) -> list[str]:
    """What a reviewer should look at twice."""
    words = list(dict.fromkeys(word for phrase in phrases for word in foreign(phrase)))[:20]
    return [
        f"Not in Latin letters, though it may look like it: {code(word)}, {codes(map(code_point, word[:20]))}"
        for word in words
    ]


def main(
    event: Annotated[
        Path, typer.Option(help="The event.", envvar="GITHUB_EVENT_PATH", metavar="FILE", show_default=False)
    ],
    workflow: Annotated[str, typer.Option(help="What is started on the new branch.")] = "new-prompt.yml",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the scenario; write nothing.")] = False,
) -> None:
    """Turn an issue made with the form into a pull request that adds a scenario, and say so on the issue.

    Needs GITHUB_TOKEN and GITHUB_REPOSITORY, and the rights contents, pull-requests, issues and actions: write. Exit
    code 2: the issue cannot be made a scenario; a comment on it says what to mend.

    Example:  python -m automation.issue_to_scenario --event event.json --dry-run
    """
    issue = Issue.read(event)
    if dry_run:
        request, faults = form.read(issue.body)
        if request is None:
            raise ScenarioError("\n".join(faults))
        print(written(request, None), end="")  # noqa: T201
        return
    if issue.closed:
        say(f"issue {issue.number} is closed: nothing to do")
        return
    github = GitHub.open()
    match = _ADDED.match(github.own_comment(issue.number, MARK))
    earlier = int(match[1]) if match else None
    try:
        request, pull = propose(github, issue, workflow, earlier)
    except ScenarioError as error:
        github.comment(issue.number, MARK, complaint(error, earlier))
        raise
    name, number = request.scenario.name, int(pull["number"])
    if earlier not in (None, number):  # the issue asks under another name now
        github.request("PATCH", f"/pulls/{earlier}", {"state": "closed"})
    text = f"Pull request #{number} adds it; the factory is at work, and answers there."
    github.comment(issue.number, MARK, _remember(number) + text)
    say(f"pull request {number} adds {name}")
    outputs(name=name, branch=BRANCH.format(name=name), pull=str(number), url=f"{github.web}/pull/{number}")


def _remember(pull: int | None) -> str:
    """The first line of our comment on an issue, by which its pull request is known again; ours alone."""
    return "" if pull is None else f"<!-- clip-factory: pull {pull} -->\n"


def complaint(error: ScenarioError, pull: int | None = None) -> str:
    """What the comment on an issue says that cannot be made a scenario; `pull` is open from an earlier try."""
    lines = error.what.splitlines()
    more = [f"- and {len(lines) - 20} more"] if len(lines) > 20 else []
    faults = "\n".join([*(f"- {code(line)}" for line in lines[:20]), *more])
    return (
        f"{_remember(pull)}This cannot be made a scenario yet:\n\n{faults}\n\n"
        "Edit the issue: it is read again when it changes, or when its label is taken off and put on again."
        f"{f' Until then pull request #{pull} stays as it is.' if pull else ''}"
    )


if __name__ == "__main__":
    program("issue_to_scenario", main)
