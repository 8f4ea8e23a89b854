"""What accounts name, opened: the store, the issuer and the policy of each, and all of them as a fleet."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Self

from cmzon_secrets.cache import TokenCache
from cmzon_secrets.config import Account, Config
from cmzon_secrets.errors import ConfigurationError, InvalidURI, retold
from cmzon_secrets.forks import renew_in_child
from cmzon_secrets.issuer import TokenIssuer
from cmzon_secrets.provider import TokenProvider
from cmzon_secrets.registry import open_issuer, open_provider, open_store
from cmzon_secrets.rotation import Member, Opened, RotationPolicy
from cmzon_secrets.typed import quoted
from cmzon_secrets.uri import split

__all__ = ["Issuers", "members", "open_account", "policy_of", "wired_issuer"]

_SHARED = ("region", "profile", "role_arn", "endpoint_url", "address", "namespace", "authority")
"""Options of a URI that lead to another service, region or account of the cloud."""


def policy_of(account: Account, config: Config | None = None) -> RotationPolicy:
    """The policy written down. Raises ConfigurationError, with the line where ``config`` is given."""
    try:
        return RotationPolicy(**account.policy)
    except ConfigurationError as error:
        if config is None:
            raise
        raise retold(error, f"{config.where(account.name)} — {error}") from None


class Issuers:
    """The issuers of many accounts: those who name the same one share it. Thread-safe.

    ``ca``: a CA (PEM file) to trust instead of the system's. Admin tokens are kept for minutes, by
    a ``TokenCache``, instead of being read for each call. Close it when the accounts are done with.
    """

    def __init__(self, *, ca: str | None = None) -> None:
        self._ca = ca
        self._opened: dict[tuple[str, str | None, str | None], TokenIssuer] = {}
        self._lock = threading.Lock()
        self._closing = ExitStack()
        renew_in_child(self)

    def of(self, account: Account) -> TokenIssuer:
        """The issuer that the account names. Raises ConfigurationError where its admin is missing."""
        admin = account.admin or os.environ.get("CMZON_ADMIN_URI") or None
        key = (account.issuer, admin, account.base_url)
        with self._lock:
            if key not in self._opened:
                self._opened[key] = self._open(*key)
            return self._opened[key]

    def after_fork(self) -> None:
        """In a child: a lock that nobody holds; what was opened makes its own connections anew."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what was opened."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self, name: str, admin: str | None, base_url: str | None) -> TokenIssuer:
        cached = None
        if admin is not None and name != "manual":
            cached = self._closing.enter_context(closing(TokenCache(open_provider(admin))))
        issuer = wired_issuer(name, admin=cached, base_url=base_url, ca=self._ca)
        return self._closing.enter_context(closing(issuer))


def wired_issuer(
    name: str, *, admin: TokenProvider | str | None, base_url: str | None, ca: str | None
) -> TokenIssuer:
    """The issuer of this name with what it needs of these.

    Raises ConfigurationError where it lacks its admin, or there is none of that name.
    """
    if name == "cmzon" and admin is None:
        raise ConfigurationError(
            "no admin token — issuing and revoking need one with the scope tokens:manage",
            hint="set CMZON_ADMIN_URI, give --admin URI or the account an admin, or use --issuer manual",
        )
    wiring = {"admin": None if name == "manual" else admin, "base_url": base_url, "ca": ca}
    return open_issuer(name, **{key: value for key, value in wiring.items() if value is not None})


@contextmanager
def open_account(account: Account, issuers: Issuers) -> Iterator[Opened]:
    """What the account is rotated with; its store is closed at the end, its issuer is ``issuers``'.

    Raises ReadOnlyProvider for a chain and for a place that cannot be written.
    """
    policy = policy_of(account)
    issuer = issuers.of(account)
    with open_store(account.token) as store:  # type: ignore[arg-type]  # a chain is refused by name
        yield Opened(store, issuer, policy)


def members(
    accounts: Iterable[Account], issuers: Issuers, *, config: Config | None = None
) -> list[Member]:
    """The accounts as members of a fleet; policies and places are checked before anything is opened.

    Raises ConfigurationError, with the line where ``config`` is given.
    """
    fleet = []
    owners: dict[str, Account] = {}
    for account in accounts:
        policy_of(account, config)
        _refuse_shared_place(account, owners, config)
        fleet.append(
            Member(
                account.name,
                account.place,
                _service(account),
                lambda account=account: open_account(account, issuers),  # type: ignore[misc]  # bound at once
            )
        )
    return fleet


def _refuse_shared_place(
    account: Account, owners: dict[str, Account], config: Config | None
) -> None:
    """Two accounts in one place would replace each other's token, each by its own policy."""
    if not isinstance(account.token, str) or account.token.startswith("env:"):
        return  # only read, and that by as many as like
    owner = owners.setdefault(_without_key(account.token), account)
    if owner is account:
        return
    where, other = "", ""
    if config is not None:
        where = f"{config.where(account.name)} — "
        other = f" (line {config.where(owner.name).rpartition(':')[2]})"
    raise ConfigurationError(
        f"{where}account {quoted(account.name)} names the same place as account"
        f" {quoted(owner.name)}{other}",
        hint="each account needs a place of its own",
    )


def _without_key(uri: str) -> str:
    """The place alone: another key of the same file is no other place."""
    try:
        location = split(uri)
    except InvalidURI:
        return uri
    return str(replace(location, options={k: v for k, v in location.options.items() if k != "key"}))


def _service(account: Account) -> str:
    """What bears this account's load together with others: a cloud's region, a vault, this disk."""
    uri = account.token if isinstance(account.token, str) else account.token[0]
    try:
        location = split(uri)
    except InvalidURI:
        return uri.partition(":")[0]
    # For Azure the authority is the vault; elsewhere it is the first part of the secret's name.
    vault = location.path.partition("/")[0] if location.scheme == "azurekeyvault" else ""
    shared = [location.options[name] for name in _SHARED if name in location.options]
    return " ".join(filter(None, [location.scheme, vault, *shared]))
