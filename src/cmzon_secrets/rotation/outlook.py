"""What the stages alone tell of a rotation: for status, which asks no issuer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cmzon_secrets.rotation.due import due_reason, next_rotation
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.rotation.report import State
from cmzon_secrets.tokens import Token, Versions

__all__ = ["Outlook", "outlook"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """``attention``: overdue or stuck. ``next_due``: when a run will have something to do."""

    state: State
    reason: str = ""
    next_due: datetime | None = None


def outlook(versions: Versions, policy: RotationPolicy, now: datetime) -> Outlook:
    """Where a rotation stands, from the stages and the policy; reads nothing."""
    current, previous = versions.current, versions.previous
    if current is None:
        return Outlook("attention", "there is no CURRENT token", now)
    if current.expired(now):
        return Outlook(
            "attention", f"CURRENT expired at {current.expires_at:%Y-%m-%d %H:%M} UTC", now
        )
    if previous is not None and versions.pending != previous:
        return _retiring(current, previous, versions, policy, now)
    if versions.pending is not None:
        return _promoting(versions.pending, policy, now)
    return _rotating(current, versions, policy, now)


def _rotating(current: Token, versions: Versions, policy: RotationPolicy, now: datetime) -> Outlook:
    born = current.issued_at or versions.promoted_at
    due = next_rotation(current, born, policy)
    overdue = due_reason(current, born, policy, now)
    return Outlook("attention" if overdue else "done", overdue and f"overdue: {overdue}", due)


def _retiring(
    current: Token, previous: Token, versions: Versions, policy: RotationPolicy, now: datetime
) -> Outlook:
    since = versions.promoted_at or now
    if now >= since + policy.revoke_limit:
        return Outlook("attention", f"stuck: {previous.id} is still not revoked", now)
    end = since + policy.grace
    if now >= end:
        return Outlook("waiting", f"rotated, revoke pending: {previous.id}", now)
    due = next_rotation(current, current.issued_at or versions.promoted_at, policy)
    return Outlook(
        "done",
        f"{previous.id} stays valid until its grace ends",
        min(end, due) if due is not None else end,
    )


def _promoting(pending: Token, policy: RotationPolicy, now: datetime) -> Outlook:
    if pending.issued_at is not None and now - pending.issued_at >= policy.orphan_age:
        return Outlook("attention", f"stuck: {pending.id} is staged, but not promoted", now)
    return Outlook("waiting", f"{pending.id} is staged and will be promoted", now)
