"""The emulator's time: the machine's, moved by ``POST /_emulator/clock``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cmzon_secrets.clock import SYSTEM_CLOCK, Clock

__all__ = ["FARTHEST_SHIFT", "ShiftedClock", "format_time", "next_midnight"]


FARTHEST_SHIFT = 100 * 366 * 24 * 3600.0
"""Seconds from the machine's own time."""


class ShiftedClock(Clock):
    """A clock that can be advanced, or set back, by any number of seconds.

    The wall clock follows both ways. ``monotonic`` follows forward only: a sliding second that is
    measured with it neither repeats nor stretches when the wall clock is set back. Raises ValueError
    for a shift beyond ``FARTHEST_SHIFT``.
    """

    def __init__(self, base: Clock = SYSTEM_CLOCK, shift: float = 0.0) -> None:
        if not abs(shift) <= FARTHEST_SHIFT:  # nor is "not a number"
            raise ValueError("the clock is off by more than a century")
        self._base = base
        self._forward = 0.0
        self.shift = shift

    def now(self) -> datetime:
        """UTC, shifted."""
        return self._base.now() + timedelta(seconds=self.shift)

    def monotonic(self) -> float:
        """Seconds that never step back."""
        return self._base.monotonic() + self._forward

    def go_on_from(self, before: ShiftedClock) -> None:
        """Take the place of another clock: ``monotonic`` goes on, whatever the shifts are."""
        self._forward = before._forward

    def timestamp(self) -> float:
        """``now`` as Unix seconds."""
        return self.now().timestamp()

    def advance(self, seconds: float) -> None:
        """Shift the clock; negative seconds set it back."""
        self.shift += seconds
        self._forward += max(0.0, seconds)


def format_time(timestamp: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC; None stays None."""
    if timestamp is None:
        return None
    return datetime.fromtimestamp(timestamp, UTC).isoformat().replace("+00:00", "Z")


def next_midnight(now: datetime) -> datetime:
    """When the UTC day of ``now`` ends."""
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
