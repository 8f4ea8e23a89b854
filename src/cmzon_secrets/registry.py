"""Scheme or name → class: where URIs become providers, stores, keys and issuers.

Rows are strings, so nothing is imported until it is opened, and static imports stop at the
contracts and the chain. Third parties add rows with entry points in the groups ``cmzon_secrets.providers``,
``cmzon_secrets.keys`` and ``cmzon_secrets.issuers``, and how `doctor` looks at them in ``cmzon_secrets.examinations``; a
name of ours cannot be replaced.

Where ``key`` is among a provider's ``OPTIONS``, the key URI given there is opened first and handed
over as ``from_location(location, key=…)``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol

from cmzon_secrets.chain import Chain
from cmzon_secrets.errors import (
    CMzonSecretsError,
    ConfigurationError,
    InvalidURI,
    ReadOnlyProvider,
    retold,
)
from cmzon_secrets.events import Subscriber
from cmzon_secrets.findings import Finding, Role
from cmzon_secrets.issuer import TokenIssuer
from cmzon_secrets.provider import TokenProvider, TokenStore
from cmzon_secrets.sealing import SealingKey
from cmzon_secrets.uri import Location, parse

__all__ = [
    "Examination",
    "find_examination",
    "find_key_examination",
    "locate_key",
    "locate_provider",
    "open_issuer",
    "open_key",
    "open_provider",
    "open_store",
]


_PROVIDERS = {
    "awskms": "cmzon_secrets.providers.aws_kms:AWSKMSCiphertext",
    "awssecretsmanager": "cmzon_secrets.providers.aws_secrets_manager:AWSSecretsManager",
    "azurekeyvault": "cmzon_secrets.providers.azure_key_vault:AzureKeyVault",
    "env": "cmzon_secrets.providers.environment:EnvironmentVariable",
    "file": "cmzon_secrets.providers.sealed_file:SealedFile",
    "hashivault": "cmzon_secrets.providers.vault_kv:VaultKV",
}
_KEYS = {
    "awskms": "cmzon_secrets.sealing_keys.aws_kms:AWSKMSKey",
    "azurekeyvault": "cmzon_secrets.sealing_keys.azure_key:AzureKey",
    "env": "cmzon_secrets.sealing_keys.environment:EnvironmentKey",
    "hashivault-transit": "cmzon_secrets.sealing_keys.vault_transit:VaultTransitKey",
    "keyfile": "cmzon_secrets.sealing_keys.key_file:KeyFile",
    "keyring": "cmzon_secrets.sealing_keys.os_keyring:KeyringKey",
    "passphrase": "cmzon_secrets.sealing_keys.passphrase:PassphraseKey",
}
_ISSUERS = {
    "cmzon": "cmzon_secrets.issuers.cmzon:CMzonIssuer",
    "manual": "cmzon_secrets.issuers.manual:ManualIssuer",
}
_EXAMINATIONS = {
    "awskms": "cmzon_secrets.examinations.aws_kms",
    "awssecretsmanager": "cmzon_secrets.examinations.aws_secret",
    "azurekeyvault": "cmzon_secrets.examinations.azure_secret",
    "env": "cmzon_secrets.examinations.environment",
    "file": "cmzon_secrets.examinations.sealed_file",
    "hashivault": "cmzon_secrets.examinations.vault_kv",
}
_KEY_EXAMINATIONS = {
    "awskms": "cmzon_secrets.examinations.aws_kms",
    "azurekeyvault": "cmzon_secrets.examinations.azure_key",
    "hashivault-transit": "cmzon_secrets.examinations.vault_transit",
}


class Examination(Protocol):
    """What `doctor` asks of a scheme: a module, see ``cmzon_secrets.examinations``."""

    def policy(self, location: Location, role: Role, /) -> str:
        """The least permissions for what a URI names, from the URI alone.

        Raises InvalidURI, and ConfigurationError where there are none to grant.
        """

    def examine(self, subject: Any, role: Role, /) -> Iterator[Finding]:
        """What there is to say of an opened provider or key; changes nothing."""


def open_provider(
    uri: str | Sequence[str] | None = None,
    *,
    on_outage: bool = False,
    subscriber: Subscriber | None = None,
    **options: Any,
) -> TokenProvider:
    """The provider a URI names; default ``$CMZON_TOKEN_URI``. Several URIs are a ``Chain``.

    Options may stand in the URI or be given here by name, not both; those given here hold for every
    link of a chain. ``on_outage`` and ``subscriber`` are the chain's. Nothing is read yet, and no
    SDK loaded. Raises InvalidURI, or ConfigurationError.
    """
    if isinstance(uri, list | tuple):
        return _open_chain(uri, on_outage, subscriber, options)
    if on_outage:
        raise ConfigurationError(
            "on_outage — it needs a chain: with one place there is nothing to go on to",
            hint="give a list of URIs, in their order of trust",
        )
    if uri is None:
        uri = os.environ.get("CMZON_TOKEN_URI")
        if not uri:
            raise ConfigurationError(
                "no token URI — none was given and CMZON_TOKEN_URI is not set",
                hint="export CMZON_TOKEN_URI=file:PATH",
            )
    if not isinstance(uri, str):
        raise ConfigurationError(f"token URI — a string is needed, got {type(uri).__name__}")
    provider: TokenProvider = _open(uri, _PROVIDERS, "providers", "provider", options)
    return provider


def _open_chain(
    uris: Sequence[str],
    on_outage: bool,
    subscriber: Subscriber | None,
    options: Mapping[str, Any],
) -> Chain:
    if not all(isinstance(uri, str) for uri in uris):
        raise ConfigurationError("chain — each link must be a URI")
    if len(set(uris)) < len(uris):
        raise ConfigurationError("chain — a URI stands in it twice", hint="name each place once")
    with ExitStack() as opened:
        links = []
        for number, uri in enumerate(uris, start=1):
            try:
                links.append(opened.enter_context(open_provider(uri, **options)))
            except CMzonSecretsError as error:
                raise retold(error, f"link {number} of the chain: {error}") from error
        chain = Chain(links, on_outage=on_outage, subscriber=subscriber)
        opened.pop_all()  # closed by the chain from now on
        return chain


def open_store(uri: str | None = None, **options: Any) -> TokenStore:
    """Like ``open_provider``, for a place that holds stages; raises ReadOnlyProvider for others."""
    if isinstance(uri, list | tuple):
        raise ReadOnlyProvider(
            "chain — it is for reading: what is written must have one place",
            hint="name the one place that is to be written",
        )
    provider = open_provider(uri, **options)
    if not isinstance(provider, TokenStore):
        provider.close()
        raise ReadOnlyProvider(
            f"{provider.uri} — it can be read but never written",
            uri=provider.uri,
            hint="use a store, for example file:PATH",
        )
    return provider


def open_key(uri: str | None = None, **options: Any) -> SealingKey:
    """The sealing key a URI names; default ``$CMZON_SECRETS_KEY``, else ``passphrase:``."""
    if uri is None:
        uri = os.environ.get("CMZON_SECRETS_KEY") or "passphrase:"
    key: SealingKey = _open(uri, _KEYS, "keys", "key", options)
    return key


def open_issuer(name: str = "cmzon", **options: Any) -> TokenIssuer:
    """The issuer of this name, made with ``options``; those it does not know are refused."""
    rows = _rows(_ISSUERS, "issuers", name)
    if name not in rows:
        raise ConfigurationError(
            f"issuer {name[:40]!r} — there is none of that name",
            hint=f"valid: {', '.join(sorted(rows))}",
        )
    cls = _load(rows[name])
    for option in options:
        if option not in cls.OPTIONS:
            raise ConfigurationError(
                f"issuer {name} — unknown option {option!r}; valid: {', '.join(sorted(cls.OPTIONS))}"
            )
    issuer: TokenIssuer = cls(**options)
    return issuer


def locate_provider(uri: str) -> Location:
    """The parts of a provider's URI, its scheme and options known; nothing is opened. Raises InvalidURI."""
    return _located(uri, _PROVIDERS, "providers", "provider")[0]


