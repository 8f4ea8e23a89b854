"""What the stages alone tell of a rotation: for status, which asks no issuer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cmzon_secrets.durations import format_duration
from cmzon_secrets.rotation.due import Dates, due_reason, next_rotation
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.rotation.report import State
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Outlook", "outlook"]

Standing = Literal["fine", "due", "overdue", "stuck"]

LATE_AFTER = timedelta(hours=24)
"""How long a token may be due before it is overdue: a schedule that runs once a day has time until then."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a rotation stands. ``next_due``: when a run will have something to do.

    ``due``: the next run has something to do (``waiting``). ``overdue``: no run came, or none could
    do it, for so long that a person should look. ``stuck``: something begun does not end (both
    ``attention``). ``reason`` begins with the word, where it is not ``fine``.
    """

    state: State
    reason: str = ""
    next_due: datetime | None = None
    standing: Standing = "fine"


def outlook(versions: Versions, policy: RotationPolicy, now: datetime) -> Outlook:
    """Where a rotation stands, from the stages and the policy; reads nothing."""
    current, previous = versions.current, versions.previous
    if current is None:
        return _needed("overdue", "there is no CURRENT token", now)
    if current.expired(now):
        return _needed(
            "overdue", f"CURRENT expired at {current.expires_at:%Y-%m-%d %H:%M} UTC", now
        )
    if previous is not None and versions.pending != previous:
        return _retiring(current, previous, versions, policy, now)
    if versions.pending is not None:
        return _promoting(versions.pending, policy, now)
    return _rotating(current, versions, policy, now)


def _needed(standing: Standing, why: str, when: datetime | None) -> Outlook:
    state: State = "waiting" if standing == "due" else "attention"
    return Outlook(state, f"{standing}: {why}", when, standing)


def _rotating(current: Token, versions: Versions, policy: RotationPolicy, now: datetime) -> Outlook:
    dates = _dates(current, versions)
    due = next_rotation(dates, policy)
    why = due_reason(dates, policy, now)
    if not why or due is None:
        return Outlook("done", next_due=due)
    return _needed("overdue" if now >= due + _patience(dates, policy) else "due", why, due)


def _dates(current: Token, versions: Versions) -> Dates:
    return Dates(current.issued_at or versions.promoted_at, current.expires_at)


def _patience(current: Dates, policy: RotationPolicy) -> timedelta:
    """How long a run may be late; less than a day where tokens are replaced often or live short."""
    patience = min(LATE_AFTER, policy.rotate_every / 10)
    if current.expires is not None:
        patience = min(patience, policy.renewal_margin(current.life) / 2)
    return patience


def _retiring(
    current: Token, previous: Token, versions: Versions, policy: RotationPolicy, now: datetime
) -> Outlook:
    since = versions.promoted_at or now
    end = since + policy.grace
    if now >= since + policy.revoke_limit:
        patience = format_duration(policy.revoke_limit)
        return _needed("stuck", f"{previous.id} is not revoked, revoke_limit is {patience}", now)
    if now >= end:
        return _needed("due", f"revoke pending: the grace of {previous.id} is over", now)
    dates = _dates(current, versions)
    if why := due_reason(dates, policy, now):
        return _needed("due", f"{why}, and {previous.id} has to be revoked first", end)
    due = next_rotation(dates, policy)
    return Outlook(
        "done",
        f"{previous.id} stays valid until its grace ends",
        min(end, due) if due is not None else end,
    )


def _promoting(pending: Token, policy: RotationPolicy, now: datetime) -> Outlook:
    if pending.issued_at is not None and now - pending.issued_at >= policy.orphan_age:
        return _needed("stuck", f"{pending.id} is staged, but not promoted", now)
    return _needed("due", f"{pending.id} is staged and will be promoted", now)
