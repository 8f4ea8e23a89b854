"""Which token a command is about: a URI, ``$CMZON_TOKEN_URI``, or an account of the file.

What stands nearer wins: an option of the command, then the account named by ``--account``, then
the environment, then the default. The configuration file is read only where ``--account`` asks for
it (or ``status`` is asked about nothing in particular), so that nothing is guessed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from cmzon_secrets.cli.failures import UsageFailure, repeatable, typed_here
from cmzon_secrets.cli.output import note
from cmzon_secrets.config import DEFAULT_NAME, FILE_NAME, Account, Config, find_config, load_config
from cmzon_secrets.errors import ConfigurationError, InvalidURI, ReadOnlyProvider

if TYPE_CHECKING:
    from cmzon_secrets.events import Event, Subscriber
    from cmzon_secrets.issuer import TokenIssuer
    from cmzon_secrets.provider import TokenProvider, TokenStore
    from cmzon_secrets.rotation import RotationPolicy

__all__ = [
    "Target",
    "answering",
    "chosen_policy",
    "find_fleet",
    "find_target",
    "find_targets",
    "quiet_libraries",
]


EXAMPLE = "file:token.sealed?key=keyfile:token.key"
"""A URI, to be seen once by whoever has none yet."""


def tell_of_falls(event: Event) -> None:
    """A chain never goes on in silence: a line on standard error for each place passed over."""
    if event.name == "chain_fell_through":
        why = "is down" if event.facts["error"] == "ProviderUnavailable" else "has no token"
        note(repeatable(f"passed over: {event.facts['place']} {why}"))


@dataclass(frozen=True, slots=True)
class Target:
    """One token and what is known of how it is made. ``account`` is None for a bare URI.

    ``uri`` is several where an account has a chain, which can only be read. ``typed``: the URI
    stands on this command line, so that a fault in it is a usage error. ``config``: the file that
    the account stands in.
    """

    uri: str | tuple[str, ...]
    typed: bool = False
    account: str | None = None
    issuer: str = "cmzon"
    admin: str | None = None
    base_url: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    on_outage: bool = False
    config: Config | None = field(default=None, repr=False, compare=False)

    @property
    def uris(self) -> tuple[str, ...]:
        """The place, or the links of the chain in their order."""
        return (self.uri,) if isinstance(self.uri, str) else self.uri

    @property
    def place(self) -> str:
        """What was written down of where the token is, for people."""
        return ", then ".join(self.uris)

    def open_provider(self, subscriber: Subscriber | None = tell_of_falls) -> TokenProvider:
        """The place, to read from. Where it is a chain, ``subscriber`` is told what it passes over."""
        from cmzon_secrets.registry import open_provider

        quiet_libraries()
        with typed_here(InvalidURI, when=self.typed):
            return open_provider(self.uri, on_outage=self.on_outage, subscriber=subscriber)

    def open_store(self) -> TokenStore:
        """The place, to write to. Raises ReadOnlyProvider for a chain."""
        from cmzon_secrets.registry import open_store

        if not isinstance(self.uri, str):
            raise ReadOnlyProvider(
                f"account {self.account} — its token is a chain of {len(self.uri)} places,"
                " which is for reading: what is written must have one place",
                uri=self.place,
                hint=f"give the one place to write as well: URI --account {self.account}",
            )
        quiet_libraries()
        with typed_here(InvalidURI, when=self.typed):
            return open_store(self.uri)

    def overridden(self, options: Mapping[str, Any]) -> Account:
        """What is known of the token as an account, where the options given win."""
        return Account(
            name=self.account or DEFAULT_NAME,
            token=self.uri,
            on_outage=self.on_outage,
            issuer=options.get("issuer") or self.issuer,
            admin=options.get("admin") or self.admin,
            base_url=options.get("base_url") or self.base_url,
            policy={"name": DEFAULT_NAME, **self.settings, **chosen_policy(options)},
        )

    def policy(self, options: Mapping[str, Any]) -> RotationPolicy:
        """The policy of the account, overridden by the options given; errors name its line."""
        from cmzon_secrets.accounts import policy_of

        chosen = bool(chosen_policy(options))
        with typed_here(ConfigurationError, when=chosen):
            return policy_of(self.overridden(options), None if chosen else self.config)

    def open_issuer(self, options: Mapping[str, Any]) -> TokenIssuer:
        """The issuer named by option or account. Raises ConfigurationError where it lacks its admin."""
        from cmzon_secrets.accounts import wired_issuer

        name = options["issuer"] or self.issuer
        base_url = options["base_url"] or self.base_url
        with (
            typed_here(ConfigurationError, when=options["issuer"] is not None),
            typed_here(InvalidURI, when=options["admin"] is not None),
        ):
            return wired_issuer(
                name, admin=self.admin_uri(options), base_url=base_url, ca=options["ca"]
            )

    def open_verifier(self, options: Mapping[str, Any], provider: TokenProvider) -> TokenIssuer:
        """The same issuer, only to verify tokens: it needs no admin token for that."""
        from cmzon_secrets.accounts import wired_issuer

        if (options["issuer"] or self.issuer) != "cmzon":
            return self.open_issuer(options)
        base_url = options["base_url"] or self.base_url
        return wired_issuer("cmzon", admin=provider, base_url=base_url, ca=options["ca"])

    def admin_uri(self, options: Mapping[str, Any]) -> str | None:
        """Where the admin token is, by option, account or environment."""
        return options["admin"] or self.admin or os.environ.get("CMZON_ADMIN_URI") or None


def answering(provider: TokenProvider) -> TokenProvider:
    """The place that gave the last token: the provider itself, or a link of the chain that it is."""
    return getattr(provider, "answered", None) or provider


def chosen_policy(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the policy that were given on the command line."""
    from cmzon_secrets.rotation import RotationPolicy

    given = {field.name: options.get(field.name) for field in fields(RotationPolicy)}
    return {name: value for name, value in given.items() if value not in (None, (), False)}


