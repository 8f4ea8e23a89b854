"""How much of the day's messages is used: what the API says in the headers of its answers.

``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset``. The vendor's page says to monitor response
headers and names none; these names, and that they speak of the day, are **assumed**.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["Quota", "Usage", "quota_in"]

LONGEST_WINDOW = timedelta(hours=25)
"""A quota that ends later than this is nonsense: the day's longest is one with a clock put back."""
_EPOCH = 10**8
"""From here on a number of seconds is a date (1973 or later); below, it counts from now."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The account's messages of today.

    ``limit``, ``remaining`` and ``resets_at`` (UTC) are what the API's last answer said; where it
    said nothing, what this client's limits say, and None where they do not limit the day.
    ``sent_today`` is counted on our side, by all that share the limits; more where the API says
    that fewer of the limit are left. ``request_id`` is the last answer's.

    Only answers to ``POST /v1/messages`` are heeded: what other calls are told is of other windows.
    """

    limit: int | None
    remaining: int | None
    resets_at: datetime | None
    sent_today: int
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """What one answer said of a quota."""

    limit: int | None = None
    remaining: int | None = None
    resets_at: datetime | None = None


def quota_in(headers: Mapping[str, str], now: datetime) -> Quota | None:
    """The quota in an answer's headers; None where there is none. Nonsense is ignored."""
    limit = _count(headers.get("x-ratelimit-limit"))
    remaining = _count(headers.get("x-ratelimit-remaining"))
    if limit is None and remaining is None:
        return None
    return Quota(limit, remaining, _moment(_count(headers.get("x-ratelimit-reset")), now))


def _count(said: str | None) -> int | None:
    text = (said or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _moment(seconds: int | None, now: datetime) -> datetime | None:
    if seconds is None:
        return None
    try:
        at = datetime.fromtimestamp(seconds, UTC) if seconds >= _EPOCH else None
        at = at or now.astimezone(UTC) + timedelta(seconds=seconds)
    except (OverflowError, ValueError, OSError):
        return None
    return at if now < at <= now + LONGEST_WINDOW else None
