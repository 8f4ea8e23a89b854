"""How fast and how much may be sent: the vendor's limits, kept on our side.

The vendor states 80 messages a second and 10,000 a day, 1,000 for new accounts. The second is kept
twice, because the server counts arrivals:

- A *slot* spaces what we cannot see. Slots are even (GCRA with a burst of one), for a bucket that
  lets a full second's worth through at once lets twice the limit through within some second; and
  a little under the limit, for the network brings messages together.
- The *window* corrects what we can see. A thread that wakes late, a token that had to be read or a
  connection that had to be opened comes between slot and arrival, and departures and answers tell.

Who sends a message calls ``reserve`` and sleeps, then ``depart`` until it may, then ``answered``.
The day is counted, and never waited for. That the vendor's day is the UTC day is an assumption.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Self

from cmzon_secrets.errors import ConfigurationError, DailyLimitReached
from cmzon_secrets.forks import renew_in_child

__all__ = ["DayCount", "Departure", "RateLimits"]

MESSAGES_PER_SECOND = 80
MESSAGES_PER_DAY = 10_000
MESSAGES_PER_DAY_NEW_ACCOUNT = 1_000

NO_WAIT = 1e-5
"""Seconds not worth sleeping for, nor exact in a clock that counts microseconds."""
LATEST_ARRIVAL = 0.5
"""Seconds after its departure by which a message is taken to have arrived, answered or not."""


@dataclass(slots=True, eq=False)
class Departure:
    """A message on its way, which left ``at`` a time in monotonic seconds."""

    at: float
    uncount: Callable[[], None]
    answered_at: float | None = None

    def answered(self, monotonic: float | None, *, refused: bool) -> None:
        """Its answer came; None: it never left. ``refused``: it counts for no daily limit."""
        self.answered_at = monotonic
        if refused:
            self.uncount()

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
            at = max(self._free_at, monotonic)
            self._free_at = at + self._interval
            return at - monotonic

    def depart(self, monotonic: float, now: datetime) -> Departure | float:
        """Called at the very moment of sending: the message is on its way, or has seconds to wait.

        Raises DailyLimitReached where the day's last message went while this one waited.
        """
        with self._lock:
            self._check_day(now)
            wait = self._clearance(monotonic)
            if wait > NO_WAIT:
                return wait
            self._count.sent += 1
            departure = Departure(monotonic, partial(self._uncount, self._count.day))
            if self.per_second is not None:
                self._departures.append(departure)
            return departure

    def _clearance(self, monotonic: float) -> float:
        """The seconds until one more arrival keeps the limit, as far as is known.

        It leaves half of ``arrival_jitter`` to what departures and answers do not tell.
        """
        if self.per_second is None:
            return 0.0
        most = max(1, int(self.per_second))
        span = most / self.per_second * (1 + self.arrival_jitter / 2)
        arrivals = self._arrivals(monotonic, since=monotonic - span)
        return arrivals[-most] + span - monotonic if len(arrivals) >= most else 0.0

    def _arrivals(self, now: float, since: float) -> list[float]:
        departures = self._departures
        while departures and departures[0].at + LATEST_ARRIVAL <= since:
            departures.popleft()
        answered = (d.answered_at - d.at for d in departures if d.answered_at is not None)
        quickest = min(answered, default=float("inf"))
        arrivals = (d.arrival(now, quickest) for d in departures)
        return sorted(at for at in arrivals if at > since)

    def _uncount(self, day: date) -> None:
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
