"""Ed25519 keys in PEM files: made, read, used to sign. `release_index` says what a signature covers."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clip_factory.errors import RegistryError
from clip_factory.runtime.releases.release_record import Release
from clip_factory.runtime.releases.release_signature import verify_signature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRIVATE, PUBLIC = "private.pem", "public.pem"
EXTRA = "pip install 'clip-factory[registry]'"


@dataclass(frozen=True)
class Signer:
    """A private key, ready to sign."""

    _key: Ed25519PrivateKey

    @classmethod
    def read(cls, path: Path) -> Signer:
        """The private key in a PEM file (PKCS 8, without a password).

        Raises:
            RegistryError: The file cannot be read or holds no such key, or the `cryptography` package is missing.
        """
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ModuleNotFoundError:
            raise RegistryError("a release is to be signed, but cryptography is not installed", hint=EXTRA) from None
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RegistryError(f"{path}: the private key cannot be read ({error.strerror})") from None
        try:
            key = load_pem_private_key(data, password=None)
        except Exception:  # ValueError, TypeError, UnsupportedAlgorithm: what is in the file is told to nobody
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise RegistryError(
                f"{path}: no ed25519 private key in PEM without a password", hint="factory models keys makes a pair"
            )
        return cls(key)

    def sign(self, message: bytes) -> str:
        """Base64 of the signature over a message."""
        return base64.b64encode(self._key.sign(message)).decode()

    @property
    def public_key(self) -> bytes:
        """The public key, PEM (SubjectPublicKeyInfo)."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def signed(self, release: Release, identity: str | None = None) -> bool:
        """Whether the signature on a release is of this key, for the registry of this identity."""
        try:
            verify_signature(release, self.public_key, identity)
        except RegistryError:
            return False
        return True


def make_pair(folder: Path) -> tuple[Path, Path]:
    """Write a new key pair into a folder: private.pem, which only the owner may read, and public.pem.

    Returns:
        The paths of the two.

    Raises:
        RegistryError: One of them is there already, or the `cryptography` package is missing.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ModuleNotFoundError:
        raise RegistryError("cryptography is not installed", hint=EXTRA) from None
    private, public = folder / PRIVATE, folder / PUBLIC
    for path in (private, public):
        if path.exists():
            raise RegistryError(f"{path}: there is a key already", hint="name another folder, or move it away")
    key = Ed25519PrivateKey.generate()
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(Signer(key).public_key)
    return private, public
