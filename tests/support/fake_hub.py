"""A stand-in for the HTTP calls that huggingface_hub makes for model repositories: create, preupload, LFS, commit, tag.

It answers as the Hub does: a commit whose parent is not the head any more gets 412, a tag that exists gets 409, files
that .gitattributes gives to LFS are uploaded through the batch API first and a commit that names an unknown one is
refused, and the bytes of an LFS file come from another host, which must not see the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from fnmatch import fnmatch
from itertools import count

from support.loopback import Loopback, Request, Response, reply

WRITER, READER, NARROW = "hf_writer", "hf_reader", "hf_narrow"
"""Tokens: of the owner; read only; fine-grained with the right to write one's repositories but not to create any."""
LFS = ("*.onnx", "*.safetensors", "*.bin", "*.zip", "*.h5")
GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS).encode()
REGULAR_LIMIT = 10_000_000
DATE = "2026-11-21T09:00:00.000Z"


class Store(Loopback):
    """The host of LFS files: takes and gives them at addresses that are secrets in themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def answer(self, request: Request) -> Response:
        assert request.token is None, "the token was sent to another host"
        oid = request.path[1:]
        if request.method == "PUT":
            assert hashlib.sha256(request.body).hexdigest() == oid
            self.files[oid] = request.body
            return Response()
        return Response(body=self.files[oid])


class Repo:
    """A git repository of which only commits, tags and files matter."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.serial = count()
        self.tags: dict[str, str] = {}
        self.commits: dict[str, dict[str, bytes | str]] = {}
        """Commit -> path -> content, or the oid of an LFS file."""
        self.titles: list[str] = []
        self.head = ""
        self.add({".gitattributes": GITATTRIBUTES}, "initial commit")

    def add(self, files: dict[str, bytes | str], title: str) -> str:
        self.head = hashlib.sha1(f"{self.head} {next(self.serial)}".encode()).hexdigest()
        self.commits[self.head] = files
        self.titles.append(title)
        return self.head

    def resolve(self, revision: str) -> str | None:
        sha = self.head if revision == "main" else self.tags.get(revision, revision)
        return sha if sha in self.commits else None


