"""How fast and how much may be sent: the vendor's limits, kept on our side.

The vendor states 80 messages a second and 10,000 a day, 1,000 for new accounts. Who sends a message
waits for his turn (``turns``), takes an evenly spaced slot and one of the day's messages
(``spacing``, ``day``), sleeps until the slot without holding anything, and leaves when the sliding
second at the server allows it (``arrivals``). The day is counted, and never waited for.

A 429 holds everybody back, not the one who got it, and lowers the pace for a while.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from functools import partial
from math import inf
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cmzon_secrets.client.arrivals import NO_WAIT, Arrivals, Departure
from cmzon_secrets.client.day import DayCount
from cmzon_secrets.client.effects import Park, Sleep, Steps, Work
from cmzon_secrets.client.spacing import HORIZON, Spacing
from cmzon_secrets.client.turns import LOOKS_EVERY, Ticket, Turns
from cmzon_secrets.client.usage import Quota, Usage
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import ConfigurationError, RateLimited, shielded
from cmzon_secrets.events import Subscriber
from cmzon_secrets.forks import renew_in_child

if TYPE_CHECKING:
    from cmzon_secrets.client.shared.limits import SharedLimits

__all__ = ["RateLimits", "left_within"]

MESSAGES_PER_SECOND = 80
MESSAGES_PER_DAY = 10_000
MESSAGES_PER_DAY_NEW_ACCOUNT = 1_000
PROCESSES = 8
"""How many processes share limits at most, unless they say otherwise."""

ARRIVAL_JITTER = 0.02
"""Seconds by which one region's network brings messages together; over the internet, 0.05."""
LOOK_AGAIN = 0.1
"""Seconds after which it is seen again whether a message may leave: answers come in between."""
LONGEST_PAUSE = 60.0
"""Seconds for which a 429 holds everybody back at most; then one message finds out. It is the wait
that the vendor's page shows."""


