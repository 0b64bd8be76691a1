"""One repository on GitHub as the workflows see it: pull requests, issues, comments, files on branches.

It is built on the registry's client of the same API: retries, rate limits and errors for what is not allowed are there.
Comments and issues of our own carry a hidden marker. Anybody can write such a marker, so the author must be ours too.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from automation.command import environment
from automation.markdown import MAX_COMMENT
from clip_factory.errors import FactoryError
from clip_factory.registry.backends.github_client import Repository
from clip_factory.registry.backends.rest_client import Response
from clip_factory.registry.backends.retries import ConflictError, until_committed

BOT = "github-actions[bot]"
"""Who speaks with the token of a workflow; $FACTORY_BOT names another."""
PERMISSION = "the job needs the right in its `permissions:`; see automation/README.md"
PAGE, PAGES = 100, 50
MARK = re.compile(r"[a-z0-9 =@._-]+")


@dataclass(frozen=True)
class GitHub:
    """The repository that the workflow runs in."""

    repository: Repository
    web: str
    """Where people look at it: https://github.com/OWNER/REPO."""
    bot: str = BOT

    @classmethod
    def open(cls) -> GitHub:
        """As the environment of a job says.

        Raises:
            FactoryError: GITHUB_REPOSITORY or GITHUB_TOKEN is not set, or an address is wrong.
        """
        slug = environment("GITHUB_REPOSITORY", "OWNER/REPO of the repository to write to")
        environment("GITHUB_TOKEN", "nothing can be written without a token")
        server = os.environ.get("GITHUB_SERVER_URL") or "https://github.com"
        repository = Repository.open(slug, None, time.sleep, PERMISSION)
        return cls(repository, f"{server}/{slug}", os.environ.get("FACTORY_BOT") or BOT)

    def request(self, method: str, path: str, body: Any = None, allowed: tuple[int, ...] = ()) -> Response:
        """One call below /repos/OWNER/REPO.

        Raises:
            RegistryError: It is not allowed or fails, and its status is not among `allowed`.
        """
        return self.repository.request(method, path, body, allowed)

    def pages(self, path: str) -> Iterator[Any]:
        """All entries of a list, page by page."""
        joint = "&" if "?" in path else "?"
        for page in range(1, PAGES + 1):
            entries = self.request("GET", f"{path}{joint}per_page={PAGE}&page={page}").json
            yield from entries
            if len(entries) < PAGE:
                return

    def comment(self, issue: int, mark: str, text: str) -> None:
        """Write a comment on an issue or pull request, in the place of our earlier one under the same mark."""
        body = _marked(mark, text)
        own = [one for one in self.pages(f"/issues/{issue}/comments") if self._is_ours(one, mark)]
        if not own:
            self.request("POST", f"/issues/{issue}/comments", {"body": body})
            return
        if own[0]["body"] != body:
            self.request("PATCH", f"/issues/comments/{int(own[0]['id'])}", {"body": body})
        for copy in own[1:]:  # an answer that was lost on the way made a second one
            self.request("DELETE", f"/issues/comments/{int(copy['id'])}", allowed=(204, 404))

    def own_comment(self, issue: int, mark: str) -> str:
        """Our comment under a mark, without it; empty if there is none."""
        own = (
            str(one["body"]).partition("\n")[2]
            for one in self.pages(f"/issues/{issue}/comments")
            if self._is_ours(one, mark)
        )
        return next(own, "")

    def issue(self, mark: str) -> int | None:
        """The number of our open issue under a mark."""
        issues = self.pages("/issues?state=open&creator=" + quote(self.bot))
        own = (one for one in issues if "pull_request" not in one and self._is_ours(one, mark))
        return next((int(one["number"]) for one in own), None)

    def open_issue(self, mark: str, title: str, text: str) -> int:
        """Open an issue, or bring our open one up to date; return its number."""
        payload = {"title": title, "body": _marked(mark, text)}
        number = self.issue(mark)
        if number is None:
            return int(self.request("POST", "/issues", payload).json["number"])
        self.request("PATCH", f"/issues/{number}", payload)
        return number

    def close_issue(self, mark: str, text: str) -> int | None:
        """Close our open issue under a mark, if there is one, with a comment that says why."""
        number = self.issue(mark)
        if number is not None:
            self.comment(number, f"{mark} closed", text)
            self.request("PATCH", f"/issues/{number}", {"state": "closed", "state_reason": "completed"})
        return number

    def pull(self, branch: str) -> dict[str, Any] | None:
        """The open pull request from a branch of this repository."""
        owner = self.repository.slug.split("/")[0]
        pulls = self.request("GET", f"/pulls?state=open&head={quote(f'{owner}:{branch}')}").json
        return dict(pulls[0]) if pulls else None

    def text(self, path: str, ref: str, max_bytes: int) -> bytes | None:
        """A file on a branch, of at most `max_bytes` bytes; None if it is not there."""
        return self.repository.read(path, quote(ref, safe=""), max_bytes)

    def put(self, branch: str, path: str, text: str, message: str) -> bool:
        """Commit a file to a branch through the contents API; False if it says so already.

        Raises:
            RegistryError: Others commit to it all the time.
        """
        address, branch_ref = f"/contents/{quote(path)}", quote(branch, safe="")

        def attempt() -> bool:
            current = self.request("GET", f"{address}?ref={branch_ref}", allowed=(200, 404))
            known = current.json if current.status == 200 else {}
            if known and base64.b64decode(known["content"]) == text.encode():
                return False
            content = base64.b64encode(text.encode()).decode()
            payload = {"message": message, "content": content, "branch": branch}
            payload |= {"sha": known["sha"]} if known else {}
            if self.request("PUT", address, payload, allowed=(200, 201, 409)).status == 409:
                raise ConflictError
            return True

        return until_committed(branch, self.repository.client.sleep, attempt)

    def add(self, branch: str, files: Mapping[str, bytes], message: str) -> None:
        """Commit files to a branch that has no history in common with any other; it is made if need be.

        Raises:
            RegistryError: Others commit to it all the time.
        """

        def attempt() -> None:
            self.repository.commit(files, self.repository.head(branch), message, branch)

        until_committed(branch, self.repository.client.sleep, attempt)

    def picture(self, branch: str, path: str) -> str:
        """Where a picture on a branch is seen in a comment; in a private repository by those who may read it."""
        return f"{self.web}/blob/{quote(branch)}/{quote(path)}?raw=true"

    def _is_ours(self, entry: dict[str, Any], mark: str) -> bool:
        author = (entry.get("user") or {}).get("login")
        return author == self.bot and str(entry.get("body") or "").startswith(_mark(mark))


def _marked(mark: str, text: str) -> str:
    body = f"{_mark(mark)}\n{text}"
    if len(body) > MAX_COMMENT:
        body = body[:MAX_COMMENT].rpartition("\n")[0] + "\n\nCut here: it is too long for GitHub."
    return body


def _mark(mark: str) -> str:
    if not MARK.fullmatch(mark):
        raise FactoryError(f"{mark!a} is no mark")
    return f"<!-- clip-factory: {mark} -->"
