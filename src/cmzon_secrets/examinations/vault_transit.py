"""``hashivault-transit:``: the server, our token, and our rights to the key."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from cmzon_secrets import permissions
from cmzon_secrets.clouds.vault_paths import checked_segments
from cmzon_secrets.examinations.vault_server import (
    Rule,
    examine_rights,
    examine_server,
    examine_token,
    examine_wrapped,
    leave,
)
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.sealing_keys.vault_transit import VaultTransitKey
from cmzon_secrets.uri import Location

__all__ = ["examine", "examine_wrapped", "leave", "policy"]

_UPDATE = frozenset({"update"})
_ANY = frozenset({"create", "read", "update", "patch", "delete", "sudo"})


def policy(location: Location, role: Role) -> str:
    """The policy for this key."""
    *mount, name = checked_segments(location, "hashivault-transit://MOUNT/KEY")
    names = {"mount": "/".join(mount), "key": name}
    return permissions.policy("hashivault-transit", role, names)


def examine(key: VaultTransitKey, role: Role) -> Iterator[Finding]:
    """The server, then whether the token may just what the role needs."""
    yield from examine_server(key)
    yield from examine_token(key, role)
    yield from examine_rights(key, role, _rules(key, role))


def _rules(key: VaultTransitKey, role: Role) -> Iterator[Rule]:
    mount, name, reads = key.mount, key.name, role == "reader"
    yield Rule(f"{mount}/decrypt/{name}", _UPDATE, frozenset({"sudo"}), "it may more than decrypt")
    yield Rule(
        f"{mount}/encrypt/{name}",
        frozenset() if reads else _UPDATE,
        _ANY if reads else frozenset({"create", "sudo"}),
        "this reader may also seal" if reads else "a typo in the key's name makes another key",
    )
    yield Rule(
        f"{mount}/keys/{name}",
        harmful=frozenset({"create", "update", "patch", "delete", "sudo"}),
        meaning="it may rotate, reconfigure or delete the key",
    )
    yield Rule(
        f"{mount}/export/encryption-key/{name}", harmful=_ANY, meaning="it may export the key"
    )
    yield Rule(
        f"{mount}/decrypt/neighbour-{secrets.token_hex(4)}",
        harmful=_ANY,
        meaning="it may use keys that are not its own: its policy has a wildcard",
    )
