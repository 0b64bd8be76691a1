"""A stand-in for the part of GitHub's REST API that the registry uses: the git database, releases, assets.

It answers as the API is documented to (api version 2022-11-28): a reference is created once, and moved only forwards
unless forced; a published release owns its tag; a draft has none; assets are unique by name within a release; an asset
is fetched through a redirect to another host, which must not see the token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from itertools import count

from support.loopback import Loopback, Request, Response, reply

WRITER, READER = "ghp_writer", "ghp_reader"
REPO = "acme/models"


class Downloads(Loopback):
    """The host that assets are redirected to."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def answer(self, request: Request) -> Response:
        assert request.token is None, "the token was sent to another host"
        return Response(body=self.files[request.path])


class FakeGitHub(Loopback):
    """One repository, `REPO`, with one commit on `main`."""

    def __init__(self, downloads: Downloads, private: bool = True) -> None:
        super().__init__()
        self.downloads, self.private = downloads, private
        self.ids = count(1)
        self.objects: dict[str, dict] = {}
        self.refs = {"heads/main": self._store(tree=self._store(entries={}), parents=[])}
        self.releases: dict[int, dict] = {}

    def answer(self, request: Request) -> Response:
        if request.token not in (WRITER, READER, None):
            return _problem(401, "Bad credentials")
        root = f"/repos/{REPO}"
        if not self.private and (public := re.fullmatch(f"/{REPO}/releases/download/([^/]+)/([^/]+)", request.path)):
            return self.download(*public.groups())
        if not request.path.startswith(root) or (self.private and request.token is None):
            return _problem(404, "Not Found")
        if request.method != "GET" and request.token != WRITER:
            return _problem(403, "Resource not accessible by personal access token")
        for pattern, function in ROUTES:
            if match := re.fullmatch(pattern, f"{request.method} {request.path[len(root) :]}"):
                return function(self, request, *match.groups())
        return _problem(404, "Not Found")

    def read(self, ref: str, path: str) -> bytes:
        """A file as it is at the head of a reference."""
        entries = self.objects[self.objects[self.refs[ref]]["tree"]]["entries"]
        return self.objects[entries[path]]["blob"]

    def write(self, ref: str, path: str, data: bytes) -> None:
        """Commit a file, as a person may by hand."""
        entries = self.objects[self.objects[self.refs[ref]]["tree"]]["entries"] | {path: self._store(blob=data)}
        self.refs[ref] = self._store(tree=self._store(entries=entries), parents=[self.refs[ref]])

    def _store(self, **value) -> str:
        text = json.dumps(value, sort_keys=True, default=lambda blob: base64.b64encode(blob).decode())
        sha = hashlib.sha1(text.encode()).hexdigest()  # only a name, as git has it
        self.objects[sha] = value
        return sha

    def about(self, request: Request) -> Response:
        return reply({"full_name": REPO, "default_branch": "main", "private": self.private})

    def get_ref(self, request: Request, ref: str) -> Response:
        return self._ref(ref) if ref in self.refs else _problem(404, "Not Found")

    def _ref(self, ref: str, status: int = 200) -> Response:
        return reply({"ref": f"refs/{ref}", "object": {"type": "commit", "sha": self.refs[ref]}}, status)

    def create_ref(self, request: Request) -> Response:
        ref, sha = request.json["ref"].removeprefix("refs/"), request.json["sha"]
        if ref in self.refs:
            return _problem(422, "Reference already exists")
        if sha not in self.objects:
            return _problem(422, "Object does not exist")
        self.refs[ref] = sha
        return self._ref(ref, 201)

    def move_ref(self, request: Request, ref: str) -> Response:
        if ref not in self.refs:
            return _problem(422, "Reference does not exist")
        sha = request.json["sha"]
        if not request.json.get("force") and self.refs[ref] not in self._ancestors(sha):
            return _problem(422, "Update is not a fast forward")
        self.refs[ref] = sha
        return self._ref(ref)

    def delete_ref(self, request: Request, ref: str) -> Response:
        if self.refs.pop(ref, None) is None:
            return _problem(422, "Reference does not exist")
        return Response(204)

    def _ancestors(self, sha: str) -> set[str]:
        parents = self.objects[sha]["parents"]
        return {sha}.union(*(self._ancestors(parent) for parent in parents))

    def get_commit(self, request: Request, sha: str) -> Response:
        commit = self.objects.get(sha)
        if commit is None:
            return _problem(404, "Not Found")
        return reply({"sha": sha, "tree": {"sha": commit["tree"]}})

    def create_commit(self, request: Request) -> Response:
        wish = request.json
        if wish["tree"] not in self.objects or any(parent not in self.objects for parent in wish["parents"]):
            return _problem(422, "Tree SHA does not exist")
        sha = self._store(tree=wish["tree"], parents=wish["parents"], message=wish["message"], at=next(self.ids))
        return reply({"sha": sha, "tree": {"sha": wish["tree"]}}, 201)

    def create_tree(self, request: Request) -> Response:
        base = request.json.get("base_tree")
        entries = dict(self.objects[base]["entries"]) if base else {}
        for entry in request.json["tree"]:
            assert entry["mode"] == "100644" and entry["type"] == "blob"
            entries[entry["path"]] = self._store(blob=entry["content"].encode())
        return reply({"sha": self._store(entries=entries)}, 201)

    def contents(self, request: Request, path: str) -> Response:
        commit = request.query["ref"]
        entries = self.objects[self.objects[commit]["tree"]]["entries"] if commit in self.objects else {}
        if path not in entries:
            return _problem(404, "Not Found")
        assert request.headers["accept"] == "application/vnd.github.raw+json"
        return Response(body=self.objects[entries[path]]["blob"])

    def release_by_tag(self, request: Request, tag: str) -> Response:
        found = self.posted(tag)
        return reply(self._release(found)) if found else _problem(404, "Not Found")

    def download(self, tag: str, file: str) -> Response:
        """What the web site, not the API, gives to anybody."""
        found = self.posted(tag)
        if found is None or file not in found["assets"]:
            return Response(404)
        return self._redirect(f"/{tag}/{file}", found["assets"][file][1])

    def posted(self, tag: str) -> dict | None:
        """The published release with a tag."""
        return next((r for r in self.releases.values() if r["tag_name"] == tag and not r["draft"]), None)

    def get_release(self, request: Request, number: str) -> Response:
        release = self.releases.get(int(number))
        return reply(self._release(release)) if release else _problem(404, "Not Found")

    def create_release(self, request: Request) -> Response:
        release = {"id": next(self.ids), "draft": False, "name": "", "body": "", "assets": {}} | request.json
        if problem := self._own_tag(release):
            return problem
        self.releases[release["id"]] = release
        return reply(self._release(release), 201)

    def update_release(self, request: Request, number: str) -> Response:
        release = self.releases.get(int(number))
        if release is None:
            return _problem(404, "Not Found")
        if problem := self._own_tag(release | request.json):
            return problem
        release.update(request.json)
        return reply(self._release(release))

    def _own_tag(self, release: dict) -> Response | None:
        if release["draft"]:
            return None
        rival = self.posted(release["tag_name"])
        if rival is not None and rival["id"] != release["id"]:
            return _problem(422, "Validation Failed", resource="Release", code="already_exists", field="tag_name")
        self.refs.setdefault(f"tags/{release['tag_name']}", self.refs["heads/main"])
        return None

    def delete_release(self, request: Request, number: str) -> Response:
        return Response(204) if self.releases.pop(int(number), None) else _problem(404, "Not Found")

    def _release(self, release: dict) -> dict:
        assets = [{"id": key, "name": name, "size": len(data)} for name, (key, data) in release["assets"].items()]
        upload = f"{self.url}/repos/{REPO}/releases/{release['id']}/assets{{?name,label}}"
        kept = {key: release[key] for key in ("id", "tag_name", "draft", "name", "body")}
        return kept | {"assets": assets, "upload_url": upload}

    def upload_asset(self, request: Request, number: str) -> Response:
        assets, name = self.releases[int(number)]["assets"], request.query["name"]
        if name in assets:
            return _problem(422, "Validation Failed", resource="ReleaseAsset", code="already_exists", field="name")
        assert request.headers["content-type"] == "application/octet-stream"
        assets[name] = (next(self.ids), request.body)
        return reply({"id": assets[name][0], "name": name, "size": len(request.body)}, 201)

    def asset(self, request: Request, number: str) -> Response:
        for release in self.releases.values():
            for name, (key, data) in release["assets"].items():
                if key == int(number):
                    return self._asset(request, release["assets"], name, data)
        return _problem(404, "Not Found")

    def _asset(self, request: Request, assets: dict, name: str, data: bytes) -> Response:
        if request.method == "DELETE":
            del assets[name]
            return Response(204)
        if request.method == "PATCH":
            new = request.json["name"]
            if new in assets:
                return _problem(422, "Validation Failed", resource="ReleaseAsset", code="already_exists", field="name")
            assets[new] = assets.pop(name)
            return reply({"id": assets[new][0], "name": new})
        assert request.headers["accept"] == "application/octet-stream"
        return self._redirect(request.path, data)

    def _redirect(self, path: str, data: bytes) -> Response:
        self.downloads.files[path] = data
        return Response(302, headers={"Location": self.downloads.url + path})


