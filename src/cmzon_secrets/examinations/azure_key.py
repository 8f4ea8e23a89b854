"""``azurekeyvault://…/keys/…``: the vault, and our rights to the key and beside it."""

from __future__ import annotations

from collections.abc import Iterator

from cmzon_secrets import permissions
from cmzon_secrets.clouds.azure import Vault, name_of
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.examinations.azure_vault import (
    GROUP,
    examine_certificate,
    examine_vault,
    granted,
    nowhere,
    vault_id,
)
from cmzon_secrets.examinations.rights import policy_command
from cmzon_secrets.examinations.sealing import examine_sealing, may_seal
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.sealing_keys.azure_key import AzureKey
from cmzon_secrets.uri import Location, split

__all__ = ["examine", "policy"]


def policy(location: Location, role: Role) -> str:
    """The role definition. It holds for every key; where it is assigned says for which."""
    name_of(location, "keys")  # so that a URI that means nothing gets none
    return permissions.policy("azurekeyvault-key", role, {"resource_group_id": GROUP})


def examine(key: AzureKey, role: Role) -> Iterator[Finding]:
    """The vault, then whether the caller may just what the role needs, as far as can be asked."""
    vault, name = _place(key)
    yield examine_certificate(vault)
    calls = vault.begin(key.uri)
    reads = granted(calls, calls.keys.get_key, name, nowhere())
    yield from examine_vault(vault, calls)
    yield from examine_sealing(key, role)
    if reads:
        evidence = f"keys/read on {name}: 404 and not 403 for a version that is not there"
        yield Finding("permissions.excess", "note", "it may also read the public key", evidence)
    if _seals_with(AzureKey(vault, f"neighbour-{nowhere()[:12]}")):
        message = "it may use other keys: its role is assigned to the vault, not to the key"
        evidence = "wrap with a key that is not there: 404 and not 403"
        remedy = (
            f"assign the role that `{policy_command(role, key.uri)}` prints,"
            f" --scope {vault_id(vault)}/keys/{name}"
        )
        yield Finding("permissions.excess", "warning", message, evidence, remedy)


def _seals_with(neighbour: AzureKey) -> bool:
    """A key of random digits, which is not there: who may not use it is told so, and no more."""
    try:
        return may_seal(neighbour) is None
    except ConfigurationError:
        return True  # there is no such key


def _place(key: AzureKey) -> tuple[Vault, str]:
    location = split(key.uri)
    return Vault.from_location(location, "keys"), name_of(location, "keys")
