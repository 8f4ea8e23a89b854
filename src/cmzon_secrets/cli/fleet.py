"""All accounts of cmzon-secrets.toml rotated at once: what is shown meanwhile and told at the end."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from cmzon_secrets.accounts import Issuers, members
from cmzon_secrets.cli.event_lines import event_lines
from cmzon_secrets.cli.failures import (
    error_record,
    exit_code,
    hinted,
    repeatable,
    typed_here,
)
from cmzon_secrets.cli.interrupts import BY_SIGNAL, interrupt_on
from cmzon_secrets.cli.metrics import Finished, RunTotals, write_metrics
from cmzon_secrets.cli.output import describe_span, note, paint, paint_state, print_items, say
from cmzon_secrets.cli.reports import item, summary
from cmzon_secrets.cli.targets import chosen_policy, find_fleet, quiet_libraries
from cmzon_secrets.clock import SYSTEM_CLOCK
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.events import Event, Subscriber
from cmzon_secrets.rotation import Fleet, Member, Outcome, RotationReport
from cmzon_secrets.rotation.report import State

__all__ = ["rotate_all"]

T = TypeVar("T")

ORDER: tuple[State, ...] = ("done", "waiting", "attention", "failed")


def rotate_all(options: Mapping[str, Any], *, force: bool, dry_run: bool, as_json: bool) -> int:
    """Rotate every account of the file, and tell how it went; returns the exit code.

    Raises ConfigurationError where there is no file, no account, or a policy contradicts itself.
    """
    interrupt_on(signal.SIGTERM, signal.SIGHUP)
    quiet_libraries()
    with Issuers(ca=options["ca"]) as issuers, event_lines(options["events"]) as subscriber:
        fleet = _members(options, issuers)
        run = _Run(fleet)
        engine = Fleet(
            fleet,
            concurrency=options["concurrency"] or CONCURRENCY,
            per_service=options["per_service"] or PER_SERVICE,
            jitter=options["jitter"] or 0.0,
            time_limit=options["time_limit"],
            subscriber=run.hearing(subscriber),
        )
        run.watch(engine.rotate(force=force, dry_run=dry_run))
        return run.tell(as_json=as_json, dry_run=dry_run, metrics=options["metrics"])


CONCURRENCY, PER_SERVICE = 16, 8
"""Accounts under way at a time, and of these at one service, where no option says otherwise."""


def _members(options: Mapping[str, Any], issuers: Issuers) -> list[Member]:
    targets = find_fleet()
    chosen = bool(chosen_policy(options))
    with typed_here(ConfigurationError, when=chosen):
        return members(
            [target.overridden(options) for target in targets],
            issuers,
            config=None if chosen else targets[0].config,
        )


class _Run:
    """What is known of a run so far."""

    def __init__(self, fleet: list[Member]) -> None:
        self._fleet = fleet
        self._begun = SYSTEM_CLOCK.now()
        self._since = SYSTEM_CLOCK.monotonic()
        self._finished: dict[str, Finished] = {}
        self._stopped_by: int | None = None
        self._filled: set[str] = set()

    def hearing(self, subscriber: Subscriber | None) -> Subscriber:
        """A subscriber that passes everything on and keeps what the reports do not tell."""

        def hear(event: Event) -> None:
            if event.name == "token_promoted" and event.facts.get("replacing") is None:
                self._filled.add(event.uri)
            if subscriber is not None:
                subscriber(event)

        return hear

    def watch(self, outcomes: Iterator[Outcome]) -> None:
        """Take the outcomes as they come, to the end or to Ctrl-C; then nothing more is begun."""
        try:
            with closing(outcomes), _progress(outcomes, len(self._fleet)) as shown:  # type: ignore[type-var]  # a generator
                for outcome in shown:
                    self._finished[outcome.name] = Finished(outcome, SYSTEM_CLOCK.now())
        except KeyboardInterrupt as interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is done shall be told now
            self._stopped_by = next(iter(interrupt.args), signal.SIGINT)

    def tell(self, *, as_json: bool, dry_run: bool, metrics: str | None) -> int:
        """Print all of it; returns the exit code."""
        ended, reports = SYSTEM_CLOCK.now(), self._reports()
        if as_json:
            print_items(item(r, member.uri, account=member.name) for member, r in reports)
        else:
            _show(reports, dry_run=dry_run)
            self._tell_of_new_places()
            took = timedelta(seconds=SYSTEM_CLOCK.monotonic() - self._since)
            say(f"{summary(Counter(r.state for _, r in reports), ORDER)} in {describe_span(took)}")
        unmeasured = self._measure(metrics, ended) if metrics is not None else 0
        if self._stopped_by is not None:
            note("interrupted; nothing is lost: the same command goes on where this one stopped")
            return BY_SIGNAL + self._stopped_by
        return unmeasured or exit_code([report.state for _, report in reports])

    def _reports(self) -> list[tuple[Member, RotationReport]]:
        """In the order of the file."""
        finished = self._finished
        return [
            (
                member,
                finished[member.name].outcome.report if member.name in finished else UNFINISHED,
            )
            for member in self._fleet
        ]

    def _tell_of_new_places(self) -> None:
        """Where a path is mistyped, a new place is made: whoever set up no account will wonder."""
        new = [member.name for member in self._fleet if member.uri in self._filled]
        if new:
            more = f" and {len(new) - NAMED:,} more" if len(new) > NAMED else ""
            note(f"the first token of: {', '.join(new[:NAMED])}{more}")

    def _measure(self, path: str, ended: datetime) -> int:
        begun = [f for f in self._finished.values() if f.outcome.begun]
        totals = RunTotals(self._begun, ended, not_begun=len(self._fleet) - len(begun))
        return write_metrics(path, begun, totals)


NAMED = 5
"""Places that are named where many were filled."""

UNFINISHED = RotationReport(
    "waiting", reason="interrupted before its end; the next run goes on from here"
)


def _show(reports: list[tuple[Member, RotationReport]], *, dry_run: bool) -> None:
    """A line for each account that is not simply done, and each remedy once."""
    for member, report in reports:
        planned = dry_run and report.actions
        if report.state != "done" or planned:
            say(_line(member.name, report, planned=bool(planned)))
    errors = [report.error for _, report in reports if report.error is not None]
    for hint, count in Counter(error_record(error)["hint"] for error in errors).items():
        if hint is not None:
            note(hinted(f"{hint}{f' ({count:,} accounts)' if count > 1 else ''}"))


def _line(name: str, report: RotationReport, *, planned: bool) -> str:
    state = paint_state(report.state) + " " * (9 - len(report.state))
    why = [repeatable(report.reason)] if report.reason else []
    if planned:
        why.insert(0, f"would {', '.join(action.kind for action in report.actions)}")
    return f"{state}  {paint(name, sys.stdout, bold=True)} — {'; '.join(why)}"


@contextmanager
def _progress(things: Iterator[T], length: int) -> Iterator[Iterable[T]]:
    """The same things, counted by a bar where standard error is a terminal that can draw one."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield things
        return
    with click.progressbar(
        things, length=length, label="rotating", file=sys.stderr, show_pos=True
    ) as bar:
        yield bar
