"""``azurekeyvault://…/secrets/…``: the vault, and our rights to the secret and beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cmzon_secrets import permissions
from cmzon_secrets.clouds.azure import Calls, Vault, name_of
from cmzon_secrets.examinations.azure_vault import (
    GROUP,
    examine_certificate,
    examine_vault,
    granted,
    nowhere,
    vault_id,
)
from cmzon_secrets.examinations.rights import Excess, judged, policy_command
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.providers.azure_key_vault import SUFFIX, AzureKeyVault
from cmzon_secrets.uri import Location, split

__all__ = ["examine", "policy"]


class _Probe(NamedTuple):
    """A right, who needs it, and what it means that somebody else has it."""

    right: str
    on: str
    needed_by: frozenset[Role]
    excess: str
    has: Callable[[Calls], bool]


def policy(location: Location, role: Role) -> str:
    """The role definition. It holds for every token; where it is assigned says for which."""
    name_of(location, "secrets")  # so that a URI that means nothing gets none
    return permissions.policy("azurekeyvault", role, {"resource_group_id": GROUP})


def examine(store: AzureKeyVault, role: Role) -> Iterator[Finding]:
    """The vault, then whether the caller may just what the role needs, as far as can be asked."""
    vault, name = _place(store)
    yield examine_certificate(vault)
    calls = vault.begin(store.uri)
    held = [(probe, probe.has(calls)) for probe in _probes(name)]
    yield from examine_vault(vault, calls)
    scope = f"{vault_id(vault)}/secrets/{name}"
    yield from judged(
        role,
        [f"{p.right} on {p.on}" for p, has in held if not has and role in p.needed_by],
        [
            Excess(p.excess, f"{p.right} on {p.on}: 404 and not 403 for what is not there")
            for p, has in held
            if has and role not in p.needed_by
        ],
        denied="Key Vault answers 403 and not 404 to what is not there",
        asked=", ".join(f"{probe.right} on {probe.on}" for probe, _ in held),
        remedy=f"assign the role that `{policy_command(role, store.uri)}` prints, and no other,"
        f" --scope {scope}" + (f" and {scope}{SUFFIX}" if role == "rotator" else ""),
    )
    yield Finding(
        "permissions.unasked",
        "note",
        "not asked: setSecret, delete on the secret itself, and whether deleted ones may be purged,"
        " for no probe of them is harmless",
        f"az role assignment list --scope {scope} tells",
    )


def _probes(name: str) -> Iterator[_Probe]:
    nobody, rotator = frozenset[Role](), frozenset[Role](["rotator"])
    pending, neighbour = f"{name}{SUFFIX}", f"neighbour-{nowhere()[:12]}"

    def reads(secret: str) -> Callable[[Calls], bool]:
        return lambda calls: granted(calls, calls.secrets.get_secret, secret, nowhere())

    def changes(secret: str) -> Callable[[Calls], bool]:
        return lambda calls: granted(
            calls, calls.secrets.update_secret_properties, secret, nowhere(), repeat=True
        )

    def lists(secret: str) -> Callable[[Calls], bool]:
        return lambda calls: granted(calls, _list_one, calls, secret)

    yield _Probe("getSecret", name, frozenset(["reader", "rotator"]), "", reads(name))
    yield _Probe("readMetadata", name, rotator, "this reader may list versions", lists(name))
    yield _Probe("update", name, rotator, "this reader may disable the token", changes(name))
    yield _Probe("getSecret", pending, rotator, "this reader may see PENDING", reads(pending))
    yield _Probe("update", pending, rotator, "this reader may disable PENDING", changes(pending))
    others = "its role is assigned to the vault, not to the secret"
    yield _Probe(
        "getSecret", neighbour, nobody, f"it may read other secrets: {others}", reads(neighbour)
    )
    yield _Probe(
        "delete",
        neighbour,
        nobody,
        f"it may delete secrets: {others}",
        lambda calls: granted(calls, _delete, calls, neighbour),
    )


def _list_one(calls: Calls, name: str, **hook: Any) -> None:
    next(iter(calls.secrets.list_properties_of_secret_versions(name, **hook)), None)


def _delete(calls: Calls, name: str, **hook: Any) -> None:
    """Of a name of random digits. ``begin_delete_secret`` raises at the first answer, which is 404."""
    calls.secrets.begin_delete_secret(name, **hook)


def _place(store: AzureKeyVault) -> tuple[Vault, str]:
    location = split(store.uri)
    return Vault.from_location(location, "secrets"), name_of(location, "secrets")
