"""Slots in time: evenly spaced, later after a pause, fewer after the API said "too many".

GCRA with a burst of one: a bucket that lets a full second's worth through at once would let twice
the limit through within some second. Pure arithmetic on seconds of a monotonic clock.
"""

from __future__ import annotations

from math import inf

__all__ = ["HORIZON", "Spacing"]

HORIZON = 0.05
"""Seconds ahead of its time at which a slot may be taken. Enough for whoever takes it to wake up in
time, so that no slot is lost; little enough that somebody more urgent need not wait for many."""

SLOWER = 0.8
"""What the pace is multiplied by when the API says 429."""
RECOVERY = 1.0
"""Messages a second by which the pace grows again, each second."""
SLOWEST = 1.0
"""Messages a second below which the pace does not fall."""


class Spacing:
    """``pace`` slots a second; infinite: at once. One caller at a time."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._lowered_to = pace
        self._lowered_at = -inf
        self._free_at = -inf
        self.paused_until = -inf
        """No message leaves before, whenever its slot was taken."""

    def wait(self, now: float) -> float:
        """The seconds until the next slot."""
        return max(self._free_at - now, self.paused_until - now, 0.0)

    def take(self, now: float) -> None:
        """Take the next slot."""
        self._free_at = now + self.wait(now) + 1.0 / self.pace(now)

    def pace(self, now: float) -> float:
        """Slots a second, as of now."""
        if self._lowered_at == -inf:
            return self._pace
        recovered = RECOVERY * max(0.0, now - self._lowered_at)
        return min(self._pace, self._lowered_to + recovered)

    def pause(self, until: float) -> None:
        """No message before ``until``."""
        self.paused_until = max(self.paused_until, until)

    def slow_down(self, now: float, *, left_at: float) -> None:
        """Too many, the API said to a message that left at ``left_at``.

        Those that were on their way together say the same thing: it is heeded once. The pace
        grows again from the end of a pause on.
        """
        if self._pace == inf or left_at < self._lowered_at:
            return
        self._lowered_to = max(min(SLOWEST, self._pace), self.pace(now) * SLOWER)
        self._lowered_at = max(now, self.paused_until)
