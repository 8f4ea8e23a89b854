"""What a person asks for: kill a token now, or take the last promotion back."""

from __future__ import annotations

from datetime import datetime

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
from cmzon_secrets.rotation.rows import drop, not_usable, replace_current, settle_pending
from cmzon_secrets.tokens import Token

__all__ = ["kill_leaked", "roll_back"]


def kill_leaked(seen: Seen, intent: Emergency, policy: RotationPolicy, now: datetime) -> Decision:
    held = seen.versions
    for token in (held.previous, held.pending):
        if token is not None and intent.kills(token):
            return _kill(seen, intent, token)
    leaked = held.current if held.current is not None and intent.kills(held.current) else None
    if leaked is None:
        return Stop("done", f"{intent.leaked} is dead")
    if intent.replace:
        return settle_pending(seen, now) or replace_current(seen, policy, now)
    if seen.dead(leaked):
        return Stop(
            "attention", f"{leaked.id} is dead, and still CURRENT: put or rotate in a new one"
        )
    if leaked.id in seen.unrevoked:
        return _still_alive(leaked)
    return Revoke(leaked)


def _kill(seen: Seen, intent: Emergency, token: Token) -> Decision:
    if seen.dead(token):
        return Discard(token.id)
    if token.id not in seen.unrevoked:
        return Revoke(token)
    if token.id != intent.leaked:
        # It must not keep the leaked token alive: the sweep has to get it.
        return Discard(token.id, abandoned=True)
    return _still_alive(token)


def _still_alive(token: Token) -> Stop:
    return Stop("failed", f"STILL ALIVE: {token.id} could not be revoked, or its death not proved")


def roll_back(seen: Seen, now: datetime) -> Decision:
    held = seen.versions
    if seen.promoted:
        return Stop("done", "rolled back")
    if held.previous is None:
        return Stop("failed", "there is no PREVIOUS to roll back to")
    if held.pending is not None and held.pending != held.previous:
        return drop(seen, held.pending)
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
