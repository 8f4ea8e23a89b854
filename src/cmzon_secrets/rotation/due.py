"""When a token is due, by its dates alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.tokens import Token

__all__ = ["due_reason", "next_rotation"]


def due_reason(current: Token, born: datetime | None, policy: RotationPolicy, now: datetime) -> str:
    """Why CURRENT is due by its dates; empty where it is not."""
    if born is not None and now - born >= policy.rotate_every:
        age = timedelta(seconds=int((now - born).total_seconds()))
        return f"CURRENT is {age} old, rotate_every is {policy.rotate_every}"
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
