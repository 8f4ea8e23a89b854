"""``hashivault:``: the server, our token, and our rights to the secret and beside it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from cmzon_secrets import permissions
from cmzon_secrets.examinations.vault_server import (
    Rule,
    examine_rights,
    examine_server,
    examine_token,
    examine_wrapped,
    leave,
)
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.providers.vault_kv import VaultKV
from cmzon_secrets.providers.vault_layouts import layout_of, mount_and_path
from cmzon_secrets.uri import Location

__all__ = ["examine", "examine_wrapped", "leave", "policy"]

_READ = frozenset({"read"})
_WRITE = frozenset({"read", "update"})
_WRITES = frozenset({"create", "update", "patch", "delete", "sudo"})
_ANY = frozenset({"create", "read", "update", "patch", "delete", "sudo"})


def policy(location: Location, role: Role) -> str:
    """The policy for this secret, by its layout."""
    scheme = "hashivault-split" if layout_of(location) == "split" else "hashivault"
    mount, path = mount_and_path(location)
    return permissions.policy(scheme, role, {"mount": mount, "path": path})


def examine(store: VaultKV, role: Role) -> Iterator[Finding]:
    """The server, then whether the token may just what the role needs."""
    yield from examine_server(store)
    yield from examine_token(store, role)
    yield from examine_rights(store, role, _rules(store, role))


def _rules(store: VaultKV, role: Role) -> Iterator[Rule]:
    mount, path = store.mount, store.path
    data, reads = f"{mount}/data/{path}", role == "reader"
    yield Rule(
        data,
        _READ if reads else _WRITE,
        _WRITES if reads else frozenset({"delete", "sudo"}),
        "this reader may write the token" if reads else "it may delete the token",
    )
    if store.layout == "split":
        yield Rule(
            f"{data}.rotation",
            frozenset() if reads else _WRITE,
            _ANY if reads else frozenset({"delete", "sudo"}),
            "this reader may see PENDING and PREVIOUS" if reads else "it may delete the stages",
        )
    for verb in ("delete", "destroy", "undelete"):
        yield Rule(f"{mount}/{verb}/{path}", harmful=_WRITES, meaning=f"it may {verb} versions")
    yield Rule(
        f"{mount}/metadata/{path}", harmful=_WRITES, meaning="it may remove the secret for good"
    )
    folder = f"{path.rpartition('/')[0]}/".lstrip("/")
    for neighbour in dict.fromkeys((folder, "")):
        yield Rule(
            f"{mount}/data/{neighbour}neighbour-{secrets.token_hex(4)}",
            harmful=_ANY,
            meaning="it may read or write secrets that are not its own: its policy has a wildcard",
        )
