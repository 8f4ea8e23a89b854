"""A rotation's report, for people and as JSON, and the exit code it means."""

from __future__ import annotations

import sys
from typing import Any

from cmzon_secrets.cli.failures import FAILED, error_record, explain
from cmzon_secrets.cli.output import describe_moment, oneline, paint, paint_state, print_items, say
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.rotation import Action, RotationReport

__all__ = ["finish"]

_EXIT_CODES = {"done": 0, "waiting": 0, "attention": 3, "failed": FAILED}


def finish(report: RotationReport, uri: str, *, account: str | None, as_json: bool) -> int:
    """Print a report; returns the exit code. An error goes to standard error as well."""
    if as_json:
        print_items([_record(report, uri, account)])
    else:
        _show(report, uri, account)
    if report.error is not None:
        explain(error_record(report.error))
    return _EXIT_CODES[report.state]


def _record(report: RotationReport, uri: str, account: str | None) -> dict[str, Any]:
    return {
        "account": account,
        "uri": uri,
        "state": report.state,
        "actions": [
            {"kind": a.kind, "token_id": a.token_id, "outcome": a.outcome} for a in report.actions
        ],
        "reason": report.reason,
        "next_due": report.next_due,
        "error": error_record(report.error) if report.error is not None else None,
    }


def _show(report: RotationReport, uri: str, account: str | None) -> None:
    name = f"{account}  " if account else ""
    say(f"{paint(name, sys.stdout, bold=True)}{uri}")
    for action in report.actions:
        say(f"  {action.kind:<8} {action.token_id}  {_outcome(action)}".rstrip())
    reason = f" — {oneline(report.reason)}" if report.reason and report.error is None else ""
    due = ""
    if report.next_due is not None:
        due = f"; next due {describe_moment(report.next_due, SYSTEM_CLOCK.now())}"
    say(f"  {paint_state(report.state)}{reason}{due}")


def _outcome(action: Action) -> str:
    colour = {"ok": "green", "planned": "cyan"}.get(action.outcome, "red")
    return paint(oneline(action.outcome), sys.stdout, fg=colour)
