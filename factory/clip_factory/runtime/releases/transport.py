"""Reads one file of a registry: from a folder, over http(s), or through fsspec; never more bytes than are allowed.

What lies at the other end may be broken, slow or hostile: every read has a limit of bytes and of seconds.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

from clip_factory.runtime.runtime_errors import RegistryError
from clip_factory.runtime.safe_text import plain

STALL_TIMEOUT: Final = 20.0
"""Seconds without a byte after which a server counts as unreachable."""
MAX_SECONDS: Final = 300.0
"""Seconds that one file may take in all: a server that drips byte by byte never stalls."""
CHUNK = 1 << 16
TRANSIENT_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP codes of a server that may answer later."""


class UnreachableError(RegistryError):
    """The registry does not answer; what was fetched before may still serve."""


def read(root: str, path: str, limit: int) -> bytes:
    """The bytes of one file of a registry.

    Args:
        root: As `clip_factory.runtime.releases.location.root_of` gives it.
        path: Relative to the root, `/` between the parts.
        limit: Most bytes that the file may have.

    Raises:
        UnreachableError: The registry does not answer now.
        RegistryError: There is no such file, it is larger than `limit`, or it may not be read.
    """
    if root.startswith(("http://", "https://")):
        return _read_web(urljoin(f"{root}/", path), limit)
    if ".." in path.split("/"):
        raise RegistryError(f"{root}: its index points outside it, to {path}", hint="do not use it")
    if "://" in root:
        return _read_fsspec(root, path, limit)
    return _read_file(Path(root, *path.split("/")), limit)


def _read_file(path: Path, limit: int) -> bytes:
    try:
        # a named pipe would block for ever, already when it is opened
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise RegistryError(f"{path}: not a file")
        with open(path, "rb") as file:
            return _check_size(file.read(limit + 1), limit, str(path))
    except FileNotFoundError:
        raise _missing(str(path)) from None
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read ({error.strerror})", hint="check its rights") from None


def _read_web(url: str, limit: int) -> bytes:
    from http.client import HTTPException  # takes a while to import: only who needs it waits
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    from clip_factory.runtime.releases.http_client import opener

    try:
        with opener().open(Request(url, headers={"User-Agent": "clip-factory"}), timeout=STALL_TIMEOUT) as response:  # noqa: S310 - web alone
            return _read_body(response, limit, url)
    except HTTPError as error:
        raise _http_error(url, error.code) from None
    except URLError as error:
        if type(error.reason).__name__ == "SSLCertVerificationError":
            hint = "do not go on: someone may be listening in, or the server's certificate has run out"
            raise RegistryError(
                f"{url}: its certificate cannot be trusted ({plain(error.reason)})", hint=hint
            ) from None
        raise UnreachableError(f"{url}: cannot be reached ({plain(error.reason)})") from None
    except (OSError, HTTPException) as error:
        raise UnreachableError(f"{url}: cannot be reached ({plain(error)})") from None
    except ValueError as error:
        raise RegistryError(f"{url}: no address of a registry ({plain(error)})") from None


def _read_body(response: Any, limit: int, url: str) -> bytes:
    announced = response.length  # None if the server does not say
    if announced is not None and announced > limit:
        raise _too_large(url, limit)
    started = time.monotonic()
    body = bytearray()
    while chunk := response.read1(CHUNK):
        body += chunk
        if len(body) > limit:
            raise _too_large(url, limit)
        if time.monotonic() - started > MAX_SECONDS:
            raise UnreachableError(f"{url}: took over {MAX_SECONDS:.0f} seconds")
    if announced is not None and len(body) < announced:
        raise UnreachableError(f"{url}: cut short after {len(body)} of {announced} bytes")
    return bytes(body)


def _http_error(url: str, code: int) -> RegistryError:
    if code in TRANSIENT_CODES:
        return UnreachableError(f"{url}: cannot be reached (HTTP {code})")
    if code in (404, 410):
        return _missing(url)
    return RegistryError(f"{url}: the server refuses (HTTP {code})", hint="check the address and your rights")


def _read_fsspec(root: str, path: str, limit: int) -> bytes:
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        scheme = root.partition("://")[0]
        hint = "pip install 'clip-factory[registry]'"
        raise RegistryError(f"{root}: {scheme}:// needs fsspec, which is not installed", hint=hint) from None
    where = f"{root}/{path}"
    try:
        files, below = url_to_fs(root, **options_for(root.partition("://")[0]))
        return _check_size(files.cat_file(f"{below.rstrip('/')}/{path}", start=0, end=limit + 1), limit, where)
    except RegistryError:
        raise
    except FileNotFoundError:
        raise _missing(where) from None
    except PermissionError as error:
        raise RegistryError(f"{where}: may not be read ({plain(error)})", hint="check your rights") from None
    except (ImportError, ValueError) as error:  # fsspec names the package that this kind of URL needs
        raise RegistryError(f"{root}: {plain(error)}", hint="pip install 'clip-factory[registry]'") from None
    except Exception as error:  # each file system has its own
        raise UnreachableError(f"{where}: cannot be reached ({type(error).__name__}: {plain(error)})") from None


def options_for(scheme: str) -> dict[str, Any]:
    """What fsspec is told beside the address: for SFTP, to trust only servers that the user has accepted before."""
    return {"host_key_policy": _known_hosts()} if scheme in ("sftp", "ssh") else {}


def _known_hosts() -> Any:
    """A policy that trusts only servers whose key the user has accepted with ssh; fsspec would trust any."""
    import paramiko

    class KnownHosts(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            known = paramiko.HostKeys()
            with suppress(OSError):
                known.load(str(Path.home() / ".ssh" / "known_hosts"))
            if not known.check(hostname, key):
                raise paramiko.SSHException(f"the key of {hostname} is not known: accept it once with ssh")

    return KnownHosts()


def _check_size(data: bytes, limit: int, where: str) -> bytes:
    if len(data) > limit:
        raise _too_large(where, limit)
    return data


def _too_large(where: str, limit: int) -> RegistryError:
    return RegistryError(f"{where}: larger than {limit:,} bytes", hint="the index says less, or it is no index")


def _missing(where: str) -> RegistryError:
    return RegistryError(f"{where}: no such file", hint="check the address of the registry")
