"""Many accounts rotated side by side: a few at a time, in the pace of each service, each on its own.

Nothing is remembered between runs, as for one account: the stores are the only state. A run that
was killed half-way is resumed by simply running again; what is done already costs one look each.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock, seconds
from cmzon_secrets.errors import (
    APIError,
    CMzonSecretsError,
    ConfigurationError,
    ProviderUnavailable,
    ReadOnlyProvider,
    RotationError,
)
from cmzon_secrets.events import Subscriber
from cmzon_secrets.issuer import TokenIssuer
from cmzon_secrets.provider import TokenStore
from cmzon_secrets.rotation.outlook import outlook
from cmzon_secrets.rotation.places import Claims, GuardedStore, Pace
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.rotation.report import RotationReport
from cmzon_secrets.rotation.rotator import Rotator
from cmzon_secrets.rotation.turns import Turns

__all__ = ["Fleet", "Member", "Opened", "Outcome"]

MOST_OUTAGES = 16
"""Accounts in a row that find a service down before the others there are not tried any more."""


class Opened(NamedTuple):
    """What one account is rotated with."""

    store: TokenStore
    issuer: TokenIssuer
    policy: RotationPolicy


@dataclass(frozen=True, slots=True)
class Member:
    """One account of a fleet. ``open`` opens it when its turn comes and closes it afterwards.

    ``service``: what bears the load of this account together with others, for example one vault.
    """

    name: str
    uri: str
    service: str
    open: Callable[[], AbstractContextManager[Opened]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run of one account ended, and how many seconds it took.

    ``begun`` False: the time limit came first, nothing was looked at.
    """

    name: str
    uri: str
    report: RotationReport
    took: float
    begun: bool = True


