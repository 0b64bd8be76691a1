"""The calls of huggingface_hub that the registry needs: limited in time, retried, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying, retry_if_exception

from clip_factory.errors import RegistryError
from clip_factory.registry.backends.retries import ATTEMPTS, BACKOFF, BUSY, ConflictError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
TIMEOUT = 30.0
"""Seconds that the Hub may be silent."""
MOVED = frozenset({409, 412})
"""What the Hub answers to a commit while another is being made, or when one was made since."""
TAG = "clip-factory"
"""The tag in a model card by which the Hub lists our models."""
PERMISSION = "run `hf auth login`, or set HF_TOKEN, with a token that may write to {0}"


class HubError(RegistryError):
    """The Hub refuses, or does not answer."""

    status: int | None = None
    """Of HTTP; None if there was no answer."""
    missing: bool = False
    """Whether it is the repository or the file that is not there, or hidden."""
    passing: bool = False
    """Whether the same call may succeed in a while."""


@dataclass(frozen=True)
class Hub:
    """The Hub at huggingface.co, or a service that speaks like it, at HF_ENDPOINT."""

    sleep: Callable[[float], None]
    """Waits some seconds before a call is tried again."""

    def heads(self, repo: str) -> tuple[str, dict[str, str]] | None:
        """The commit at the head of main, and tag -> commit; None if there is no such repository.

        Args:
            repo: OWNER/NAME.
        """
        try:
            refs = self._call(repo, lambda api: api.list_repo_refs(repo))
        except HubError as error:
            if error.missing:
                return None
            raise
        main = next(branch.target_commit for branch in refs.branches if branch.name == "main")
        return main, {tag.name: tag.target_commit for tag in refs.tags}

    def models(self, owner: str) -> list[str]:
        """The repositories of an owner that hold models of this factory, as OWNER/NAME."""
        return self._call(owner, lambda api: sorted(model.id for model in api.list_models(author=owner, filter=TAG)))

    def create(self, repo: str) -> None:
        """Make a private repository, unless it is there."""
        self._call(repo, lambda api: api.create_repo(repo, private=True, exist_ok=True))

    def commit(self, repo: str, files: Mapping[str, bytes], head: str, message: str) -> None:
        """Write files on top of a head; others stay as they are.

        Args:
            repo: OWNER/NAME.
            files: Path -> content.
            head: The commit that must still be the head of main.
            message: First line of the commit.

        Raises:
            ConflictError: The head has moved.
        """
        from huggingface_hub import CommitOperationAdd

        def send(api: HfApi) -> None:
            operations = [CommitOperationAdd(path, data) for path, data in files.items()]
            api.create_commit(repo, operations, commit_message=message, parent_commit=head)

        try:
            self._call(repo, send)
        except HubError as error:
            if error.status in MOVED:
                raise ConflictError from None
            raise

    def tag(self, repo: str, tag: str, commit: str) -> None:
        """Tag a commit; a tag that is there already stays where it is."""
        self._call(repo, lambda api: api.create_tag(repo, tag=tag, revision=commit, exist_ok=True))

    def titled(self, repo: str, title: str) -> str | None:
        """The newest commit with this first line; None if there is none."""
        commits = self._call(repo, lambda api: api.list_repo_commits(repo))
        return next((commit.commit_id for commit in commits if commit.title == title), None)

    def read(self, repo: str, path: str, revision: str, max_bytes: int) -> bytes | None:
        """A file of a revision; None if it is not there.

        Raises:
            RegistryError: It has more than `max_bytes` bytes.
        """
        try:
            return self._call(repo, lambda api: _download(api, repo, path, revision, max_bytes))
        except HubError as error:
            if error.missing:
                return None
            raise

    def _call(self, what: str, call: Callable[[HfApi], T]) -> T:
        """Call, and again while the Hub is busy or cannot be reached; any error comes out as a HubError."""
        api = _client()

        def attempt() -> T:
            try:
                return call(api)
            except RegistryError:
                raise
            except Exception as error:  # huggingface_hub has its own, and httpx2, besides OSError and ValueError
                raise _hub_error(f"{api.endpoint}: {what}", what, error) from None

        is_passing = retry_if_exception(lambda error: isinstance(error, HubError) and error.passing)
        return Retrying(sleep=self.sleep, stop=ATTEMPTS, wait=BACKOFF, retry=is_passing, reraise=True)(attempt)


def _download(api: HfApi, repo: str, path: str, revision: str, max_bytes: int) -> bytes:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # loaded on first use
        build_hf_headers,
        hf_raise_for_status,
        http_stream_backoff,
    )

    url = hf_hub_url(repo, path, revision=revision, endpoint=api.endpoint)
    headers = build_hf_headers(library_name=TAG)
    # the client follows a redirect to where large files lie without the token
    # new attempts are `_call`'s
    once: dict[str, Any] = {
        "timeout": TIMEOUT,
        "retry_on_exceptions": (),
        "retry_on_status_codes": (),
    }
    with http_stream_backoff("GET", url, headers=headers, **once) as response:
        hf_raise_for_status(response)
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > max_bytes:
                raise RegistryError(f"{url}: more than the {max_bytes:,} bytes expected", hint="do not use it")
    return bytes(data)


def _client() -> HfApi:
    try:
        from huggingface_hub import HfApi, get_session
    except ModuleNotFoundError:
        raise RegistryError(
            "huggingface_hub is not installed, and hf:// needs it", hint="pip install 'clip-factory[registry]'"
        ) from None
    session = get_session()
    if session.timeout.read is None:  # its default is to wait for ever
        session.timeout = TIMEOUT
    return HfApi(library_name=TAG)


def _is_passing(error: Exception, status: int | None) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if status is not None:
        return status in BUSY
    # the HTTP library, and so the module of this class, depends on the version of huggingface_hub
    of_network = any(base.__name__ == "TransportError" for base in type(error).__mro__) or isinstance(error, OSError)
    return of_network and not isinstance(error, OfflineModeIsEnabled)


def _hub_error(where: str, what: str, error: Exception) -> HubError:
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    message = response.headers.get("X-Error-Message", "") if response is not None else ""
    permission = PERMISSION.format(what)
    if status == 401:
        problem = HubError(f"{where}: the Hub does not know you (401)", hint=permission)
    elif status == 403:
        problem = HubError(f"{where}: not allowed (403: {message})", hint=permission)
    elif status == 404:
        problem = HubError(f"{where}: not found (404)", hint=f"check the name; if it is private, {permission}")
    elif status is not None:
        problem = HubError(
            f"{where}: the Hub answers {status} {message}".rstrip(), hint="see https://status.huggingface.co"
        )
    else:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        problem = HubError(f"{where}: {first}", hint="check the network, HF_ENDPOINT and HF_HUB_OFFLINE")
    problem.status, problem.missing = status, isinstance(error, (EntryNotFoundError, RepositoryNotFoundError))
    problem.passing = _is_passing(error, status)
    return problem
