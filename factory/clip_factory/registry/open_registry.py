"""Which back-end serves a registry: the scheme of its URL decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from clip_factory.errors import RegistryError
from clip_factory.loader_table import LoaderTable
from clip_factory.registry.backend import Registry
from clip_factory.runtime.releases.location import root_of


def open_registry(address: str) -> Registry:
    """The registry at a folder or URL.

    Raises:
        RegistryError: The address is wrong, or what it needs is not installed.
        PluginError: The package that adds this scheme cannot be imported.
    """
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    return (REGISTRIES.find(scheme) or _files)(address)


def open_existing(address: str) -> Registry:
    """The registry at a folder or URL, which must be there: a mistyped folder would look like one without models.

    Raises:
        RegistryNotFoundError: There is no such folder.
        RegistryError: As `open_registry`, and when the folder holds other things alone.
    """
    registry = open_registry(address)
    if "://" not in registry.url:
        from clip_factory.registry.backends.folder_store import check_registry_folder

        check_registry_folder(registry.url)
    return registry


def _files(address: str) -> Registry:
    from clip_factory.registry.backends.file_registry import FileRegistry
    from clip_factory.registry.backends.folder_store import FolderStore
    from clip_factory.registry.backends.fsspec_store import FsspecStore

    root = root_of(address)
    return FileRegistry(root, FsspecStore.open(root) if "://" in root else FolderStore.open(root))


def _web(address: str) -> Registry:
    from clip_factory.registry.backends.web_registry import WebRegistry

    return WebRegistry(address)


def _github(address: str) -> Registry:
    with _needs("github://"):
        from clip_factory.registry.backends.github_registry import GitHubRegistry

        return GitHubRegistry(address)


def _hub(address: str) -> Registry:
    with _needs("hf://"):
        from clip_factory.registry.backends.hub_registry import HubRegistry

        return HubRegistry(address)


def _mlflow(address: str) -> Registry:
    from clip_factory.registry.backends.mlflow_registry import MlflowRegistry

    return MlflowRegistry(address)


REGISTRIES: LoaderTable[Callable[[str], Registry]] = LoaderTable(
    group="clip_factory.registries",
    own={
        "github": _github,
        "hf": _hub,
        "http": _web,
        "https": _web,
        "mlflow": _mlflow,
        "mlflow+http": _mlflow,
        "mlflow+https": _mlflow,
    },
)
"""Scheme -> what opens the URL. Any other scheme is a file system of fsspec, no scheme a folder."""


@contextmanager
def _needs(scheme: str) -> Iterator[None]:
    """Say what to install where a library of the extra `registry` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise RegistryError(
            f"{error.name} is not installed, and {scheme} needs it", hint="pip install 'clip-factory[registry]'"
        ) from None
