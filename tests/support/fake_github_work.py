"""The stand-in of GitHub's API, and what the automation needs beside the registry: files, pulls, issues, comments.

Rights are checked as GitHub does: each token may write what its job was given, such as {"issues", "contents"}.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from support.fake_github import REPO, ROUTES, Downloads, FakeGitHub, _problem
from support.loopback import Request, Response, reply

BOT, STRANGER = "github-actions[bot]", "mallory"
ALL = frozenset({"contents", "pull-requests", "issues", "actions"})
PAGE = 100


class FakeWork(FakeGitHub):
    """A repository in which people and the workflow's token work; `tokens` says what each token may write."""

    def __init__(self, downloads: Downloads) -> None:
        super().__init__(downloads)
        self.tokens: dict[str, frozenset[str]] = {"job": ALL}
        self.pulls: dict[int, dict] = {}
        self.issues: dict[int, dict] = {}
        self.comments: dict[int, dict] = {}
        self.dispatched: list[tuple[str, dict]] = []

    def answer(self, request: Request) -> Response:
        rights = self.tokens.get(request.token or "")
        if rights is None:
            return _problem(401, "Bad credentials")
        route = f"{request.method} {request.path.removeprefix(f'/repos/{REPO}')}"
        for pattern, right, function in WORK:
            if match := re.fullmatch(pattern, route):
                if request.method != "GET" and right not in rights:
                    return _problem(403, "Resource not accessible by integration")
                return function(self, request, *match.groups())
        for pattern, plain in ROUTES:
            if match := re.fullmatch(pattern, route):
                if request.method != "GET" and "contents" not in rights:
                    return _problem(403, "Resource not accessible by integration")
                return plain(self, request, *match.groups())
        return _problem(404, "Not Found")

    def paths(self, ref: str) -> set[str]:
        """The files at the head of a reference."""
        return set(self._entries(ref))

    def said(self, issue: int) -> list[str]:
        """The comments on an issue or pull request."""
        return [comment["body"] for comment in self.comments.values() if comment["issue"] == issue]

    def speak(self, issue: int, body: str, login: str = BOT) -> int:
        number = next(self.ids)
        self.comments[number] = {"id": number, "issue": issue, "body": body, "user": {"login": login}}
        return number

    def file_issue(self, title: str, body: str, login: str = BOT) -> dict:
        number = next(self.ids)
        self.issues[number] = {
            "number": number,
            "title": title,
            "body": body,
            "state": "open",
            "user": {"login": login},
        }
        return self.issues[number]

    def _entries(self, ref: str) -> dict[str, str]:
        return self.objects[self.objects[self.refs[ref]]["tree"]]["entries"]

    def create_blob(self, request: Request) -> Response:
        assert request.json["encoding"] == "base64"
        return reply({"sha": self._store(blob=base64.b64decode(request.json["content"]))}, 201)

    def create_tree(self, request: Request) -> Response:
        base = request.json.get("base_tree")
        entries = dict(self.objects[base]["entries"]) if base else {}
        for entry in request.json["tree"]:
            entries[entry["path"]] = entry.get("sha") or self._store(blob=entry["content"].encode())
        return reply({"sha": self._store(entries=entries)}, 201)

    def get_file(self, request: Request, path: str) -> Response:
        ref = request.query["ref"]
        if ref in self.objects or request.headers["accept"].endswith("raw+json"):
            ref = ref if ref in self.objects else self.refs.get(f"heads/{ref}", "")
            entries = self.objects[self.objects[ref]["tree"]]["entries"] if ref else {}
            return Response(body=self.objects[entries[path]]["blob"]) if path in entries else _problem(404, "Not Found")
        entries = self._entries(f"heads/{ref}") if f"heads/{ref}" in self.refs else {}
        if path not in entries:
            return _problem(404, "Not Found")
        return reply(
            {"sha": entries[path], "content": base64.encodebytes(self.objects[entries[path]]["blob"]).decode()}
        )

    def put_file(self, request: Request, path: str) -> Response:
        wish, ref = request.json, f"heads/{request.json['branch']}"
        if ref not in self.refs:
            return _problem(404, "Branch not found")
        if self._entries(ref).get(path) != wish.get("sha"):
            return _problem(409, f"{path} does not match")
        new = path not in self._entries(ref)
        self.write(ref, path, base64.b64decode(wish["content"]))
        return reply({"content": {"path": path}}, 201 if new else 200)

    def list_pulls(self, request: Request) -> Response:
        owner, _, branch = request.query["head"].partition(":")
        assert owner == REPO.split("/")[0]
        return reply([p for p in self.pulls.values() if p["head"]["ref"] == branch and p["state"] == "open"])

    def create_pull(self, request: Request) -> Response:
        wish, number = request.json, next(self.ids)
        assert f"heads/{wish['head']}" in self.refs and f"heads/{wish['base']}" in self.refs
        kept = {"number": number, "state": "open", "title": wish["title"], "body": wish["body"]}
        self.pulls[number] = kept | {"head": {"ref": wish["head"]}, "base": {"ref": wish["base"]}}
        return reply(self.pulls[number], 201)

    def update_pull(self, request: Request, number: str) -> Response:
        self.pulls[int(number)].update(request.json)
        return reply(self.pulls[int(number)])

    def list_issues(self, request: Request) -> Response:
        found = [one for one in self.issues.values() if one["state"] == request.query["state"]]
        return self._page(request, [one for one in found if one["user"]["login"] == request.query["creator"]])

    def create_issue(self, request: Request) -> Response:
        return reply(self.file_issue(request.json["title"], request.json["body"]), 201)

    def update_issue(self, request: Request, number: str) -> Response:
        self.issues[int(number)].update(request.json)
        return reply(self.issues[int(number)])

    def list_comments(self, request: Request, number: str) -> Response:
        return self._page(request, [one for one in self.comments.values() if one["issue"] == int(number)])

    def create_comment(self, request: Request, number: str) -> Response:
        return reply(self.comments[self.speak(int(number), request.json["body"])], 201)

    def update_comment(self, request: Request, number: str) -> Response:
        self.comments[int(number)].update(request.json)
        return reply(self.comments[int(number)])

    def delete_comment(self, request: Request, number: str) -> Response:
        del self.comments[int(number)]
        return Response(204)

    def dispatch(self, request: Request, workflow: str) -> Response:
        assert f"heads/{request.json['ref']}" in self.refs
        self.dispatched.append((workflow, request.json))
        return Response(204)

    def _page(self, request: Request, entries: list[dict]) -> Response:
        size, page = int(request.query["per_page"]), int(request.query["page"])
        assert size == PAGE
        return reply(entries[(page - 1) * size : page * size])


