"""``cmzon-secrets rotate``: the reconcile loop for one account."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import click

from cmzon_secrets.cli.failures import UsageFailure
from cmzon_secrets.cli.options import (
    account_option,
    issuer_options,
    json_option,
    policy_options,
    uri_argument,
)
from cmzon_secrets.cli.output import note
from cmzon_secrets.cli.reports import finish
from cmzon_secrets.cli.targets import find_target

__all__ = ["command"]


@click.command()
@uri_argument
@issuer_options
@click.option("--force", is_flag=True, help="Rotate now, due or not; no grace is shortened.")
@click.option(
    "--rollback", is_flag=True, help="Make PREVIOUS current again, while it is still valid."
)
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would be done.")
@account_option
@policy_options
@json_option
def command(
    *,
    uri: str | None,
    account: str | None,
    force: bool,
    rollback: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Rotate a token where due, until done or something to wait for.

    Issues a token, verifies it, stages and promotes it; the replaced one is revoked by a later run,
    when its grace is over: run this on a schedule. Killed or run twice at once, it harms nothing.
    Exit code 0 done or waiting, 1 failed, 3 where a person is needed.
    """
    from cmzon_secrets.rotation import Rotator
    from cmzon_secrets.rotation.places import GuardedStore

    if force and rollback:
        raise UsageFailure("--force and --rollback cannot go together")
    target = find_target(uri, account)
    policy = target.policy(options)
    with target.open_store() as store, closing(target.open_issuer(options)) as issuer:
        for warning in policy.warnings if sys.stderr.isatty() else ():
            note(f"warning: {warning}")
        # A mistyped name in a cron job shall not make a second secret.
        rotator = Rotator(GuardedStore(store), issuer, policy)
        report = (
            rotator.rollback(dry_run=dry_run)
            if rollback
            else rotator.run(force=force, dry_run=dry_run)
        )
        return finish(report, store.uri, account=target.account, as_json=as_json)
