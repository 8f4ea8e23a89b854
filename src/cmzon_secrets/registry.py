"""Scheme or name → class: where URIs become providers, stores, keys and issuers.

Rows are strings, so nothing is imported until it is opened, and static imports stop at the
contracts. Third parties add rows with entry points in the groups ``cmzon_secrets.providers``,
``cmzon_secrets.keys`` and ``cmzon_secrets.issuers``; a name of ours cannot be replaced.

Where ``key`` is among a provider's ``OPTIONS``, the key URI given there is opened first and handed
over as ``from_location(location, key=…)``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from cmzon_secrets.errors import ConfigurationError, InvalidURI, ReadOnlyProvider, retold
from cmzon_secrets.issuer import TokenIssuer
from cmzon_secrets.provider import TokenProvider, TokenStore
from cmzon_secrets.sealing import SealingKey
from cmzon_secrets.uri import Location, parse

__all__ = ["open_issuer", "open_key", "open_provider", "open_store"]


_PROVIDERS = {
    "env": "cmzon_secrets.providers.environment:EnvironmentVariable",
    "file": "cmzon_secrets.providers.sealed_file:SealedFile",
}
_KEYS = {
    "env": "cmzon_secrets.sealing_keys.environment:EnvironmentKey",
    "keyfile": "cmzon_secrets.sealing_keys.key_file:KeyFile",
    "keyring": "cmzon_secrets.sealing_keys.os_keyring:KeyringKey",
    "passphrase": "cmzon_secrets.sealing_keys.passphrase:PassphraseKey",
}
_ISSUERS = {
    "cmzon": "cmzon_secrets.issuers.cmzon:CMzonIssuer",
    "manual": "cmzon_secrets.issuers.manual:ManualIssuer",
}


def open_provider(uri: str | None = None, **options: Any) -> TokenProvider:
    """The provider a URI names; default ``$CMZON_TOKEN_URI``.

    Options may stand in the URI or be given here by name, not both. Nothing is read yet.
    Raises InvalidURI, or ConfigurationError where an extra is missing.
    """
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


def open_store(uri: str | None = None, **options: Any) -> TokenStore:
    """Like ``open_provider``, for a place that holds stages; raises ReadOnlyProvider for others."""
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
    rows = _rows(_ISSUERS, "issuers")
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


def _open(
    uri: str, table: Mapping[str, str], group: str, what: str, options: Mapping[str, Any]
) -> Any:
    rows = _rows(table, group)
    location = parse(uri, schemes=rows, what=what)
    cls = _load(rows[location.scheme])
    given_key = options.get("key")
    location = _with_options(location, options)
    location.refuse_unknown_options(cls.OPTIONS)
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


def _rows(table: Mapping[str, str], group: str) -> dict[str, str]:
    from importlib.metadata import entry_points

    found = {e.name: e.value for e in entry_points(group=f"cmzon_secrets.{group}")}
    return {**found, **table}


def _load(row: str) -> Any:
    module, _, name = row.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"{row} — it cannot be loaded: {error}",
            hint="install the package that offers it anew",
        ) from error