WORK: list[tuple[str, str, Callable[..., Response]]] = [
    (r"POST /git/blobs", "contents", FakeWork.create_blob),
    (r"POST /git/trees", "contents", FakeWork.create_tree),
    (r"GET /contents/(.+)", "contents", FakeWork.get_file),
    (r"PUT /contents/(.+)", "contents", FakeWork.put_file),
    (r"GET /pulls", "pull-requests", FakeWork.list_pulls),
    (r"POST /pulls", "pull-requests", FakeWork.create_pull),
    (r"PATCH /pulls/(\d+)", "pull-requests", FakeWork.update_pull),
    (r"GET /issues", "issues", FakeWork.list_issues),
    (r"POST /issues", "issues", FakeWork.create_issue),
    (r"PATCH /issues/(\d+)", "issues", FakeWork.update_issue),
    (r"GET /issues/(\d+)/comments", "issues", FakeWork.list_comments),
    (r"POST /issues/(\d+)/comments", "issues", FakeWork.create_comment),
    (r"PATCH /issues/comments/(\d+)", "issues", FakeWork.update_comment),
    (r"DELETE /issues/comments/(\d+)", "issues", FakeWork.delete_comment),
    (r"POST /actions/workflows/([^/]+)/dispatches", "actions", FakeWork.dispatch),
]
