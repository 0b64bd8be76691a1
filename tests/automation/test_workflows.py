"""The workflow files: who may do what, what is pinned, and that no text from elsewhere comes near a shell."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from automation import changed_scenarios, form
from automation.git import Git
from clip_factory import __version__
from support.git import git
from support.github_site import LEVELS
from support.workflow_expressions import condition, evaluate
from support.workflow_files import BOTH, ROOT, WORKFLOWS, load, steps

WRITERS = {
    ("factory.yml", "comment"): {"contents": "write", "pull-requests": "write"},
    ("factory.yml", "publish"): {"contents": "write"},
    ("new-prompt.yml", "factory"): {"contents": "write", "pull-requests": "write"},
    ("prompt-issue.yml", "scenario"): {
        "contents": "write", "pull-requests": "write", "issues": "write", "actions": "write",
    },
    ("recheck.yml", "recheck"): {"issues": "write"},
    ("release.yml", "attest"): {"id-token": "write", "attestations": "write"},
    ("release.yml", "publish"): {"id-token": "write"},
    ("rollback.yml", "rollback"): {"contents": "write"},
}  # fmt: skip
"""Every job that may write, and what."""


def in_ids(path: Path) -> str:
    return path.parent.name if path.name == "action.yml" else path.name


each = pytest.mark.parametrize("path", BOTH, ids=in_ids)


@pytest.mark.parametrize("path", WORKFLOWS, ids=in_ids)
def test_rights_are_given_job_by_job(path: Path) -> None:
    tree = load(path)

    assert tree["permissions"] == {}
    for name, job in tree["jobs"].items():
        writes = {scope: level for scope, level in job["permissions"].items() if level == "write"}
        assert writes == WRITERS.get((path.name, name), {})
        assert "uses" in job or "timeout-minutes" in job


@each
def test_no_expression_is_pasted_into_a_shell(path: Path) -> None:
    assert [step["run"] for step in steps(load(path)) if "${{" in step.get("run", "")] == []


@each
def test_a_step_is_one_line(path: Path) -> None:
    assert [step["run"] for step in steps(load(path)) if "\n" in step.get("run", "").strip()] == []


@each
def test_actions_of_others_are_pinned_and_say_their_version(path: Path) -> None:
    lines = re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    others = [line for line in lines if not line.startswith(("$/", "./.factory/"))]

    assert others or path.name in ("new-prompt.yml", "prompt-issue.yml", "rollback.yml")
    pinned = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [line for line in others if not pinned.fullmatch(line)] == []


def test_one_action_has_one_version() -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in BOTH)
    pins = set(re.findall(r"uses: ([\w.-]+/[\w.-]+)(?:/[\w-]+)?@(\w{40} # \S+)", texts))

    assert len(pins) == len({name for name, _ in pins})


def test_one_uv_has_one_version() -> None:
    versions = {step["with"]["version"] for path in BOTH for step in steps(load(path)) if "setup-uv" in str(step)}

    assert len(versions) == 1


@pytest.mark.parametrize("path", WORKFLOWS, ids=in_ids)
def test_nothing_runs_on_what_strangers_start_with_rights(path: Path) -> None:
    on = load(path)["on"]

    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(on)


@each
def test_checkouts_leave_no_token_behind(path: Path) -> None:
    checkouts = [step for step in steps(load(path)) if "actions/checkout@" in step.get("uses", "")]

    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_secrets_are_seen_by_jobs_with_an_environment_alone() -> None:
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            seen = {key for key in job if "secrets." in str(job[key])}
            passed_on = seen == {"secrets"} and job.get("uses", "").startswith("$/")
            assert not seen or "environment" in job or passed_on, f"{path.name}: {name}"


def factory_jobs() -> dict:
    return load(ROOT / ".github/workflows/factory.yml")["jobs"]


def comment_job() -> dict:
    return factory_jobs()["comment"]


def pull_request(head: dict | None) -> dict:
    """The contexts of a pull request to acme/x; `head` is the repository that it comes from, None once that is gone."""
    pull = {"number": 7, "head": {"sha": "f" * 40, "repo": head}, "base": {"sha": "b" * 40}}
    event = {"pull_request": pull, "repository": {"default_branch": "main"}}
    github = {"event": event, "event_name": "pull_request", "repository": "acme/x"}
    told = {"plan": {"result": "success", "outputs": {"count": "1"}}, "run": {"result": "success", "outputs": {}}}
    job = {"workflow_repository": "acme/x", "workflow_sha": "c" * 40}
    inputs = {"pull": "", "runner": '["self-hosted", "gpu"]'}
    return {"github": github, "needs": told, "inputs": inputs, "job": job, "vars": {}}


STATUS = {"cancelled": lambda: False, "success": lambda: True}


OURS = {"full_name": "acme/x", "fork": False}
A_FORK_ITSELF = OURS | {"fork": True}
"""The repository where all of this happens may be somebody's fork of another one."""
STRANGE = [{"full_name": "stranger/x", "fork": True}, {"full_name": "stranger/x", "fork": False}, None]


