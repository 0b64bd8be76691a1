"""Which back-end serves a registry: the scheme of its URL decides."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Registry
from clip_factory.registry.backends.file_registry import PINNED
from clip_factory.runtime.releases.release_index import INDEX

GROUP = "clip_factory.registries"
"""Entry points of this group add schemes; one of the factory's own cannot be replaced."""

OWN = {
    "github": "clip_factory.registry.backends.github:GitHubRegistry",
    "hf": "clip_factory.registry.backends.hub:HubRegistry",
    "http": "clip_factory.registry.backends.web:WebRegistry",
    "https": "clip_factory.registry.backends.web:WebRegistry",
    "mlflow": "clip_factory.registry.backends.mlflow:MlflowRegistry",
    "mlflow+http": "clip_factory.registry.backends.mlflow:MlflowRegistry",
    "mlflow+https": "clip_factory.registry.backends.mlflow:MlflowRegistry",
}
"""Scheme -> what is called with the URL. Any other scheme is a file system of fsspec, no scheme a folder."""
FILES = "clip_factory.registry.backends.file_registry:open_files"


def open_registry(address: str) -> Registry:
    """The registry at a folder or URL.

    Raises:
        RegistryError: The address is wrong, or what it needs is not installed.
    """
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    added = {point.name: point for point in entry_points(group=GROUP)}
    if scheme in OWN or scheme not in added:
        module, _, name = OWN.get(scheme, FILES).partition(":")
        make = getattr(import_module(module), name)
    else:
        make = added[scheme].load()
    return cast(Callable[[str], Registry], make)(address)


def open_existing(address: str) -> Registry:
    """The registry at a folder or URL, which must be there: a mistyped folder would look like one without models.

    Raises:
        RegistryError: As `open_registry`, and when there is no such folder, or it holds other things alone.
    """
    registry = open_registry(address)
    if "://" not in registry.url:
        _check_folder(registry.url)
    return registry


def _check_folder(root: str) -> None:
    hint = "check --registry; factory publish makes one"
    if not os.path.isdir(root):
        raise RegistryError(f"{root}: there is no such folder", hint=hint)
    names = {name for name in os.listdir(root) if not name.startswith(".")}
    if names and not names & {INDEX, PINNED, "blobs", "models"}:  # blobs alone: a publisher was killed
        raise RegistryError(f"{root}: this folder holds other things, and no registry", hint=hint)
