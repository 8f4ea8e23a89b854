"""When a token is due, by its dates alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cmzon_secrets.durations import format_duration, rounded
from cmzon_secrets.rotation.policy import RotationPolicy

__all__ = ["Dates", "due_reason", "next_rotation"]


@dataclass(frozen=True, slots=True)
class Dates:
    """Since when a token's age counts, and when it dies; None where nobody knows."""

    born: datetime | None
    expires: datetime | None

    @property
    def life(self) -> timedelta | None:
        if self.born is None or self.expires is None:
            return None
        return self.expires - self.born

    def expired(self, now: datetime) -> bool:
        return self.expires is not None and now >= self.expires


def due_reason(current: Dates, policy: RotationPolicy, now: datetime) -> str:
    """Why CURRENT is due by its dates; empty where it is not."""
    if current.born is not None and now - current.born >= policy.rotate_every:
        age = rounded(now - current.born)
        limit = format_duration(policy.rotate_every)
        return f"CURRENT is {format_duration(age)} old, rotate_every is {limit}"
    if current.expires is not None and now >= _renewal(current.expires, current, policy):
        return f"CURRENT expires at {current.expires:%Y-%m-%d %H:%M} UTC"
    return ""


def next_rotation(current: Dates, policy: RotationPolicy) -> datetime | None:
    """When CURRENT becomes due by its dates."""
    dates = []
    if current.born is not None:
        dates.append(current.born + policy.rotate_every)
    if current.expires is not None:
        dates.append(_renewal(current.expires, current, policy))
    return min(dates, default=None)


def _renewal(expires: datetime, current: Dates, policy: RotationPolicy) -> datetime:
    return expires - policy.renewal_margin(current.life)
