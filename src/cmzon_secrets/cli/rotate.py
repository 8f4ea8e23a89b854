"""``cmzon-secrets rotate``: the reconcile loop for one account, or for all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from cmzon_secrets.cli.failures import UsageFailure
from cmzon_secrets.cli.options import (
    account_option,
    events_option,
    fleet_options,
    issuer_options,
    json_option,
    metrics_option,
    policy_options,
    uri_argument,
)
from cmzon_secrets.cli.output import note
from cmzon_secrets.cli.reports import finish
from cmzon_secrets.cli.targets import Target, find_target
from cmzon_secrets.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from cmzon_secrets.rotation import Outcome, RotationReport, Rotator

__all__ = ["command"]


@click.command()
@uri_argument
@issuer_options
@click.option("--all", "everything", is_flag=True, help="Every account of cmzon-secrets.toml.")
@click.option("--force", is_flag=True, help="Rotate now, due or not; no grace is shortened.")
@click.option(
    "--rollback", is_flag=True, help="Make PREVIOUS current again, while it is still valid."
)
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would be done.")
@fleet_options
@metrics_option
@events_option
@account_option
@policy_options
@json_option
def command(
    *,
    uri: str | None,
    account: str | None,
    everything: bool,
    force: bool,
    rollback: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Rotate a token where due, until done or something to wait for.

    Issues a token, verifies it, stages and promotes it; the replaced one is revoked by a later run,
    when its grace is over: run this on a schedule. Killed or run twice at once, it harms nothing.
    With --all a failure is that account's own. Exit code 0 done or waiting, 1 failed, 3 where a
    person is needed.
    """
    if force and rollback:
        raise UsageFailure("--force and --rollback cannot go together")
    if dry_run and options["metrics"] is not None:
        raise UsageFailure(
            "--dry-run and --metrics cannot go together: there is nothing to measure"
        )
    if everything:
        _refuse_words_of_one_account(uri=uri, account=account, rollback=rollback, **options)
        from cmzon_secrets.cli.fleet import rotate_all

        return rotate_all(options, force=force, dry_run=dry_run, as_json=as_json)
    _refuse_words_of_a_fleet(**options)

    def act(rotator: Rotator) -> RotationReport:
        if rollback:
            return rotator.rollback(dry_run=dry_run)
        return rotator.run(force=force, dry_run=dry_run)

    return _rotate(find_target(uri, account), options, act, as_json=as_json)


def _refuse_words_of_one_account(**given: object) -> None:
    words = {"uri": "URI", "account": "--account", "rollback": "--rollback", "name": "--name"}
    for word in (shown for name, shown in words.items() if given[name]):
        raise UsageFailure(f"--all and {word} cannot go together: that is one account's alone")


def _refuse_words_of_a_fleet(**given: object) -> None:
    for name in ("concurrency", "per_service", "jitter", "time_limit"):
        if given[name] is not None:
            raise UsageFailure(f"--{name.replace('_', '-')} is for many accounts", hint="add --all")


def _rotate(
    target: Target,
    options: Mapping[str, Any],
    act: Callable[[Rotator], RotationReport],
    *,
    as_json: bool,
) -> int:
    from cmzon_secrets.cli.event_lines import event_lines
    from cmzon_secrets.rotation import Outcome, Rotator
    from cmzon_secrets.rotation.places import GuardedStore

    policy = target.policy(options)
    begun = SYSTEM_CLOCK.monotonic()
    with (
        target.open_store() as store,
        closing(target.open_issuer(options)) as issuer,
        event_lines(options["events"]) as subscriber,
    ):
        for warning in policy.warnings if sys.stderr.isatty() else ():
            note(f"warning: {warning}")
        # A mistyped name in a cron job shall not make a second secret.
        report = act(Rotator(GuardedStore(store), issuer, policy, subscriber=subscriber))
        code = finish(report, store.uri, account=target.account, as_json=as_json)
        took = SYSTEM_CLOCK.monotonic() - begun
        name = target.account or policy.name
        return _measured(options["metrics"], Outcome(name, store.uri, report, took)) or code


def _measured(path: str | None, outcome: Outcome) -> int:
    from cmzon_secrets.cli.metrics import Finished, write_metrics

    if path is None:
        return 0
    return write_metrics(path, [Finished(outcome, SYSTEM_CLOCK.now())])
