"""What one of several processes may send while none can ask the others."""

from __future__ import annotations

from datetime import datetime
from math import inf

from cmzon_secrets.client.spacing import HORIZON, Spacing
from cmzon_secrets.errors import DailyLimitReached

__all__ = ["Share"]

NOTHING = 1.0
"""Seconds after which to look again, where there are more processes than messages a second."""


class Share:
    """``pace`` messages a second (0: none) and ``left`` of the day, from ``begins`` until ``ends``.

    ``reason`` is for events. Times are monotonic seconds. One caller at a time.
    """

    def __init__(
        self, pace: float, left: float, *, begins: float, ends: float = inf, reason: str
    ) -> None:
        self.pace = pace
        self.left = left
        self.ends = ends
        self.reason = reason
        self.used_at = -inf
        """The last slot that was taken."""
        self._spacing = Spacing(pace or 1.0)
        self._spacing.pause(begins)

    def wait(self, now: float) -> float:
        """The seconds until the next slot; where none comes any more, until more is known."""
        if not self.pace:
            return min(NOTHING, self.ends - now) + HORIZON
        if self.ends - now <= HORIZON or (self.left < 1 and self.ends < inf):
            return self.ends - now + HORIZON
        return self._spacing.wait(now)

    def take(self, now: float) -> None:
        """Take the next slot, with one message of the day."""
        self.used_at = now + self._spacing.wait(now)
        self._spacing.take(now)
        self.left -= 1

    def hold(self, until: float, now: float, *, left_at: float | None) -> None:
        """429, to a message that left at ``left_at``."""
        self._spacing.pause(until)
        if left_at is not None:
            self._spacing.slow_down(now, left_at=left_at)

    def used_up(self, ends: datetime) -> DailyLimitReached:
        """The error to raise where nothing is left of the day, which ends then."""
        error = DailyLimitReached(
            "daily limit — this process's share of it is used up, Redis does not answer, "
            "and nothing was sent",
            hint="it goes on once Redis answers",
        )
        error.resets_at = ends
        return error
