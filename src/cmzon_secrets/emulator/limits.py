"""The vendor's limits, measured where they count: at the server, on accepted messages.

Pure arithmetic; the caller brings the time.
"""

from __future__ import annotations

from collections import Counter, deque
from datetime import date, datetime

from cmzon_secrets.emulator.clock import next_midnight

__all__ = ["NEW_ACCOUNT_PER_DAY", "PER_DAY", "PER_SECOND", "Limits"]

PER_SECOND = 80
PER_DAY = 10_000
NEW_ACCOUNT_PER_DAY = 1_000


class Limits:
    """At most ``PER_SECOND`` messages in any sliding second and ``per_day`` in a UTC day.

    ``sent`` are the messages already accepted, by UTC day; ``busiest`` is the largest number ever
    accepted in one sliding second.
    """

    def __init__(
        self, *, per_day: int, sent: Counter[date] | None = None, busiest: int = 0
    ) -> None:
        self.per_day = per_day
        self.busiest = busiest
        self._sent = Counter(sent or {})
        self._last_second: deque[float] = deque()

    def wait(self, now: datetime, monotonic: float) -> float:
        """Seconds until one more message is accepted; 0.0 where it is now."""
        if self._sent[now.date()] >= self.per_day:
            return (next_midnight(now) - now).total_seconds()
        self._forget_before(monotonic - 1.0)
        if len(self._last_second) >= PER_SECOND:
            # Never 0.0 by rounding: that would let one message too many through.
            return max(0.001, self._last_second[0] + 1.0 - monotonic)
        return 0.0

    def take(self, now: datetime, monotonic: float) -> None:
        """Count one accepted message."""
        self._sent[now.date()] += 1
        self._forget_before(monotonic - 1.0)
        self._last_second.append(monotonic)
        self.busiest = max(self.busiest, len(self._last_second))

    def headers(self, now: datetime) -> dict[str, str]:
        """The ``X-RateLimit-*`` headers: the day's quota, and its end in Unix seconds."""
        return {
            "X-RateLimit-Limit": str(self.per_day),
            "X-RateLimit-Remaining": str(max(0, self.per_day - self._sent[now.date()])),
            "X-RateLimit-Reset": str(int(next_midnight(now).timestamp())),
        }

    def _forget_before(self, start: float) -> None:
        """Drop what lies at or before ``start``: a second includes its first instant only."""
        while self._last_second and self._last_second[0] <= start:
            self._last_second.popleft()
