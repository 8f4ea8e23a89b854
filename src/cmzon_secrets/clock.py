"""Time as one injectable object, so that nothing has to be patched to test it."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

from cmzon_secrets.errors import ConfigurationError

__all__ = ["SYSTEM_CLOCK", "Clock", "seconds"]


class Clock:
    """The machine's clocks. Tests pass a subclass whose time they move by hand."""

    def now(self) -> datetime:
        """Wall clock, timezone-aware UTC: for dates that other machines must agree on."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never step back: for every "how long"."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait; negative waits are none."""
        if seconds > 0:
            time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """``sleep`` for a task: the event loop goes on."""
        import asyncio

        await asyncio.sleep(max(0.0, seconds))


SYSTEM_CLOCK = Clock()


def seconds(name: str, duration: timedelta | float, *, above_zero: bool = False) -> float:
    """A timedelta or a number of seconds, as seconds.

    Raises ConfigurationError unless 0 or more; ``above_zero``: unless more than 0.
    """
    value = duration.total_seconds() if isinstance(duration, timedelta) else duration
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf or (above_zero and not value):
        least = "more than 0" if above_zero else "0 or more"
        raise ConfigurationError(f"{name} — a timedelta or seconds, {least}, is needed")
    return float(value)
