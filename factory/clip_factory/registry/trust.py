"""Whom a registry's releases must be signed by: the key that the registry pins, and the one that its user has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Registry, identity_of
from clip_factory.registry.keys import Signer
from clip_factory.runtime.releases.release_record import Release
from clip_factory.runtime.releases.release_signature import verify_signature


@dataclass(frozen=True)
class Trust:
    """What a user asks of releases beside what the registry asks itself."""

    public_key: bytes | None = None
    """PEM; None: nothing. It guards against whoever can write the registry, which a key pinned in it does not."""

    @classmethod
    def read(cls, path: Path | None) -> Trust:
        """With the public key in a PEM file, if one is named.

        Raises:
            RegistryError: The file cannot be read.
        """
        try:
            return cls(path.read_bytes() if path else None)
        except OSError as error:
            raise RegistryError(f"{path}: the public key cannot be read ({error.strerror})") from None

    def check(self, registry: Registry, release: Release) -> bool:
        """Check the signature on a release against each key.

        Returns:
            Whether there was a key to check against.

        Raises:
            RegistryError: It is not signed, or not by this key, or was altered since.
        """
        keys = [key for key in (registry.pinned_key(), self.public_key) if key is not None]
        for key in keys:
            verify_signature(release, key, identity_of(registry))
        return bool(keys)


DEFAULT_TRUST = Trust()
"""Checks no more than the registry does itself."""


def check_signer(registry: Registry, signer: Signer | None) -> None:
    """Refuse to publish what the registry's pinned key would not accept.

    Raises:
        RegistryError: The registry pins a key, and there is no signer or another.
    """
    pinned = registry.pinned_key()
    if pinned is None:
        return
    hint = "name the private key: --key FILE, or FACTORY_SIGNING_KEY"
    if signer is None:
        raise RegistryError(f"{registry.url} takes signed releases alone", hint=hint)
    if signer.public_key.strip() != pinned.strip():
        raise RegistryError(f"{registry.url} pins another public key than that of your private key", hint=hint)