@cache
def quiet_libraries() -> None:
    """What an SDK logs as a warning is told by our one error line; Python prints it where nobody listens."""
    import logging

    logging.getLogger().addHandler(logging.NullHandler())


def find_target(uri: str | None, account: str | None) -> Target:
    """The one token meant. Raises UsageFailure where none is, or two are."""
    _refuse_name_of_account(uri)
    if account is not None:
        config = _config()
        with typed_here(ConfigurationError):
            target = _of(config.account(account), config)
        if uri is None:
            return target
        if uri not in target.uris:
            raise UsageFailure(f"URI and --account {account} name two different places")
        return replace(target, uri=uri, on_outage=False)  # of a chain, this link
    return Target(_required(uri), typed=bool(uri))


def find_targets(uris: tuple[str, ...], account: str | None) -> list[Target]:
    """The tokens meant: those given, else the default, else every account of the file."""
    if len(uris) > 1 and account is not None:
        raise UsageFailure("several URIs and --account cannot go together")
    if len(uris) > 1:
        return [find_target(uri, None) for uri in uris]
    if uris or account is not None or os.environ.get("CMZON_TOKEN_URI"):
        return [find_target(uris[0] if uris else None, account)]
    if find_config() is None:
        return [Target(_required(None))]
    return find_fleet()


def find_fleet() -> list[Target]:
    """Every account of the configuration file, in its order.

    Raises ConfigurationError where there is no file, or no account in it.
    """
    config = _config()
    if not config.accounts:
        raise ConfigurationError(
            f"{config.path} — there is no account in it",
            hint='begin one with [accounts.NAME] and token = "URI of its store"',
        )
    return [_of(account, config) for account in config.accounts.values()]


def _refuse_name_of_account(uri: str | None) -> None:
    """Of a text that is no URI, the file says whether it is an account's name; a broken one says nothing."""
    if uri is None or ":" in uri:
        return
    with suppress(ConfigurationError):
        path = find_config()
        if path is not None and uri in load_config(path).accounts:
            raise UsageFailure(
                "that is no URI, but the name of an account",
                hint=f"did you mean --account {shlex.quote(uri)}?",
            )


def _required(uri: str | None) -> str:
    """``uri``, else ``$CMZON_TOKEN_URI``. Raises UsageFailure where there is neither."""
    found = uri or os.environ.get("CMZON_TOKEN_URI")
    if not found:
        raise UsageFailure(
            "no URI is given",
            hint=f"give one, for example '{EXAMPLE}', set CMZON_TOKEN_URI,"
            f" or name an --account of {FILE_NAME}",
        )
    return found


def _config() -> Config:
    path = find_config()
    if path is None:
        raise ConfigurationError(
            f"{FILE_NAME} — there is none in this folder or above it",
            hint="make one (docs/cli.md shows how), or set CMZON_SECRETS_CONFIG",
        )
    return load_config(path)


def _of(account: Account, config: Config) -> Target:
    return Target(
        config=config,
        uri=account.token,
        account=account.name,
        issuer=account.issuer,
        admin=account.admin,
        base_url=account.base_url,
        settings=account.policy,
        on_outage=account.on_outage,
    )
