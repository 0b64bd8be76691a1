"""Runs the workflow files on this machine, step by step, in the environment that GitHub gives.

Workflows are read from the commit that GitHub would read them from. Every `run:` is executed by bash as it stands; the
actions of others are done locally (workflow_actions.py); expressions are evaluated (workflow_expressions.py); every job
has a token of its own with the rights that it asks for, and no more than its caller has.
"""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from support.git import git
from support.github_site import LEVELS, Event, Site, Token
from support.workflow_actions import ACTIONS, ActionError
from support.workflow_expressions import condition, evaluate, text

SHELLS = {None: ["bash", "-e"], "bash": ["bash", "--noprofile", "--norc", "-eo", "pipefail"]}
WORKFLOWS = ".github/workflows"


@dataclass(frozen=True)
class Scope:
    """A workflow file at work: the one of the run, or one that it calls."""

    tree: dict
    path: str
    inputs: dict
    ceiling: dict | None = None
    """Rights of the caller's job, more than which none of its jobs may ask for; None: nobody calls."""


@dataclass(frozen=True)
class Cached:
    ref: str
    key: str
    content: Path


@dataclass
class Job:
    """What came of a job, or of one of its matrix."""

    name: str
    matrix: dict
    result: str
    outputs: dict = field(default_factory=dict)
    log: str = ""
    summary: str = ""
    workspace: Path = Path()


@dataclass
class Runner:
    """GitHub's runners, for the repository of a site."""

    site: Site
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    approved: set[str] = field(default_factory=set)
    """Environments that somebody approves when they are asked."""
    machine: dict[str, str] = field(default_factory=dict)
    """Environment variables that the machine itself has."""
    caches: list[Cached] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    executed: set[tuple[str, str]] = field(default_factory=set)
    """File and `run:` line of every step that was executed."""
    waiting: list[Run] = field(default_factory=list)
    aside: set[str] = field(default_factory=set)
    """Workflow files that are not started."""
    expired: str = ""
    """Artifacts whose names begin so are gone when a job asks for them; empty: none."""

    def serve(self, most: int = 99) -> list[Run]:
        """Run what is waiting, up to `most` runs; gives those that were run."""
        done: list[Run] = []
        while len(done) < most and (self.site.queue or self.waiting):
            while self.site.queue:
                self._start(self.site.queue.pop(0))
            if self.waiting:
                run = self.waiting.pop(0)
                run.go()
                self.runs.append(run)
                done.append(run)
        return done

    def _start(self, event: Event) -> None:
        for path in git(self.site.bare, "ls-tree", "-r", "--name-only", event.sha, f"{WORKFLOWS}/").splitlines():
            tree = self.read(event.sha, path)
            if Path(path).name in self.aside or not self._wanted(tree, path, event):
                continue
            run = Run(self, event, path, tree, len(self.runs) + len(self.waiting) + 1)
            if run.group:  # of those that wait in one group, the newest is run
                self.waiting = [one for one in self.waiting if one.group != run.group]
            self.waiting.append(run)

    def _wanted(self, tree: dict, path: str, event: Event) -> bool:
        on = tree["on"] if isinstance(tree["on"], dict) else dict.fromkeys(tree["on"])
        if event.name not in on or (event.workflow and Path(path).name != event.workflow):
            return False
        rule = on[event.name] or {}
        if "types" in rule and event.payload["action"] not in rule["types"]:
            return False
        if "branches" in rule and event.ref.removeprefix("refs/heads/") not in rule["branches"]:
            return False
        if event.name == "push" and not event.ref.startswith("refs/heads/"):
            return False
        if "paths" in rule:
            base = event.payload.get("before") or event.payload["pull_request"]["base"]["sha"]
            changed = git(self.site.bare, "diff", "--name-only", base, event.sha).splitlines()
            return any(fnmatch.fnmatch(name, pattern) for name in changed for pattern in rule["paths"])
        return not (event.name == "push" and "tags" in rule and "branches" not in rule)

    def read(self, sha: str, path: str) -> dict:
        """A YAML file of a repository."""
        return YAML(typ="safe", pure=True).load(git(self.site.bare, "show", f"{sha}:{path}"))

    def unpacked(self, sha: str) -> Path:
        """The files of a repository at a commit, as the runner unpacks those of an action; commits that differ in
        datasets alone share them.
        """
        tree = git(self.site.bare, "ls-tree", sha).splitlines()
        code = "\n".join(line for line in tree if not line.endswith("\tdatasets"))
        target = self.folder / "actions" / hashlib.sha256(code.encode()).hexdigest()[:16]
        if not target.exists():
            target.mkdir(parents=True)
            tar = subprocess.run(["git", "-C", str(self.site.bare), "archive", sha], capture_output=True, check=True)
            subprocess.run(["tar", "-x", "-C", str(target)], input=tar.stdout, check=True)
        return target

    def keep(self, ref: str, key: str, content: Path) -> None:
        """Save a cache entry; one that is there stays as it is."""
        if not any(one.ref == ref and one.key == key for one in self.caches) and content.is_dir():
            copy = self.folder / "caches" / str(len(self.caches))
            self.caches.append(Cached(ref, key, Path(shutil.copytree(content, copy))))