class FakeHub(Loopback):
    """The Hub; `WRITER` owns the name `acme`."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.repos: dict[str, Repo] = {}
        self.aside = "/api/agent-harnesses"  # which huggingface_hub asks for on its own, once a process

    def answer(self, request: Request) -> Response:
        if request.token not in (WRITER, READER, NARROW, None):
            return _problem(401, "Invalid credentials in Authorization header")
        for pattern, function in ROUTES:
            if match := re.fullmatch(pattern, f"{request.method} {request.path}"):
                return function(self, request, *match.groups())
        return _problem(404, "Not Found")

    def create(self, request: Request) -> Response:
        name = f"{request.json['organization']}/{request.json['name']}"
        if request.token != WRITER or not name.startswith("acme/"):
            return _problem(403, f'You don\'t have the rights to create a model under the namespace "{name}"')
        if name in self.repos:
            return reply({"error": "You already created this model repo", "url": f"{self.url}/{name}"}, 409)
        self.repos[name] = Repo(request.json.get("visibility") == "private")
        return reply({"url": f"{self.url}/{name}", "name": name})

    def validate_yaml(self, request: Request) -> Response:
        if not request.json["content"].startswith("---\n"):
            return reply({"warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        return reply({"errors": [], "warnings": []})

    def models(self, request: Request) -> Response:
        found = []
        for name, repo in self.repos.items():
            card = repo.commits[repo.head].get("README.md", b"")
            tagged = isinstance(card, bytes) and f"- {request.query['filter']}\n" in card.decode()
            if name.startswith(f"{request.query['author']}/") and tagged and self._may_read(request, repo):
                found.append({"id": name, "modelId": name, "private": repo.private, "tags": []})
        return reply(found)

    def _may_read(self, request: Request, repo: Repo) -> bool:
        return not repo.private or request.token is not None

    def _open(self, request: Request, name: str, write: bool = False) -> Repo | Response:
        repo = self.repos.get(name)
        if repo is None or not self._may_read(request, repo):
            status = 404 if request.token else 401
            return _problem(status, "Repository not found", "RepoNotFound")
        if write and request.token not in (WRITER, NARROW):
            return _problem(403, "you must use a write token to push to a model repository")
        return repo

    def revision(self, request: Request, name: str, revision: str) -> Response:
        repo = self._open(request, name)
        if isinstance(repo, Response):
            return repo
        sha = repo.resolve(revision)
        if sha is None:
            return _problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        return reply({"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings})

    def log(self, request: Request, name: str, revision: str) -> Response:
        repo = self._open(request, name)
        if isinstance(repo, Response):
            return repo
        lines = zip(repo.commits, repo.titles, strict=True)
        found = [{"id": sha, "title": title, "message": "", "authors": [], "date": DATE} for sha, title in lines]
        return reply(found[::-1])

    def refs(self, request: Request, name: str) -> Response:
        repo = self._open(request, name)
        if isinstance(repo, Response):
            return repo
        tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha} for tag, sha in repo.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
        return reply({"branches": [main], "converts": [], "tags": tags})

    def tag(self, request: Request, name: str, revision: str) -> Response:
        repo = self._open(request, name, write=True)
        if isinstance(repo, Response):
            return repo
        tag, sha = request.json["tag"], repo.resolve(revision)
        if sha is None:
            return _problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if tag in repo.tags:
            return _problem(409, f"Tag reference exists already: {tag}")
        repo.tags[tag] = sha
        return reply({})

    def preupload(self, request: Request, name: str, revision: str) -> Response:
        repo = self._open(request, name, write=True)
        if isinstance(repo, Response):
            return repo
        return reply({"files": [self._mode(repo, file) for file in request.json["files"]]})

    def _mode(self, repo: Repo, file: dict) -> dict:
        path = file["path"]
        binary = b"\0" in base64.b64decode(file["sample"])
        large = any(fnmatch(path, pattern) for pattern in LFS) or file["size"] > REGULAR_LIMIT or binary
        known = repo.commits[repo.head].get(path)
        oid = known if isinstance(known, str) else _git_hash(known) if known is not None else None
        mode = "lfs" if large else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False} | ({"oid": oid} if oid else {})

    def lfs_batch(self, request: Request, name: str) -> Response:
        repo = self._open(request, name, write=True)
        if isinstance(repo, Response):
            return repo
        assert "basic" in request.json["transfers"] and request.json["hash_algo"] == "sha256"
        objects = []
        for wish in request.json["objects"]:
            upload = {"upload": {"href": f"{self.store.url}/{wish['oid']}", "header": {}}}
            objects.append(wish | ({} if wish["oid"] in self.store.files else {"actions": upload}))
        return reply({"transfer": "basic", "objects": objects})

    def commit(self, request: Request, name: str, revision: str) -> Response:
        repo = self._open(request, name, write=True)
        if isinstance(repo, Response):
            return repo
        lines = [json.loads(line) for line in request.body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit", repo.head) != repo.head:
            return _problem(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[repo.head])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile":
                if value["oid"] not in self.store.files:
                    return _problem(400, f"LFS pointer to a file that was not uploaded: {value['path']}")
                files[value["path"]] = value["oid"]
            else:
                assert line["key"] == "file" and value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
        oid = repo.add(files, header["summary"])
        return reply({"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid, "hookOutput": ""})

    def file(self, request: Request, name: str, revision: str, path: str) -> Response:
        repo = self._open(request, name)
        if isinstance(repo, Response):
            return repo
        sha = repo.resolve(revision)
        if sha is None:
            return _problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        content = repo.commits[sha].get(path)
        if content is None:
            return _problem(404, "Entry not found", "EntryNotFound")
        if isinstance(content, str):
            return Response(302, headers={"Location": f"{self.store.url}/{content}", "X-Repo-Commit": sha})
        return Response(body=content, headers={"X-Repo-Commit": sha, "ETag": f'"{_git_hash(content)}"'})


MODEL = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, Callable[..., Response]]] = [
    (r"POST /api/repos/create", FakeHub.create),
    (r"POST /api/validate-yaml", FakeHub.validate_yaml),
    (r"GET /api/models", FakeHub.models),
    (rf"GET /api/models/{MODEL}/revision/(.+)", FakeHub.revision),
    (rf"GET /api/models/{MODEL}/refs", FakeHub.refs),
    (rf"GET /api/models/{MODEL}/commits/(.+)", FakeHub.log),
    (rf"POST /api/models/{MODEL}/tag/(.+)", FakeHub.tag),
    (rf"POST /api/models/{MODEL}/preupload/(.+)", FakeHub.preupload),
    (rf"POST /api/models/{MODEL}/commit/(.+)", FakeHub.commit),
    (rf"POST /{MODEL}\.git/info/lfs/objects/batch", FakeHub.lfs_batch),
    (rf"GET /{MODEL}/resolve/([^/]+)/(.+)", FakeHub.file),
]


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _problem(status: int, message: str, code: str = "") -> Response:
    named = {"X_Error_Message": message} | ({"X_Error_Code": code} if code else {})
    return reply({"error": message}, status, **named)