class Fleet:
    """Rotates many accounts.

    ``concurrency``: accounts under way at a time; ``per_service``: of these, at one service.
    ``jitter``: each account begins at a random moment within so long. ``time_limit``: after so long
    none is begun any more; the next run goes on. Durations are timedeltas or seconds.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        concurrency: int = 16,
        per_service: int = 8,
        jitter: timedelta | float = 0.0,
        time_limit: timedelta | float | None = None,
        clock: Clock | None = None,
        subscriber: Subscriber | None = None,
    ) -> None:
        self._members = tuple(members)
        self._concurrency = _at_least_one("concurrency", concurrency)
        self._per_service = _at_least_one("per_service", per_service)
        self._jitter = seconds("jitter", jitter)
        self._time_limit = seconds("time_limit", time_limit) if time_limit is not None else None
        self._clock = clock or SYSTEM_CLOCK
        self._subscriber = subscriber
        _refuse_doubles(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def rotate(self, *, force: bool = False, dry_run: bool = False) -> Iterator[Outcome]:
        """The outcome of each account as soon as it is there; one account's failure is its own.

        Closing the iterator begins no further account; those under way go on to their end.
        """
        begun = self._clock.monotonic()
        late_at = begun + self._time_limit if self._time_limit is not None else float("inf")
        turns = Turns(
            self._members,
            per_service=self._per_service,
            jitter=self._jitter,
            clock=self._clock,
            late_at=late_at,
        )
        shift = _Shift(self._clock, self._subscriber, force=force, dry_run=dry_run)
        finished: SimpleQueue[Outcome] = SimpleQueue()
        work = partial(_work, turns, shift, finished)
        try:
            for number in range(min(self._concurrency, len(self._members))):
                # Daemons: a run may be ended at any moment, and then at once.
                threading.Thread(target=work, name=f"rotate-{number}", daemon=True).start()
            for _ in self._members:
                yield finished.get()
        finally:
            turns.stop()


def _work(turns: Turns[Member], shift: _Shift, finished: SimpleQueue[Outcome]) -> None:
    while (member := turns.take()) is not None:
        if turns.late:
            outcome = Outcome(member.name, member.uri, _NOT_BEGUN, took=0.0, begun=False)
        else:
            since = shift.clock.monotonic()
            report = shift.rotate(member)
            outcome = Outcome(member.name, member.uri, report, shift.clock.monotonic() - since)
        turns.give_back(member)
        finished.put(outcome)


_NOT_BEGUN = RotationReport(
    "waiting", reason="not begun within the time limit; the next run goes on from here"
)


class _Shift:
    """What the accounts of one run share."""

    def __init__(
        self, clock: Clock, subscriber: Subscriber | None, *, force: bool, dry_run: bool
    ) -> None:
        self.clock = clock
        self._subscriber = subscriber
        self._force = force
        self._dry_run = dry_run
        self._claims = Claims()
        self._paces: dict[str, Pace] = {}
        self._outages: Counter[object] = Counter()
        self._lock = threading.Lock()

    def rotate(self, member: Member) -> RotationReport:
        """One account, from opening to closing. Never raises: what goes wrong is in the report."""
        try:
            self._refuse_outage(member.service, f"{member.uri} — its service does not answer")
            with member.open() as opened:
                return self._rotate(member, opened)
        except ReadOnlyProvider:
            return RotationReport("done", reason="read-only: whoever fills it rotates it")
        except CMzonSecretsError as error:
            return RotationReport("failed", reason=str(error), error=error)
        except Exception as error:  # noqa: BLE001  # a fault of one adapter must not stop all others
            # Its text is not repeated: nobody knows what a foreign error quotes.
            reason = f"{member.uri} — an unexpected {type(error).__name__}: a fault in the program"
            return RotationReport("failed", reason=reason, error=RotationError(reason))

    def _rotate(self, member: Member, opened: Opened) -> RotationReport:
        store, issuer, policy = opened
        if issuer.interactive:
            return _left_to_a_person(store, policy, self.clock, force=self._force)
        self._refuse_outage(issuer, f"{member.uri} — its issuer does not answer")
        guarded = GuardedStore(
            store,
            pace=self._pace(member.service, store),
            claim=lambda identity: self._claims.claim(identity, member.name, member.uri),
        )
        rotator = Rotator(guarded, issuer, policy, clock=self.clock, subscriber=self._subscriber)
        report = rotator.run(force=self._force, dry_run=self._dry_run)
        self._note_outage(member.service, isinstance(report.error, ProviderUnavailable))
        self._note_outage(issuer, isinstance(report.error, APIError) and report.error.retryable)
        return report

    def _pace(self, service: str, store: TokenStore) -> Pace | None:
        if store.WRITES_PER_SECOND is None:
            return None
        with self._lock:
            return self._paces.setdefault(service, Pace(store.WRITES_PER_SECOND, self.clock))

    def _note_outage(self, where: object, down: bool) -> None:
        with self._lock:
            self._outages[where] = self._outages[where] + 1 if down else 0

    def _refuse_outage(self, where: object, what: str) -> None:
        """Ten thousand accounts must not wait one after the other for a service that is gone."""
        if self._outages[where] >= MOST_OUTAGES:
            raise ProviderUnavailable(
                f"{what}: the last {MOST_OUTAGES} accounts there failed, so it was not tried",
                hint="run it again when the service answers",
            )


def _left_to_a_person(
    store: TokenStore, policy: RotationPolicy, clock: Clock, *, force: bool
) -> RotationReport:
    """An issuer that asks a person has none to ask here; what is due can still be told."""
    view = outlook(store.versions(), policy, clock.now())
    if view.state == "done" and not force:
        return RotationReport("done", reason=view.reason, next_due=view.next_due)
    told = ("its issuer needs a person: rotate this account by itself", view.reason)
    reason = "; ".join(filter(None, told))
    return RotationReport("attention", reason=reason, next_due=view.next_due)


def _at_least_one(name: str, number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ConfigurationError(f"{name} — a whole number, 1 or more, is needed")
    return number


def _refuse_doubles(members: Sequence[Member]) -> None:
    name, count = next(iter(Counter(m.name for m in members).most_common(1)), ("", 0))
    if count > 1:
        raise ConfigurationError(f"fleet — account {name} is in it {count} times")
