"""How fast and how much may be sent: the vendor's limits, kept on our side.

The vendor states 80 messages a second and 10,000 a day, 1,000 for new accounts. Messages are
spaced evenly (GCRA with a burst of one): a bucket that lets a full second's worth through at once
lets twice the limit through within some second. The pace is a little under the limit, because the
server counts arrivals and the network moves them. What comes between a slot and the arrival (a
thread that wakes late, a token that had to be read, a connection that had to be opened) is made
good by those who send next. The day is counted, and never waited for.

That the vendor's day is the UTC day is an assumption.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self

from cmzon_secrets.errors import ConfigurationError, DailyLimitReached
from cmzon_secrets.forks import renew_in_child

__all__ = ["DayCount", "Departure", "RateLimits", "next_slot"]

MESSAGES_PER_SECOND = 80
MESSAGES_PER_DAY = 10_000
MESSAGES_PER_DAY_NEW_ACCOUNT = 1_000

NO_WAIT = 1e-5
"""Seconds not worth sleeping for, nor exact in a clock that counts microseconds."""
LATEST_ARRIVAL = 0.5
"""Seconds after its departure by which a message is taken to have arrived, answered or not."""


def next_slot(free_at: float, now: float, interval: float) -> tuple[float, float]:
    """When the next message may go, and when the one after it may: all in seconds."""
    at = max(free_at, now)
    return at, at + interval


@dataclass(slots=True)
class Departure:
    """A message on its way: when it left, and when its answer came. Monotonic seconds."""

    at: float = 0.0
    answered_at: float | None = None

    def arrival(self, now: float, quickest: float) -> float:
        """The latest it can have arrived, less the time that the ``quickest`` answer took.

        An answer that took longer than the quickest may have been longer on its way there.
        """
        answered_at = self.answered_at if self.answered_at is not None else now
        return max(self.at, answered_at - quickest)


@dataclass(slots=True)
class DayCount:
    """Messages sent on one UTC day."""

    day: date = date.min
    sent: int = 0

    def turn(self, today: date) -> None:
        """Begin anew on a new day; a clock set back by less than a day does not undo the count."""
        if today > self.day or today < self.day - timedelta(days=1):
            self.day, self.sent = today, 0

    @property
    def resets_at(self) -> datetime:
        """The midnight (UTC) at which this count ends."""
        return datetime.combine(self.day + timedelta(days=1), time(), tzinfo=UTC)


class RateLimits:
    """At most ``per_second`` and ``per_day`` messages, for everybody who shares this object.

    ``arrival_jitter``: by how many seconds the network may bring messages together; the pace is
    ``per_second / (1 + arrival_jitter)``. None means no limit. Thread-safe, first come first
    served. The day's count lives in memory and in this process.
    """

    def __init__(
        self,
        per_second: float | None = MESSAGES_PER_SECOND,
        per_day: int | None = MESSAGES_PER_DAY,
        *,
        arrival_jitter: float = 0.02,
    ) -> None:
        _check_positive("per_second", per_second)
        _check_positive("per_day", per_day)
        if not 0 <= arrival_jitter < 60:
            raise ConfigurationError("arrival_jitter — seconds from 0 to 60 are needed")
        self.per_second = per_second
        self.per_day = per_day
        self.arrival_jitter = arrival_jitter
        self._interval = (1 + arrival_jitter) / per_second if per_second is not None else 0.0
        self._free_at = float("-inf")
        self._departures: deque[Departure] = deque()
        self._count = DayCount()
        self._lock = threading.Lock()
        renew_in_child(self)

    @classmethod
    def new_account(cls) -> Self:
        """The limits of a new account: 1,000 messages a day."""
        return cls(per_day=MESSAGES_PER_DAY_NEW_ACCOUNT)

    @classmethod
    def unlimited(cls) -> Self:
        """No limits on our side; the API's own still hold."""
        return cls(per_second=None, per_day=None)

    def reserve(self, monotonic: float, now: datetime) -> float:
        """Take the next slot; the seconds to wait for it, to be slept outside any lock.

        Raises DailyLimitReached where there is no use in waiting.
        """
        with self._lock:
            self._check_day(now)
            at, self._free_at = next_slot(self._free_at, monotonic, self._interval)
            return at - monotonic

    def clearance(self, departure: Departure, monotonic: float) -> float:
        """The seconds to wait at the very moment of sending; 0.0 means go, and it is on its way.

        Slots may be used late, and messages take their time: both bring them together. This keeps
        a full second's worth of arrivals apart, as far as departures and answers tell, and leaves
        half of ``arrival_jitter`` to what they do not tell.
        """
        if self.per_second is None:
            return 0.0
        most = max(1, int(self.per_second))
        span = most / self.per_second * (1 + self.arrival_jitter / 2)
        with self._lock:
            arrivals = self._arrivals(monotonic, since=monotonic - span)
            if len(arrivals) >= most:
                wait = arrivals[len(arrivals) - most] + span - monotonic
                if wait > NO_WAIT:
                    return wait
            departure.at = monotonic
            self._departures.append(departure)
            return 0.0

    def _arrivals(self, now: float, since: float) -> list[float]:
        departures = self._departures
        while departures and departures[0].at + LATEST_ARRIVAL <= since:
            departures.popleft()
        answered = (d.answered_at - d.at for d in departures if d.answered_at is not None)
        quickest = min(answered, default=float("inf"))
        arrivals = (d.arrival(now, quickest) for d in departures)
        return sorted(at for at in arrivals if at > since)

    def spend(self, now: datetime) -> date:
        """Count one message just before it is sent; the day it was counted on.

        Raises DailyLimitReached where the day's last message went while this one waited.
        """
        with self._lock:
            self._check_day(now)
            self._count.sent += 1
            return self._count.day

    def give_back(self, day: date) -> None:
        """Uncount a message that was definitely not accepted."""
        with self._lock:
            if self._count.day == day and self._count.sent > 0:
                self._count.sent -= 1

    def after_fork(self) -> None:
        """In a child: a new lock. From here on the two processes count apart."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"RateLimits(per_second={self.per_second}, per_day={self.per_day}, "
            f"arrival_jitter={self.arrival_jitter})"
        )

    def _check_day(self, now: datetime) -> None:
        self._count.turn(now.astimezone(UTC).date())
        if self.per_day is None or self._count.sent < self.per_day:
            return
        resets_at = self._count.resets_at
        reached = DailyLimitReached(
            f"daily limit — {self.per_day} messages went out today and nothing more was sent",
            hint=f"the count ends at {resets_at:%Y-%m-%d %H:%M} UTC",
        )
        reached.resets_at = resets_at
        raise reached


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise ConfigurationError(f"{name} — a number above zero, or None for no limit, is needed")
