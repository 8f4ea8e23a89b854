"""``cmzon-secrets status``: where each token stands, as its store tells it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from cmzon_secrets.cli.failures import FAILED, error_record
from cmzon_secrets.cli.options import account_option, json_option, policy_options
from cmzon_secrets.cli.output import (
    describe_moment,
    describe_span,
    masked,
    note,
    oneline,
    paint,
    paint_state,
    print_items,
    say,
    token_facts,
)
from cmzon_secrets.cli.targets import Target, find_targets
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import CMzonSecretsError, InvalidURI
from cmzon_secrets.provider import TokenProvider, TokenStore
from cmzon_secrets.rotation import Outlook, outlook
from cmzon_secrets.tokens import Token, Versions

__all__ = ["ATTENTION", "command"]

ATTENTION = 3
"""Exit code: a person is needed."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """One token's state; ``versions`` is None where it could not be read."""

    target: Target
    uri: str
    versions: Versions | None
    outlook: Outlook
    error: CMzonSecretsError | None = None


@click.command()
@click.argument("uris", metavar="[URI]...", nargs=-1)
@account_option
@policy_options
@json_option
def command(uris: tuple[str, ...], account: str | None, as_json: bool, **options: Any) -> int:
    """Show stages, ages, expiry, and when rotation is due.

    Asks the stores only, not the API. Without URI, CMZON_TOKEN_URI and --account: all accounts of
    cmzon-secrets.toml. Give the policy options that rotation gets, where no account has them.
    Exit code 3 where rotation is overdue or stuck, 1 where a store cannot be read.
    """
    now = SYSTEM_CLOCK.now()
    standings = [_look(target, options, now) for target in find_targets(uris, account)]
    if as_json:
        print_items([_record(standing) for standing in standings])
    else:
        for standing in standings:
            _show(standing, now)
    states = {standing.outlook.state for standing in standings}
    return FAILED if "failed" in states else ATTENTION if "attention" in states else 0


def _look(target: Target, options: Mapping[str, Any], now: datetime) -> _Standing:
    from cmzon_secrets.registry import open_provider

    try:
        policy = target.policy(options)
        with open_provider(target.uri) as provider:
            versions = _versions(provider)
            view = outlook(versions, policy, now)
            if not isinstance(provider, TokenStore):
                view = _read_only(view)
            return _Standing(target, provider.uri, versions, view)
    except CMzonSecretsError as error:
        if isinstance(error, InvalidURI) and target.account is None:
            raise  # what was typed is wrong: usage, not the state of a token
        return _Standing(target, target.uri, None, Outlook("failed", error.message), error)


def _versions(provider: TokenProvider) -> Versions:
    if isinstance(provider, TokenStore):
        return provider.versions()
    return Versions(current=provider.get())


def _read_only(view: Outlook) -> Outlook:
    return Outlook(view.state, view.reason or "read-only: whoever fills it rotates it")


def _record(standing: _Standing) -> dict[str, Any]:
    versions, view = standing.versions, standing.outlook
    return {
        "account": standing.target.account,
        "uri": standing.uri,
        "state": view.state,
        "actions": [],
        "reason": view.reason,
        "next_due": view.next_due,
        "error": error_record(standing.error) if standing.error is not None else None,
        "stages": _stages(versions) if versions is not None else None,
    }


def _stages(versions: Versions) -> dict[str, Any]:
    held = {name: token and token_facts(token) for name, token in _named(versions)}
    return {**held, "promoted_at": versions.promoted_at}


def _named(versions: Versions) -> tuple[tuple[str, Token | None], ...]:
    return (
        ("current", versions.current),
        ("pending", versions.pending),
        ("previous", versions.previous),
    )


def _show(standing: _Standing, now: datetime) -> None:
    view = standing.outlook
    name = f"{standing.target.account}  " if standing.target.account else ""
    say(f"{paint(name, sys.stdout, bold=True)}{standing.uri}")
    for stage, token in _named(standing.versions or Versions()):
        if token is not None:
            say(f"  {stage.upper():<9} {masked(token)}  {_life(token, standing.versions, now)}")
    reason = f" — {oneline(view.reason)}" if view.reason else ""
    due = f"; next due {describe_moment(view.next_due, now)}" if view.next_due else ""
    say(f"  {paint_state(view.state)}{reason}{due}")
    if standing.error is not None and standing.error.hint:
        note(f"{paint('hint:', sys.stderr, fg='cyan')} {oneline(standing.error.hint)}")


def _life(token: Token, versions: Versions | None, now: datetime) -> str:
    known = f"  {token.id}" if token.has_issuer_id else ""
    age = "age unknown"
    if token.issued_at is not None:
        age = f"age {describe_span(now - token.issued_at)}"
    elif versions is not None and versions.promoted_at and token is versions.current:
        age = f"stored {describe_span(now - versions.promoted_at)} ago"
    expiry = (
        f"expires {describe_moment(token.expires_at, now)}" if token.expires_at else "no expiry"
    )
    return f"{age}, {expiry}{known}"