def locate_key(uri: str) -> Location:
    """The same of a sealing key's URI."""
    return _located(uri, _KEYS, "keys", "key")[0]


def find_examination(scheme: str) -> Examination | None:
    """How places of this scheme are examined; None where nobody said."""
    return _examination(_rows(_EXAMINATIONS, "examinations", scheme).get(scheme))


def find_key_examination(scheme: str) -> Examination | None:
    """How keys of this scheme are examined; None where there is nothing to ask."""
    return _examination(_KEY_EXAMINATIONS.get(scheme))


def _examination(row: str | None) -> Examination | None:
    try:
        return import_module(row) if row is not None else None
    except ImportError as error:
        raise _not_loaded(row or "", error) from error


def _located(
    uri: str,
    table: Mapping[str, str],
    group: str,
    what: str,
    options: Mapping[str, Any] | None = None,
) -> tuple[Location, Any]:
    """The parts of ``uri`` together with ``options``, and the class of its scheme."""
    rows = _rows(table, group, uri.partition(":")[0] if isinstance(uri, str) else "")
    location = parse(uri, schemes=rows, what=what)
    cls = _load(rows[location.scheme])
    location = _with_options(location, options or {})
    location.refuse_unknown_options(cls.OPTIONS)
    return location, cls


def _open(
    uri: str, table: Mapping[str, str], group: str, what: str, options: Mapping[str, Any]
) -> Any:
    location, cls = _located(uri, table, group, what, options)
    given_key = options.get("key")
    if "key" not in cls.OPTIONS:
        return cls.from_location(location)
    if isinstance(given_key, SealingKey):
        return cls.from_location(location, key=given_key)
    try:
        key = open_key(location.options.get("key"))
    except InvalidURI as error:
        raise retold(error, f"key= of the {location.scheme}: URI — {error}") from None
    return cls.from_location(location, key=key)


def _with_options(location: Location, options: Mapping[str, Any]) -> Location:
    for name in options:
        if name in location.options:
            raise InvalidURI(f"{location.scheme}: URI — option {name!r} is given twice")
    texts = {
        name: value.uri if isinstance(value, SealingKey) else str(value)
        for name, value in options.items()
        if value is not None
    }
    return replace(location, options={**location.options, **texts})


def _rows(table: Mapping[str, str], group: str, wanted: str) -> Mapping[str, str]:
    """The table; with what other packages offer, which takes milliseconds, where ``wanted`` is not in it."""
    if wanted in table:
        return table
    from importlib.metadata import entry_points

    found = {e.name: e.value for e in entry_points(group=f"cmzon_secrets.{group}")}
    return {**found, **table}


def _load(row: str) -> Any:
    module, _, name = row.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise _not_loaded(row, error) from error


def _not_loaded(row: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{row} — it cannot be loaded: {error}", hint="install the package that offers it anew"
    )
