"""The calls of GitHub's REST API that the registry needs: branches of small files, and releases with assets.

https://docs.github.com/rest says what they do. A branch is moved only forwards (`force` is false), so a commit whose
parent is no longer its head is refused: that is the compare-and-swap on which the registry rests.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from clip_factory import __version__
from clip_factory.errors import RegistryError
from clip_factory.registry.backends.rest_client import Response, RestClient
from clip_factory.registry.backends.retries import ConflictError

BRANCH = "clip-factory"
MAX_BODY = 120_000
"""Characters of a release's description; GitHub takes 125,000."""
API = "https://api.github.com"
HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
    "User-Agent": f"clip-factory/{__version__}",
}
RAW = {"Accept": "application/vnd.github.raw+json"}
BYTES = {"Accept": "application/octet-stream"}
SLUG = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
PERMISSION = "the token needs the right `Contents: read and write` for the repository (classic tokens: scope `repo`)"


@dataclass(frozen=True)
class GitHubRelease:
    """A GitHub release: a draft, which only those who may write see, until it is published under a tag."""

    number: int
    upload: str
    """Where its assets go."""


@dataclass(frozen=True)
class Repository:
    """One repository on GitHub or a GitHub Enterprise server."""

    slug: str
    """OWNER/REPO."""
    client: RestClient
    permission: str = PERMISSION
    """What the token must be allowed, for messages."""

    @classmethod
    def open(
        cls, slug: str, api: str | None, sleep: Callable[[float], None], permission: str = PERMISSION
    ) -> Repository:
        """A repository, with the token of GITHUB_TOKEN.

        Args:
            slug: OWNER/REPO.
            api: Address of the API; None for GITHUB_API_URL, else the one of github.com.
            sleep: Waits some seconds before a call is tried again.
            permission: What the token must be allowed, for messages.

        Raises:
            RegistryError: The slug is none, or the address is neither https nor on loopback.
        """
        if not SLUG.fullmatch(slug) or slug.endswith((".", ".git")):
            raise RegistryError(f"{slug!r} names no repository", hint="expected github://OWNER/REPO")
        base = (api or os.environ.get("GITHUB_API_URL") or API).rstrip("/")
        uploads = base.replace("://api.", "://uploads.", 1)  # as on github.com
        return cls(slug, RestClient(base, HEADERS, os.environ.get("GITHUB_TOKEN") or None, uploads, sleep), permission)

    def head(self, branch: str = BRANCH) -> str | None:
        """The commit at the head of a branch, by default the registry's; None if there is no such branch."""
        response = self.request("GET", f"/git/ref/heads/{branch}", allowed=(200, 404))
        if response.status == 404:
            self.request("GET", "")  # says so if it is the repository that is missing
            return None
        return str(response.json["object"]["sha"])

    def read(self, path: str, commit: str, max_bytes: int) -> bytes | None:
        """A file of a commit, of at most `max_bytes` bytes; None if it is not there."""
        response = self.request(
            "GET", f"/contents/{quote(path)}?ref={commit}", allowed=(200, 404), headers=RAW, max_bytes=max_bytes
        )
        return response.body if response.status == 200 else None

    def commit(self, files: Mapping[str, str | bytes], parent: str | None, message: str, branch: str = BRANCH) -> None:
        """Move a branch on by a commit that writes some files and keeps the others.

        Args:
            files: Path -> text or bytes.
            parent: The head that the caller has read; None if there was no branch.
            message: The first line of the commit.
            branch: By default the registry's.

        Raises:
            ConflictError: The head has moved in the meantime: read it again.
        """
        entries = [
            {"path": path, "mode": "100644", "type": "blob", **self._content(data)} for path, data in files.items()
        ]
        base = (
            {} if parent is None else {"base_tree": self.request("GET", f"/git/commits/{parent}").json["tree"]["sha"]}
        )
        tree = self.request("POST", "/git/trees", {"tree": entries, **base}).json["sha"]
        payload = {"message": message, "tree": tree, "parents": [parent] if parent else []}
        sha = self.request("POST", "/git/commits", payload).json["sha"]
        if parent is None:
            response = self.request(
                "POST", "/git/refs", {"ref": f"refs/heads/{branch}", "sha": sha}, allowed=(201, 422)
            )
        else:
            ref = {"sha": sha, "force": False}
            response = self.request("PATCH", f"/git/refs/heads/{branch}", ref, allowed=(200, 409, 422))
        if response.status >= 300:
            raise ConflictError if _is_race(response) else self._problem(response)

    def _content(self, data: str | bytes) -> dict[str, str]:
        """What an entry of a tree says of its file: the text itself, or the hash of bytes that are sent before."""
        if isinstance(data, str):
            return {"content": data}
        blob = {"content": base64.b64encode(data).decode(), "encoding": "base64"}
        return {"sha": str(self.request("POST", "/git/blobs", blob).json["sha"])}

    def create_draft(self, name: str, text: str) -> GitHubRelease:
        """A new release, not yet published.

        Args:
            name: Its title.
            text: Its description, Markdown.
        """
        tag = f"untagged-{os.urandom(8).hex()}"
        response = self.request(
            "POST", "/releases", {"tag_name": tag, "name": name, "body": text[:MAX_BODY], "draft": True}
        )
        return _release(response.json)

    def publish(self, release: GitHubRelease, tag: str, name: str) -> bool:
        """Publish a draft under a tag; False if another release has that tag."""
        payload = {"tag_name": tag, "name": name, "draft": False}
        response = self.request("PATCH", f"/releases/{release.number}", payload, allowed=(200, 422))
        if response.status == 422 and "already_exists" not in response.error[1]:
            raise self._problem(response)
        return response.status == 200

    def delete_release(self, release: GitHubRelease, tag: str | None = None) -> None:
        """Delete a release, and the tag that it was published under."""
        self.request("DELETE", f"/releases/{release.number}", allowed=(204, 404))
        if tag is not None:
            self.request("DELETE", f"/git/refs/tags/{quote(tag)}", allowed=(204, 404, 422))

    def upload(self, release: GitHubRelease, name: str, data: bytes) -> int:
        """Add a file to a release; gives its number."""
        response = self.request("POST", f"{release.upload}?name={quote(name)}", data, allowed=(201, 422))
        if response.status == 201:
            return int(response.json["id"])
        # an answer that was lost on the way makes the second try find the file of the first one
        for asset in self.request("GET", f"/releases/{release.number}").json["assets"]:
            if (asset["name"], asset["size"]) == (name, len(data)):
                return int(asset["id"])
        raise self._problem(response)

    def assets(self, tag: str) -> dict[str, int] | None:
        """The files of a published release, name -> number; None if there is no release with that tag."""
        published = self._published(tag)
        return None if published is None else {str(asset["name"]): int(asset["id"]) for asset in published["assets"]}

    def replace_asset(self, tag: str, name: str, data: bytes, text: str) -> None:
        """Put a file in the place of another of its name, in a release that is made if need be.

        GitHub has no one call for it: for an instant between two calls there is no file of that name.

        Args:
            tag: Tag of the release.
            name: Of the file.
            data: Its new content.
            text: Description of the release, if it is made.

        Raises:
            ConflictError: Somebody else put theirs there in the meantime.
        """
        published = self._published(tag)
        if published is None:
            payload = {"tag_name": tag, "name": tag, "body": text, "make_latest": "false"}
            response = self.request("POST", "/releases", payload, allowed=(201, 422))
            if response.status == 422:
                raise ConflictError
            published = response.json
        release = _release(published)
        fresh = self.upload(release, f"{name}.{os.urandom(4).hex()}", data)
        for asset in published["assets"]:
            if asset["name"] == name:
                self.request("DELETE", f"/releases/assets/{asset['id']}", allowed=(204, 404))
        response = self.request("PATCH", f"/releases/assets/{fresh}", {"name": name}, allowed=(200, 422))
        if response.status == 422:
            self.request("DELETE", f"/releases/assets/{fresh}", allowed=(204, 404))
            raise ConflictError

    def _published(self, tag: str) -> Any:
        response = self.request("GET", f"/releases/tags/{quote(tag)}", allowed=(200, 404))
        return response.json if response.status == 200 else None

    def download(self, asset: int, max_bytes: int) -> bytes:
        """The bytes of a release's file."""
        return self.request("GET", f"/releases/assets/{asset}", headers=BYTES, max_bytes=max_bytes).body

    def request(self, method: str, path: str, body: Any = None, allowed: tuple[int, ...] = (), **more: Any) -> Response:
        """One call below /repos/OWNER/REPO, or to an address of the same service.

        Raises:
            RegistryError: Its status is 300 or more, and not among `allowed`; or as `RestClient.request`.
        """
        address = path if "://" in path else f"/repos/{self.slug}{path}"
        response = self.client.request(method, address, body, **more)
        if response.status >= 300 and response.status not in allowed:
            raise self._problem(response)
        return response

    def _problem(self, response: Response) -> RegistryError:
        where, (message, codes) = f"{self.client.base}: {self.slug}", response.error
        permission = self.permission if self.client.token else f"GITHUB_TOKEN is not set; {self.permission}"
        if "rate limit" in message.lower():
            return RegistryError(
                f"{where}: {message}", hint="wait an hour, or set GITHUB_TOKEN, which may ask more often"
            )
        if response.status == 401:
            return RegistryError(
                f"{where}: the token is refused (401)", hint=f"is GITHUB_TOKEN still valid? {self.permission}"
            )
        if response.status == 403:
            return RegistryError(f"{where}: not allowed (403: {message})", hint=permission)
        if response.status == 404:
            hint = f"check OWNER/REPO; what is private is hidden from who may not read it: {permission}"
            return RegistryError(f"{where}: not found (404)", hint=hint)
        if response.status == 409 and "empty" in message.lower():
            return RegistryError(f"{where}: the repository is empty", hint="give it a first commit, such as a README")
        what = " ".join([str(response.status), message, *codes])
        return RegistryError(f"{where}: {what}", hint="see https://www.githubstatus.com")


def _release(tree: Any) -> GitHubRelease:
    return GitHubRelease(int(tree["id"]), str(tree["upload_url"]).partition("{")[0])


def _is_race(response: Response) -> bool:
    message, _ = response.error
    return response.status == 409 or "fast forward" in message or "already exists" in message