@pytest.mark.parametrize("head", STRANGE)
def test_strangers_pull_requests_get_no_job_that_writes(head: dict | None) -> None:
    assert not condition(comment_job()["if"], pull_request(head), STATUS)


@pytest.mark.parametrize("head", STRANGE)
@pytest.mark.parametrize("job", ["embed", "run"])
def test_strangers_pull_requests_reach_no_machine_of_ours(job: str, head: dict | None) -> None:
    assert evaluate(factory_jobs()[job]["runs-on"], pull_request(head)) == "ubuntu-latest"


@pytest.mark.parametrize("head", [OURS, A_FORK_ITSELF])
def test_our_own_pull_requests_get_both(head: dict) -> None:
    contexts = pull_request(head)

    assert condition(comment_job()["if"], contexts, STATUS)
    assert [evaluate(factory_jobs()[job]["runs-on"], contexts) for job in ("embed", "run")] == [
        ["self-hosted", "gpu"]
    ] * 2


@pytest.mark.parametrize(
    ("github", "base"),
    [
        ({"event_name": "pull_request", "event": {"before": "a" * 40}}, "HEAD^1"),
        ({"event_name": "push", "event": {"before": "a" * 40}}, "a" * 40),
        ({"event_name": "workflow_dispatch", "event": {}}, None),
    ],
)
def test_what_the_plan_compares_with(github: dict, base: str | None) -> None:
    step = factory_jobs()["plan"]["steps"][-1]

    assert evaluate(step["env"]["BASE"], {"github": github}) == base


def test_what_main_got_meanwhile_is_not_the_pull_requests(tmp_path: Path) -> None:
    def commit(name: str) -> str:
        file = tmp_path / "datasets" / name / "scenario.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(f"name: {name}\npositive: [{name}]\nimages: {{path: ../photos}}\n", encoding="utf-8")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", name)
        return git(tmp_path, "rev-parse", "HEAD")

    git(tmp_path, "init", "-q", "-b", "main")
    before = commit("first")
    git(tmp_path, "checkout", "-q", "-b", "branch")
    commit("pulled")
    git(tmp_path, "checkout", "-q", "main")
    commit("meanwhile")
    git(tmp_path, "merge", "-q", "--no-ff", "-m", "Merge", "branch")
    contexts = {"github": {"event_name": "pull_request", "event": {"pull_request": {"base": {"sha": before}}}}}
    base = evaluate(factory_jobs()["plan"]["steps"][-1]["env"]["BASE"], contexts)

    assert [work.name for work in changed_scenarios.find(Git(tmp_path), "HEAD", base, [])] == ["pulled"]
    assert len(changed_scenarios.find(Git(tmp_path), "HEAD", before, [])) == 2