ROUTES: list[tuple[str, Callable[..., Response]]] = [
    (r"GET ", FakeGitHub.about),
    (r"GET /git/ref/(.+)", FakeGitHub.get_ref),
    (r"POST /git/refs", FakeGitHub.create_ref),
    (r"PATCH /git/refs/(.+)", FakeGitHub.move_ref),
    (r"DELETE /git/refs/(.+)", FakeGitHub.delete_ref),
    (r"GET /git/commits/(\w+)", FakeGitHub.get_commit),
    (r"POST /git/commits", FakeGitHub.create_commit),
    (r"POST /git/trees", FakeGitHub.create_tree),
    (r"GET /contents/(.+)", FakeGitHub.contents),
    (r"GET /releases/tags/(.+)", FakeGitHub.release_by_tag),
    (r"GET /releases/(\d+)", FakeGitHub.get_release),
    (r"POST /releases", FakeGitHub.create_release),
    (r"PATCH /releases/(\d+)", FakeGitHub.update_release),
    (r"DELETE /releases/(\d+)", FakeGitHub.delete_release),
    (r"POST /releases/(\d+)/assets", FakeGitHub.upload_asset),
    (r"(?:GET|PATCH|DELETE) /releases/assets/(\d+)", FakeGitHub.asset),
]


def _problem(status: int, message: str, **error: str) -> Response:
    errors = {"errors": [error]} if error else {}
    return reply({"message": message, "documentation_url": "https://docs.github.com/rest", **errors}, status)
