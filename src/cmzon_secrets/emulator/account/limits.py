"""The vendor's limits, measured where they count: at the server, on accepted messages.

Pure arithmetic; the caller brings the time.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from datetime import date, datetime

from cmzon_secrets.emulator.clock import next_midnight

__all__ = ["ACCOUNT", "LARGEST_QUOTA", "NEW_ACCOUNT", "UNLIMITED", "Limits", "Quota"]


LARGEST_QUOTA = 10**9


@dataclass(frozen=True, slots=True)
class Quota:
    """How many messages in any sliding second and in a UTC day; None: as many as come.

    Raises ValueError for what is no number of messages.
    """

    per_second: int | None
    per_day: int | None

    def __post_init__(self) -> None:
        for limit in (self.per_second, self.per_day):
            if limit is not None and not (type(limit) is int and 1 <= limit <= LARGEST_QUOTA):
                raise ValueError(f"a limit is not from 1 to {LARGEST_QUOTA:,} messages")


ACCOUNT = Quota(80, 10_000)
NEW_ACCOUNT = Quota(80, 1_000)
UNLIMITED = Quota(None, None)


class Limits:
    """Messages counted against a ``quota``.

    ``sent`` are the messages already accepted, by UTC day; ``busiest`` is the largest number ever
    accepted in one sliding second.
    """

    def __init__(
        self, quota: Quota, *, sent: Counter[date] | None = None, busiest: int = 0
    ) -> None:
        self.quota = quota
        self.busiest = busiest
        self._sent = Counter(sent or {})
        self._last_second: deque[float] = deque()

    def wait(self, now: datetime, monotonic: float) -> float:
        """Seconds until one more message is accepted; 0.0 where it is now."""
        per_second = self.quota.per_second
        if self.day_is_over(now):
            return (next_midnight(now) - now).total_seconds()
        self._forget_before(monotonic - 1.0)
        if per_second is not None and len(self._last_second) >= per_second:
            # Never 0.0 by rounding: that would let one message too many through.
            return max(0.001, self._last_second[0] + 1.0 - monotonic)
        return 0.0

    def day_is_over(self, now: datetime) -> bool:
        """Whether the day of ``now`` has had all it may have."""
        per_day = self.quota.per_day
        return per_day is not None and self._sent[now.date()] >= per_day

    def take(self, now: datetime, monotonic: float) -> int:
        """Count one accepted message; how many the day has with it."""
        self._sent[now.date()] += 1
        self._forget_before(monotonic - 1.0)
        self._last_second.append(monotonic)
        self.busiest = max(self.busiest, len(self._last_second))
        return self._sent[now.date()]

    def today(self, now: datetime) -> int:
        """How many messages the day of ``now`` has had."""
        return self._sent[now.date()]

    def go_on_from(self, before: Limits) -> None:
        """Take the place of other limits: what they accepted in the last second still counts."""
        self._last_second = before._last_second

    def headers(self, now: datetime) -> dict[str, str]:
        """The ``X-RateLimit-*`` headers: the day's quota and its end in Unix seconds; none without."""
        per_day = self.quota.per_day
        if per_day is None:
            return {}
        return {
            "X-RateLimit-Limit": str(per_day),
            "X-RateLimit-Remaining": str(max(0, per_day - self._sent[now.date()])),
            "X-RateLimit-Reset": str(int(next_midnight(now).timestamp())),
        }

    def _forget_before(self, start: float) -> None:
        """Drop what lies at or before ``start``: a second includes its first instant only."""
        while self._last_second and self._last_second[0] <= start:
            self._last_second.popleft()
