"""One attempt's way through the limits: a slot and one of the day's messages, then its departure."""

from __future__ import annotations

from datetime import datetime

from cmzon_secrets.answers import Answer, retry_after
from cmzon_secrets.client.arrivals import Departure
from cmzon_secrets.client.effects import Steps
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.retry import is_refusal
from cmzon_secrets.client.usage import quota_in
from cmzon_secrets.clock import Clock
from cmzon_secrets.errors import TransportError

__all__ = ["Passage"]

HOLD_UNSAID = 1.0
"""Seconds for which a 429 holds everybody back that does not say how long."""


class Passage:
    """What an attempt took from ``limits``, so that it can be given back. It gives up at ``ends``."""

    def __init__(self, limits: RateLimits, clock: Clock, ends: float) -> None:
        self._limits = limits
        self._clock = clock
        self._ends = ends
        self._place = 0.0, 0
        self._day: datetime | None = None
        self._departure: Departure | None = None

    def slot(self, *, since: float, priority: int) -> Steps[None]:
        """Wait for a slot. Raises DailyLimitReached, and RateLimited where it would come too late."""
        self._place = since, priority
        self._day = yield from self._limits.slot(
            self._clock, ends=self._ends, since=since, priority=priority
        )

    def departure(self) -> Steps[None]:
        """Wait until it may leave, and let it. Raises what ``slot`` raises."""
        self._departure = yield from self._limits.departure(self._clock, ends=self._ends)
        if self._day is not None and self._day <= self._clock.now():
            yield from self._on_the_next_day()

    def _on_the_next_day(self) -> Steps[None]:
        """The day that it was counted for ended meanwhile: once more, or it would count for none."""
        self.ended()
        self.give_back()
        since, priority = self._place
        yield from self.slot(since=since, priority=priority)
        self._departure = yield from self._limits.departure(self._clock, ends=self._ends)

    def leaving(self) -> None:
        """Its connection is open, and it leaves at this moment."""
        if self._departure is not None:
            self._departure.leave(self._clock.monotonic())

    def give_back(self) -> None:
        """It never left, or was not accepted: it counts for no day."""
        if self._day is not None:
            self._limits.give_back(self._day)
            self._day = None

    def ended(self) -> None:
        """Nothing more will be heard of it."""
        if self._departure is not None:
            self._limits.answered(self._departure, self._clock)

    def answered(self, outcome: Answer | TransportError) -> None:
        """Let the limits learn what came of it."""
        assert self._departure is not None  # noqa: S101  # nothing comes of what never left
        self.ended()
        if is_refusal(outcome):
            self.give_back()
        if isinstance(outcome, Answer):
            self._heed(outcome, left_at=self._departure.at)

    def _heed(self, answer: Answer, *, left_at: float) -> None:
        now = self._clock.now()
        quota = quota_in(answer.headers, now)
        if quota is not None:
            self._limits.heed(quota, now)
        if answer.status == 429:
            said = retry_after(answer)
            wait = HOLD_UNSAID if said is None else said
            self._limits.hold(wait, self._clock, left_at=left_at)
