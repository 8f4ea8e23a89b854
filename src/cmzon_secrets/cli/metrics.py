"""``--metrics``: what a run came to, as Prometheus reads it; docs/fleet.md has the alerts for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from cmzon_secrets.cli.failures import FAILED, error_record, explain
from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.rotation import Outcome
from cmzon_secrets.rotation.report import State
from cmzon_secrets.textfile import Gauge, write_textfile

__all__ = ["Finished", "RunTotals", "write_metrics"]

STATES = get_args(State)
KINDS = ("issue", "stage", "promote", "revoke", "discard")


@dataclass(frozen=True, slots=True)
class Finished:
    """An account whose run came to its end, and when that was."""

    outcome: Outcome
    at: datetime


@dataclass(frozen=True, slots=True)
class RunTotals:
    """A run of a whole fleet: from when to when, and how many accounts it did not come to."""

    begun: datetime
    ended: datetime
    not_begun: int


def write_metrics(path: str, finished: Sequence[Finished], run: RunTotals | None = None) -> int:
    """Replace the file by what these accounts came to; with ``run``, by its totals as well.

    Without totals files of different accounts can lie in one folder. Where it cannot be written,
    that is told, and the exit code returned is 1; the rotation itself is over by now.
    """
    gauges = _of_accounts(finished)
    if run is not None:
        gauges += _of_run([f.outcome for f in finished], run)
    try:
        write_textfile(path, gauges)
    except CMzonSecretsError as error:
        explain(error_record(error))
        return FAILED
    return 0


def _of_accounts(finished: Sequence[Finished]) -> list[Gauge]:
    named = [({"account": f.outcome.name}, f) for f in finished]
    return [
        Gauge(
            "cmzon_rotation_account_state",
            "1 for the state that the last run of this account ended in.",
            [({**name, "state": f.outcome.report.state}, 1) for name, f in named],
        ),
        Gauge(
            "cmzon_rotation_next_due_timestamp_seconds",
            "When this account's rotation has something to do next.",
            [
                (n, f.outcome.report.next_due.timestamp())
                for n, f in named
                if f.outcome.report.next_due
            ],
        ),
        Gauge(
            "cmzon_rotation_last_run_timestamp_seconds",
            "When the last run of this account ended.",
            [(name, f.at.timestamp()) for name, f in named],
        ),
        Gauge(
            "cmzon_rotation_last_run_duration_seconds",
            "How long the last run of this account took.",
            [(name, round(f.outcome.took, 6)) for name, f in named],
        ),
    ]


def _of_run(outcomes: Collection[Outcome], run: RunTotals) -> list[Gauge]:
    states = Counter(outcome.report.state for outcome in outcomes)
    duration: timedelta = run.ended - run.begun
    return [
        Gauge(
            "cmzon_rotation_accounts",
            "Accounts of the fleet by the state that their last run ended in.",
            [({"state": state}, states[state]) for state in STATES],
        ),
        Gauge(
            "cmzon_rotation_accounts_not_begun",
            "Accounts that the last run of the fleet did not come to.",
            [({}, run.not_begun)],
        ),
        Gauge(
            "cmzon_rotation_run_actions",
            "What the last run of the fleet did to tokens, by kind and outcome.",
            [
                ({"kind": kind, "outcome": outcome}, count)
                for (kind, outcome), count in sorted(_actions(outcomes).items())
            ],
        ),
        Gauge(
            "cmzon_rotation_run_timestamp_seconds",
            "When the last run of the fleet ended.",
            [({}, run.ended.timestamp())],
        ),
        Gauge(
            "cmzon_rotation_run_duration_seconds",
            "How long the last run of the fleet took.",
            [({}, duration.total_seconds())],
        ),
    ]


def _actions(outcomes: Collection[Outcome]) -> Counter[tuple[str, str]]:
    """Every kind and outcome, also those that did not occur: a series that is absent alerts nobody."""
    counts = Counter({(kind, outcome): 0 for kind in KINDS for outcome in ("ok", "failed")})
    for outcome in outcomes:
        for action in outcome.report.actions:
            counts[action.kind, "ok" if action.outcome == "ok" else "failed"] += 1
    return counts
