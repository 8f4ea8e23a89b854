"""``doctor --policy``: the least permissions for a place or a key, from its URI alone.

Nothing is opened, so neither an SDK nor an address or credential is needed.
"""

from __future__ import annotations

import os

from cmzon_secrets.cli.failures import UsageFailure, typed_here
from cmzon_secrets.cli.targets import Target
from cmzon_secrets.errors import ConfigurationError, InvalidURI
from cmzon_secrets.findings import Role
from cmzon_secrets.registry import (
    Examination,
    find_examination,
    find_key_examination,
    locate_key,
    locate_provider,
)
from cmzon_secrets.uri import Location, split

__all__ = ["policy_of"]


def policy_of(target: Target, role: Role) -> str:
    """The policy of the one place or key that is meant; of the key, where a file is sealed by one.

    Raises UsageFailure for a chain, InvalidURI, and ConfigurationError where there is none to grant.
    """
    if len(target.uris) > 1:
        raise UsageFailure("a chain has no one policy", hint="name one link: URI --account NAME")
    with typed_here(InvalidURI, when=target.typed):
        location, examination = _found(target.uris[0])
        if examination is None:
            raise ConfigurationError(f"{location.scheme}: — nobody wrote down a policy for it")
        return examination.policy(location, role)


def _found(uri: str) -> tuple[Location, Examination | None]:
    if _names_a_key(split(uri)):
        key = locate_key(uri)
        return key, find_key_examination(key.scheme)
    location = locate_provider(uri)
    if location.scheme == "file":
        sealer = location.options.get("key") or os.environ.get("CMZON_SECRETS_KEY", "passphrase:")
        of_key = find_key_examination(split(sealer, what="key").scheme)
        if of_key is not None:
            return locate_key(sealer), of_key
    return location, find_examination(location.scheme)


def _names_a_key(location: Location) -> bool:
    """A scheme may be that of providers and of keys: then the rest of the URI tells."""
    if location.scheme == "awskms":
        return "ciphertext" not in location.options
    if location.scheme == "azurekeyvault":
        return location.path.split("/")[1:2] == ["keys"]
    known = find_key_examination(location.scheme) is not None
    return known and find_examination(location.scheme) is None
