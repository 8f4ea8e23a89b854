"""``cmzon-secrets revoke``: a token dies now."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any, Literal, cast

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
from cmzon_secrets.errors import CMzonSecretsError, TokenNotFound
from cmzon_secrets.provider import TokenStore

__all__ = ["command"]

_Stage = Literal["current", "pending", "previous"]


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
    from cmzon_secrets.registry import open_store
    from cmzon_secrets.rotation import Rotator

    if stage is not None and token_id is not None:
        raise UsageFailure("--stage and --id cannot go together")
    chosen = cast("_Stage", stage or "current")
    target = find_target(uri, account)
    policy = target.policy(options)
    with open_store(target.uri) as store, closing(target.open_issuer(options)) as issuer:
        doomed, shown = (token_id, token_id) if token_id else _held(store, chosen)
        if not yes:
            agreed(f"Revoke {shown} of {store.uri} now, without grace?")
        note(f"revoking {shown}; to repeat this if it fails: --id {doomed}")
        # By the id that was confirmed: a rotation may have moved the stages since.
        report = Rotator(store, issuer, policy).revoke(token_id=doomed, replace=not no_replace)
        if report.state == "failed":
            _warn(doomed)
        return finish(report, store.uri, account=target.account, as_json=as_json)


def _warn(token_id: str) -> None:
    note(paint(f"STILL ALIVE: {token_id}", sys.stderr, fg="red", bold=True))


def _held(store: TokenStore, stage: _Stage) -> tuple[str, str]:
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
    return token.id, f"{token.id} ({masked(token)})"