@dataclass
class Run:
    """One run of one workflow file."""

    runner: Runner
    event: Event
    path: str
    tree: dict
    number: int
    jobs: dict[str, list[Job]] = field(default_factory=dict)

    @property
    def event_slug(self) -> str:
        return self.runner.site.slug

    @property
    def artifacts(self) -> Path:
        folder = self.runner.folder / "artifacts" / str(self.number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def group(self) -> str:
        return text(evaluate((self.tree.get("concurrency") or {}).get("group", ""), self.contexts(self.inputs())))

    @property
    def result(self) -> str:
        return _together([job for jobs in self.jobs.values() for job in jobs])

    def inputs(self) -> dict:
        """What a start by hand gives, with the defaults of the file."""
        on = self.tree["on"].get(self.event.name) if isinstance(self.tree["on"], dict) else None
        known = (on or {}).get("inputs", {}) if self.event.name == "workflow_dispatch" else {}
        given = self.event.payload.get("inputs", {})
        assert set(given) <= set(known), f"{self.path} has no inputs {set(given) - set(known)}"
        values = {name: given.get(name, about.get("default")) for name, about in known.items()}
        return {name: value == "true" if value in ("true", "false") else value for name, value in values.items()}

    def go(self) -> None:
        """Run all jobs."""
        self._run_jobs(Scope(self.tree, self.path, self.inputs()))

    def contexts(self, inputs: dict, **more: Any) -> dict:
        """The contexts that do not depend on the job."""
        event = self.event
        github = {
            "event": event.payload,
            "event_name": event.name,
            "ref": event.ref,
            "ref_name": event.ref.removeprefix("refs/heads/").removeprefix("refs/"),
            "sha": event.sha,
            "repository": self.event_slug,
            "run_id": str(1000 + self.number),
            "actor": event.payload["sender"]["login"],
        }
        return {"github": github, "inputs": inputs, "vars": self.runner.variables, "secrets": {}} | more

    def _run_jobs(self, scope: Scope) -> dict[str, list[Job]]:
        done: dict[str, list[Job]] = {}
        for name, job in scope.tree["jobs"].items():
            done[name] = self.jobs[name] = self._run_job(name, job, scope, done)
        return done

    def _run_job(self, name: str, job: dict, scope: Scope, done: dict[str, list[Job]]) -> list[Job]:
        told = {one: {"result": _together(done[one]), "outputs": _outputs(done[one])} for one in _needs(job)}
        contexts = self.contexts(scope.inputs, needs=told)
        fine = all(_together(done[one]) == "success" for one in _ancestors(job, scope.tree))
        if not condition(job.get("if"), contexts, _status(fine)):
            return [Job(name, {}, "skipped")]
        self._check_rights(name, job.get("permissions", {}), scope.ceiling)
        matrix = _combinations(evaluate(job.get("strategy", {}).get("matrix", {}), contexts))
        if "uses" in job:
            return [self._call(name, job, scope, contexts | {"matrix": one}) for one in matrix]
        machines = [Work(self, name, job, scope, contexts | {"matrix": one}) for one in matrix]
        with ThreadPoolExecutor(2) as pool:  # as GitHub runs them: beside one another
            return list(pool.map(Work.go, machines))

    def _check_rights(self, name: str, rights: dict, ceiling: dict | None) -> None:
        if ceiling is not None:
            over = {scope for scope, level in rights.items() if LEVELS[level] > LEVELS[ceiling.get(scope, "none")]}
            assert not over, f"{name} asks for {over}, which its caller has not"

    def _call(self, name: str, job: dict, scope: Scope, contexts: dict) -> Job:
        assert job["uses"].startswith("$/"), "a workflow of the same commit"
        path = job["uses"].removeprefix("$/")
        tree = self.runner.read(self.event.sha, path)
        call = tree["on"]["workflow_call"]
        given = evaluate(job.get("with", {}), contexts)
        known = call.get("inputs", {})
        assert set(given) <= set(known), f"{path} has no inputs {set(given) - set(known)}"
        assert set(job.get("secrets", {})) <= set(call.get("secrets", {})), "a secret that the workflow does not know"
        inputs = {key: _typed(given.get(key, about.get("default")), about["type"]) for key, about in known.items()}
        done = self._run_jobs(Scope(tree, path, inputs, job.get("permissions", {})))
        return Job(name, {}, _together([one for jobs in done.values() for one in jobs if one.result != "skipped"]))


class Work:
    """One job on one machine."""

    def __init__(self, run: Run, name: str, job: dict, scope: Scope, contexts: dict) -> None:
        self.run, self.name, self.job, self.path = run, name, job, scope.path
        number = len(run.runner.site.tokens)
        self.home = run.runner.folder / "jobs" / f"{number:03}-{name}"
        self.workspace, self.temp = self.home / "work", self.home / "temp"
        for folder in (self.workspace, self.temp):
            folder.mkdir(parents=True)
        self.secret = f"ghs_{number:03}"
        rights = job.get("permissions", {})
        pull = contexts["github"]["event"].get("pull_request")
        if pull and (pull["head"]["repo"] or {}).get("full_name") != run.event_slug:
            rights = {scope: "read" for scope, level in rights.items() if level != "none"}
        run.runner.site.tokens[self.secret] = Token(name, rights)
        github = contexts["github"] | {"token": self.secret, "workspace": str(self.workspace), "job": name}
        about = {"workflow_repository": run.event_slug, "workflow_sha": run.event.sha, "status": "success"}
        runner = {"temp": str(self.temp), "os": "Linux", "arch": "X64"}
        self.contexts = contexts | {"github": github, "job": about, "runner": runner}
        self.environment = self._environment(github)
        env = evaluate(scope.tree.get("env", {}), self.contexts)
        self.env = env | evaluate(job.get("env", {}), self.contexts | {"env": env})
        self.after: list[Callable[[], object]] = []
        self.result, self.log = "success", ""

    def _environment(self, github: dict) -> dict[str, str]:
        names = ("event_name", "ref", "ref_name", "sha", "repository", "run_id", "actor", "workspace", "job")
        given = {f"GITHUB_{name.upper()}": text(github[name]) for name in names}
        event = self.home / "event.json"
        event.write_text(json.dumps(github["event"]), encoding="utf-8")
        files = {f"GITHUB_{name}": str(self.home / name.lower()) for name in ("ENV", "PATH", "STEP_SUMMARY")}
        for path in files.values():
            Path(path).touch()
        return (
            given
            | files
            | self.run.runner.machine
            | {
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_API_URL": self.run.runner.site.url,
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_EVENT_PATH": str(event),
                "GITHUB_RUN_ATTEMPT": "1",
                "GITHUB_WORKFLOW_REF": f"{self.run.event_slug}/{self.run.path}@{self.run.event.ref}",
                "RUNNER_TEMP": str(self.temp),
                "RUNNER_OS": "Linux",
                "HOME": str(self.home),
                "LANG": "C.UTF-8",
                "PATH": "/usr/local/bin:/usr/bin:/bin",
            }
        )

    def go(self) -> Job:
        """Do the steps in order; the token ends with the job."""
        if (place := self.job.get("environment")) is not None:
            wanted = evaluate(place, self.contexts)
            if (wanted if isinstance(wanted, str) else wanted["name"]) not in self.run.runner.approved:
                return self._end("failure", "nobody approved it")
        default = self.job.get("defaults", {}).get("run", {}).get("shell")
        outputs = self._steps(self.job["steps"], self.path, self.contexts, self.env, default)
        if self.result == "success":
            for hook in self.after:
                hook()
        told = evaluate(self.job.get("outputs", {}), self.contexts | {"steps": outputs})
        return self._end(self.result, self.log, {name: text(value) for name, value in told.items()})

    def _end(self, result: str, log: str, outputs: dict | None = None) -> Job:
        self.run.runner.site.tokens[self.secret].alive = False
        summary = Path(self.environment["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8")
        return Job(self.name, self.contexts["matrix"], result, outputs or {}, log, summary, self.workspace)

    def _steps(self, steps: list, path: str, contexts: dict, env: dict, shell: str | None) -> dict:
        """Do the steps of a job or of a composite action; gives their outputs."""
        told: dict[str, dict] = {}
        for step in steps:
            fine = self.result == "success"
            now = contexts | {"steps": told, "env": env}
            functions = _status(fine) | {"hashFiles": self._hash_files}
            if not condition(step.get("if"), now, functions):
                continue
            mine = env | evaluate(step.get("env", {}), now, functions)
            given = evaluate(step.get("with", {}), now, functions)
            if "run" in step:
                outputs, good = self._shell(step, path, mine, step.get("shell", shell))
            else:
                outputs, good = self._use(step["uses"], given, mine)
            self.result = self.result if good or step.get("continue-on-error") else "failure"
            told[step.get("id", f"_{len(told)}")] = {
                "outputs": outputs,
                "outcome": "success" if good else "failure",
            }
        return told

    def _use(self, uses: str, given: dict, env: dict) -> tuple[dict, bool]:
        where, _, _ = uses.partition("@")
        if not where.startswith(("$/", "./")):
            try:
                return ACTIONS[where](self, given), True
            except ActionError as error:
                self.log += f"{where}: {error}\n"
                return {}, False
        inside = where[2:]
        base = self.run.runner.unpacked(self.run.event.sha) if where.startswith("$/") else self.workspace
        action = YAML(typ="safe", pure=True).load((base / inside / "action.yml").read_text(encoding="utf-8"))
        known = action.get("inputs", {})
        assert set(given) <= set(known), f"{inside} has no inputs {set(given) - set(known)}"
        inputs = {name: text(given.get(name, about.get("default", ""))) for name, about in known.items()}
        github = self.contexts["github"] | {"action_path": str(base / inside)}
        contexts = {name: value for name, value in self.contexts.items() if name not in ("secrets", "needs", "vars")}
        before, path = self.result, f"{inside.removeprefix('.factory/')}/action.yml"
        told = self._steps(action["runs"]["steps"], path, contexts | {"github": github, "inputs": inputs}, env, None)
        outputs = {
            name: evaluate(about["value"], contexts | {"steps": told, "inputs": inputs})
            for name, about in action.get("outputs", {}).items()
        }
        return outputs, self.result == before

    def _shell(self, step: dict, path: str, env: dict, shell: str | None) -> tuple[dict, bool]:
        assert "${{" not in step["run"]
        self.run.runner.executed.add((path, step["run"]))
        script, output = self.home / "script.sh", self.home / "output"
        script.write_text(step["run"], encoding="utf-8")
        output.write_text("", encoding="utf-8")
        variables = self.environment | {name: text(value) for name, value in env.items()}
        done = subprocess.run(
            [*SHELLS[shell], str(script)],
            cwd=self.workspace,
            env=variables | {"GITHUB_OUTPUT": str(output)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log += f"$ {step['run']}\n{done.stdout}"
        return dict(line.split("=", 1) for line in output.read_text("utf-8").splitlines()), done.returncode == 0

    def _hash_files(self, *patterns: str) -> str:
        found = sorted(path for pattern in patterns for path in self.workspace.glob(pattern) if path.is_file())
        if not found:
            return ""
        return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in found)).hexdigest()


def _status(fine: bool) -> dict[str, Callable[[], bool]]:
    return {
        "success": lambda: fine,
        "failure": lambda: not fine,
        "cancelled": lambda: False,
        "always": lambda: True,
    }


def _together(jobs: list[Job]) -> str:
    results = {job.result for job in jobs}
    if "failure" in results:
        return "failure"
    return "success" if "success" in results or not results else "skipped"


def _outputs(jobs: list[Job]) -> dict:
    return {name: value for job in jobs for name, value in job.outputs.items()}


def _needs(job: dict) -> list[str]:
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else needs


def _ancestors(job: dict, tree: dict) -> set[str]:
    return {name for one in _needs(job) for name in {one} | _ancestors(tree["jobs"][one], tree)}


def _combinations(matrix: dict) -> list[dict]:
    assert all(isinstance(values, list) and values for values in matrix.values()), "an empty matrix is an error"
    return [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]


def _typed(value: Any, kind: str) -> Any:
    if kind == "boolean":
        assert isinstance(value, bool), f"{value!r} is no boolean"
        return value
    return float(value) if kind == "number" else text(value)