def test_the_job_that_comments_installs_nothing_that_a_pull_request_cached() -> None:
    setup = comment_job()["steps"][1]

    assert setup["with"]["cache"] == "false"


def test_the_job_that_comments_runs_the_base_branchs_code() -> None:
    ref = comment_job()["steps"][0]["with"]["ref"]
    here = pull_request(OURS)
    elsewhere = here | {"job": {"workflow_repository": "other/factory", "workflow_sha": "c" * 40}}
    by_hand = here | {"github": here["github"] | {"event": {"repository": {"default_branch": "main"}}}}

    assert [evaluate(ref, contexts) for contexts in (here, elsewhere, by_hand)] == ["b" * 40, "c" * 40, "main"]
    assert "$/" not in [step.get("uses", "")[:2] for step in comment_job()["steps"]]


def test_a_scenario_at_fault_does_not_hold_up_others_on_the_same_photos() -> None:
    jobs = factory_jobs()
    plan = {"result": "success", "outputs": {"count": "20"}}
    contexts = {"needs": {"plan": plan, "embed": {"result": "failure"}}}

    assert condition(jobs["run"]["if"], contexts, STATUS | {"success": lambda: False})
    assert "cancelled" in jobs["embed"]["steps"][-1]["if"]


@pytest.mark.parametrize(("variable", "allowed"), [(None, False), ("", False), ("1", False), ("true", True)])
def test_what_is_not_proven_is_published_only_where_the_repository_says_so(variable: str | None, allowed: bool) -> None:
    called = load(ROOT / ".github/workflows/new-prompt.yml")["jobs"]["factory"]["with"]["allow-unproven"]
    given = {} if variable is None else {"FACTORY_ALLOW_UNPROVEN": variable}
    factory_yml = load(ROOT / ".github/workflows/factory.yml")

    assert evaluate(called, {"vars": given}) is allowed
    assert factory_yml["on"]["workflow_call"]["inputs"]["allow-unproven"]["default"] is False
    env = factory_yml["env"]["FACTORY_ALLOW_UNPROVEN"]
    assert evaluate(env, {"inputs": {"allow-unproven": allowed}}) is allowed


def test_runs_on_main_do_not_replace_each_other() -> None:
    group = load(ROOT / ".github/workflows/new-prompt.yml")["concurrency"]["group"]

    def of(event: dict, run: str) -> str:
        return evaluate(group, {"github": {"event": event, "run_id": run}, "inputs": {}})

    assert of({}, "1") != of({}, "2")
    assert of({"pull_request": {"number": 7}}, "1") == of({"pull_request": {"number": 7}}, "2")


def test_releasing_and_going_back_share_a_queue() -> None:
    jobs = [
        load(ROOT / ".github/workflows" / name)["jobs"][job]
        for name, job in (("factory.yml", "publish"), ("rollback.yml", "rollback"))
    ]
    contexts = {
        "inputs": {"registry": "s3://models", "name": "forklift"},
        "vars": {"FACTORY_REGISTRY": "s3://models"},
        "matrix": {"scenario": {"name": "forklift"}},
    }

    assert [evaluate(job["concurrency"], contexts) for job in jobs] == [
        {"group": "publish-s3://models-forklift", "cancel-in-progress": False, "queue": "max"}
    ] * 2


def person(association: str, action: str = "labeled", sender: str = "ann", label: str = "new-prompt") -> dict:
    issue = {"author_association": association, "user": {"login": "ann"}, "labels": [{"name": "new-prompt"}]}
    event = {"action": action, "issue": issue, "sender": {"login": sender}, "label": {"name": label}}
    return {"github": {"event": event}}


