"""One repository on GitHub as the workflows see it: pull requests, issues, comments, files on branches.

It is built on the registry's client of the same API: retries, rate limits, and words for what is not allowed are there.
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
from clip_factory.errors import FactoryError, RegistryError
from clip_factory.registry.backends.github_api import Repository
from clip_factory.registry.backends.rest import Answer

BOT = "github-actions[bot]"
"""Who speaks with the token of a workflow; $FACTORY_BOT names another."""
RIGHT = "the job needs the right in its `permissions:`; see automation/README.md"
PAGE, PAGES = 100, 50
TRIES = 8
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
        repository = Repository.open(slug, None, time.sleep, RIGHT)
        return cls(repository, f"{server}/{slug}", os.environ.get("FACTORY_BOT") or BOT)

    def call(self, method: str, path: str, body: Any = None, allowed: tuple[int, ...] = ()) -> Answer:
        """One call below /repos/OWNER/REPO.

        Raises:
            RegistryError: It is not allowed or fails, and its status is not among `allowed`.
        """
        return self.repository.call(method, path, body, allowed)

    def pages(self, path: str) -> Iterator[Any]:
        """All entries of a list, page by page."""
        joint = "&" if "?" in path else "?"
        for page in range(1, PAGES + 1):
            entries = self.call("GET", f"{path}{joint}per_page={PAGE}&page={page}").json
            yield from entries
            if len(entries) < PAGE:
                return

    def comment(self, issue: int, mark: str, text: str) -> None:
        """Write a comment on an issue or pull request, in the place of our earlier one under the same mark."""
        body = _marked(mark, text)
        own = [one for one in self.pages(f"/issues/{issue}/comments") if self._is_ours(one, mark)]
        if not own:
            self.call("POST", f"/issues/{issue}/comments", {"body": body})
            return
        if own[0]["body"] != body:
            self.call("PATCH", f"/issues/comments/{int(own[0]['id'])}", {"body": body})
        for copy in own[1:]:  # an answer that was lost on the way made a second one
            self.call("DELETE", f"/issues/comments/{int(copy['id'])}", allowed=(204, 404))

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
        found = (one for one in issues if "pull_request" not in one and self._is_ours(one, mark))
        return next((int(one["number"]) for one in found), None)

    def open_issue(self, mark: str, title: str, text: str) -> int:
        """Open an issue, or bring our open one up to date; gives its number."""
        wish = {"title": title, "body": _marked(mark, text)}
        number = self.issue(mark)
        if number is None:
            return int(self.call("POST", "/issues", wish).json["number"])
        self.call("PATCH", f"/issues/{number}", wish)
        return number

    def close_issue(self, mark: str, text: str) -> int | None:
        """Close our open issue under a mark, if there is one, with a comment that says why."""
        number = self.issue(mark)
        if number is not None:
            self.comment(number, f"{mark} closed", text)
            self.call("PATCH", f"/issues/{number}", {"state": "closed", "state_reason": "completed"})
        return number

    def pull(self, branch: str) -> dict[str, Any] | None:
        """The open pull request from a branch of this repository."""
        owner = self.repository.slug.split("/")[0]
        found = self.call("GET", f"/pulls?state=open&head={quote(f'{owner}:{branch}')}").json
        return dict(found[0]) if found else None

    def text(self, path: str, ref: str, most: int) -> bytes | None:
        """A file on a branch, of at most `most` bytes; None if it is not there."""
        return self.repository.read(path, quote(ref, safe=""), most)

    def put(self, branch: str, path: str, text: str, message: str) -> bool:
        """Commit a file to a branch through the contents API; False if it says so already.

        Raises:
            RegistryError: Somebody else changed the branch at the same moment, every time.
        """
        address = f"/contents/{quote(path)}"
        for _ in range(TRIES):
            answer = self.call("GET", f"{address}?ref={quote(branch, safe='')}", allowed=(200, 404))
            there = answer.json if answer.status == 200 else {}
            if there and base64.b64decode(there["content"]) == text.encode():
                return False
            wish = {"message": message, "content": base64.b64encode(text.encode()).decode(), "branch": branch}
            known = {"sha": there["sha"]} if there else {}
            if self.call("PUT", address, wish | known, allowed=(200, 201, 409)).status != 409:
                return True
        raise RegistryError(f"{branch}: others commit to it all the time; nothing was changed")

    def add(self, branch: str, files: Mapping[str, bytes], message: str) -> None:
        """Commit files to a branch that has no history in common with any other; it is made if need be.

        Raises:
            RegistryError: Others commit to it all the time.
        """
        for tries in range(TRIES):
            if self.repository.commit(files, self.repository.head(branch), message, branch):
                return
            self.repository.service.sleep(0.2 * 2**tries)
        raise RegistryError(f"{branch}: others commit to it all the time; nothing was changed", hint="run it again")

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
