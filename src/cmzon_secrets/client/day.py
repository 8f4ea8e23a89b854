"""The day's messages, counted before they are sent.

That the vendor's day is the UTC day is an assumption; where the API's answers say when its day
ends, that is heeded. Where they say that less is left than was counted here, because others send
too, that is heeded as well; never that more is left.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from cmzon_secrets.client.usage import Quota
from cmzon_secrets.errors import DailyLimitReached

__all__ = ["DayCount", "next_midnight"]

DAY = timedelta(days=1)


class DayCount:
    """At most ``per_day`` messages a day (None: no limit), counted in memory. One caller at a time.

    A count that is kept elsewhere overrides ``ready``, ``fetch`` and ``accept``.
    """

    def __init__(self, per_day: int | None) -> None:
        self._per_day = per_day
        self._stated: int | None = None  # the API's own limit, where it is lower
        self.sent = 0
        self.ends = datetime.min.replace(tzinfo=UTC)
        """When this day's count ends; the day's name, too."""

    @property
    def limit(self) -> int | None:
        """Messages a day: ours, or the API's where that is lower."""
        if self._per_day is None or self._stated is None:
            return self._per_day
        return min(self._per_day, self._stated)

    def ready(self, now: datetime) -> bool:
        """Whether ``take`` can answer without waiting for a disk or a server."""
        return True

    def fetch(self, now: datetime) -> int:
        """Ask for more messages to count; how many may be. It may wait, and holds no lock."""
        return 0

    def accept(self, granted: int) -> None:
        """What ``fetch`` found."""

    def close(self) -> None:
        """Nothing is counted any more."""

    def after_fork(self) -> None:
        """In a child: nothing of the parent's is shared."""

    def check(self, now: datetime) -> None:
        """Raise DailyLimitReached where nothing is left today."""
        self.turn(now)
        limit = self.limit
        if limit is not None and self.sent >= limit:
            raise self._reached(limit)

    def take(self, now: datetime) -> datetime:
        """Count one message; its day. Raises DailyLimitReached."""
        self.check(now)
        self.sent += 1
        return self.ends

    def give_back(self, day: datetime) -> None:
        """A message counted for ``day`` was not accepted."""
        if day == self.ends and self.sent > 0:
            self.sent -= 1

    def heed(self, quota: Quota, now: datetime) -> None:
        """The API said so of the day."""
        self.turn(now)
        if quota.resets_at is not None and abs(quota.resets_at - self.ends) > timedelta(minutes=1):
            self.ends = quota.resets_at
        self._stated = quota.limit
        if quota.limit is not None and quota.remaining is not None:
            self.sent = max(self.sent, quota.limit - quota.remaining)

    def turn(self, now: datetime) -> None:
        """Begin anew on a new day; a clock set back by less than a day does not undo the count."""
        if now >= self.ends or now < self.ends - 2 * DAY:
            self.sent = 0
            # At the hour at which the API's day ends, where it was said.
            after = self.ends + DAY
            self.ends = after if now < after <= now + DAY else next_midnight(now)

    def _reached(self, limit: int) -> DailyLimitReached:
        reached = DailyLimitReached(
            f"daily limit — {limit} messages went out today and nothing more was sent",
            hint=f"the count ends at {self.ends:%Y-%m-%d %H:%M} UTC",
        )
        reached.resets_at = self.ends
        return reached


def next_midnight(now: datetime) -> datetime:
    """The end of the UTC day."""
    today = now.astimezone(UTC).date()
    return datetime.combine(today + DAY, time(), tzinfo=UTC)
