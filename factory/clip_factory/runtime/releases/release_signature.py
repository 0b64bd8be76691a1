"""The signature on a release: ed25519 over its record."""

from __future__ import annotations

import base64

from clip_factory.runtime.releases.release_record import Release
from clip_factory.runtime.runtime_errors import RegistryError


def verify_signature(release: Release, public_key: bytes | str, identity: str | None = None) -> None:
    """Check that the holder of a key has signed this release.

    Ed25519 (RFC 8032) over `Release.canonical`. The signature covers the hashes of all files, not the aliases: whoever
    can write the registry can still move an alias to another release that was signed.

    Args:
        release: The release, with its signature.
        public_key: An ed25519 public key, PEM (SubjectPublicKeyInfo).
        identity: Of the registry that it was read from, where that has one.

    Raises:
        RegistryError: The release is not signed, the signature is not of this key or not of this content, the key is
            no ed25519 public key, or the `cryptography` package is missing.
    """
    try:  # not in the base install: only those who configure a key need it
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError:
        raise RegistryError(
            "a signature is to be checked, but cryptography is not installed", hint="pip install cryptography"
        ) from None
    try:
        key = load_pem_public_key(public_key.encode() if isinstance(public_key, str) else public_key)
    except Exception:  # ValueError, TypeError, UnsupportedAlgorithm and more
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise RegistryError(
            "the public key is not an ed25519 key in PEM",
            hint="factory models keys makes a pair: give the public one",
        )
    if release.signature is None:
        raise RegistryError(f"{release}: not signed, and a public key is configured", hint="publish it with the key")
    try:
        key.verify(base64.b64decode(release.signature), release.canonical(identity))
    except InvalidSignature:
        raise RegistryError(
            f"{release}: the signature is not of this key, or the release was altered after it was signed",
            hint="do not use it; ask who runs the registry",
        ) from None
