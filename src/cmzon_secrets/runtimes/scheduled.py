"""What every runtime does when its time comes: rotate all that is configured, and tell how it ended.

Configured by ``CMZON_SECRETS_CONFIG`` (many accounts), else by ``CMZON_TOKEN_URI`` and its companions
(one account: ``config.account_from_environment``). Nothing is remembered between calls but open
connections: a run that was killed is resumed by the next one.

Items are those of ``cmzon-secrets rotate --json``: ``account, uri, state, actions, reason,
next_due, error``; plain JSON, no secret in any.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cmzon_secrets.accounts import members, open_account
from cmzon_secrets.config import Account, Config, account_from_environment, load_config
from cmzon_secrets.errors import CMzonSecretsError, ConfigurationError, RotationError
from cmzon_secrets.events import Subscriber
from cmzon_secrets.records import format_time
from cmzon_secrets.rotation import Fleet, RotationReport, Rotator
from cmzon_secrets.rotation.places import GuardedStore
from cmzon_secrets.runtimes.event_log import told
from cmzon_secrets.runtimes.warm import warm_issuers
from cmzon_secrets.typed import quoted
from cmzon_secrets.uri import split

__all__ = [
    "Configured",
    "configured",
    "failure",
    "report_item",
    "revoke_configured",
    "rotate_configured",
]


@dataclass(frozen=True, slots=True)
class Configured:
    """The accounts this runtime is for, and the file they stand in, where there is one."""

    accounts: Mapping[str, Account]
    config: Config | None = None

    def account(self, name: str | None) -> Account:
        """The account of this name; None: the only one. Raises ConfigurationError."""
        if self.config is not None and name is not None:
            return self.config.account(name)
        if name is None and len(self.accounts) == 1:
            return next(iter(self.accounts.values()))
        if name is not None and name in self.accounts:
            return self.accounts[name]
        raise ConfigurationError(
            f"account {quoted(name)} — this runtime is for another one"
            if name is not None
            else f"account — none is named, and {len(self.accounts)} are configured",
            hint='name it: {"account": NAME, …}',
        )


def configured(environ: Mapping[str, str] = os.environ) -> Configured:
    """What the environment says. Raises ConfigurationError, InvalidURI."""
    path = environ.get("CMZON_SECRETS_CONFIG")
    if path:
        config = _unless_read(Path(path))
        return Configured(config.accounts, config)
    account = account_from_environment(environ)
    if account.token:
        split(account.place)  # before it is repeated anywhere: it might be the token itself
    return Configured({account.name: account})


def _unless_read(path: Path) -> Config:
    """The file, read again only where it has changed: a task queue asks for every single account."""
    try:
        found = path.stat()
    except OSError:
        return load_config(path)  # which says what is wrong
    return _read(path, found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1)
def _read(path: Path, *version: int) -> Config:  # noqa: ARG001  # what the cache goes by
    return load_config(path)


def rotate_configured(
    *,
    account: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    time_limit: float | None = None,
    subscriber: Subscriber | None = None,
) -> list[dict[str, Any]]:
    """Rotate where due: the ``account``, or all there are; an item for each, in the file's order.

    ``time_limit``: seconds after which no account is begun any more; those are ``waiting``, and the
    next call goes on with them. What goes wrong with one account is in its item; raises
    ConfigurationError or InvalidURI where the configuration itself cannot be used.
    """
    found = configured()
    chosen = list(found.accounts.values()) if account is None else [found.account(account)]
    _require_places(chosen)
    with warm_issuers() as issuers:
        fleet = Fleet(
            members(chosen, issuers, config=found.config),
            time_limit=time_limit,
            subscriber=subscriber,
        )
        outcomes = fleet.rotate(force=force, dry_run=dry_run)
        ended = {o.name: report_item(o.name, o.uri, o.report) for o in outcomes}
    return [ended[a.name] for a in chosen]


def revoke_configured(
    *,
    account: str | None = None,
    token_id: str | None = None,
    replace: bool = True,
    subscriber: Subscriber | None = None,
) -> dict[str, Any]:
    """The emergency: kill ``token_id`` in whatever stage it is (None: CURRENT), replaced before that.

    ``account`` may be left out where there is one only. Raises as ``rotate_configured`` does.
    """
    chosen = configured().account(account)
    _require_places([chosen])
    with warm_issuers() as issuers:
        try:
            with open_account(chosen, issuers) as (store, issuer, policy):
                rotator = Rotator(GuardedStore(store), issuer, policy, subscriber=subscriber)
                report = rotator.revoke(token_id=token_id, replace=replace)
        except CMzonSecretsError as error:
            report = RotationReport("failed", reason=str(error), error=error)
    return report_item(chosen.name, chosen.place, report)


def report_item(account: str | None, uri: str, report: RotationReport) -> dict[str, Any]:
    """One report as plain JSON."""
    return {
        "account": account,
        "uri": uri,
        "state": report.state,
        "actions": [
            {"kind": a.kind, "token_id": a.token_id, "outcome": told(a.outcome)}
            for a in report.actions
        ],
        "reason": told(report.reason),
        "next_due": report.next_due and format_time(report.next_due),
        "error": report.error and _error(report.error),
    }


def failure(items: Sequence[Mapping[str, Any]]) -> RotationError | None:
    """The error to raise, so that the runtime counts the run as failed; None where nothing did."""
    failed = [item for item in items if item["state"] == "failed"]
    if not failed:
        return None
    first = failed[0]
    count = f"{len(failed)} of {len(items)} failed, the first: " if len(items) > 1 else ""
    hint = (first["error"] or {}).get("hint")
    return RotationError(f"{count}account {first['account']} — {first['reason']}", hint=hint)


def _error(error: CMzonSecretsError) -> dict[str, Any]:
    facts = {name: getattr(error, name, None) for name in ("status", "request_id", "retry_after")}
    return {
        "type": type(error).__name__,
        "message": told(str(error)),
        "hint": error.hint and told(error.hint),
        **{name: fact for name, fact in facts.items() if fact is not None},
    }


def _require_places(accounts: Iterable[Account]) -> None:
    if all(account.token for account in accounts):
        return
    raise ConfigurationError(
        "no token URI — it is not said which token is to be rotated",
        hint="set CMZON_TOKEN_URI, or CMZON_SECRETS_CONFIG for many accounts",
    )