class RateLimits:
    """At most ``per_second`` and ``per_day`` messages, for everybody who shares this object.

    ``arrival_jitter``: by how many seconds the network may bring messages together; the pace is
    ``per_second / (1 + arrival_jitter)``. None means no limit. ``state``: path of a SQLite file in
    which the day's count outlives the process; processes of one machine may share it. Thread-safe,
    for threads and tasks together; the more urgent first, then first come, first served.

    Raises ConfigurationError for figures that make no sense and a file that is something else,
    AccessDenied and ProviderUnavailable for one that cannot be used.
    """

    def __init__(
        self,
        per_second: float | None = MESSAGES_PER_SECOND,
        per_day: int | None = MESSAGES_PER_DAY,
        *,
        arrival_jitter: float = ARRIVAL_JITTER,
        state: str | Path | None = None,
    ) -> None:
        _check_limit("per_second", per_second)
        _check_limit("per_day", per_day, whole=True)
        if not _is_number(arrival_jitter) or not 0 <= arrival_jitter <= 60:
            raise ConfigurationError("arrival_jitter — seconds from 0 to 60 are needed")
        self.per_second = per_second
        self.per_day = per_day
        self.arrival_jitter = arrival_jitter
        self._turns = Turns()
        pace = inf if per_second is None else per_second / (1 + arrival_jitter)
        self._spacing = Spacing(pace)
        self._arrivals = None if per_second is None else Arrivals(per_second, arrival_jitter)
        self._day = _day_count(per_day, state)
        self._quota: Quota | None = None
        self._lock = threading.RLock()  # see ``turns``
        renew_in_child(self)

    @classmethod
    def new_account(cls, *, state: str | Path | None = None) -> Self:
        """The limits of a new account: 1,000 messages a day."""
        return cls(per_day=MESSAGES_PER_DAY_NEW_ACCOUNT, state=state)

    @classmethod
    def unlimited(cls) -> Self:
        """No limits on our side; the API's own still hold."""
        return cls(per_second=None, per_day=None)

    @staticmethod
    @shielded
    def shared(
        url: str,
        *,
        account: str,
        per_second: float = MESSAGES_PER_SECOND,
        per_day: int | None = MESSAGES_PER_DAY,
        arrival_jitter: float = ARRIVAL_JITTER,
        processes: int = PROCESSES,
        ca: str | None = None,
        subscriber: Subscriber | None = None,
    ) -> SharedLimits:
        """One account's limits for all processes and hosts that name the same Redis; see there."""
        from cmzon_secrets.client.shared.limits import SharedLimits

        return SharedLimits(
            url,
            account=account,
            per_second=per_second,
            per_day=per_day,
            arrival_jitter=arrival_jitter,
            processes=processes,
            ca=ca,
            subscriber=subscriber,
        )

    def slot(
        self, clock: Clock, *, ends: float, since: float, priority: int = 0
    ) -> Steps[datetime]:
        """Wait for a slot and take it with one of the day's messages; the day it is counted for.

        ``ends``: when the caller gives up; ``since``: when he came. Both in monotonic seconds.
        Raises DailyLimitReached, and RateLimited without a status where the slot would be too late.
        """
        at_once = self._at_once(clock)
        if at_once is not None:
            return at_once
        ticket = self._turns.join(priority, since)
        try:
            wait, day = yield from self._taken(ticket, clock, ends)
        finally:
            self._turns.leave(ticket)
        if wait > 0:
            try:
                yield Sleep(wait)
            except BaseException:  # he goes away instead
                self.give_back(day)
                raise
        return day

    def departure(self, clock: Clock, *, ends: float) -> Steps[Departure]:
        """Called at the very moment of sending: wait until the message may leave, and let it."""
        while True:
            found = self._depart(clock.monotonic())
            if isinstance(found, Departure):
                return found
            yield Sleep(_in_time(found, clock, ends))

    def answered(self, departure: Departure, clock: Clock) -> None:
        """The answer is here."""
        departure.answered_at = clock.monotonic()

    def give_back(self, day: datetime) -> None:
        """A message counted for ``day`` was definitely not accepted."""
        with self._lock:
            self._day.give_back(day)

    def hold(self, seconds: float, clock: Clock, *, left_at: float | None = None) -> None:
        """429: nobody sends for so long, and then everybody more slowly."""
        now = clock.monotonic()
        with self._lock:
            self._spacing.pause(now + min(seconds, LONGEST_PAUSE))
            if left_at is not None:
                self._spacing.slow_down(now, left_at=left_at)

    def heed(self, quota: Quota, now: datetime) -> None:
        """The API said this of its own count."""
        with self._lock:
            self._quota = quota
            # A limit of no more than a second's worth speaks of another window than the day.
            if quota.limit is not None and quota.limit > (self.per_second or 0):
                self._day.heed(quota, now)

    def usage(self, now: datetime, request_id: str | None = None) -> Usage:
        """The day's messages, as the API said last and as they were counted here."""
        with self._lock:
            self._day.turn(now)
            said = self._quota
            if said is None or (said.resets_at is not None and said.resets_at <= now):
                said = self._counted()
            return Usage(said.limit, said.remaining, said.resets_at, self._day.sent, request_id)

    def _counted(self) -> Quota:
        limit = self._day.limit
        if limit is None:
            return Quota()
        return Quota(limit, max(0, limit - self._day.sent), self._day.ends)

    def _at_once(self, clock: Clock) -> datetime | None:
        """What an empty queue comes to where a slot is free now, with one look; None: join it.

        Nobody is passed: whoever joins meanwhile came later. Raises DailyLimitReached.
        """
        with self._lock:
            now, monotonic = clock.now(), clock.monotonic()
            if self._turns.anybody or self._spacing.wait(monotonic) or self._wait(monotonic):
                self._day.check(now)
                return None
            day = self._day.take(now)
            if day is not None:
                self._spacing.take(monotonic)
            return day

    def _taken(self, ticket: Ticket, clock: Clock, ends: float) -> Steps[tuple[float, datetime]]:
        while True:
            if not self._turns.is_next(ticket, clock.monotonic()):
                yield Park(ticket, min(left_within(clock, ends), LOOKS_EVERY))
                continue
            wait, day = yield from self._reserve(clock, ends)
            if day is not None:
                return wait, day
            # Not to the very horizon: by a rounding error it would not be reached.
            yield Sleep(min(_in_time(wait, clock, ends) - 0.9 * HORIZON, LOOKS_EVERY))

    def _reserve(self, clock: Clock, ends: float) -> Steps[tuple[float, datetime | None]]:
        """The seconds until the next slot, and the day it was taken for; None: it is too early to take it."""
        while True:
            with self._lock:
                now, monotonic = clock.now(), clock.monotonic()
                self._day.check(now)
                wait = self._wait(monotonic)
                if wait > HORIZON:
                    return wait, None
                day = self._day.take(now + timedelta(seconds=wait))
                if day is not None:
                    self._spacing.take(monotonic)
                    return wait, day
            yield Work(partial(self._fetch, now, left_within(clock, ends)))

    def _wait(self, now: float) -> float:
        """The seconds until the next slot, and until somebody may leave: those who wait do so in order."""
        wait = self._spacing.wait(now)
        if self._arrivals is None:
            return wait
        return max(wait, min(self._arrivals.wait(now), LOOK_AGAIN))

    def _fetch(self, now: datetime, within: float) -> None:
        """More of the day's messages. All in one: what is fetched is not lost where nobody waits any more."""
        fetched = self._day.fetch(now, within)
        with self._lock:
            self._day.accept(fetched)

    def _depart(self, now: float) -> Departure | float:
        with self._lock:
            paused = self._spacing.paused_until - now
            if paused > NO_WAIT:
                return paused
            found = Departure(now) if self._arrivals is None else self._arrivals.depart(now)
            return found if isinstance(found, Departure) else min(found, LOOK_AGAIN)

    def close(self) -> None:
        """Let go of the file, where there is one; what was counted ahead is given back to it.

        It may wait for a disk. The limits can be used again.
        """
        self._day.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """In a child: a new lock. From here on the two processes count apart, unless by ``state``."""
        self._lock = threading.RLock()
        self._day.after_fork()

    def __repr__(self) -> str:
        return (
            f"RateLimits(per_second={self.per_second}, per_day={self.per_day}, "
            f"arrival_jitter={self.arrival_jitter})"
        )


def _day_count(per_day: int | None, state: str | Path | None) -> DayCount:
    if state is None:
        return DayCount(per_day)
    from cmzon_secrets.client.day_file import DayFile

    return DayFile(per_day, state)


def left_within(clock: Clock, ends: float) -> float:
    """The seconds until the caller gives up. Raises RateLimited where there are none."""
    left = ends - clock.monotonic()
    if left <= 0:
        raise _too_late(0.0)
    return left


def _in_time(wait: float, clock: Clock, ends: float) -> float:
    """``wait``. Raises RateLimited where the caller would have given up by then."""
    if wait >= left_within(clock, ends):
        raise _too_late(wait)
    return wait


def _too_late(wait: float) -> RateLimited:
    error = RateLimited(
        "rate limit — no turn came within this call's deadline, and nothing was sent",
        hint="send less at once, allow a longer deadline, or queue the messages: client.outbox(path)",
    )
    error.retry_after = wait or None
    return error


def _check_limit(name: str, value: float | None, *, whole: bool = False) -> None:
    if value is None:
        return
    if not _is_number(value) or not 0 < value < inf or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        raise ConfigurationError(f"{name} — a {kind} above zero, or None for no limit, is needed")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
