"""When a token is due, by its dates alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from cmzon_secrets.durations import format_duration
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.tokens import Token

__all__ = ["due_reason", "next_rotation"]


def due_reason(current: Token, born: datetime | None, policy: RotationPolicy, now: datetime) -> str:
    """Why CURRENT is due by its dates; empty where it is not."""
    if born is not None and now - born >= policy.rotate_every:
        age = _rounded(now - born)
        limit = format_duration(policy.rotate_every)
        return f"CURRENT is {format_duration(age)} old, rotate_every is {limit}"
    if current.expires_at is not None and now >= current.expires_at - policy.renewal_margin(
        current
    ):
        return f"CURRENT expires at {current.expires_at:%Y-%m-%d %H:%M} UTC"
    return ""


def next_rotation(current: Token, born: datetime | None, policy: RotationPolicy) -> datetime | None:
    """When CURRENT becomes due by its dates."""
    dates = []
    if born is not None:
        dates.append(born + policy.rotate_every)
    if current.expires_at is not None:
        dates.append(current.expires_at - policy.renewal_margin(current))
    return min(dates, default=None)


def _rounded(span: timedelta) -> timedelta:
    """To what a person wants to read: whole days, hours, minutes or seconds."""
    unit = next(
        (u for u in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)) if span >= 2 * u),
        timedelta(seconds=1),
    )
    return (span // unit) * unit
