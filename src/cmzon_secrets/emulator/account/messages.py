"""``POST /v1/messages``: checked, limited, accepted once per idempotency key."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from cmzon_secrets.emulator.account.idempotency import INSERT as INSERT_KEY
from cmzon_secrets.emulator.account.idempotency import IdempotencyKeys, Use
from cmzon_secrets.emulator.account.limits import Limits, Quota
from cmzon_secrets.emulator.clock import ShiftedClock
from cmzon_secrets.emulator.http.answers import rate_limited
from cmzon_secrets.emulator.http.fields import Fields
from cmzon_secrets.emulator.storage.journal import Journal

__all__ = ["LONGEST_TEXT", "NUMBER", "ROUTE", "Message", "Messages"]

ROUTE = "POST /v1/messages"
LONGEST_TEXT = 4096
"""Characters; what WhatsApp allows in a text message."""

NUMBER = re.compile(r"\+[1-9][0-9]{2,14}", re.ASCII)  # E.164, from the shortest to the longest
_COUNT_DAY = "INSERT OR REPLACE INTO days VALUES (?, ?)"


@dataclass(frozen=True, slots=True)
class Message:
    """A checked message body."""

    to: str
    text: str
    ignored: tuple[str, ...] = ()
    """Fields that the API does not know."""

    @classmethod
    def parse(cls, body: Mapping[str, Any], *, strict: bool = True) -> Message:
        """Raises Refusal (400) naming the field at fault."""
        fields = Fields(body, known=("to", "type", "text"), strict=strict)
        to = fields.text("to", longest=16)
        if NUMBER.fullmatch(to) is None:
            raise fields.complain("to", "a phone number like +1234567890 is needed")
        if fields.text("type", longest=40) != "text":
            raise fields.complain("type", 'only "text" is known')
        inner = fields.inner("text", known=("body",))
        text = inner.text("body", longest=LONGEST_TEXT)
        return cls(to, text, (*fields.ignored, *inner.ignored))


class Messages:
    """What was accepted, and whether more may be."""

    def __init__(
        self, journal: Journal, keys: IdempotencyKeys, clock: ShiftedClock, quota: Quota
    ) -> None:
        self._journal = journal
        self._keys = keys
        self._clock = clock
        sent = _by_day(journal)
        self.count = sum(sent.values())
        self.limits = Limits(quota, sent=sent, busiest=int(journal.meta("busiest") or 0))

    def accept(self, use: Use | None) -> tuple[str, bool]:
        """Take a message: its id, and True; or that of the first one where its key is known, and False.

        Raises Refusal: 422 for a key used with another body, 429 past a limit.
        """
        before = self._keys.made_by(use)
        if before is not None:
            return before, False
        self._take_from_limits()
        message_id = f"msg_{secrets.token_hex(12)}"
        self.count += 1
        if use is not None:
            self._keys.remember(use, message_id)
            self._journal.later(INSERT_KEY, use.row(message_id))
        return message_id, True

    def rate_headers(self) -> dict[str, str]:
        """The ``X-RateLimit-*`` headers as of now."""
        return self.limits.headers(self._clock.now())

    def _take_from_limits(self) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        wait = self.limits.wait(now, monotonic)
        if wait > 0:
            raise rate_limited(wait, self._limit_met(now))
        busiest = self.limits.busiest
        today = self.limits.take(now, monotonic)
        day = now.date().isoformat()
        self._journal.later(_COUNT_DAY, (day, today), replaces=("day", day))
        if self.limits.busiest > busiest:
            self._journal.remember("busiest", self.limits.busiest)

    def _limit_met(self, now: datetime) -> str:
        quota = self.limits.quota
        if self.limits.day_is_over(now):
            return f"limit: {quota.per_day:,} messages a day"
        return f"limit: {quota.per_second:,} messages a second"


def _by_day(journal: Journal) -> Counter[date]:
    rows = journal.rows("SELECT day, accepted FROM days")
    return Counter({date.fromisoformat(day): accepted for day, accepted in rows})
