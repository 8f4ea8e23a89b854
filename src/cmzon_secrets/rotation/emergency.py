"""What a person asks for: kill a token now, or take the last promotion back."""

from __future__ import annotations

from datetime import datetime, timedelta

from cmzon_secrets.rotation.model import (
    Decision,
    Discard,
    Emergency,
    Promote,
    Revoke,
    Seen,
    Stage,
    Stop,
    Verify,
)
from cmzon_secrets.rotation.policy import RotationPolicy
from cmzon_secrets.rotation.rows import (
    SETTLE,
    make_way,
    not_usable,
    replace_current,
    settle,
)
from cmzon_secrets.tokens import Token

__all__ = ["kill_leaked", "revoke_loose", "roll_back"]

AT_ONCE = timedelta(0)


def revoke_loose(seen: Seen) -> Decision | None:
    """What was taken out of the store so that nobody can promote it is killed next."""
    for token in seen.loose:
        if not seen.dead(token) and token.id not in seen.unrevoked:
            return Revoke(token)
    return None


def kill_leaked(seen: Seen, intent: Emergency, policy: RotationPolicy, now: datetime) -> Decision:
    """PENDING and PREVIOUS that have to die, then CURRENT, replaced before that where wanted."""
    held = seen.versions
    if held.pending is not None and intent.kills(held.pending):
        return Discard(held.pending.id, revoke_next=True)
    leaked = held.current if held.current is not None and intent.kills(held.current) else None
    replacing = leaked is not None and intent.replace
    previous = held.previous
    # One that is not meant is in the way, where the leaked one became CURRENT only after we had looked.
    in_the_way = replacing and seen.obstacle is not None
    if previous is not None and (intent.kills(previous) or in_the_way):
        if seen.dead(previous):
            return Discard(previous.id)
        if previous.id not in seen.unrevoked:
            return Revoke(previous)
        if leaked is None:
            return _still_alive(previous)
    if leaked is None:
        return Stop("done", f"{intent.leaked} is dead")
    if replacing:
        return _replace_leaked(seen, policy, now)
    if seen.dead(leaked):
        return Stop(
            "attention", f"{leaked.id} is dead, and still CURRENT: put or rotate in a new one"
        )
    return Revoke(leaked) if leaked.id not in seen.unrevoked else _still_alive(leaked)


def _replace_leaked(seen: Seen, policy: RotationPolicy, now: datetime) -> Decision:
    """A PREVIOUS that could not be killed does not keep the leaked token alive.

    Nor is there patience with a token that is not accepted yet.
    """
    pending, previous = seen.versions.pending, seen.obstacle
    if pending is not None:
        step = settle(seen, pending, now, accept_within=AT_ONCE)
    else:
        step = replace_current(seen, policy, now, accept_within=AT_ONCE)
    return step if previous is None else make_way(seen, previous, step)


def _still_alive(token: Token) -> Stop:
    return Stop("failed", f"{token.id} could not be revoked, or its death not proved")


def roll_back(seen: Seen, policy: RotationPolicy, now: datetime) -> Decision:
    """PREVIOUS is tried, staged and promoted, as a new token would be."""
    held = seen.versions
    if seen.promoted:
        return Stop("done", "rolled back")
    if held.previous is None:
        return Stop("failed", "there is no PREVIOUS to roll back to")
    if held.pending is not None and held.pending != held.previous:
        return Discard(held.pending.id, revoke_next=True)
    last_moment = (held.promoted_at or now) + policy.grace - min(SETTLE, policy.grace / 4)
    if held.pending is None and now >= last_moment:
        return Stop(
            "failed",
            f"the grace of {held.previous.id} is over: another run may be revoking it right now",
        )
    tried = seen.findings.get(held.previous.id)
    if tried is None:
        return Verify(held.previous)
    if tried.state == "dead":
        return Stop("failed", f"{held.previous.id} is dead: it cannot become CURRENT again")
    if tried.state != "alive":
        return not_usable(held.previous, tried, now) or Stop("failed", tried.reason)
    if held.pending is None:
        return Stage(held.previous)
    return Promote(held.pending.id, replacing=held.current.id if held.current is not None else None)
