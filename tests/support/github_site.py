"""A stand-in for github.com on loopback: the part of its REST API that the automation uses, on a bare repository.

What it proves: that workflow files and programs work together from an issue to a published model, under our reading of
GitHub's documentation, with the rights that each job asks for and no others. What it cannot prove: that github.com
behaves as we read. One story needs it (test_workflow_story.py) and no more is in it than that story calls; what no
machine has to run is checked by reading the files (test_workflows.py).

Every job has a token of its own with the rights that its `permissions:` give, which ends with the job. A call without
the right is refused as GitHub refuses it, and remembered in `refused`. What a token of a workflow does starts no other
workflow, but for a dispatch; `queue` holds what GitHub would start next.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from support.git import git
from support.loopback import Loopback, Request, Response, reply

BOT = "github-actions[bot]"
LEVELS = {"none": 0, "read": 1, "write": 2}


@dataclass(frozen=True)
class Event:
    """Something that may start workflows."""

    name: str
    payload: dict
    ref: str
    sha: str
    workflow: str | None = None
    """The file that a dispatch names; every other event asks all."""


@dataclass
class Token:
    """What a job may do."""

    job: str
    rights: Mapping[str, str]
    alive: bool = True

    def may(self, scope: str, level: str) -> bool:
        return LEVELS[self.rights.get(scope, "none")] >= LEVELS[level]


@dataclass
class Site(Loopback):
    """One private repository, `slug`, kept in the bare repository `bare`."""

    bare: Path
    slug: str = "acme/factory"
    tokens: dict[str, Token] = field(default_factory=dict)
    threads: dict[int, dict] = field(default_factory=dict)
    """Issues and pull requests by number."""
    comments: dict[int, dict] = field(default_factory=dict)
    queue: list[Event] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    made: list[tuple[str, str]] = field(default_factory=list)
    """Every call that changed something: the job, and `METHOD path`."""

    def __post_init__(self) -> None:
        super().__init__()
        self.numbers = count(1)

    # -------------------------------------------------------------------------------------- people and events

    def issue(self, title: str, body: str, author: str = "ann", association: str = "MEMBER") -> int:
        """A person opens an issue with the form, which carries the label."""
        number = next(self.numbers)
        thread = {"number": number, "title": title, "body": body, "state": "open", "labels": [{"name": "new-prompt"}]}
        self.threads[number] = thread | {"user": {"login": author}, "author_association": association}
        about = {"action": "labeled", "issue": self.threads[number], "label": {"name": "new-prompt"}}
        self._happened("issues", about | {"sender": {"login": author}}, "main")
        return number

    def pull(self, branch: str, title: str, author: str = "ann") -> int:
        """A person opens a pull request from a branch of the repository."""
        number = self._new_pull({"head": branch, "base": "main", "title": title, "body": ""}, author)["number"]
        self.pushed(branch)
        return number

    def pushed(self, branch: str) -> None:
        """A person pushed to the branch of a pull request."""
        pull = next(one for one in self.pulls() if one["head"]["ref"] == branch)
        merged = self._merge_commit(branch)
        git(self.bare, "update-ref", f"refs/pull/{pull['number']}/merge", merged)
        about = {"action": "synchronize", "number": pull["number"], "pull_request": self._shown(pull)}
        event = Event("pull_request", self._with(about), f"refs/pull/{pull['number']}/merge", merged)
        self.queue.append(event)

    def merge(self, *numbers: int) -> None:
        """A person merges pull requests, all of them before the branch's workflow starts."""
        before = self.head("main")
        for number in numbers:
            git(self.bare, "update-ref", "refs/heads/main", self._merge_commit(self.threads[number]["head"]["ref"]))
            self.threads[number] |= {"state": "closed", "merged": True}
        after = self.head("main")
        self.queue.append(Event("push", self._with({"before": before, "after": after}), "refs/heads/main", after))

    def dispatch(self, workflow: str, inputs: dict[str, str], branch: str = "main") -> None:
        """Somebody starts a workflow by hand."""
        self._happened("workflow_dispatch", {"inputs": inputs}, branch, workflow)

    def pulls(self) -> list[dict]:
        return [one for one in self.threads.values() if "head" in one]

    def head(self, branch: str) -> str:
        return git(self.bare, "rev-parse", f"refs/heads/{branch}")

    def comments_on(self, number: int) -> list[str]:
        return [one["body"] for one in self.comments.values() if one["issue"] == number]

    def read(self, branch: str, path: str) -> bytes:
        command = ["git", "-C", str(self.bare), "cat-file", "blob", f"{branch}:{path}"]
        return subprocess.run(command, capture_output=True, check=True).stdout

    def _happened(self, name: str, about: dict, branch: str, workflow: str | None = None) -> None:
        self.queue.append(Event(name, self._with(about), f"refs/heads/{branch}", self.head(branch), workflow))

    def _with(self, about: dict) -> dict:
        owner, name = self.slug.split("/")
        place = {"full_name": self.slug, "name": name, "owner": {"login": owner}, "default_branch": "main"}
        return {"repository": place, "sender": {"login": "ann"}} | about

    def _merge_commit(self, branch: str) -> str:
        main, head = self.head("main"), self.head(branch)
        tree = git(self.bare, "merge-tree", "--write-tree", main, head).split()[0]
        return git(self.bare, "commit-tree", tree, "-p", main, "-p", head, "-m", f"Merge {branch}")

    def _new_pull(self, wish: dict, author: str) -> dict:
        number = next(self.numbers)
        head = {"ref": wish["head"], "repo": {"full_name": self.slug}}
        thread = {"number": number, "state": "open", "title": wish["title"], "body": wish["body"], "head": head}
        self.threads[number] = thread | {"base": {"ref": wish["base"]}, "user": {"login": author}}
        return self.threads[number]

    def _shown(self, pull: dict) -> dict:
        head = pull["head"] | {"sha": self.head(pull["head"]["ref"])}
        return pull | {"head": head, "base": pull["base"] | {"sha": self.head(pull["base"]["ref"])}}

    # ------------------------------------------------------------------------------------------------ the API

    def answer(self, request: Request) -> Response:
        token = self.tokens.get(request.token or "")
        if token is None or not token.alive:
            self.refused.append(f"{request.method} {request.path}: no living token")
            return _problem(401, "Bad credentials")
        root = f"/repos/{self.slug}"
        if not request.path.startswith(root):
            return _problem(404, "Not Found")
        call = f"{request.method} {request.path.removeprefix(root)}"
        for pattern, scopes, function in ROUTES:
            if match := re.fullmatch(pattern, call):
                level = "read" if request.method == "GET" else "write"
                if not any(token.may(scope, level) for scope in scopes):
                    self.refused.append(f"{token.job}: {call} needs {' or '.join(scopes)}: {level}")
                    return _problem(403, "Resource not accessible by integration")
                answer = function(self, request, *match.groups())
                if level == "write" and answer.status < 300:
                    self.made.append((token.job, call))
                return answer
        self.refused.append(f"{token.job}: {call}: no such call here")
        return _problem(404, "Not Found")

    def about(self, request: Request) -> Response:
        return reply({"full_name": self.slug, "default_branch": "main", "private": True})

    def get_ref(self, request: Request, branch: str) -> Response:
        if not self._there(branch):
            return _problem(404, "Not Found")
        return reply({"ref": f"refs/heads/{branch}", "object": {"type": "commit", "sha": self.head(branch)}})

    def create_ref(self, request: Request) -> Response:
        ref, sha = request.json["ref"], request.json["sha"]
        if self._there(ref.removeprefix("refs/heads/")):
            return _problem(422, "Reference already exists")
        git(self.bare, "update-ref", ref, sha)
        return reply({"ref": ref, "object": {"sha": sha}}, 201)

    def move_ref(self, request: Request, branch: str) -> Response:
        if not self._there(branch):
            return _problem(422, "Reference does not exist")
        old, new = self.head(branch), request.json["sha"]
        if not request.json.get("force") and git(self.bare, "merge-base", old, new) != old:
            return _problem(422, "Update is not a fast forward")
        git(self.bare, "update-ref", f"refs/heads/{branch}", new)
        return reply({"ref": f"refs/heads/{branch}", "object": {"sha": new}})

    def get_commit(self, request: Request, sha: str) -> Response:
        return reply({"sha": sha, "tree": {"sha": git(self.bare, "rev-parse", f"{sha}^{{tree}}")}})

    def create_commit(self, request: Request) -> Response:
        parents = [word for parent in request.json["parents"] for word in ("-p", parent)]
        sha = git(self.bare, "commit-tree", request.json["tree"], *parents, "-m", request.json["message"])
        return reply({"sha": sha}, 201)

    def create_blob(self, request: Request) -> Response:
        assert request.json["encoding"] == "base64"
        return reply({"sha": self._blob(base64.b64decode(request.json["content"]))}, 201)

    def create_tree(self, request: Request) -> Response:
        index = {"GIT_INDEX_FILE": str(self.bare / f"index-{next(self.numbers)}")}
        if base := request.json.get("base_tree"):
            git(self.bare, "read-tree", base, **index)
        for entry in request.json["tree"]:
            sha = entry.get("sha") or self._blob(entry["content"].encode())
            git(self.bare, "update-index", "--add", "--cacheinfo", f"{entry['mode']},{sha},{entry['path']}", **index)
        return reply({"sha": git(self.bare, "write-tree", **index)}, 201)

    def contents(self, request: Request, path: str) -> Response:
        ref = request.query.get("ref", "main")
        spot = f"{ref}:{path}"
        if subprocess.run(["git", "-C", str(self.bare), "cat-file", "-e", spot], capture_output=True).returncode:
            return _problem(404, "Not Found")
        data = self.read(ref, path)
        if request.headers["accept"] == "application/vnd.github.raw+json":
            return Response(body=data)
        about = {"path": path, "sha": git(self.bare, "rev-parse", spot), "encoding": "base64"}
        return reply(about | {"content": base64.encodebytes(data).decode()})

    def put_contents(self, request: Request, path: str) -> Response:
        wish, branch = request.json, request.json["branch"]
        old = self.contents(Request("GET", "", "", {"ref": branch}, {"accept": ""}, b""), path)
        known = json.loads(old.body).get("sha") if old.status == 200 else None
        if wish.get("sha") != known:
            return _problem(409, f"{path} does not match {known}")
        blob = self._blob(base64.b64decode(wish["content"]))
        index = {"GIT_INDEX_FILE": str(self.bare / f"index-{next(self.numbers)}")}
        git(self.bare, "read-tree", branch, **index)
        git(self.bare, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", **index)
        tree, head = git(self.bare, "write-tree", **index), self.head(branch)
        sha = git(self.bare, "commit-tree", tree, "-p", head, "-m", wish["message"])
        git(self.bare, "update-ref", f"refs/heads/{branch}", sha, head)
        return reply({"commit": {"sha": sha}, "content": {"path": path, "sha": blob}}, 200 if known else 201)

    def list_pulls(self, request: Request) -> Response:
        branch = request.query["head"].partition(":")[2]
        found = [one for one in self.pulls() if one["head"]["ref"] == branch and one["state"] == request.query["state"]]
        return reply([self._shown(one) for one in found])

    def create_pull(self, request: Request) -> Response:
        return reply(self._shown(self._new_pull(request.json, BOT)), 201)

    def update_thread(self, request: Request, number: str) -> Response:
        self.threads[int(number)] |= request.json
        return reply(self.threads[int(number)])

    def list_issues(self, request: Request) -> Response:
        found = [one for one in self.threads.values() if one["user"]["login"] == request.query["creator"]]
        return reply([one for one in found if one["state"] == request.query["state"]])

    def create_issue(self, request: Request) -> Response:
        number = next(self.numbers)
        self.threads[number] = {"number": number, "state": "open", "user": {"login": BOT}} | request.json
        return reply(self.threads[number], 201)

    def list_comments(self, request: Request, number: str) -> Response:
        return reply([one for one in self.comments.values() if one["issue"] == int(number)])

    def create_comment(self, request: Request, number: str) -> Response:
        key = next(self.numbers)
        self.comments[key] = {"id": key, "issue": int(number), "user": {"login": BOT}} | request.json
        return reply(self.comments[key], 201)

    def update_comment(self, request: Request, key: str) -> Response:
        self.comments[int(key)] |= request.json
        return reply(self.comments[int(key)])

    def start(self, request: Request, workflow: str) -> Response:
        self.dispatch(workflow, request.json["inputs"], request.json["ref"])
        return Response(204)

    def _there(self, branch: str) -> bool:
        return bool(git(self.bare, "for-each-ref", f"refs/heads/{branch}"))

    def _blob(self, data: bytes) -> str:
        return git(self.bare, "hash-object", "-w", "--stdin", data=data)


THREAD = ("issues", "pull-requests")
ROUTES: list[tuple[str, tuple[str, ...], Callable[..., Response]]] = [
    (r"GET ", ("contents",), Site.about),
    (r"GET /git/ref/heads/(.+)", ("contents",), Site.get_ref),
    (r"POST /git/refs", ("contents",), Site.create_ref),
    (r"PATCH /git/refs/heads/(.+)", ("contents",), Site.move_ref),
    (r"GET /git/commits/(\w+)", ("contents",), Site.get_commit),
    (r"POST /git/commits", ("contents",), Site.create_commit),
    (r"POST /git/blobs", ("contents",), Site.create_blob),
    (r"POST /git/trees", ("contents",), Site.create_tree),
    (r"GET /contents/(.+)", ("contents",), Site.contents),
    (r"PUT /contents/(.+)", ("contents",), Site.put_contents),
    (r"GET /pulls", ("pull-requests",), Site.list_pulls),
    (r"POST /pulls", ("pull-requests",), Site.create_pull),
    (r"PATCH /pulls/(\d+)", ("pull-requests",), Site.update_thread),
    (r"GET /issues", ("issues",), Site.list_issues),
    (r"POST /issues", ("issues",), Site.create_issue),
    (r"PATCH /issues/(\d+)", ("issues",), Site.update_thread),
    (r"GET /issues/(\d+)/comments", THREAD, Site.list_comments),
    (r"POST /issues/(\d+)/comments", THREAD, Site.create_comment),
    (r"PATCH /issues/comments/(\d+)", THREAD, Site.update_comment),
    (r"POST /actions/workflows/([\w.-]+)/dispatches", ("actions",), Site.start),
]


def _problem(status: int, message: str) -> Response:
    return reply({"message": message, "documentation_url": "https://docs.github.com/rest"}, status)
