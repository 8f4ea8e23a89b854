"""The day's messages, counted before they are sent.

That the vendor's day is the UTC day is an assumption; where the API's answers say when its day
ends, that is heeded. Where they say that less is left than was counted here, because others send
too, that is heeded as well; never that more is left.

The first end that is said may be that of a shorter window. What was counted until then counts on,
until an answer after it names an end that is a day away, or it is midnight.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from cmzon_secrets.client.usage import Quota
from cmzon_secrets.errors import DailyLimitReached

__all__ = ["DayCount", "next_midnight"]

DAY = timedelta(days=1)
FARTHEST_END = 2 * DAY
SHORTEST_DAY = timedelta(hours=23)
"""What ends sooner after a count began is the day before, told late, or the window of another limit."""
SAME_MOMENT = timedelta(minutes=1)
"""How far this machine's clock and the API's rounding may bring two ends of one day apart."""
SETTLED = timedelta(hours=1)
"""From so long after a day's beginning on, an answer that names no day is about this one."""

NEVER = datetime.min.replace(tzinfo=UTC)


class DayCount:
    """At most ``per_day`` messages a day (None: no limit), counted in memory. One caller at a time.

    A count that is kept elsewhere overrides ``take``, ``fetch`` and ``accept``.
    """

    def __init__(self, per_day: int | None) -> None:
        self.per_day = per_day
        self.stated: int | None = None
        """The API's own limit, as it said for this day."""
        self.sent = 0
        self.began = NEVER
        """When the day before ended; NEVER where that is not known."""
        self.ends = NEVER
        """When this day's count ends; the day's name, too."""

    @property
    def limit(self) -> int | None:
        """Messages a day: ours, or the API's where that is lower."""
        if self.per_day is None or self.stated is None:
            return self.per_day
        return min(self.per_day, self.stated)

    @property
    def is_full(self) -> bool:
        """Whether nothing is left of this day."""
        limit = self.limit
        return limit is not None and self.sent >= limit

    def check(self, now: datetime) -> None:
        """Raise DailyLimitReached where nothing is left today."""
        self.turn(now)
        if self.is_full:
            raise self.reached()

    def take(self, now: datetime) -> datetime | None:
        """Count one message; its day. None: ``fetch`` first. Raises DailyLimitReached."""
        self.check(now)
        self.sent += 1
        return self.ends

    def fetch(self, now: datetime, within: float) -> object:
        """Have more messages counted, for ``accept``, within so many seconds.

        It may wait for a disk: another thread may call, and no lock is held.
        """

    def accept(self, fetched: object) -> None:
        """What ``fetch`` found. Raises DailyLimitReached where that was nothing."""

    def give_back(self, day: datetime) -> None:
        """A message counted for ``day`` was not accepted."""
        if day == self.ends and self.sent > 0:
            self.sent -= 1

    def heed(self, quota: Quota, now: datetime) -> None:
        """The API said so of the day."""
        self.turn(now)
        if not self._is_told_of(quota, now):
            return
        if quota.resets_at is not None:
            self._heed_end(quota.resets_at, now, counted=quota.remaining is not None)
        self.stated = quota.limit
        if quota.limit is not None and quota.remaining is not None:
            # Of ours, so much is left: what others sent is not held against a limit below the API's.
            limit = quota.limit if self.limit is None else self.limit
            self.sent = max(self.sent, limit - quota.remaining)

    def turn(self, now: datetime) -> None:
        """Begin anew on a new day; a clock set back by less than a day does not undo the count."""
        if now < self.ends:
            if self.ends - now > FARTHEST_END:  # the clock was ahead
                self.begin(next_midnight(now), began=NEVER)
        elif now >= self.ends + DAY:
            self.begin(next_midnight(now), began=NEVER)
        elif self._may_go_on:
            self.began, self.ends, self.stated = self.ends, next_midnight(self.ends), None
            self.turn(now)
        else:  # at the hour at which the API's day ends, where it was said
            self.begin(self.ends + DAY, began=self.ends)

    @property
    def _may_go_on(self) -> bool:
        """Whether it ends at an hour that was said on the first day: of another window, perhaps."""
        return self.began == NEVER and next_midnight(self.ends - DAY) != self.ends

    @property
    def _went_on(self) -> bool:
        """Whether ``began`` is such an hour, and messages from before it are counted still."""
        return self.ends - self.began < SHORTEST_DAY

    def _heed_end(self, ends: datetime, now: datetime, *, counted: bool) -> None:
        if ends - self.ends >= SHORTEST_DAY:
            self.begin(ends, began=self.ends)  # the API's clock is ahead
        elif self._went_on and counted:
            self.begin(ends, began=self.began)  # it was the day's end after all
        elif abs(ends - self.ends) > SAME_MOMENT:
            if self.began == NEVER and ends > next_midnight(now):
                self.began = ends - DAY
            self.ends = ends

    def begin(self, ends: datetime, *, began: datetime) -> None:
        """A day of which nothing is counted yet."""
        self.began, self.ends = began, ends
        self.sent, self.stated = 0, None

    def close(self) -> None:
        """Nothing is counted any more."""

    def after_fork(self) -> None:
        """In a child: nothing of the parent's is shared."""

    def reached(self) -> DailyLimitReached:
        """The error to raise where nothing is left."""
        reached = DailyLimitReached(
            f"daily limit — the day's {self.limit} messages are used up, and nothing more was sent",
            hint=f"the count ends at {self.ends:%Y-%m-%d %H:%M} UTC; others that send for the account count, too",
        )
        reached.resets_at = self.ends
        return reached

    def _is_told_of(self, quota: Quota, now: datetime) -> bool:
        """Whether ``quota`` is about this day, or one that the API began before us."""
        if quota.resets_at is not None:
            return quota.resets_at - self.began >= SHORTEST_DAY
        return now - self.began >= SETTLED


def next_midnight(now: datetime) -> datetime:
    """The end of the UTC day."""
    today = now.astimezone(UTC).date()
    return datetime.combine(today + DAY, time(), tzinfo=UTC)
