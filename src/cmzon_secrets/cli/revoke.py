"""``cmzon-secrets revoke``: a token dies now."""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import click

from cmzon_secrets.cli.asking import agreed
from cmzon_secrets.cli.failures import UsageFailure
from cmzon_secrets.cli.options import (
    account_option,
    issuer_options,
    json_option,
    policy_options,
    uri_argument,
)
from cmzon_secrets.cli.output import masked, note, paint
from cmzon_secrets.cli.reports import finish
from cmzon_secrets.cli.targets import find_target
from cmzon_secrets.errors import CMzonSecretsError, InvalidToken, TokenNotFound, shielded
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.tokens import Token, Versions

if TYPE_CHECKING:
    from cmzon_secrets.rotation import RotationReport

__all__ = ["command"]

LONGEST_ID = 64  # characters; what is longer and held by nobody is rather a token


@click.command()
@uri_argument
@click.option(
    "--stage",
    type=click.Choice(["current", "pending", "previous"]),
    help="Which token; default current.",
)
@click.option("--id", "token_id", metavar="ID", help="This token, in whatever stage it is.")
@click.option("--no-replace", is_flag=True, help="Do not issue a new token first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@issuer_options
@account_option
@policy_options
@json_option
def command(
    *,
    uri: str | None,
    stage: str | None,
    token_id: str | None,
    no_replace: bool,
    yes: bool,
    account: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Emergency: kill a token now, replacing it first.

    Where CURRENT is meant, a new token is issued, verified and promoted, then the leaked one is
    revoked without grace, and with it whatever is PREVIOUS. Success only when death is proved;
    else exit code 1 and the words STILL ALIVE. To repeat a run that died, give --id: the new CURRENT
    must not be taken for the leaked one.
    """
    from cmzon_secrets.rotation import Rotator

    if stage is not None and token_id is not None:
        raise UsageFailure("--stage and --id cannot go together")
    if token_id == "":
        raise UsageFailure("--id is empty")  # not CURRENT in its stead
    target = find_target(uri, account)
    policy = target.policy(options)
    with target.open_store() as store, closing(target.open_issuer(options)) as issuer:
        doomed, known_as = _named(store, token_id) if token_id else _held(store, stage or "current")
        if not yes:
            agreed(f"Revoke {known_as} of {store.uri} now, without grace?")
        note(f"revoking {known_as}\nto repeat this if it fails: --id {doomed}")
        # By the id that was confirmed: a rotation may have moved the stages since.
        report = Rotator(store, issuer, policy).revoke(token_id=doomed, replace=not no_replace)
        for alive in _alive(report, doomed):
            _warn(alive)
        return finish(report, store.uri, account=target.account, as_json=as_json)


def _alive(report: RotationReport, doomed: str) -> list[str]:
    """The ids that may live on: the leaked one, and what was to be revoked with it."""
    revocations = {a.token_id: a.outcome for a in report.actions if a.kind == "revoke"}
    failed = [token_id for token_id, outcome in revocations.items() if outcome != "ok"]
    return list(dict.fromkeys([doomed, *failed] if report.state == "failed" else failed))


def _warn(what: str) -> None:
    note(paint(f"STILL ALIVE: {what}", sys.stderr, fg="red", bold=True))


def _named(store: TokenStore, token_id: str) -> tuple[str, str]:
    """The id that was typed, twice. Raises UsageFailure for what is a token's value, or may be."""
    held = Versions()
    with suppress(CMzonSecretsError):  # out of reach: the issuer alone may be enough
        held = store.versions()
    if _may_be_value(token_id, held):
        raise UsageFailure(
            "--id — that is the token, not its id", hint="`cmzon-secrets status` shows the ids"
        )
    return token_id, token_id


@shielded
def _may_be_value(typed: str, held: Versions) -> bool:
    """Whether ``typed`` is, or may be, the value of a token. An id that is held is none."""
    if held.find(typed) is not None:
        return False
    try:
        is_held = Token(typed) in held
    except InvalidToken:
        is_held = False
    return is_held or len(typed) > LONGEST_ID or typed.lower().startswith("cmz_")


def _held(store: TokenStore, stage: str) -> tuple[str, str]:
    """The id in ``stage``, bare and as people see it. Raises TokenNotFound where it is empty."""
    try:
        token = getattr(store.versions(), stage)
    except CMzonSecretsError:
        _warn(
            f"{stage.upper()}; where the store cannot be read, --id ID --no-replace needs only the issuer"
        )
        raise
    if token is None:
        raise TokenNotFound(
            f"{store.uri} — nothing is held as {stage.upper()}, so nothing was revoked",
            uri=store.uri,
            hint="name the token: --id ID",
        )
    known_as = f"{token.id} ({masked(token)})" if token.has_issuer_id else masked(token)
    return token.id, known_as
