"""Where a registry is: a folder or a URL, written in one way."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, unquote, urlsplit

from clip_factory.runtime.runtime_errors import RegistryError

GITHUB = "https://github.com/{repository}/releases/download/registry-index"
"""Where a registry on GitHub has its index for those who have no token: an asset of the release `registry-index`."""

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""How a URL begins; a drive of Windows has one letter."""


def root_of(registry: str | os.PathLike[str]) -> str:
    """A registry's root in the one way of writing it by which the cache knows it: absolute, no `/` at the end.

    Args:
        registry: A folder (`~` is the user's own), or a URL: file://, http(s)://, github://OWNER/REPO, or any that
            fsspec knows.

    Raises:
        RegistryError: It is empty, begins like a URL without `://`, or is a URL with `..`, a query, or a user's
            password in it.
    """
    text = os.fspath(registry)
    if not text:
        raise RegistryError("the registry's address is empty", hint="give a folder or a URL")
    if "://" not in text:
        if SCHEME.match(text):  # s3:/bucket, github:OWNER/REPO: a folder of that name is never meant
            hint = f"a URL has :// in it; a folder of that name is ./{text}"
            raise RegistryError(f"{text}: neither a URL nor a folder", hint=hint)
        return os.path.abspath(os.path.expanduser(text))
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise RegistryError(f"{text}: no address of a registry ({error})") from None
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise RegistryError(f"{text}: a file on another machine", hint="write it as file:///FOLDER")
        return os.path.abspath(_from_url(parts.path))
    _check(text, parts)
    if parts.scheme == "github":
        return GITHUB.format(repository=f"{parts.netloc}{parts.path}".rstrip("/"))
    return (parts.scheme + text[len(parts.scheme) :]).rstrip("/")


def _check(text: str, parts: SplitResult) -> None:
    if parts.password is not None:  # not shown: it is a secret
        raise RegistryError(f"a password in the address of {parts.hostname}", hint="leave it out: addresses are logged")
    if ".." in parts.path.split("/"):
        raise RegistryError(f"{text}: `..` in the address of a registry", hint="write the address out")
    if parts.scheme in ("http", "https", "github") and (parts.query or parts.fragment):
        raise RegistryError(f"{text}: a query in the address of a registry", hint="give the address of its root alone")
    if parts.scheme.startswith("mlflow"):
        hint = "factory models pull, or MLflow's own client"
        raise RegistryError(f"{text}: an MLflow server has no index that the runtime could read", hint=hint)


def _from_url(path: str) -> str:
    if os.name == "nt":  # /C:/registry
        from urllib.request import url2pathname

        return url2pathname(path)
    return unquote(path)
