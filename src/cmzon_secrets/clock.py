"""Time as one injectable object, so that nothing has to be patched to test it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["SYSTEM_CLOCK", "Clock"]


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


SYSTEM_CLOCK = Clock()
