"""What became of a token, for people and as JSON: after a rotation, a look, or a ``put``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from cmzon_secrets.cli.failures import error_record, exit_code, explain, repeatable
from cmzon_secrets.cli.output import (
    describe_moment,
    folded,
    masked,
    note,
    paint,
    paint_state,
    print_items,
    say,
    token_facts,
)
from cmzon_secrets.cli.placing import Placed
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.rotation import Action, RotationReport

__all__ = ["finish", "heading", "item", "placement", "summary", "verdict"]


def finish(report: RotationReport, uri: str, *, account: str | None, as_json: bool) -> int:
    """Print a report; returns the exit code. An error goes to standard error as well."""
    if as_json:
        print_items([item(report, uri, account=account)])
    else:
        heading(uri, account=account)
        _show_actions(report.actions)
        told_as_error = report.error is not None
        verdict(replace(report, reason="") if told_as_error else report, SYSTEM_CLOCK.now())
    if report.error is not None:
        explain(error_record(report.error))
    return exit_code([report.state])


def item(report: RotationReport, uri: str, *, account: str | None) -> dict[str, Any]:
    """The members that ``rotate``, ``revoke`` and ``status`` have in common."""
    return {
        "account": account,
        "uri": uri,
        "state": report.state,
        "actions": [
            {"kind": a.kind, "token_id": a.token_id, "outcome": a.outcome} for a in report.actions
        ],
        "reason": repeatable(report.reason),
        "next_due": report.next_due,
        "error": error_record(report.error) if report.error is not None else None,
    }


def heading(uri: str, *, account: str | None) -> None:
    """The line above what is told of one token."""
    say(f"{paint(f'{account}  ', sys.stdout, bold=True) if account else ''}{uri}")


def verdict(report: RotationReport, now: datetime) -> None:
    """The state and why, then when there is something to do."""
    reason = f" — {repeatable(report.reason)}" if report.reason else ""
    say(folded(f"{report.state}{reason}").replace(report.state, paint_state(report.state), 1))
    if report.next_due is not None:
        due = describe_moment(report.next_due, now) if report.next_due > now else "now"
        say(f"  next due {due}")


def summary(counts: Mapping[str, int], words: Iterable[str]) -> str:
    """``9,998 done, 1 waiting, 1 failed``; what nobody is in is left out."""
    told = [f"{counts[word]:,} {word}" for word in words if counts.get(word)]
    return ", ".join(told) or "nothing"


def placement(placed: Placed, uri: str, *, account: str | None, as_json: bool) -> None:
    """Tell what became of a token from outside, and of those it pushed aside."""
    token = placed.token
    if as_json:
        print_items(
            [
                {
                    "account": account,
                    "uri": uri,
                    "changed": placed.changed,
                    "replaced": placed.replaced.id if placed.replaced is not None else None,
                    "forgotten": [forgotten.id for forgotten in placed.forgotten],
                    **token_facts(token),
                }
            ]
        )
        return
    if not placed.changed:
        say(f"unchanged: {masked(token)} is CURRENT already in {uri}")
        return
    say(f"stored {masked(token)} as CURRENT in {uri}")
    if placed.replaced is not None:
        note(
            f"{placed.replaced.id} is PREVIOUS now: it stays valid until it is revoked "
            "(`cmzon-secrets rotate`, or in the dashboard)"
        )
    for forgotten in placed.forgotten:
        note(f"{forgotten.id} is forgotten but not revoked: revoke it in the dashboard")


def _show_actions(actions: tuple[Action, ...]) -> None:
    width = max((len(action.token_id) for action in actions), default=0)
    for action in actions:
        outcome = repeatable(action.outcome)
        line = folded(f"{action.kind:<8} {action.token_id:<{width}}  {outcome}")
        coloured = paint(outcome, sys.stdout, fg=_COLOURS.get(outcome, "red"))
        say(line.removesuffix(outcome) + coloured if line.endswith(outcome) else line)


_COLOURS = {"ok": "green", "planned": "cyan"}
