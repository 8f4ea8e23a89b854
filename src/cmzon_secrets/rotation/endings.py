"""Row 7: how a run ends, and what is still to be said of it."""

from __future__ import annotations

from datetime import datetime

from cmzon_secrets.rotation.due import next_rotation
from cmzon_secrets.rotation.model import Seen, Stop
from cmzon_secrets.rotation.orphans import orphan_outlook
from cmzon_secrets.rotation.patience import dates, grace_end, patience_end, unresolved
from cmzon_secrets.rotation.policy import RotationPolicy

__all__ = ["finished", "prepared", "previous_outlook", "retired"]


def finished(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop:
    """Row 7. And what is still to be said of it."""
    return (
        previous_outlook(seen, policy, now)
        or orphan_outlook(seen, policy, now)
        or _done(seen, policy, now)
    )


def retired(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop:
    """Row 7 of a run that only retires: ``done`` where PREVIOUS is gone."""
    previous = seen.obstacle
    if previous is None:
        return Stop("done")
    return previous_outlook(seen, policy, now) or Stop(
        "waiting",
        f"{previous.id} stays valid until its grace ends",
        grace_end(seen, policy, now),
    )


def prepared(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop | None:
    """Where only a successor is wanted: it is there already, or PREVIOUS has to go first."""
    held, issued = seen.versions, seen.issued
    if held.pending is not None:
        return Stop("done", f"{held.pending.id} is PENDING")
    if held.current is not None and held.current == issued:
        return Stop("done", f"{issued.id} is CURRENT: the store was empty")
    obstacle = retired(seen, policy, now)
    return None if obstacle.state == "done" else obstacle


def previous_outlook(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop | None:
    """What is to be said of a PREVIOUS that outlived its grace."""
    previous = seen.obstacle
    if previous is None or now < grace_end(seen, policy, now):
        return None
    known = seen.finding(previous)
    limit = patience_end(seen, policy, now)
    if previous.id in seen.unrevoked or known is None or known.state == "silent":
        return Stop(
            "attention" if seen.interactive or now >= limit else "waiting",
            f"rotated, revoke pending: {previous.id} could not be revoked yet",
            now,
        )
    if unresolved(previous, known):
        return Stop(
            "attention",
            f"{previous.id} cannot be resolved to an id at the issuer: "
            "revoke it in the dashboard (API Settings)",
        )
    used = known.info.last_used_ip if known.info is not None else None
    reason = f"rotated, revoke pending: {previous.id} is still used from {used or 'somewhere'}"
    if known.info is not None and known.info.name != seen.account:
        return Stop("attention", f"{reason}; it was not issued by us, so it is not revoked")
    return Stop("waiting", reason, limit)


def _done(seen: Seen, policy: RotationPolicy, now: datetime) -> Stop:
    current, previous = seen.versions.current, seen.obstacle
    due = next_rotation(dates(current, seen), policy) if current is not None else None
    if previous is None:
        return Stop("done", next_due=due)
    end = grace_end(seen, policy, now)
    return Stop(
        "done",
        f"{previous.id} stays valid until its grace ends",
        min(end, due) if due is not None else end,
    )
