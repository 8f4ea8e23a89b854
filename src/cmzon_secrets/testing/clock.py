"""A clock that moves only when it is told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from cmzon_secrets.clock import Clock

__all__ = ["ManualClock"]


class ManualClock(Clock):
    """Time as the test says. ``sleep`` returns at once and moves it, so nothing waits.

    Threads that wait for each other by sleeping need the real clock: this one would run away.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now if now is not None else datetime.now(UTC)
        self._monotonic = 1000.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await super().sleep_async(0.0)

    def advance(self, seconds: float | timedelta) -> None:
        """Let time pass: both clocks go on by ``seconds``."""
        step = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        with self._lock:
            self._now += step
            self._monotonic += step.total_seconds()

    def set_wall_clock(self, now: datetime) -> None:
        """Somebody set the machine's clock: the date jumps, "how long" does not."""
        with self._lock:
            self._now = now