@pytest.mark.parametrize(
    ("contexts", "starts"),
    [
        (person("MEMBER"), True),
        (person("COLLABORATOR", "edited"), True),
        (person("NONE"), False),
        (person("NONE", sender="maintainer"), True),
        (person("NONE", "edited"), False),
        (person("NONE", "edited", sender="maintainer"), False),
        (person("NONE", sender="maintainer", label="bug"), False),
    ],
)
def test_whose_issues_start_something(contexts: dict, starts: bool) -> None:
    job = load(ROOT / ".github/workflows/prompt-issue.yml")["jobs"]["scenario"]

    assert condition(job["if"], contexts, STATUS) is starts


def test_the_form_asks_what_the_program_reads() -> None:
    body = load(ROOT / ".github/ISSUE_TEMPLATE/new-prompt.yml")["body"]
    fields = [item for item in body if item["type"] != "markdown"]

    assert tuple(item["attributes"]["label"] for item in fields) == form.LABELS
    required = [item["attributes"]["label"] for item in fields if item.get("validations", {}).get("required")]
    assert tuple(required) == form.REQUIRED


def test_the_label_of_the_form_is_the_one_that_starts_the_workflow() -> None:
    (label,) = load(ROOT / ".github/ISSUE_TEMPLATE/new-prompt.yml")["labels"]

    assert f"'{label}'" in (ROOT / ".github/workflows/prompt-issue.yml").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="the release is built on Linux")
def test_a_tag_that_is_not_the_version_is_not_released() -> None:
    (check,) = [step["run"] for step in steps(load(ROOT / ".github/workflows/release.yml")) if "grep" in str(step)]
    codes = [
        subprocess.run(["bash", "-e", "-c", check], cwd=ROOT, env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"})
        for tag in (f"v{__version__}", "v9.9.9")
    ]
    assert [done.returncode for done in codes] == [0, 1]


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("${{ 1 == 1.0 && 'yes' || 'no' }}", "yes"),
        ("${{ '' || null || 'last' }}", "last"),
        ("${{ 'A' == 'a' }}", True),
        ("${{ !false && (1 < 2) }}", True),
        ("${{ a.b.nothing.there }}", None),
        ("${{ a.list.*.name }}", ["x", "y"]),
        ("${{ contains(a.list.*.name, 'Y') }}", True),
        ("${{ fromJSON(a.json)[1] }}", "two"),
        ("n ${{ a.b.n }}, ${{ true }}, ${{ null }}.", "n 3, true, ."),
        ("${{ format('{0}-{1}', 'it''s', 2) }}", "it's-2"),
        ("${{ startsWith('refs/heads/main', 'refs/heads') }}", True),
    ],
)
def test_expressions_mean_what_github_says(source: str, value: object) -> None:
    contexts = {"a": {"b": {"n": 3}, "list": [{"name": "x"}, {"name": "y"}], "json": '["one", "two"]'}}

    assert evaluate(source, contexts) == value


def test_a_context_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        evaluate("${{ nowhere.x }}", {})


CALLER = re.search(
    r"```yaml\n(name: Models\n.*?)```", (ROOT / "automation" / "README.md").read_text(encoding="utf-8"), re.DOTALL
)[1]
"""The workflow file that automation/README.md gives to other repositories."""


def test_another_repository_needs_ten_lines_that_call_what_is_there() -> None:
    (job,) = YAML(typ="safe").load(CALLER)["jobs"].values()
    path = job["uses"].partition("@")[0].removeprefix("OWNER/clip-factory/")
    known = load(ROOT / path)["on"]["workflow_call"]

    assert len(CALLER.splitlines()) <= 10
    assert [name for name, about in known["inputs"].items() if "default" not in about] == []
    assert set(job.get("with", {})) <= set(known["inputs"])
    assert set(job.get("secrets", {})) <= set(known.get("secrets", {}))
    for name, called in load(ROOT / path)["jobs"].items():
        for right, level in called.get("permissions", {}).items():
            assert LEVELS[job["permissions"].get(right, "none")] >= LEVELS[level], f"{name} needs {right}: {level}"
